"""The agent protocol of one socket, without the socket: frames and answers in, effects out.

unidentified -> identifying -> identified, and closed from anywhere. Time is passed in, as seconds of a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import ceil

from agentcom.domain.agents import AgentFeature
from agentcom.errors import (
    AgentComError,
    ConnectionReplaced,
    Cooldown,
    GatewayLeaseLost,
    InvalidToken,
    TokenAgentMismatch,
)
from agentcom.settings import KIB, SECOND, Settings
from agentcom.store.agents import Resumption
from agentcom.wire import outbound
from agentcom.wire.close_codes import CloseCode
from agentcom.wire.frames import FrameKind, Refused, parse, refuse_binary
from services.ws_gateway.effects import Call, Close, Effect, Penalize, Send
from services.ws_gateway.letters import Letter
from services.ws_gateway.operations import HOLDING, Complete, Fail, Identify, Operation
from services.ws_gateway.replies import Result, answer, refusal
from services.ws_gateway.requests import operation_for

VIOLATIONS_ALLOWED = 10
VIOLATION_WINDOW_S = 60.0
IDENTIFY_ATTEMPTS = 5


class Phase(StrEnum):
    UNIDENTIFIED = "unidentified"
    IDENTIFYING = "identifying"  #: an identify is on its way; the frames after it wait for its answer
    IDENTIFIED = "identified"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """Sizes in bytes."""

    max_frame_bytes: int
    max_result_bytes: int
    heartbeat_interval_ms: int
    max_payload_bytes: int = 256 * KIB

    @classmethod
    def of(cls, settings: Settings) -> SessionLimits:
        return cls(
            max_frame_bytes=settings.max_frame_bytes,
            max_result_bytes=settings.max_result_bytes,
            heartbeat_interval_ms=settings.heartbeat_interval_ms,
            max_payload_bytes=settings.max_payload_bytes,
        )


class Session:
    """One socket's state.

    ``claimed_agents`` are those that the store may have on this connection: an identify that got no answer may have
    been carried out. They have to be taken off it when the socket ends.
    """

    __slots__ = (
        "_attempts",
        "_held",
        "_holding",
        "_limits",
        "_mail_seq",
        "_violations",
        "_window_start",
        "agent_id",
        "claimed_agents",
        "letters_lost_from",
        "orphaned",
        "phase",
        "tasks_completed",
        "tasks_failed",
        "wants_presence",
    )

    def __init__(self, limits: SessionLimits) -> None:
        self.phase = Phase.UNIDENTIFIED
        self.agent_id: str | None = None
        self.claimed_agents: tuple[str, ...] = ()
        #: The store said that the agent is not on this connection any more; its order to close may be on the way.
        self.orphaned = False
        self.tasks_completed = 0
        self.tasks_failed = 0
        #: The agent asked to be told who comes and goes.
        self.wants_presence = False
        self._limits = limits
        self._attempts = 0
        self._violations = 0
        self._window_start = float("-inf")
        self._holding = 0
        self._held: list[bytes | Letter] = []
        #: The number of the latest message when the agent connected: the store put what it had missed into its mailbox.
        self._mail_seq = 0
        #: The number of the first letter that was held and will not be written, 0 if there is none.
        self.letters_lost_from = 0

    @property
    def held(self) -> int:
        """How many pushes wait for an answer to be written first."""
        return len(self._held)

    # -- frames ----------------------------------------------------------------------------------------------------

    def receive(self, text: str, *, now: float) -> list[Effect]:
        """One text frame. Must not be called while identifying."""
        if self.phase is Phase.CLOSED:
            return []
        if self.phase is Phase.IDENTIFYING:
            raise RuntimeError("a frame was read while an identify is on its way")
        limit = self._limits.max_frame_bytes
        if len(text) > limit or (len(text) * 4 > limit and len(text.encode()) > limit):
            return self.close(CloseCode.FRAME_TOO_BIG, f"a frame may have {limit} bytes")
        frame = parse(text)
        if isinstance(frame, Refused):
            return self._violation(frame.reply, now=now)
        if frame.kind is FrameKind.IDENTIFY:
            if self.phase is Phase.IDENTIFIED:
                return [Send(self._identify_again(frame.data["agent_id"]))]
        elif self.phase is Phase.UNIDENTIFIED:
            return [Send(outbound.NOT_IDENTIFIED)]
        operation = operation_for(
            frame,
            max_result_bytes=self._limits.max_result_bytes,
            max_payload_bytes=self._limits.max_payload_bytes,
        )
        if isinstance(operation, Refused):
            return [Send(operation.reply)]
        if isinstance(operation, Identify):
            self.phase = Phase.IDENTIFYING
            if operation.agent_id not in self.claimed_agents:
                self.claimed_agents = (*self.claimed_agents, operation.agent_id)
        if isinstance(operation, HOLDING):
            self._holding += 1
        return [Call(operation)]

    def receive_binary(self, *, now: float) -> list[Effect]:
        """One binary frame; what is in it does not matter."""
        return [] if self.phase is Phase.CLOSED else self._violation(refuse_binary().reply, now=now)

    def _violation(self, reply: bytes, *, now: float) -> list[Effect]:
        if now - self._window_start > VIOLATION_WINDOW_S:
            self._window_start, self._violations = now, 0
        self._violations += 1
        if self._violations < VIOLATIONS_ALLOWED:
            return [Send(reply)]
        offender = self.agent_id
        closing = self.close(CloseCode.VIOLATIONS, "too many validation errors")
        return closing if offender is None else [Penalize(offender), *closing]

    # -- answers ---------------------------------------------------------------------------------------------------

    def resolve(self, operation: Operation, outcome: Result | AgentComError) -> list[Effect]:
        """The answer to a ``Call``. Calls are answered in the order in which they were made."""
        if isinstance(operation, HOLDING):
            self._holding -= 1
        was_closed = self.phase is Phase.CLOSED
        if isinstance(operation, Identify):
            effects = [] if was_closed else self._resolve_identify(operation, outcome)
        else:
            effects = self._resolve_request(operation, outcome)
        if was_closed:
            return []
        if self._held and not self._holding:
            effects += [Send(frame) for frame in self._held]
            self._held = []
        return effects

    def _resolve_request(self, operation: Operation, outcome: Result | AgentComError) -> list[Effect]:
        if isinstance(outcome, ConnectionReplaced):
            # No answer: the store has ordered this connection to be closed, with a code that says why.
            self.orphaned = True
            return []
        if isinstance(outcome, AgentComError):
            return [Send(refusal(operation, outcome))]
        if isinstance(operation, Complete):
            self.tasks_completed += 1
        elif isinstance(operation, Fail):
            self.tasks_failed += 1
        return [Send(frame) for frame in answer(operation, outcome)]

    def _resolve_identify(self, operation: Identify, outcome: Result | AgentComError) -> list[Effect]:
        if not isinstance(outcome, AgentComError):
            self.phase = Phase.IDENTIFIED
            self.agent_id = operation.agent_id
            self._mail_seq = outcome.mail_seq if isinstance(outcome, Resumption) else 0
            self._held = [held for held in self._held if not isinstance(held, Letter) or self.wants(held)]
            self.wants_presence = AgentFeature.PRESENCE in operation.features
            return [Send(self._identified(operation.agent_id)), *(Send(frame) for frame in answer(operation, outcome))]
        self.phase = Phase.UNIDENTIFIED
        # Whatever was pushed belongs to an identify without an answer; the next one is given the assignment again.
        self._held = []
        match outcome:
            case Cooldown():
                remaining = outcome.details.get("remaining_ms")
                seconds = ceil(remaining / SECOND) if isinstance(remaining, int) else 0
                self._disclaim(operation.agent_id)
                return self.close(CloseCode.VIOLATIONS, f"cooldown after too many errors: {seconds} s remaining")
            case GatewayLeaseLost():
                self._disclaim(operation.agent_id)
                return self.close(CloseCode.LEASE_LOST, "this gateway may not hold agents at the moment")
            case InvalidToken() | TokenAgentMismatch():
                self._disclaim(operation.agent_id)
                self._attempts += 1
                effects: list[Effect] = [Send(refusal(operation, outcome))]
                if self._attempts >= IDENTIFY_ATTEMPTS:
                    effects += self.close(CloseCode.VIOLATIONS, "too many failed identify attempts")
                return effects
        return [Send(refusal(operation, outcome))]

    def _disclaim(self, agent_id: str) -> None:
        self.claimed_agents = tuple(claimed for claimed in self.claimed_agents if claimed != agent_id)

    def _identified(self, agent_id: str) -> bytes:
        return outbound.identified(
            agent_id,
            heartbeat_interval_ms=self._limits.heartbeat_interval_ms,
            max_frame_bytes=self._limits.max_frame_bytes,
        )

    def _identify_again(self, agent_id: str) -> bytes:
        """Repeating an identify changes nothing; an identity is for the life of a connection."""
        if agent_id == self.agent_id:
            return self._identified(agent_id)
        return outbound.error(
            "already_identified",
            code="already_identified",
            message="This connection is identified as another agent; open a new one.",
            request_type=FrameKind.IDENTIFY,
        )

    # -- what the hub has to say -----------------------------------------------------------------------------------

    def wants(self, letter: Letter) -> bool:
        """Whether a letter is for this connection; one from before it may come out of the outbox after it began."""
        return letter.is_for(self.agent_id or "", after=self._mail_seq)

    @property
    def is_free(self) -> bool:
        """Whether a push would be written at once."""
        return self.phase is Phase.IDENTIFIED and not self._holding

    @property
    def first_letter_held(self) -> int:
        """The number of the first letter that waits or will not be written, 0 if there is none."""
        held = next((frame.seq for frame in self._held if isinstance(frame, Letter)), 0)
        return self.letters_lost_from or held

    def push(self, frame: bytes | Letter) -> list[Effect]:
        """A frame for this connection. It waits while an answer that must come first is on its way."""
        if self._holding:
            if self.phase is not Phase.CLOSED:
                self._held.append(frame)
            return []
        return [Send(frame)] if self.phase is Phase.IDENTIFIED else []

    def identify_overdue(self) -> list[Effect]:
        """The time for an identify is over."""
        if self.phase in {Phase.IDENTIFIED, Phase.CLOSED}:
            return []
        return self.close(CloseCode.IDENTIFY_TIMEOUT, "no identify in time")

    def close(self, code: int, reason: str) -> list[Effect]:
        """The connection ends, for a reason of the hub."""
        if self.phase is Phase.CLOSED:
            return []
        self.phase = Phase.CLOSED
        self._drop_held()
        return [Close(code, reason)]

    def closed_by_client(self) -> None:
        self.phase = Phase.CLOSED
        self._drop_held()

    def _drop_held(self) -> None:
        self.letters_lost_from = self.first_letter_held
        self._held = []
