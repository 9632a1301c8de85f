"""Files that survive a crash: atomic replacement, durable removal, bounded reads."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def make_private_dir(path: Path) -> None:
    """Create a folder, and its parents, that only this user may look into (an existing one keeps its mode)."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


def sync_dir(path: Path) -> None:
    """Make renames and removals inside a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file as a whole (mode 0600): after a crash either the old or the new content is there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_dir(path.parent)


def remove(path: Path) -> None:
    """Delete a file if it is there; durable on return."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync_dir(path.parent)


def to_json(value: Any) -> bytes:
    """Compact UTF-8 JSON; a lone surrogate, which UTF-8 cannot carry, becomes ``?``."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is no such file.

    Raises ValueError when the file holds something else.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold a JSON object")  # noqa: TRY004 - a wrong content, not a wrong call
    return value


def read_tail(path: Path, limit: int) -> tuple[str, bool]:
    """The last ``limit`` bytes of a file as text, and whether something before them was left out."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            start = max(0, size - limit)
            file.seek(start)
            data = file.read(limit)
    except FileNotFoundError:
        return "", False
    if start:
        # A cut in the middle of a character would show as a replacement mark: skip its continuation bytes.
        skip = 0
        while skip < min(4, len(data)) and data[skip] & 0xC0 == 0x80:
            skip += 1
        data = data[skip:]
    return data.decode("utf-8", "replace"), start > 0
