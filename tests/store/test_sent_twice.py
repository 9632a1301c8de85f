"""What a lost answer does: the link sends the call again, and every script has to take that as one call.

Each case brings a store to a point and makes one call, every script of which is run twice in a row with the same
arguments. The second run must change nothing and give the same answer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import pytest

from agentcom.domain.limits import Limit, Tier
from agentcom.errors import ChannelNotFound
from agentcom.store.admin_log import AdminAction
from agentcom.store.agents import Connection
from agentcom.store.channels import Viewer
from agentcom.store.link import RedisValue
from agentcom.store.mail import Receipt
from agentcom.store.scripts import load, names
from agentcom.store.store import Store
from agentcom.store.tokens import Role
from tests.support.builders import a_task, a_token, an_agent, match_requests
from tests.support.clock import StoreClock
from tests.support.mail import a_message, registered
from tests.support.snapshot import diff, dump
from tests.support.stages import MINUTE, assigned, dead, idle_agent, working

Case = Callable[[Store, StoreClock], Awaitable[Awaitable[object]]]
A1: Final = Viewer("a1")
CASES: Final[dict[str, Case]] = {}
#: Answers that say which of the two it is, or how far the task has come; to whoever asked they mean the same.
SAME: Final = {b"repeat": b"first", b"repeated": b"sent", b"created": b"sent", b"assigned": b"queued"}
#: Whatever a second run of these repeats is an announcement, and its answer may be that there was nothing left to do.
SETTERS: Final = {
    *("agent/connect", "agent/status", "task/progress", "mail/ack", "token/revoke", "rate/rules", "rate/exempt"),
    *("agent/disconnect", "mail/delivered", "match", "channel/delete"),
    *("channel/subscribe", "channel/unsubscribe", "channel/admit", "channel/expel"),
}
ANNOUNCEMENTS: Final = ("events", "out:", "match")
#: These serve what is due, or take a token, anew on every call; that is what they are for.
NOT_ONE_CALL: Final = {
    *("task/reclaim", "task/overrun", "task/expire", "task/promote", "task/prune", "task/end_cancel"),
    *("agent/expire", "agent/unblock", "agent/evict", "gateway/expire", "mail/evict", "rate/take"),
    "forget_consumers",
}
#: All that change something, but for those.
SCRIPTS: Final = sorted(
    {name for name in names() if "no-writes" not in load(name).source.partition("\n")[0]} - NOT_ONE_CALL
)


def case(script: str) -> Callable[[Case], Case]:
    def add(made: Case) -> Case:
        CASES[script] = made
        return made

    return add


@dataclass
class Doubled:
    """Runs every script twice; ``found`` has its name, and what the second run changed and answered otherwise."""

    store: Store
    found: list[tuple[str, object]] = field(default_factory=list)
    ran: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._call = self.store.link.call
        self._names = {
            load(name, guarded=guarded, shifted_clock=True).sha: name for name in names() for guarded in (False, True)
        }

    def call(self, *command: bytes | str | float) -> asyncio.Future[RedisValue]:
        name = self._names.get(str(command[1])) if command[0] == "EVALSHA" else None
        return self._call(*command) if name is None else asyncio.ensure_future(self._twice(name, command))

    async def _twice(self, name: str, command: tuple[bytes | str | float, ...]) -> RedisValue:
        first = await self._call(*command)
        before = await dump(self.store)
        again = await self._call(*command)
        self.ran.add(name)
        changed = diff(before, await dump(self.store))
        if name in SETTERS:
            changed = {key: value for key, value in changed.items() if not key.startswith(ANNOUNCEMENTS)}
        elif _alike(again) != _alike(first):
            self.found.append((name, (first, again)))
        if changed:
            self.found.append((name, changed))
        return again


def _alike(reply: RedisValue) -> RedisValue:
    if isinstance(reply, list):
        return [_alike(each) for each in reply]
    text = str(reply).encode() if isinstance(reply, int) else reply
    return text if text is None else SAME.get(text, text)


@pytest.fixture
def doubled(store: Store) -> Doubled:
    return Doubled(store)


@pytest.mark.parametrize("script", SCRIPTS)
async def test_sent_twice_is_done_once(
    store: Store, clock: StoreClock, doubled: Doubled, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    call = await CASES[script](store, clock)
    monkeypatch.setattr(store.link, "call", doubled.call)
    await call
    assert script in doubled.ran
    assert doubled.found == []


@case("task/submit")
async def submit_to_an_idle_agent(store: Store, clock: StoreClock) -> Awaitable[object]:
    await idle_agent(store)
    return store.tasks.submit(a_task("t1", idempotency_digest="k", body_digest="b"))


@case("task/accept")
async def accept(store: Store, clock: StoreClock) -> Awaitable[object]:
    await assigned(store, max_runtime_ms=MINUTE)
    return store.tasks.accept("t1", "a1", generation=1)


@case("task/recover")
async def recover(store: Store, clock: StoreClock) -> Awaitable[object]:
    await assigned(store)
    return store.tasks.recover("t1", "a1")


@case("task/complete")
async def complete_and_take_the_next(store: Store, clock: StoreClock) -> Awaitable[object]:
    agent = await working(store)
    await store.tasks.submit(a_task("t2"))
    return store.tasks.complete("t1", "a1", conn=agent.conn, generation=1, result=b'{"n":1}', tokens_used=4)


@case("task/fail")
async def fail_and_take_the_next(store: Store, clock: StoreClock) -> Awaitable[object]:
    agent = await working(store)
    await store.tasks.submit(a_task("t2"))
    return store.tasks.fail("t1", "a1", conn=agent.conn, generation=1, reason="broke")


@case("task/reject")
async def reject(store: Store, clock: StoreClock) -> Awaitable[object]:
    await assigned(store)
    return store.tasks.reject("t1", "a1", generation=None, reason="busy")


@case("task/cancel")
async def cancel_what_runs(store: Store, clock: StoreClock) -> Awaitable[object]:
    await working(store)
    return store.tasks.cancel("t1", requester="submitter", privileged=False, reason="no")


@case("task/confirm_cancel")
async def confirm_a_cancel(store: Store, clock: StoreClock) -> Awaitable[object]:
    agent = await working(store)
    await store.tasks.cancel("t1", requester="submitter", privileged=False, reason="no")
    await store.tasks.submit(a_task("t2"))
    return store.tasks.confirm_cancel("t1", "a1", conn=agent.conn, generation=1)


@case("task/retry")
async def retry(store: Store, clock: StoreClock) -> Awaitable[object]:
    await dead(store)
    return store.tasks.retry("t1")


@case("match")
async def match(store: Store, clock: StoreClock) -> Awaitable[object]:
    await store.tasks.submit(a_task("t1"))
    await an_agent(store)
    return store.matching.serve(await match_requests(store))


@case("agent/disconnect")
async def disconnect(store: Store, clock: StoreClock) -> Awaitable[object]:
    agent = await working(store)
    return store.agents.disconnect("a1", conn=agent.conn, reason="closed")


@case("agent/heartbeat")
async def heartbeat(store: Store, clock: StoreClock) -> Awaitable[object]:
    agent = await working(store)
    return store.agents.heartbeat("a1", conn=agent.conn)


@case("agent/touch")
async def touch(store: Store, clock: StoreClock) -> Awaitable[object]:
    await idle_agent(store)
    await clock.advance(1_000)
    return store.agents.touch(["a1"])


@case("agent/penalize")
async def penalize(store: Store, clock: StoreClock) -> Awaitable[object]:
    return store.agents.penalize("a1")


@case("gateway/renew")
async def renew(store: Store, clock: StoreClock) -> Awaitable[object]:
    return store.gateways.renew("gw", lease_ms=1_000, first=True)


@case("token/register")
async def register(store: Store, clock: StoreClock) -> Awaitable[object]:
    return store.tokens.register("a1", role=Role.AGENT)


@case("token/mint")
async def mint(store: Store, clock: StoreClock) -> Awaitable[object]:
    return store.tokens.mint("a1", role=Role.ADMIN)


@case("config/set")
async def configure(store: Store, clock: StoreClock) -> Awaitable[object]:
    return store.services.set_config("name", "value")


@case("admin/record")
async def record(store: Store, clock: StoreClock) -> Awaitable[object]:
    action = AdminAction(
        actor="a1", role="admin", action="PUT /x", target=b"{}", body=b"{}", remote="127.0.0.1", request_id="r"
    )
    return store.admin_log.record(action)


@case("mail/send")
async def send(store: Store, clock: StoreClock) -> Awaitable[object]:
    await registered(store, "a1", "a2")
    return store.mail.send(a_message("m1"), to="a2")


@case("mail/broadcast")
async def broadcast(store: Store, clock: StoreClock) -> Awaitable[object]:
    await idle_agent(store, "a2")
    return store.mail.broadcast(a_message("m1"))


@case("mail/poll")
async def poll(store: Store, clock: StoreClock) -> Awaitable[object]:
    await registered(store, "a1", "a2")
    await store.mail.broadcast(a_message("m1"))
    return store.mail.poll("a2", since=0)


@case("mail/delivered")
async def delivered(store: Store, clock: StoreClock) -> Awaitable[object]:
    await idle_agent(store, "a2")
    sent = await store.mail.send(a_message("m1"), to="a2")
    return store.mail.delivered([Receipt("a2", sent.seq, "m1")], gateway="gw", written=sent.seq)


async def a_channel(store: Store, *, private: bool = False) -> None:
    await registered(store, "a1", "a2")
    await store.channels.create("c", description="", created_by="a1", private=private, members=())


@case("channel/create")
async def create(store: Store, clock: StoreClock) -> Awaitable[object]:
    await registered(store, "a1", "a2")
    return store.channels.create("c", description="d", created_by="a1", private=True, members=("a2",))


@case("channel/publish")
async def publish(store: Store, clock: StoreClock) -> Awaitable[object]:
    await a_channel(store)
    return store.channels.publish("c", a_message("m1"), privileged=False)


@case("channel/subscribe")
async def subscribe(store: Store, clock: StoreClock) -> Awaitable[object]:
    await a_channel(store)
    return store.channels.subscribe("c", by=Viewer("a2"))


@case("channel/unsubscribe")
async def unsubscribe(store: Store, clock: StoreClock) -> Awaitable[object]:
    await a_channel(store)
    await store.channels.subscribe("c", by=Viewer("a2"))
    return store.channels.unsubscribe("c", by=Viewer("a2"))


@case("channel/admit")
async def admit(store: Store, clock: StoreClock) -> Awaitable[object]:
    await a_channel(store, private=True)
    return store.channels.admit("c", "a2", by=A1)


@case("channel/expel")
async def expel(store: Store, clock: StoreClock) -> Awaitable[object]:
    await a_channel(store, private=True)
    await store.channels.admit("c", "a2", by=A1)
    return store.channels.expel("c", "a2", by=A1)


@case("channel/delete")
async def delete(store: Store, clock: StoreClock) -> Awaitable[object]:
    await a_channel(store)
    return _although_gone(store.channels.delete("c", by=A1))


async def _although_gone(call: Awaitable[object]) -> None:
    """The second run finds no channel, and that is the answer that arrives."""
    with contextlib.suppress(ChannelNotFound):
        await call


@case("mail/ack")
async def ack(store: Store, clock: StoreClock) -> Awaitable[object]:
    await registered(store, "a1", "a2")
    sent = await store.mail.send(a_message("m1"), to="a2")
    return store.mail.ack("a2", seq=sent.seq)


@case("token/revoke")
async def revoke(store: Store, clock: StoreClock) -> Awaitable[object]:
    await idle_agent(store)
    return store.tokens.revoke("a1")


@case("rate/rules")
async def override(store: Store, clock: StoreClock) -> Awaitable[object]:
    return store.rate_limits.override("a1", {Tier.HEAVY: Limit(5, 5)})


@case("rate/exempt")
async def exempt(store: Store, clock: StoreClock) -> Awaitable[object]:
    return store.rate_limits.replace_exempt(["a1", "a2"])


@case("agent/connect")
async def connect(store: Store, clock: StoreClock) -> Awaitable[object]:
    await store.gateways.renew("gw", lease_ms=MINUTE, first=True)
    connection = Connection(
        agent_id="a1",
        conn="c1",
        gateway="gw",
        token_digest=await a_token(store, "a1"),
        name=None,
        status=None,
        capabilities=["code"],
        features=[],
    )
    return store.agents.connect(connection)


@case("agent/status")
async def set_status(store: Store, clock: StoreClock) -> Awaitable[object]:
    agent = await idle_agent(store)
    return store.agents.set_status("a1", conn=agent.conn, status="fine")


@case("task/progress")
async def progress(store: Store, clock: StoreClock) -> Awaitable[object]:
    await assigned(store)
    return store.tasks.progress("t1", "a1", generation=1, progress=50)
