"""The state machine alone: frames in, effects out."""

from typing import Any

import pytest

from agentcom_sidecar.delivery import Delivery
from agentcom_sidecar.effects import (
    AgentFinished,
    AgentStopped,
    ClearTask,
    ConnectionClosed,
    DropReport,
    Effect,
    Exit,
    FrameReceived,
    Reconnect,
    RefuseReport,
    RenumberReport,
    ReviveReport,
    SaveTask,
    Send,
    SendReport,
    StartAgent,
    StopAgent,
    StoreReport,
    Tick,
)
from agentcom_sidecar.journal import Phase, Task
from agentcom_sidecar.outbox import ReportKey
from agentcom_sidecar.protocol import MAX_FRAME_BYTES, ReportType
from agentcom_sidecar.result import completed, failed
from agentcom_sidecar.session import Session

MODERN = {"type": "identified", "agent_id": "w1", "features": ["cancel", "generation", "progress", "reject"]}
OLD = {"type": "identified", "agent_id": "w1"}
DONE = completed({"status": "success"})
KEY = ReportKey("t1", 1)


class Driver:
    """A session with a hand-moved clock."""

    def __init__(self, hello: dict[str, Any] | None = None, **session: Any) -> None:
        pending = session.pop("pending", {})
        superseded = session.pop("superseded", ())
        delivery = Delivery(pending, superseded, ack_timeout=10)
        self.now = 1000.0
        self.session = Session(delivery, wall_clock=lambda: 5.0, **session)
        self.greeting = self.frame(**hello) if hello else []

    def frame(self, **frame: Any) -> list[Effect]:
        return self.session.handle(FrameReceived(frame), self.now)

    def assign(self, task_id: str = "t1", generation: int = 1, **more: Any) -> list[Effect]:
        return self.frame(type="task_assign", task_id=task_id, generation=generation, description="d", **more)

    def finish(self, run: int, outcome: Any = DONE) -> list[Effect]:
        return self.session.handle(AgentFinished(run, outcome), self.now)

    def stopped(self, run: int) -> list[Effect]:
        return self.session.handle(AgentStopped(run), self.now)

    def close(self, code: int = 1006, reason: str = "") -> list[Effect]:
        return self.session.handle(ConnectionClosed(code, reason), self.now)

    def later(self, seconds: float) -> list[Effect]:
        self.now += seconds
        return self.session.handle(Tick(), self.now)


def sent(effects: list[Effect]) -> list[str]:
    return [effect.frame["type"] for effect in effects if isinstance(effect, Send)]


def only(effects: list[Effect], kind: type) -> Any:
    (found,) = [effect for effect in effects if isinstance(effect, kind)]
    return found


def kinds(effects: list[Effect]) -> list[type]:
    return [type(effect) for effect in effects]


def running(hello: dict[str, Any] = MODERN) -> tuple[Driver, int]:
    driver = Driver(hello)
    run = only(driver.assign(), StartAgent).run
    driver.frame(type="task_ack", task_id="t1", status="accepted", generation=1)
    return driver, run


def a_task(**changes: Any) -> Task:
    return Task(**{"task_id": "t1", "generation": 1, "metadata": {}, **changes})


def test_assignment_is_saved_before_it_is_accepted_and_before_the_agent_starts() -> None:
    effects = Driver(MODERN).assign(generation=4)
    assert kinds(effects) == [SaveTask, Send, SaveTask, StartAgent]
    assert only(effects, Send).frame == {"type": "task_accepted", "task_id": "t1", "generation": 4}
    assert [effect.task.phase for effect in effects if isinstance(effect, SaveTask)] == [Phase.ACCEPTED, Phase.RUNNING]


def test_report_is_stored_before_the_task_is_cleared_and_sent() -> None:
    driver, run = running()
    assert kinds(driver.finish(run)) == [StoreReport, ClearTask, SendReport]
    assert driver.frame(type="task_ack", task_id="t1", status="complete", generation=1) == [DropReport(KEY)]


def test_finished_while_disconnected_is_sent_after_the_next_identify() -> None:
    driver, run = running()
    driver.close()
    assert kinds(driver.finish(run)) == [StoreReport, ClearTask]
    assert driver.frame(**MODERN) == [SendReport(KEY, MAX_FRAME_BYTES)]


