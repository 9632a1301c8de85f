"""The domain: names of queues, and the tables of transitions."""

from __future__ import annotations

import pytest

from agentcom import errors
from agentcom.domain import agents, tasks
from agentcom.domain.agents import AgentState
from agentcom.domain.signature import PIN, SEPARATOR, signature
from agentcom.domain.tasks import FINISHED_STATUSES, LIVE_STATUSES, PRIORITY_NAMES, Priority, TaskEvent, TaskStatus
from agentcom.errors import AgentComError


class TestSignature:
    def test_order_and_repetition_do_not_matter(self) -> None:
        assert signature(["b", "a", "b"]) == signature(("a", "b")) == f"a{SEPARATOR}b"

    def test_no_need_is_the_queue_for_all(self) -> None:
        assert signature([]) == ""

    def test_a_pin_takes_the_place_of_needs(self) -> None:
        assert signature(["a", "b"], target_agent="x") == signature([], target_agent="x") == f"{PIN}x"

    def test_a_pin_is_not_the_capability_of_the_same_name(self) -> None:
        assert signature(["x"]) != signature([], target_agent="x")

    @pytest.mark.parametrize(("one", "other"), [(["a", "b"], ["ab"]), (["a", "b c"], ["a b", "c"]), (["A"], ["a"])])
    def test_other_needs_are_another_queue(self, one: list[str], other: list[str]) -> None:
        assert signature(one) != signature(other)


class TestTaskTransitions:
    def test_a_task_begins_by_being_submitted(self) -> None:
        assert {event for (before, event) in tasks.TRANSITIONS if before is None} == {TaskEvent.SUBMITTED}

    def test_every_event_happens_somewhere(self) -> None:
        assert {event for (_, event) in tasks.TRANSITIONS} == set(TaskEvent)

    def test_every_status_can_be_reached_and_left(self) -> None:
        reached = {status for targets in tasks.TRANSITIONS.values() for status in targets}
        left = {before for (before, _) in tasks.TRANSITIONS}
        assert reached == left == {*TaskStatus, None}

    def test_finished_tasks_only_end_or_are_retried(self) -> None:
        moves = {(before, event) for (before, event) in tasks.TRANSITIONS if before in FINISHED_STATUSES}
        assert moves == {
            (TaskStatus.COMPLETED, TaskEvent.PRUNED),
            (TaskStatus.CANCELLED, TaskEvent.PRUNED),
            (TaskStatus.DEAD_LETTER, TaskEvent.PRUNED),
            (TaskStatus.DEAD_LETTER, TaskEvent.RETRIED),
        }

    def test_only_an_assigned_task_is_completed(self) -> None:
        assert {before for (before, event) in tasks.TRANSITIONS if event is TaskEvent.COMPLETED} == {
            TaskStatus.ASSIGNED
        }

    def test_live_and_finished_are_all(self) -> None:
        assert set(TaskStatus) == LIVE_STATUSES | FINISHED_STATUSES
        assert not LIVE_STATUSES & FINISHED_STATUSES


class TestAgentTransitions:
    def test_every_state_has_its_moves(self) -> None:
        assert set(agents.TRANSITIONS) == set(AgentState)

    def test_any_connection_may_be_lost(self) -> None:
        assert all(
            AgentState.OFFLINE in targets
            for state, targets in agents.TRANSITIONS.items()
            if state is not AgentState.OFFLINE
        )

    def test_work_begins_with_an_assignment(self) -> None:
        assert AgentState.WORKING not in agents.TRANSITIONS[AgentState.IDLE]
        assert AgentState.WORKING not in agents.TRANSITIONS[AgentState.BLOCKED]


def test_priorities_are_ordered_best_first() -> None:
    assert sorted(PRIORITY_NAMES, key=PRIORITY_NAMES.__getitem__) == ["urgent", "high", "normal", "low"]
    assert [priority.label for priority in Priority] == list(PRIORITY_NAMES)


ERRORS = [entry for entry in vars(errors).values() if isinstance(entry, type) and issubclass(entry, AgentComError)]


class TestErrors:
    def test_codes_are_unique(self) -> None:
        codes = [entry.code for entry in ERRORS]
        assert len(codes) == len(set(codes)) > 10

    @pytest.mark.parametrize("error", ERRORS, ids=lambda entry: entry.__name__)
    def test_the_docstring_is_the_message(self, error: type[AgentComError]) -> None:
        assert error().message.endswith(".")
        assert "\n" not in error().message
        assert 400 <= error.http_status <= 599

    def test_a_message_and_details_of_its_own(self) -> None:
        error = errors.TaskNotFound("No such task here.", task_id="t1")
        assert (str(error), error.details) == ("No such task here.", {"task_id": "t1"})
