"""The replay of events that the end-to-end tests rely on finds what contradicts."""

from __future__ import annotations

import pytest

from agentcom.domain.tasks import TaskEvent, TaskStatus
from tests.support.history import Event, TaskLife


def replay(*events: tuple[TaskEvent, str, int]) -> TaskLife:
    """The life of a task with these events: kind, agent, generation."""
    life = TaskLife("t")
    for number, (kind, agent_id, generation) in enumerate(events):
        life.add(Event(f"{number}-0", kind, {"agent_id": agent_id, "generation": str(generation)}))
    return life


SUBMITTED = (TaskEvent.SUBMITTED, "", 0)


def test_a_legal_life_has_no_findings() -> None:
    life = replay(
        SUBMITTED,
        (TaskEvent.ASSIGNED, "a", 1),
        (TaskEvent.ACCEPTED, "a", 1),
        (TaskEvent.RETRIED, "a", 1),
        (TaskEvent.PROMOTED, "", 2),
        (TaskEvent.ASSIGNED, "b", 3),
        (TaskEvent.RECLAIMED, "b", 3),
        (TaskEvent.ASSIGNED, "a", 5),
        (TaskEvent.COMPLETED, "a", 5),
    )
    assert life.findings == []
    assert life.possible == {TaskStatus.COMPLETED}


@pytest.mark.parametrize(
    "events",
    [
        [(TaskEvent.COMPLETED, "a", 1), (TaskEvent.COMPLETED, "a", 1)],
        [(TaskEvent.COMPLETED, "b", 1)],
        [(TaskEvent.COMPLETED, "a", 2)],
        [(TaskEvent.RECLAIMED, "a", 1), (TaskEvent.COMPLETED, "a", 1)],
        [(TaskEvent.RECLAIMED, "a", 1), (TaskEvent.ASSIGNED, "b", 1)],
        [(TaskEvent.ASSIGNED, "b", 2)],
        [(TaskEvent.SUBMITTED, "", 0)],
        [(TaskEvent.PROMOTED, "", 1)],
    ],
    ids=[
        "completed twice",
        "completed by another agent",
        "completed in another generation",
        "completed after it was taken back",
        "assigned again in the same generation",
        "assigned while it is assigned",
        "submitted twice",
        "promoted while it is assigned",
    ],
)
def test_an_impossible_life_is_found(events: list[tuple[TaskEvent, str, int]]) -> None:
    assert replay(SUBMITTED, (TaskEvent.ASSIGNED, "a", 1), *events).findings


def test_a_retry_may_lead_to_two_places_until_the_next_event_tells_which() -> None:
    life = replay(SUBMITTED, (TaskEvent.ASSIGNED, "a", 1), (TaskEvent.RETRIED, "a", 1))
    assert life.possible == {TaskStatus.QUEUED, TaskStatus.DELAYED}
    life.add(Event("9-0", TaskEvent.PROMOTED, {"generation": "2"}))
    assert life.possible == {TaskStatus.QUEUED}
    assert life.findings == []
