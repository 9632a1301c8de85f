"""Asking until there is an answer, and waiting for a task: when to try again, and when to give up. Does no I/O."""

from __future__ import annotations

import email.utils
import time
from typing import Any, Final, Generic, TypeVar

import httpx

from agentcom_client.calls import Call
from agentcom_client.errors import HubError, HubUnreachable, WaitTimeout
from agentcom_client.types import FINISHED, Task

T = TypeVar("T")

#: Answers that say: the same request may succeed later. With the first, nothing was done; with the second, perhaps.
TOO_MANY: Final = 429
UNAVAILABLE: Final = 503
#: A request is tried so often; the pause doubles, or is what the hub says. A hub that asks for more is not waited for.
ATTEMPTS: Final = 4
FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 30.0
POLL_FIRST_S: Final = 0.1
POLL_LAST_S: Final = 2.0


class Trial(Generic[T]):
    """One request with its repetitions. ``pause`` is how many seconds to wait before the next.

    What one attempt may have done counts until the end: the last one may be refused because of it.
    """

    def __init__(self, call: Call[T], url: str) -> None:
        self.pause = 0.0
        self._call = call
        self._url = url
        self._left = ATTEMPTS
        self._next_pause = FIRST_PAUSE_S
        self._sent = 0.0
        self._maybe_done = False

    @property
    def request(self) -> dict[str, Any]:
        """What httpx is to be asked for, now."""
        call = self._call
        self._sent = time.time()
        return {"method": call.method, "url": call.path, "json": call.body, "params": call.query}

    def is_over(self, response: httpx.Response) -> bool:
        """Whether this is the answer; if not, ask again."""
        status, pause = response.status_code, _seconds(response.headers.get("retry-after", ""))
        if response.is_server_error:
            self._maybe_done = True
        later = status == TOO_MANY or (status == UNAVAILABLE and self._call.repeatable and not self._call.any_status)
        if not later or self._left <= 1 or pause > LONGEST_PAUSE_S:
            return True
        self._wait(at_least=pause)
        return False

    def clock_skew(self, response: httpx.Response) -> float | None:
        """How many seconds this machine's clock is ahead of the one that answered now, by its Date: a whole second."""
        try:
            date = email.utils.parsedate_to_datetime(response.headers.get("date", ""))
        except ValueError:
            return None
        return (self._sent + time.time()) / 2 - (date.timestamp() + 0.5)

    def failed(self, error: httpx.RequestError) -> None:
        """There was no answer. Raises HubUnreachable if it should not be tried again."""
        reached = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
        self._maybe_done = self._maybe_done or reached
        if self._left <= 1 or (self._maybe_done and not self._call.repeatable):
            reason = str(error).rstrip(".") or type(error).__name__
            how = "does not answer" if reached else "cannot be reached"
            raise HubUnreachable(f"The hub at {self._url} {how}: {reason}.", maybe_done=self._maybe_done) from error
        self._wait()

    def answer(self, response: httpx.Response) -> T:
        """Raises HubError for a refusal, HubUnreachable for what is no answer of a hub."""
        try:
            body = response.json()
        except ValueError:
            body = None
        if response.is_error and not (self._call.any_status and isinstance(body, dict)):
            details = dict(body) if isinstance(body, dict) else {}
            code = details.pop("error", f"http_{response.status_code}")
            message = str(details.pop("message", ""))
            raise HubError(response.status_code, str(code), message, details, maybe_done=self._maybe_done)
        try:
            if (response.is_success or self._call.any_status) and isinstance(body, dict):
                return self._call.read(body)
        except (KeyError, TypeError, ValueError):
            pass
        where = f" It leads to {response.headers['location']}." if response.has_redirect_location else ""
        maybe_done = self._maybe_done or response.is_success
        raise HubUnreachable(f"What answers at {self._url} is no hub.{where}", maybe_done=maybe_done)

    def _wait(self, *, at_least: float = 0.0) -> None:
        self._left -= 1
        self.pause = max(self._next_pause, at_least)
        self._next_pause *= 2


class Patience:
    """How long a task is waited for."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._pause = POLL_FIRST_S

    def is_over(self, task: Task) -> bool:
        return task["status"] in FINISHED

    def pause(self, task: Task) -> float:
        """Seconds until the task should be looked at again. Raises WaitTimeout."""
        pause = self._pause
        self._pause = min(POLL_LAST_S, pause * 1.5)
        if self._deadline is None:
            return pause
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise WaitTimeout(f"{task['id']} is {task['status']} after {self._timeout} s.")
        return min(pause, left)


def _seconds(text: str) -> float:
    """A retry-after in seconds; 0 for the date that a proxy may send."""
    return float(text) if text.isascii() and text.isdigit() else 0.0
