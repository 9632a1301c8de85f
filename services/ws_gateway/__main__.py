"""``python -m services.ws_gateway``"""

import sys

from services.runtime import run_service
from services.ws_gateway.service import SERVICE, build

if __name__ == "__main__":
    sys.exit(run_service(SERVICE, build))