def test_report_respects_the_frame_size_of_the_hub() -> None:
    driver = Driver({**MODERN, "max_frame_bytes": 4096}, pending={KEY: ReportType.COMPLETE})
    assert driver.greeting == [SendReport(KEY, 4096)]


def test_reports_go_one_at_a_time_and_an_unanswered_one_waits_its_turn() -> None:
    second = ReportKey("t2", 5)
    driver = Driver(MODERN, pending={KEY: ReportType.COMPLETE, second: ReportType.FAILED})
    assert only(driver.greeting, SendReport).key == KEY
    assert driver.later(9) == []
    assert only(driver.later(2), SendReport).key == second
    assert driver.frame(type="task_ack", task_id="t1", status="complete", generation=1) == [DropReport(KEY)]
    assert driver.frame(type="task_ack", task_id="t2", status="dead_letter", generation=5) == [DropReport(second)]


def test_acknowledgement_of_another_generation_does_not_count() -> None:
    driver = Driver(MODERN, pending={KEY: ReportType.COMPLETE})
    assert driver.frame(type="task_ack", task_id="t1", status="complete", generation=2) == []
    assert driver.frame(type="task_ack", task_id="t2", status="complete", generation=1) == []


def test_acknowledgement_of_an_acceptance_is_not_one_of_a_report() -> None:
    driver = Driver(OLD, pending={KEY: ReportType.FAILED})
    assert driver.frame(type="task_ack", task_id="t1", status="accepted") == []
    assert driver.frame(type="task_ack", task_id="t1", status="retried") == [DropReport(KEY)]


@pytest.mark.parametrize(
    "error",
    [
        {"error": "task_complete_failed: invalid_state"},
        {"error": "validation_failed", "message_type": "task_complete", "errors": []},
        {"error": "task_complete_failed: not_owner", "code": "not_owner", "request_type": "task_complete"}
        | {"task_id": "t1", "generation": 1},
    ],
)
def test_refusal_goes_to_the_report_in_flight(error: dict[str, Any]) -> None:
    second = ReportKey("t2", 5)
    driver = Driver(OLD, pending={KEY: ReportType.COMPLETE, second: ReportType.FAILED})
    effects = driver.frame(type="error", **error)
    assert only(effects, RefuseReport).key == KEY
    assert only(effects, SendReport).key == second


@pytest.mark.parametrize("code", ["result_too_large", "result_too_deep", "validation_failed", "invalid_json"])
def test_a_result_that_the_hub_does_not_take_fails_the_task(code: str) -> None:
    driver = Driver(MODERN, pending={KEY: ReportType.COMPLETE})
    error = {"error": f"task_complete_failed: {code}", "code": code, "request_type": "task_complete"}
    effects = driver.frame(type="error", task_id="t1", generation=1, **error)
    assert [type(effect) for effect in effects] == [RefuseReport, StoreReport, SendReport]
    report = only(effects, StoreReport).report
    assert (report.key, report.type) == (KEY, ReportType.FAILED)
    assert report.body == {"error": f"result_refused: the hub does not take the result ({code})"}
    assert driver.frame(type="error", **error | {"request_type": "task_failed"}) == [RefuseReport(KEY, code)]


def test_passing_trouble_only_delays_a_report() -> None:
    driver = Driver(MODERN, pending={KEY: ReportType.COMPLETE})
    error = {"error": "task_complete_failed: unavailable", "code": "unavailable", "request_type": "task_complete"}
    assert driver.frame(type="error", task_id="t1", generation=1, **error) == []
    assert only(driver.later(11), SendReport).key == KEY


def test_rate_limited_report_waits_as_long_as_it_is_told() -> None:
    driver = Driver(MODERN, pending={KEY: ReportType.COMPLETE})
    driver.frame(type="rate_limited", tier="normal", retry_after_ms=3000)
    assert driver.later(2.9) == []
    assert only(driver.later(0.2), SendReport).key == KEY


def test_rate_limited_acceptance_is_sent_again() -> None:
    driver = Driver(MODERN)
    driver.assign()
    driver.frame(type="rate_limited", tier="normal", retry_after_ms=500)
    assert sent(driver.later(0.6)) == ["task_accepted"]


def test_progress_only_while_the_agent_works() -> None:
    driver, run = running()
    assert driver.later(29) == []
    assert sent(driver.later(2)) == ["task_progress"]
    assert driver.later(1) == []
    driver.finish(run)
    driver.frame(type="task_ack", task_id="t1", status="complete", generation=1)
    assert driver.later(60) == []


