"""How commands fail: a sentence for people, a code for scripts, an exit code, and what to do about it."""

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of all commands but ``run``; 69, 77 and 78 are those of sysexits.h."""

    OK = 0
    FAILED = 1  #: what was asked for did not happen; of ``submit --wait``: the task failed
    USAGE = 2
    CANCELLED = 3  #: ``submit --wait``: the task was cancelled
    TIMED_OUT = 4  #: ``submit --wait``: the task is not over yet
    UNAVAILABLE = 69  #: the hub cannot be reached
    NO_PERMISSION = 77  #: the hub refused the token or the enrolment key
    CONFIG = 78
    INTERRUPTED = 130


class Failure(Exception):
    """A command cannot go on. Its text is one sentence; ``advice`` are things to do, one sentence each."""

    def __init__(
        self, sentence: str, *, code: str, exit_code: ExitCode = ExitCode.FAILED, advice: Sequence[str] = ()
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.exit_code = exit_code
        self.advice = tuple(advice)
