"""``python -m services.api``"""

import sys

from services.api.service import SERVICE, build
from services.runtime import run_service

if __name__ == "__main__":
    sys.exit(run_service(SERVICE, build))
