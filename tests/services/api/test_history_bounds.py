"""Numbers at the ends of their range in the history of a channel."""

from __future__ import annotations

import pytest

from tests.services.api.harness import Api


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        ("before=0", []),
        ("before=1", []),
        ("before=2", [1]),
        (f"since={2**53}", []),
        (f"before={2**53}", [1]),
        ("", [1]),
    ],
)
async def test_no_number_is_too_small_or_too_large(api: Api, query: str, seqs: list[int]) -> None:
    assert (await api("POST", "/api/channels", {"name": "c"})).status_code == 201
    assert (await api("POST", "/api/channels/c/publish", {"payload": {}})).status_code == 200
    posts = (await api("GET", f"/api/channels/c/history?{query}")).json()["messages"]
    assert [post["seq"] for post in posts] == seqs
