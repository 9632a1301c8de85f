"""Places where a stub program can be made to wait, so that a test can act at exactly that moment."""

import time
from pathlib import Path


class Gates:
    """Gates in a folder: shut and opened by the test, passed by the stubs."""

    def __init__(self, state: Path) -> None:
        self._state = state

    def shut(self, name: str) -> None:
        """Let whoever comes to this gate wait."""
        (self._state / f"gate-{name}").touch()

    def open(self, name: str) -> None:
        """Let them pass."""
        (self._state / f"gate-{name}").unlink(missing_ok=True)

    def open_all(self) -> None:
        """Let everybody pass, so that nobody waits for ever."""
        for gate in self._state.glob("gate-*"):
            gate.unlink(missing_ok=True)

    def reached(self, name: str) -> bool:
        """Whether somebody came to this gate."""
        return (self._state / f"at-{name}").exists()

    def pass_(self, name: str) -> None:
        """Come to a gate; returns when it is open."""
        (self._state / f"at-{name}").touch()
        while (self._state / f"gate-{name}").exists():
            time.sleep(0.02)
