"""Steps as they run: a spinner on a terminal, else one plain line when a step begins and one when it ends."""

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console

from agentcom_sidecar.onboarding.progress import Step

STEPS = tuple(Step)


class Display(Protocol):
    """Where the setup says what it does."""

    def step(self, step: Step, title: str) -> "contextlib.AbstractContextManager[StepLine]":
        """Announce a step; an exception that leaves the block marks it as failed."""
        ...

    def note(self, text: str) -> None:
        """Say something that does not fail the setup."""
        ...


class StepLine:
    """One running step; ``outcome`` is shown when it ends."""

    def __init__(self, display: "StepDisplay") -> None:
        self.outcome = "done"
        self._display = display

    def tell(self, text: str) -> None:
        """What it is doing now."""
        self._display.detail(text)


class StepDisplay:
    """Numbered steps on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._title = ""
        self._status = console.status("") if console.is_terminal else None

    @contextlib.contextmanager
    def step(self, step: Step, title: str) -> Iterator[StepLine]:
        """See `Display`."""
        self._title = f"[{STEPS.index(step) + 1}/{len(STEPS)}] {title}"
        line = StepLine(self)
        started = time.monotonic()
        if self._status is None:
            self._print(f"{self._title} ...")
        else:
            self._status.update(_plain(self._title))
            self._status.start()
        try:
            yield line
        except BaseException:
            self._end("FAILED", style="red")
            raise
        seconds = time.monotonic() - started
        self._end(f"{line.outcome}{f' ({seconds:.1f} s)' if seconds >= 1 else ''}", style="green")

    def note(self, text: str) -> None:
        """See `Display`."""
        self._print(f"      Note: {text}", style="yellow")

    def detail(self, text: str) -> None:
        """What the running step is doing now."""
        if self._status is None:
            self._print(f"      {text}")
        else:
            self._status.update(_plain(f"{self._title}: {text}"))

    def _end(self, outcome: str, *, style: str) -> None:
        if self._status is not None:
            self._status.stop()
        self._print(f"{self._title}: {outcome}", style=style)

    def _print(self, text: str, *, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)
        self._console.file.flush()


def _plain(text: str) -> str:
    """Text that the console shows as it is: square brackets would be read as markup."""
    return text.replace("[", "\\[")
