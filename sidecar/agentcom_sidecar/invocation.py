"""How this program is called, so that the commands in its advice can be pasted into the same shell."""

import shlex
import shutil
import sys
from pathlib import Path

SCRIPT = "agentcom-sidecar"


def program() -> str:
    """The bare name where the PATH leads to this installation, else the script's path, else the module."""
    own = Path(sys.executable).with_name(SCRIPT)
    found = shutil.which(SCRIPT)
    if found is not None and (not own.exists() or own.samefile(found)):
        return SCRIPT
    if own.exists():
        return shlex.quote(str(own))
    return f"{shlex.quote(sys.executable)} -m {__package__}"
