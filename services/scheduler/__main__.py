"""``python -m services.scheduler``"""

import sys

from services.runtime import run_service
from services.scheduler.service import SERVICE, build

if __name__ == "__main__":
    sys.exit(run_service(SERVICE, build))