def test_busy_is_said_only_to_a_hub_that_understands() -> None:
    driver, _ = running()
    rejected = only(driver.assign("t2", 7), Send).frame
    assert rejected == {"type": "task_rejected", "task_id": "t2", "reason": "busy", "generation": 7}
    driver, _ = running(OLD)
    assert driver.assign("t2", 7) == []


@pytest.mark.parametrize("task_id", ["", "..", ".hidden", "a/b", "a" * 129, "a\n", "a b", None, 5, ["t"]])
def test_unusable_task_ids_are_refused(task_id: Any) -> None:
    effects = Driver(MODERN).frame(type="task_assign", task_id=task_id, generation=1)
    assert kinds(effects) == [Send]
    assert only(effects, Send).frame["reason"] == "invalid_task_id"


def test_same_task_again_takes_the_later_generation_and_starts_nothing() -> None:
    driver, run = running()
    assert kinds(driver.assign(generation=1)) == [Send]
    assert kinds(driver.assign(generation=3)) == [SaveTask, Send]
    assert driver.assign(generation=2) == []
    assert only(driver.finish(run), StoreReport).report.key == ReportKey("t1", 3)


def test_reconnect_announces_the_task_in_hand_with_its_generation() -> None:
    driver, _ = running()
    driver.close()
    effects = driver.frame(**MODERN)
    assert only(effects, Send).frame == {
        "type": "task_recovering",
        "task_id": "t1",
        "generation": 1,
        "last_status": "running",
    }
    assert sent(driver.later(11)) == ["task_recovering"]
    assert sent(driver.frame(type="task_continue", task_id="t1", generation=1)) == ["task_accepted"]


def test_old_hub_hears_of_the_task_after_a_restart_only() -> None:
    driver, _ = running(OLD)
    driver.close()
    assert driver.frame(**OLD) == []
    assert sent(Driver(OLD, task=a_task(phase=Phase.RUNNING), agent_runs=True).greeting) == ["task_recovering"]


def test_restarted_task_that_never_began_starts_when_the_hub_says_so() -> None:
    driver = Driver(MODERN, task=a_task())
    assert kinds(driver.greeting) == [Send]
    effects = driver.frame(type="task_continue", task_id="t1", generation=4)
    assert kinds(effects) == [SaveTask, Send, SaveTask, StartAgent]
    assert only(effects, StartAgent).task.generation == 4


def test_restarted_task_that_is_running_is_not_started_again() -> None:
    driver = Driver(MODERN, task=a_task(phase=Phase.RUNNING), agent_runs=True)
    assert kinds(driver.frame(type="task_continue", task_id="t1", generation=1)) == [Send]
    assert kinds(driver.assign(generation=2)) == [SaveTask, Send]


def test_reassigned_task_is_dropped_and_the_next_waits_for_the_agent_to_end() -> None:
    driver, run = running()
    assert kinds(driver.frame(type="task_reassign", task_id="t1")) == [StopAgent, ClearTask]
    assert kinds(driver.assign("t2")) == [SaveTask, Send]
    assert driver.finish(run) == []
    assert kinds(driver.stopped(run)) == [SaveTask, StartAgent]


def test_continue_for_a_task_that_ended_meanwhile_renumbers_its_report() -> None:
    driver = Driver(MODERN, pending={KEY: ReportType.FAILED})
    effects = driver.frame(type="task_continue", task_id="t1", generation=6)
    assert effects == [RenumberReport(KEY, 6)]


def test_task_that_ended_already_is_never_run_again() -> None:
    driver = Driver(pending={KEY: ReportType.COMPLETE})
    driver.session._features = frozenset(MODERN["features"])
    assert kinds(driver.assign(generation=3)) == [RenumberReport, Send]
    effects = driver.frame(**MODERN)
    assert only(effects, SendReport).key == ReportKey("t1", 3)


def test_superseded_completion_answers_a_later_assignment() -> None:
    driver = Driver(MODERN, superseded={"t1"})
    effects = driver.assign(generation=3)
    assert kinds(effects) == [ReviveReport, Send, SendReport]
    assert only(effects, SendReport).key == ReportKey("t1", 3)


