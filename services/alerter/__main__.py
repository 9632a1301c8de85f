"""``python -m services.alerter``"""

import sys

from services.alerter.service import SERVICE, build
from services.runtime import run_service

if __name__ == "__main__":
    sys.exit(run_service(SERVICE, build))
