"""Starts one agent and writes down how it ended; a separate small process, so that the sidecar may come and go.

Run by path under ``python -I -S`` with two arguments: the file with the order, and the descriptor of a lock that
this process inherited and holds until it ends. The order is a JSON object: ``argv``, ``env``, and the paths ``cwd``,
``stdin``, ``stdout``, ``stderr``, ``began``, ``ended``. Only the standard library may be used here.

The process leads its own group, the agent is in it. Signals to the group are for the agent: this process outlives
all but SIGKILL, in order to record the agent's end.
"""

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any


def write(path: str, value: dict[str, Any]) -> None:
    """Replace a file by a JSON object; durable on return."""
    temporary = f"{path}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def run(order: dict[str, Any]) -> dict[str, Any]:
    """Run the agent to its end. Returns ``returncode``, or ``start_error`` if it could not be started."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        with (
            open(order["stdin"], "rb") as stdin,
            open(os.open(order["stdout"], append, 0o600), "ab") as stdout,
            open(os.open(order["stderr"], append, 0o600), "ab") as stderr,
        ):
            agent = subprocess.Popen(
                order["argv"], env=order["env"], cwd=order["cwd"], stdin=stdin, stdout=stdout, stderr=stderr
            )
    except OSError as error:
        place = f" (in {order['cwd']})" if error.filename == order["cwd"] else ""
        return {"start_error": f"cannot start {order['argv'][0]!r}{place}: {error.strerror or error}"}
    return {"returncode": agent.wait()}


def main(order_path: str, lock: str) -> None:
    """Carry out an order file."""
    os.set_inheritable(int(lock), False)  # The lock must mean this process, not a child the agent leaves behind.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # A handler, because an ignored signal would stay ignored in the agent.
    with open(order_path, encoding="utf-8") as file:
        order = json.load(file)
    write(order["began"], {"pid": os.getpid()})
    ended = run(order)
    write(order["ended"], {**ended, "ended_at": time.time()})


if __name__ == "__main__":
    main(*sys.argv[1:])
