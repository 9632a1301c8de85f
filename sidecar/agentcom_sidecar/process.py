"""File locks that die with their holder, and process groups."""

import contextlib
import fcntl
import os
import signal
from pathlib import Path


class LockedError(Exception):
    """Another process holds the lock; ``holder`` is what it wrote into the file, usually its pid."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path} is locked by {holder or 'another process'}")
        self.holder = holder


def take_lock(path: Path, *, content: str = "") -> int:
    """Lock a file for as long as the returned descriptor, or a copy of it in a child, is open.

    Raises LockedError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 64, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise LockedError(path, holder) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, content.encode("ascii"), 0)
    return fd


def is_locked(path: Path) -> bool:
    """Whether some process holds the lock."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def signal_group(group: int, number: signal.Signals) -> None:
    """Signal every process of a group; none left is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def group_exists(group: int) -> bool:
    """Whether a process of the group still runs. Where /proc tells, zombies do not count."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    if not Path("/proc/self/stat").exists():
        return True
    with os.scandir("/proc") as entries:
        return any(entry.name.isdigit() and _is_running_member(entry.path, group) for entry in entries)


def _is_running_member(proc: str, group: int) -> bool:
    try:
        stat = Path(proc, "stat").read_bytes()
    except OSError:
        return False
    # The command name is in parentheses and may itself contain any character.
    state, _parent, member_of, *_rest = stat.rpartition(b")")[2].split()
    return int(member_of) == group and state not in {b"Z", b"X"}