def test_retry_of_a_failed_task_runs_even_if_the_failure_is_unacknowledged() -> None:
    driver = Driver(MODERN, pending={KEY: ReportType.FAILED})
    assert StartAgent in kinds(driver.assign(generation=3))


def test_cancel_stops_first_and_reports_then() -> None:
    driver, run = running()
    effects = driver.frame(type="task_cancel", task_id="t1", generation=1, reason="x")
    assert kinds(effects) == [SaveTask, StopAgent]
    assert driver.finish(run, failed("killed by signal 15")) == []
    assert driver.frame(type="task_cancel", task_id="t1", generation=1, reason="x") == []
    report = only(driver.stopped(run), StoreReport).report
    assert (report.type, report.key) == (ReportType.CANCELLED, KEY)


def test_cancelled_task_that_is_given_to_nobody_is_still_reported() -> None:
    driver, run = running()
    driver.frame(type="task_cancel", task_id="t1", generation=1)
    assert driver.frame(type="task_reassign", task_id="t1") == []
    assert only(driver.stopped(run), StoreReport).report.type is ReportType.CANCELLED


def test_stale_cancel_is_ignored_and_an_unknown_one_answered() -> None:
    driver, _ = running()
    driver.assign(generation=3)
    assert driver.frame(type="task_cancel", task_id="t1", generation=1) == []
    answer = only(driver.frame(type="task_cancel", task_id="t9", generation=2), Send).frame
    assert answer == {"type": "task_cancelled", "task_id": "t9", "generation": 2}


def test_refused_progress_asks_who_holds_the_task_and_a_refused_question_drops_it() -> None:
    driver, _ = running()
    doubt = {"type": "error", "code": "stale_generation", "task_id": "t1", "generation": 1, "error": "stale"}
    assert sent(driver.frame(**doubt, request_type="task_progress")) == ["task_recovering"]
    assert kinds(driver.frame(**doubt, request_type="task_recovering")) == [StopAgent, ClearTask]


def test_error_about_an_earlier_generation_says_nothing_about_this_one() -> None:
    driver, _ = running()
    driver.assign(generation=3)
    error = {"code": "stale_generation", "task_id": "t1", "generation": 1, "request_type": "task_progress"}
    assert driver.frame(type="error", error="stale", **error) == []


@pytest.mark.parametrize("code", [3500, 3999, 4500, 4501, 4502, 4999])
def test_terminal_closes(code: int) -> None:
    assert kinds(Driver(MODERN).close(code)) == [Exit]


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1008, 1009, 1011, 1012, 3000, 3499, 4000, 4003, 4499])
def test_other_closes(code: int) -> None:
    assert Driver(MODERN).close(code) == []


@pytest.mark.parametrize("code", ["invalid_token", "token_agent_mismatch"])
def test_refused_identity_is_terminal_only_as_an_answer_to_identify(code: str) -> None:
    assert kinds(Driver().frame(type="error", error=code)) == [Exit]
    assert Driver(MODERN).frame(type="error", error=code) == []


def test_identity_that_the_hub_finds_malformed_is_terminal() -> None:
    effects = Driver().frame(type="error", error="validation_failed", message_type="identify", message="agent_id bad")
    assert "agent_id bad" in only(effects, Exit).sentence


def test_unidentified_connection_is_replaced() -> None:
    assert kinds(Driver(MODERN).frame(type="error", error="not_identified")) == [Reconnect]


@pytest.mark.parametrize(
    "frame",
    [
        {},
        {"type": None},
        {"type": ["task_assign"]},
        {"type": "error"},
        {"type": "error", "error": [1], "code": {}, "request_type": [], "task_id": 5},
        {"type": "task_ack"},
        {"type": "task_ack", "task_id": [], "status": {}},
        {"type": "rate_limited", "tier": [], "retry_after_ms": "x"},
        {"type": "task_continue", "task_id": "t1", "generation": "3"},
        {"type": "task_cancel"},
        {"type": "task_reassign", "task_id": {}},
        {"type": "identified", "features": 5, "max_frame_bytes": -1},
        {"type": "message", "payload": {}},
    ],
)
def test_malformed_frames_do_no_harm(frame: dict[str, Any]) -> None:
    driver, run = running()
    assert not {StopAgent, ClearTask, StartAgent, Exit} & set(kinds(driver.frame(**frame)))
    assert StoreReport in kinds(driver.finish(run))
