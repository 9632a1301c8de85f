"""What a hub leaves in its data directory for the commands that are run in the same folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

TOKEN_FILE: Final = "admin.token"  # noqa: S105 - a file name
URL_FILE: Final = "hub.url"


def write_url(data_dir: Path, url: str) -> None:
    """Where this machine reaches the hub; kept when it stops, as the token is."""
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / URL_FILE).write_text(f"{url}\n", encoding="utf-8")


def read_url() -> str | None:
    """Where the hub of this folder is, or was when it ran last; None if none ever did."""
    return _read(URL_FILE)


def read_admin_token() -> str | None:
    """The token that the hub of this folder made for its first admin."""
    return _read(TOKEN_FILE)


def _read(name: str) -> str | None:
    try:
        return Path(os.environ.get("AGENTCOM_DATA_DIR", ".data"), name).read_text(encoding="utf-8").strip()
    except OSError:
        return None
