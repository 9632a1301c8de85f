"""The whole hub on one machine: an embedded Redis and every service on one port."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - says so before anything fails to be imported
    sys.exit(f"AgentCom needs Python 3.11 or newer; this is {sys.version.split()[0]}.")
