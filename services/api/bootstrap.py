"""The first admin: without one nobody could make tokens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

import structlog

from agentcom.domain.names import ADMIN_AGENT_ID
from agentcom.errors import StoreUnavailable, TokenExists
from agentcom.settings import Settings
from agentcom.store.store import Store
from agentcom.store.tokens import Role, TokenStore, digest, new_token
from services.outage import Outage
from services.runtime import BaseComponent, StartupError, pause

log = structlog.get_logger(__name__)

ADMIN_FILE: Final = "admin.token"
_MIN_LENGTH: Final = 32
_TURN_S: Final = 1.0


async def ensure_first_admin(store: Store, settings: Settings) -> Path | None:
    """Sees to it that there is an admin token. Returns the file that it was written to, if this call made it.

    A configured token is made valid on every start. Otherwise, if the store has no token at all, one is written to the
    data directory **before** it becomes valid, so that a crash in between loses nothing: the next start takes the one
    in the file. Raises StoreUnavailable, and StartupError if the token can't be kept anywhere.
    """
    if settings.admin_token is not None:
        await _mint_configured(store.tokens, settings.admin_token.get_secret_value())
        return None
    if await store.tokens.any():
        return None
    path = settings.data_dir / ADMIN_FILE
    try:
        token, is_new = await asyncio.to_thread(_read_or_create, path)
    except OSError as error:
        raise StartupError(
            f"the first admin token can't be written to {path}: {error.strerror or error}; "
            "make the directory writable, or give a token in AGENTCOM_ADMIN_TOKEN"
        ) from error
    if await store.tokens.mint_first(ADMIN_AGENT_ID, role=Role.ADMIN, token=token):
        return path
    if is_new:
        # Another instance was faster, and its token is in its own data directory.
        with contextlib.suppress(OSError):
            await asyncio.to_thread(path.unlink)
    return None


async def _mint_configured(tokens: TokenStore, token: str) -> None:
    try:
        await tokens.mint(ADMIN_AGENT_ID, role=Role.ADMIN, token=token)
    except TokenExists as error:
        owner = await tokens.find(digest(token))
        raise StartupError(
            f"AGENTCOM_ADMIN_TOKEN is the token of the agent {owner.agent_id if owner else 'unknown'}: use another one"
        ) from error


def _read_or_create(path: Path) -> tuple[str, bool]:
    """The token in the file, which only its owner may read, and whether it was just made.

    The file appears whole: of several instances that start in one folder, all take the token of the first.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = new_token()
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(draft)
    except FileExistsError:
        return _read(path), False
    finally:
        os.unlink(draft)
    return token, True


def _read(path: Path) -> str:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "r+", encoding="ascii", errors="replace") as file:
        os.fchmod(file.fileno(), 0o600)
        token = file.read().strip()
        if len(token) >= _MIN_LENGTH and token.isalnum():
            return token
        # Cut short by a crash while it was written, so it was never valid.
        token = new_token()
        file.seek(0)
        file.truncate()
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    return token


class FirstAdmin(BaseComponent):
    """Makes the first admin as soon as the store answers; the service is not ready before."""

    def __init__(self, store: Store, settings: Settings) -> None:
        super().__init__("first-admin", max_silence=30.0)
        self._store = store
        self._settings = settings

    async def run(self, stop: asyncio.Event) -> None:
        outage = Outage()
        while not stop.is_set():
            try:
                path = await ensure_first_admin(self._store, self._settings)
            except StoreUnavailable as error:
                await outage.wait(stop, error)
                continue
            outage.over()
            if path is not None:
                log.warning("admin_created", agent_id=ADMIN_AGENT_ID, written_to=str(path.resolve()))
            break
        while not await pause(stop, _TURN_S):
            self.touch()
