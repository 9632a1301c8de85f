"""The protocol of one socket, without the socket: frames and answers in, effects out."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from agentcom.errors import (
    AgentComError,
    ConnectionReplaced,
    Cooldown,
    GatewayLeaseLost,
    InvalidState,
    InvalidToken,
    NotOwner,
    StaleGeneration,
    StoreUnavailable,
    TaskNotFound,
    TokenAgentMismatch,
)
from agentcom.store.agents import AgentPage, Resumption
from agentcom.store.tasks import Report
from agentcom.store.tokens import digest
from agentcom.wire.close_codes import CloseCode
from services.ws_gateway.effects import Call, Close, Effect, Penalize, Send
from services.ws_gateway.operations import (
    Accept,
    Complete,
    ConfirmCancel,
    Fail,
    Heartbeat,
    Identify,
    ListAgents,
    Operation,
    Progress,
    Recover,
    Reject,
    SetStatus,
)
from services.ws_gateway.replies import Result
from services.ws_gateway.session import IDENTIFY_ATTEMPTS, VIOLATIONS_ALLOWED, Phase, Session, SessionLimits

LIMITS = SessionLimits(max_frame_bytes=10_000, max_result_bytes=1_000, heartbeat_interval_ms=30_000)
TASK = "task-0123456789abcdef"
NOTHING = Resumption(None, None)
IDENTIFY = {"type": "identify", "agent_id": "a1", "token": "secret"}
COMPLETE = {"type": "task_complete", "task_id": TASK, "generation": 1}


class Peer:
    """A session, and shorthands for what a test says to it."""

    def __init__(self) -> None:
        self.session = Session(LIMITS)
        self.now = 1_000.0

    def say(self, frame: object) -> list[Effect]:
        return self.session.receive(orjson.dumps(frame).decode(), now=self.now)

    def ask(self, frame: object) -> Operation:
        (effect,) = self.say(frame)
        assert isinstance(effect, Call)
        return effect.operation

    def answer(self, operation: Operation, outcome: Result | AgentComError) -> list[Effect]:
        return self.session.resolve(operation, outcome)

    def error(self, frame: object, outcome: AgentComError) -> dict[str, Any]:
        return only_frame(self.answer(self.ask(frame), outcome))


def frames(effects: list[Effect]) -> list[dict[str, Any]]:
    written = [effect.frame for effect in effects if isinstance(effect, Send)]
    return [orjson.loads(frame if isinstance(frame, bytes) else frame.text) for frame in written]


def only_frame(effects: list[Effect]) -> dict[str, Any]:
    (frame,) = frames(effects)
    assert len(effects) == 1
    return frame


@pytest.fixture
def stranger() -> Peer:
    return Peer()


@pytest.fixture
def agent() -> Peer:
    peer = Peer()
    peer.answer(peer.ask(IDENTIFY), NOTHING)
    return peer


class TestIdentify:
    def test_defaults(self, stranger: Peer) -> None:
        assert stranger.ask(IDENTIFY) == Identify(
            agent_id="a1",
            token_digest=digest("secret"),
            name="a1",
            status="connected",
            capabilities=(),
            features=(),
        )
        assert stranger.session.phase is Phase.IDENTIFYING

    def test_nulls_are_kept_as_such_and_unknown_features_are_left_out(self, stranger: Peer) -> None:
        asked = stranger.ask(
            IDENTIFY
            | {
                "name": None,
                "status": None,
                "capabilities": ["code", "b", "code"],
                "features": ["recover", "teleport", "cancel"],
            }
        )
        assert isinstance(asked, Identify)
        assert (asked.name, asked.status) == (None, None)
        assert asked.capabilities == ("code", "b", "code")
        assert asked.features == ("cancel", "recover")

    def test_success_says_what_the_hub_can_do(self, stranger: Peer) -> None:
        assert only_frame(stranger.answer(stranger.ask(IDENTIFY), NOTHING)) == {
            "type": "identified",
            "agent_id": "a1",
            "protocol_version": 1,
            "features": ["cancel", "generation", "presence", "progress", "reject"],
            "heartbeat_interval_ms": 30_000,
            "max_frame_bytes": 10_000,
        }
        assert stranger.session.phase is Phase.IDENTIFIED

    def test_what_the_agent_still_holds_follows_at_once(self, stranger: Peer) -> None:
        operation = stranger.ask(IDENTIFY)
        stranger.session.push(b'{"type":"pushed_meanwhile"}')
        resumption = Resumption(b'{"type":"task_assign"}', b'{"type":"task_cancel"}')
        sent = frames(stranger.answer(operation, resumption))
        assert [frame["type"] for frame in sent] == ["identified", "task_assign", "task_cancel", "pushed_meanwhile"]

    @pytest.mark.parametrize(
        ("error", "code"), [(InvalidToken(), "invalid_token"), (TokenAgentMismatch(), "token_agent_mismatch")]
    )
    def test_a_wrong_token_leaves_the_connection_open(self, stranger: Peer, error: AgentComError, code: str) -> None:
        frame = stranger.error(IDENTIFY, error)
        assert (frame["error"], frame["code"], frame["request_type"]) == (code, code, "identify")
        assert stranger.session.claimed_agents == ()
        stranger.answer(stranger.ask(IDENTIFY), NOTHING)
        assert stranger.session.phase is Phase.IDENTIFIED

    def test_too_many_wrong_tokens_close_it(self, stranger: Peer) -> None:
        for _ in range(IDENTIFY_ATTEMPTS - 1):
            assert stranger.error(IDENTIFY, InvalidToken())["error"] == "invalid_token"
        effects = stranger.answer(stranger.ask(IDENTIFY), InvalidToken())
        assert [type(effect) for effect in effects] == [Send, Close]
        assert isinstance(effects[1], Close)
        assert effects[1].code == CloseCode.VIOLATIONS

    def test_a_cooldown_closes_it_and_says_how_long(self, stranger: Peer) -> None:
        (closing,) = stranger.answer(stranger.ask(IDENTIFY), Cooldown(remaining_ms=12_300))
        assert isinstance(closing, Close)
        assert closing.code == CloseCode.VIOLATIONS
        assert "13 s" in closing.reason

    def test_a_gateway_without_a_lease_sends_the_agent_away(self, stranger: Peer) -> None:
        (closing,) = stranger.answer(stranger.ask(IDENTIFY), GatewayLeaseLost())
        assert isinstance(closing, Close)
        assert closing.code == CloseCode.LEASE_LOST

    def test_without_an_answer_the_agent_may_be_on_this_connection(self, stranger: Peer) -> None:
        operation = stranger.ask(IDENTIFY)
        stranger.session.push(b'{"type":"task_assign"}')
        frame = only_frame(stranger.answer(operation, StoreUnavailable()))
        assert (frame["code"], frame["retryable"]) == ("store_unavailable", True)
        assert stranger.session.claimed_agents == ("a1",)
        sent = frames(stranger.answer(stranger.ask(IDENTIFY), Resumption(b'{"type":"task_assign"}', None)))
        assert [frame["type"] for frame in sent] == ["identified", "task_assign"]

    def test_no_frame_may_be_read_before_the_answer(self, stranger: Peer) -> None:
        stranger.ask(IDENTIFY)
        with pytest.raises(RuntimeError):
            stranger.say({"type": "ping"})

    @pytest.mark.parametrize("frame", [{"type": "ping"}, COMPLETE, {"type": "list_agents"}])
    def test_nothing_else_comes_before_it(self, stranger: Peer, frame: dict[str, Any]) -> None:
        assert only_frame(stranger.say(frame))["error"] == "not_identified"

    def test_repeating_it_changes_nothing(self, agent: Peer) -> None:
        assert only_frame(agent.say(IDENTIFY | {"capabilities": ["more"]}))["type"] == "identified"
        assert agent.session.phase is Phase.IDENTIFIED

    def test_an_identity_is_for_the_life_of_a_connection(self, agent: Peer) -> None:
        assert only_frame(agent.say(IDENTIFY | {"agent_id": "a2"}))["error"] == "already_identified"
        assert agent.session.agent_id == "a1"

    def test_it_must_come_in_time(self, stranger: Peer, agent: Peer) -> None:
        (closing,) = stranger.session.identify_overdue()
        assert isinstance(closing, Close)
        assert closing.code == CloseCode.IDENTIFY_TIMEOUT
        assert agent.session.identify_overdue() == []


class TestRequests:
    @pytest.mark.parametrize(
        ("frame", "operation"),
        [
            ({"type": "ping"}, Heartbeat()),
            ({"type": "status", "status": "busy"}, SetStatus("busy")),
            ({"type": "list_agents"}, ListAgents()),
            ({"type": "task_accepted", "task_id": TASK}, Accept(TASK, None)),
            ({"type": "task_accepted", "task_id": TASK, "generation": 2}, Accept(TASK, 2)),
            ({"type": "task_progress", "task_id": TASK, "progress": 5}, Progress(TASK, None, 5)),
            (COMPLETE, Complete(TASK, 1, b"{}", None)),
            (COMPLETE | {"result": None}, Complete(TASK, 1, b"{}", None)),
            (
                COMPLETE | {"result": {"a": "ü", "tokens_used": 7}},
                Complete(TASK, 1, '{"a":"ü","tokens_used":7}'.encode(), 7),
            ),
            (
                COMPLETE | {"result": {"tokens_used": 7}, "tokens_used": 9},
                Complete(TASK, 1, b'{"tokens_used":7}', 9),
            ),
            (COMPLETE | {"result": {"tokens_used": True}}, Complete(TASK, 1, b'{"tokens_used":true}', None)),
            (
                {"type": "task_failed", "task_id": TASK, "generation": 1, "error": "e", "reason": "r"},
                Fail(TASK, 1, "e"),
            ),
            ({"type": "task_failed", "task_id": TASK, "generation": 1, "reason": "r"}, Fail(TASK, 1, "r")),
            ({"type": "task_failed", "task_id": TASK, "generation": 1}, Fail(TASK, 1, "unknown")),
            ({"type": "task_rejected", "task_id": TASK, "reason": "busy"}, Reject(TASK, None, "busy")),
            ({"type": "task_cancelled", "task_id": TASK, "generation": 1}, ConfirmCancel(TASK, 1)),
            ({"type": "task_recovering", "task_id": TASK}, Recover(TASK, None)),
        ],
    )
    def test_a_frame_asks_for_an_operation(self, agent: Peer, frame: dict[str, Any], operation: Operation) -> None:
        assert agent.ask(frame) == operation

    @pytest.mark.parametrize(
        ("frame", "result", "answers"),
        [
            ({"type": "ping"}, 5, [{"type": "pong", "timestamp": 5}]),
            ({"type": "status", "status": "x"}, None, [{"type": "status_updated"}]),
            ({"type": "list_agents"}, AgentPage([], "z"), [{"type": "agents", "agents": [], "truncated": True}]),
            (
                {"type": "task_accepted", "task_id": TASK},
                1,
                [{"type": "task_ack", "task_id": TASK, "status": "accepted"}],
            ),
            (
                {"type": "task_accepted", "task_id": TASK, "generation": 1},
                1,
                [{"type": "task_ack", "task_id": TASK, "status": "accepted", "generation": 1}],
            ),
            ({"type": "task_progress", "task_id": TASK}, 1, []),
            (
                COMPLETE,
                Report("complete", repeated=False, next_frame=b'{"type":"task_assign"}'),
                [
                    {"type": "task_ack", "task_id": TASK, "status": "complete", "generation": 1},
                    {"type": "task_assign"},
                ],
            ),
            (
                {"type": "task_failed", "task_id": TASK, "generation": 1},
                Report("retried", repeated=False, next_frame=None),
                [{"type": "task_ack", "task_id": TASK, "status": "retried", "generation": 1}],
            ),
            (
                {"type": "task_rejected", "task_id": TASK},
                5_000,
                [{"type": "task_ack", "task_id": TASK, "status": "rejected"}],
            ),
            (
                {"type": "task_recovering", "task_id": TASK},
                3,
                [{"type": "task_continue", "task_id": TASK, "generation": 3}],
            ),
            ({"type": "task_recovering", "task_id": TASK}, None, [{"type": "task_reassign", "task_id": TASK}]),
        ],
    )
    def test_the_result_is_answered(
        self, agent: Peer, frame: dict[str, Any], result: Result, answers: list[dict[str, Any]]
    ) -> None:
        assert frames(agent.answer(agent.ask(frame), result)) == answers

    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            ("task_accepted", "task_accept_failed"),
            ("task_progress", "task_progress_failed"),
            ("task_complete", "task_complete_failed"),
            ("task_failed", "task_fail_failed"),
            ("task_rejected", "task_reject_failed"),
            ("task_cancelled", "task_cancel_failed"),
        ],
    )
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (TaskNotFound(), "not_found"),
            (InvalidState(), "invalid_state"),
            (StaleGeneration(), "stale_generation"),
            (NotOwner(), "not_owner"),
        ],
    )
    def test_a_refusal_names_the_task_and_the_reason(
        self, agent: Peer, kind: str, text: str, error: AgentComError, code: str
    ) -> None:
        frame = agent.error({"type": kind, "task_id": TASK, "generation": 4}, error)
        assert frame == {
            "type": "error",
            "error": f"{text}: {code}",
            "code": code,
            "message": error.message,
            "task_id": TASK,
            "generation": 4,
            "request_type": kind,
        }

    def test_without_an_answer_of_the_store_the_client_may_try_again(self, agent: Peer) -> None:
        frame = agent.error(COMPLETE, StoreUnavailable())
        assert (frame["error"], frame["retryable"]) == ("task_complete_failed: store_unavailable", True)
        assert agent.error({"type": "list_agents"}, StoreUnavailable())["error"] == "store_unavailable"

    @pytest.mark.parametrize("task_id", ["task-0:history", "x" * 129])
    def test_an_id_that_was_never_given_out_is_not_looked_up(self, agent: Peer, task_id: str) -> None:
        assert only_frame(agent.say(COMPLETE | {"task_id": task_id}))["code"] == "not_found"
        assert agent.session.push(b"{}") == [Send(b"{}")]  # and nothing waits for an answer to it

    def test_a_result_has_a_bound(self, agent: Peer) -> None:
        frame = only_frame(agent.say(COMPLETE | {"result": {"text": "x" * 1_001}}))
        assert frame["error"] == "task_complete_failed: result_too_large"
        assert (frame["task_id"], frame["generation"]) == (TASK, 1)

    @pytest.mark.parametrize("inmost", ["1", "123456789012345678901234567890"])
    @pytest.mark.parametrize("levels", [255, 400])
    def test_a_result_may_not_be_nested_without_end(self, agent: Peer, levels: int, inmost: str) -> None:
        deep = '{"a":' * levels + inmost + "}" * levels
        text = f'{{"type":"task_complete","task_id":"{TASK}","generation":1,"result":{deep}}}'
        assert only_frame(agent.session.receive(text, now=0.0))["code"] == "result_too_deep"

    def test_an_agent_that_moved_to_another_connection_gets_no_answer_here(self, agent: Peer) -> None:
        assert agent.answer(agent.ask({"type": "ping"}), ConnectionReplaced()) == []
        assert agent.session.orphaned

    def test_finished_tasks_are_counted_once_they_are_acknowledged(self, agent: Peer) -> None:
        done = Report("complete", repeated=False, next_frame=None)
        agent.answer(agent.ask(COMPLETE), done)
        agent.answer(agent.ask(COMPLETE), StaleGeneration())
        agent.answer(agent.ask({"type": "task_failed", "task_id": TASK, "generation": 1}), done)
        assert (agent.session.tasks_completed, agent.session.tasks_failed) == (1, 1)


class TestHoldingBack:
    PUSHED = b'{"type":"task_assign","task_id":"next"}'

    @pytest.mark.parametrize(
        "frame",
        [
            COMPLETE,
            {"type": "task_failed", "task_id": TASK, "generation": 1},
            {"type": "task_cancelled", "task_id": TASK, "generation": 1},
            {"type": "task_rejected", "task_id": TASK},
        ],
    )
    @pytest.mark.parametrize("outcome", [Report("complete", repeated=False, next_frame=None), StoreUnavailable()])
    def test_a_push_waits_for_the_answer_to_a_report(
        self, agent: Peer, frame: dict[str, Any], outcome: Report | AgentComError
    ) -> None:
        operation = agent.ask(frame)
        assert agent.session.push(self.PUSHED) == []
        sent = frames(agent.answer(operation, outcome))
        assert [one["type"] for one in sent] == [
            "error" if isinstance(outcome, AgentComError) else "task_ack",
            "task_assign",
        ]
        assert agent.session.held == 0

    def test_the_assignment_in_the_answer_comes_before_what_was_pushed_meanwhile(self, agent: Peer) -> None:
        operation = agent.ask(COMPLETE)
        agent.session.push(b'{"type":"task_cancel"}')
        sent = frames(agent.answer(operation, Report("complete", repeated=False, next_frame=self.PUSHED)))
        assert [one["type"] for one in sent] == ["task_ack", "task_assign", "task_cancel"]

    def test_it_waits_for_the_last_of_several_reports(self, agent: Peer) -> None:
        first, second = agent.ask(COMPLETE), agent.ask(COMPLETE)
        agent.session.push(self.PUSHED)
        assert [f["type"] for f in frames(agent.answer(first, StaleGeneration()))] == ["error"]
        assert [f["type"] for f in frames(agent.answer(second, StaleGeneration()))] == ["error", "task_assign"]

    @pytest.mark.parametrize("frame", [{"type": "ping"}, {"type": "task_accepted", "task_id": TASK}])
    def test_other_frames_hold_nothing_back(self, agent: Peer, frame: dict[str, Any]) -> None:
        agent.ask(frame)
        assert agent.session.push(self.PUSHED) == [Send(self.PUSHED)]

    def test_nothing_is_pushed_to_a_stranger_or_after_a_close(self, stranger: Peer, agent: Peer) -> None:
        assert stranger.session.push(self.PUSHED) == []
        agent.ask(COMPLETE)
        agent.session.push(self.PUSHED)
        agent.session.close(CloseCode.REPLACED, "newer")
        assert agent.session.push(self.PUSHED) == []
        assert agent.session.held == 0


class TestViolations:
    def test_the_tenth_within_a_minute_closes_and_penalizes(self, agent: Peer) -> None:
        for _ in range(VIOLATIONS_ALLOWED - 1):
            assert only_frame(agent.say({"type": "nope"}))["error"] == "validation_failed"
        penalty, closing = agent.say({"type": "nope"})
        assert penalty == Penalize("a1")
        assert isinstance(closing, Close)
        assert closing.code == CloseCode.VIOLATIONS
        assert agent.say({"type": "ping"}) == []

    def test_a_stranger_is_closed_without_a_penalty(self, stranger: Peer) -> None:
        for _ in range(VIOLATIONS_ALLOWED - 1):
            stranger.session.receive("{", now=stranger.now)
        (closing,) = stranger.session.receive("{", now=stranger.now)
        assert isinstance(closing, Close)

    def test_every_kind_of_bad_frame_counts(self, agent: Peer) -> None:
        bad = ["{", "[1]", "5", '{"type":"nope"}', '{"type":"task_complete"}']
        for text in bad:
            assert frames(agent.session.receive(text, now=agent.now))
        for _ in range(VIOLATIONS_ALLOWED - 1 - len(bad)):
            assert only_frame(agent.session.receive_binary(now=agent.now))["error"] == "validation_failed"
        assert isinstance(agent.session.receive_binary(now=agent.now)[-1], Close)

    def test_the_window_begins_anew_a_minute_after_its_first(self, agent: Peer) -> None:
        for _ in range(VIOLATIONS_ALLOWED - 1):
            agent.say([])
        agent.now += 60.1
        for _ in range(VIOLATIONS_ALLOWED - 1):
            assert frames(agent.say([]))
        assert isinstance(agent.say([])[-1], Close)

    def test_refused_requests_are_no_violations(self, agent: Peer) -> None:
        for _ in range(2 * VIOLATIONS_ALLOWED):
            agent.answer(agent.ask(COMPLETE), StaleGeneration())
        assert agent.session.phase is Phase.IDENTIFIED

    @pytest.mark.parametrize("text", ["x" * 10_001, "ü" * 5_001])
    def test_a_frame_has_a_bound_in_bytes(self, agent: Peer, text: str) -> None:
        (closing,) = agent.session.receive(text, now=agent.now)
        assert isinstance(closing, Close)
        assert closing.code == CloseCode.FRAME_TOO_BIG


class TestClosed:
    def test_the_first_reason_stays(self, agent: Peer) -> None:
        assert agent.session.close(CloseCode.REPLACED, "newer") == [Close(CloseCode.REPLACED, "newer")]
        assert agent.session.close(CloseCode.STALE, "late") == []

    def test_late_answers_are_not_written_but_counted(self, agent: Peer) -> None:
        operation = agent.ask(COMPLETE)
        agent.session.closed_by_client()
        assert agent.answer(operation, Report("complete", repeated=False, next_frame=b"{}")) == []
        assert agent.session.tasks_completed == 1

    def test_an_identify_answered_too_late_still_has_to_be_taken_back(self, stranger: Peer) -> None:
        operation = stranger.ask(IDENTIFY)
        stranger.session.closed_by_client()
        assert stranger.answer(operation, NOTHING) == []
        assert stranger.session.phase is Phase.CLOSED
        assert stranger.session.claimed_agents == ("a1",)
