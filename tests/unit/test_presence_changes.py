"""What is left to tell of an agent when several things happen to it at once."""

from __future__ import annotations

from services.ws_gateway.presence import Change, merged

OLD, NEW = {"agent_id": "a", "status": "old"}, {"agent_id": "a", "status": "new"}


def test_the_last_event_counts() -> None:
    joined = merged(None, "agent_joined", OLD)
    assert joined == Change("agent_joined", OLD, status_changed=False)
    assert merged(joined, "agent_left", None) == Change("agent_left", None, status_changed=False)
    assert merged(Change("agent_left", None, status_changed=False), "agent_joined", NEW).event == "agent_joined"


def test_who_came_and_changed_has_come_as_it_is_now() -> None:
    joined = merged(None, "agent_joined", OLD)
    assert merged(joined, "status_changed", NEW) == Change("agent_joined", NEW, status_changed=True)


def test_of_several_statuses_the_last() -> None:
    changed = merged(None, "status_changed", OLD)
    assert merged(changed, "status_changed", NEW) == Change("status_changed", NEW, status_changed=True)
