"""Where secrets come from, and how they are kept from the programs that are started here."""

import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agentcom_sidecar.failure import ExitCode, Failure

TOKEN = "AGENTCOM_TOKEN"  # noqa: S105 - the name of the variable
ADMIN_TOKEN = "AGENTCOM_ADMIN_TOKEN"  # noqa: S105
ENROLMENT_KEY = "AGENTCOM_ENROLMENT_KEY"
SECRET_VARIABLES = frozenset({TOKEN, ADMIN_TOKEN, ENROLMENT_KEY, "AGENTCOM_SIDECAR_TOKEN"})

MAX_SECRET_BYTES = 4096
STDIN = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretSource:
    """The ways to give one secret. ``what`` names it in sentences."""

    what: str
    variable: str
    value: str | None = None
    file: Path | None = None

    def read(self) -> str | None:
        """The secret: as given, from the file, else from the environment; ``-`` stands for stdin. Raises Failure."""
        if self.value is not None and self.file is not None:
            raise self._failure("is given twice: as a value and as a file")
        if self.value == STDIN or (self.file is not None and str(self.file) == STDIN):
            return self._checked(sys.stdin.buffer.readline(MAX_SECRET_BYTES + 1).decode("utf-8", "replace"))
        if self.value is not None:
            return self._checked(self.value)
        if self.file is not None:
            return self._checked(self._read_file(self.file))
        value = os.environ.get(self.variable)
        return self._checked(value) if value else None

    @property
    def on_command_line(self) -> bool:
        """Whether the secret itself was an argument, where other users of this machine can read it."""
        return self.value is not None and self.value != STDIN

    def _read_file(self, path: Path) -> str:
        try:
            with path.open("rb") as file:
                data = file.read(MAX_SECRET_BYTES + 1)
        except OSError as error:
            raise self._failure(f"cannot be read from {path}: {error.strerror}") from None
        return data.decode("utf-8", "replace")

    def _checked(self, text: str) -> str:
        text = text.strip()
        if not text:
            raise self._failure("is empty")
        if len(text) > MAX_SECRET_BYTES or not text.isascii() or not text.isprintable() or " " in text:
            raise self._failure("is not one: it must be a single line of printable ASCII without spaces")
        return text

    def _failure(self, why: str) -> Failure:
        return Failure(f"The {self.what} {why}.", code="invalid_secret", exit_code=ExitCode.USAGE)


def readable_by_others(path: Path) -> bool:
    """Whether another user of this machine may read the file."""
    try:
        return bool(stat.S_IMODE(path.stat().st_mode) & 0o077)
    except FileNotFoundError:
        return False


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment for a child, without our secrets: some children keep what they get on disk."""
    kept = {name: value for name, value in os.environ.items() if name not in SECRET_VARIABLES}
    return kept | dict(extra or {})
