"""The Lua scripts as text: each header tells the truth, and a call that does not fit it fails before the network."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import ClassVar

import pytest

from agentcom.domain.agents import AgentEvent
from agentcom.domain.tasks import TaskEvent
from agentcom.store.linker import COMMENT_LINE, Definition, definitions, link
from agentcom.store.scripts import Argument, Script, load, names, parse

LUA = files("agentcom.store").joinpath("lua")
STRING = re.compile(r"'(?:[^'\\]|\\.)*'")
CALL = re.compile(r"(?<![.\w])([A-Za-z_]\w*)\s*\(")
EMIT = re.compile(r"emit\('(\w+)'")
CODE = re.compile(r"\{'([A-Z_]+)'")
#: What a full Redis must refuse: whoever comes new, and what makes more of anything.
ADMISSION = {"task/submit", "task/retry", "agent/connect", "agent/status", "token/register", "token/mint"} | {
    *("mail/send", "mail/broadcast"),
    *("channel/create", "channel/subscribe", "channel/admit", "channel/publish"),
}
READERS = {name for name in names() if name.startswith(("audit/", "message/"))} | {
    *("task/counts", "channel/list", "channel/get", "channel/history"),
}
#: What one Lua chunk may have, and what we stay below so that an include can grow.
LOCALS_LIMIT, LOCALS_WANTED = 200, 150


def text(name: str) -> str:
    return LUA.joinpath(*f"{name}.lua".split("/")).read_text(encoding="utf-8")


def includes() -> list[str]:
    return sorted(entry.name[:-4] for entry in LUA.joinpath("include").iterdir())


@cache
def functions(include: str) -> tuple[Definition, ...]:
    return tuple(definitions(text(f"include/{include}")))


def reached(script: Script) -> str:
    """The body and every included function that it calls, directly or not."""
    available = {
        name: entry.source for include in script.includes for entry in functions(include) for name in entry.names
    }
    parts = [COMMENT_LINE.sub("", text(script.name))]
    waiting, known = list(parts), set[str]()
    while waiting:
        for name in CALL.findall(STRING.sub("''", waiting.pop())):
            if name in available and name not in known:
                known.add(name)
                parts.append(available[name])
                waiting.append(available[name])
    return "\n".join(parts)


@pytest.fixture(params=names())
def script(request: pytest.FixtureRequest) -> Script:
    return parse(request.param)


def test_there_are_scripts() -> None:
    assert {"match", "task/submit", "agent/connect", "gateway/renew", "token/mint"} <= set(names())
    assert {folder for name in names() if (folder := name.rpartition("/")[0])} >= {"agent", "gateway", "task", "token"}


def test_flags_say_what_a_full_redis_refuses(script: Script) -> None:
    shebang = script.source.partition("\n")[0]
    if script.name in ADMISSION:
        assert shebang == "#!lua"
    elif script.name in READERS:
        assert shebang == "#!lua flags=no-writes"
    else:
        assert shebang == "#!lua flags=allow-oom"


def test_a_header_opens_with_the_name(script: Script) -> None:
    assert text(script.name).splitlines()[1].startswith(f"-- {script.name}: ")


def test_every_code_is_in_the_header(script: Script) -> None:
    found = set(CODE.findall(reached(script)))
    if "refuse(" in script.source and "return refusal" not in script.source:
        [refuse] = [entry for entry in functions("task_state") if "refuse" in entry.names]
        found -= set(CODE.findall(refuse.source))  # looked at here, not answered with
    assert found == script.returns


def test_every_event_is_in_the_header(script: Script) -> None:
    assert set(EMIT.findall(reached(script))) == set(script.events)


def test_every_event_has_a_name_in_the_domain(script: Script) -> None:
    assert set(script.events) <= {*TaskEvent, *AgentEvent}


def test_every_event_of_the_domain_is_emitted() -> None:
    assert {event for script in map(load, names()) for event in script.events} == {*TaskEvent, *AgentEvent}


def test_what_an_include_needs_is_included_before_it(script: Script) -> None:
    needs = re.compile(r"Needs ([a-z_ ]+)\.")
    for position, include in enumerate(script.includes):
        stated = needs.search(text(f"include/{include}").replace("\n-- ", " "))
        missing = set(stated[1].split() if stated else ()) - set(script.includes[:position])
        assert not missing, f"{include} needs {missing}"


def test_every_include_is_used() -> None:
    used = {include for script in map(load, names()) for include in script.includes}
    assert used | {"clock_shifted"} == set(includes())


def test_the_locals_of_a_chunk_stay_few(script: Script) -> None:
    declared = re.findall(r"^local (?:function )?([\w, ]+?)(?: =|\(|$)", script.source, re.MULTILINE)
    count = sum(len(declaration.split(",")) for declaration in declared)
    assert 0 < count < LOCALS_WANTED < LOCALS_LIMIT


def test_no_script_uses_another_clock_or_chance(script: Script) -> None:
    assert not re.search(r"os\.|math\.random|'(?:RANDOMKEY|KEYS|SCAN)'", script.source)


def test_no_script_scans_a_collection() -> None:
    """What grows with load is read in bounded pieces. Sets of one agent's tokens are small by nature."""
    whole = re.compile(r"'(HGETALL|HKEYS|HVALS|SMEMBERS|LRANGE|KEYS|SCAN|ZSCAN|HSCAN|SSCAN)'|0, -1")
    found = {
        name: sorted(set(whole.findall(COMMENT_LINE.sub("", text(name))))) for name in [*names(), *_include_names()]
    }
    assert {name: hits for name, hits in found.items() if hits} == {"token/revoke": ["SMEMBERS"]}


def _include_names() -> list[str]:
    return [f"include/{name}" for name in includes()]


def test_keys_are_spelled_in_one_include() -> None:
    for name in [*names(), *_include_names()]:
        if name not in {"include/keys", "include/clock_shifted"}:
            body = COMMENT_LINE.sub("", text(name))
            assert "KEYS" not in STRING.sub("''", body), name
            assert not re.search(r"\broot *\.\.", STRING.sub("''", body)), name


def test_only_tests_can_move_the_clock() -> None:
    assert not any("clock:shift" in script.source for script in map(load, names()))
    assert "clock:shift" in parse("task/accept", shifted_clock=True).source


class TestBinding:
    CANCEL: ClassVar[dict[str, Argument]] = {
        "task_id": "t",
        "requester": "a",
        "privileged": 0,
        "reason": "r",
        "cancel_timeout_ms": 1,
    }

    def test_the_order_is_that_of_the_header(self) -> None:
        script = parse("agent/disconnect")
        arguments: dict[str, Argument] = {"grace_ms": 4, "reason": "c", "written": "", "conn": "b", "agent_id": "a"}
        assert script.bind(arguments, items=(), rest=()) == ["a", "b", "c", 4, ""]

    @pytest.mark.parametrize(
        "arguments", [{}, {"agent_id": "a", "conn": "b"}, {"call_id": "c", "task_id": "t", "extra": 1}]
    )
    def test_missing_and_unknown_names_fail(self, arguments: dict[str, str]) -> None:
        with pytest.raises(TypeError, match="task/retry takes"):
            parse("task/retry").bind(arguments, items=(), rest=())

    def test_items_follow_in_the_order_of_their_fields(self) -> None:
        item: dict[str, Argument] = {"skip": 0, "name": "a1", "kind": "agent", "entry": "1-0"}
        bound = parse("match").bind({"group": "g", "accept_timeout_ms": 1}, items=[item, item], rest=())
        assert bound == ["g", 1, "1-0", "agent", "a1", 0, "1-0", "agent", "a1", 0]

    def test_an_item_with_a_field_too_few_fails(self) -> None:
        with pytest.raises(TypeError, match="match items have"):
            parse("match").bind({"group": "g", "accept_timeout_ms": 1}, items=[{"entry": ""}], rest=())

    def test_items_need_a_script_that_takes_them(self) -> None:
        with pytest.raises(TypeError, match="takes no items"):
            parse("task/cancel").bind(self.CANCEL, items=[{"a": 1}], rest=())
        with pytest.raises(TypeError, match="takes no items"):
            parse("task/cancel").bind(self.CANCEL, items=(), rest=["a"])

    def test_the_rest_takes_any_number(self) -> None:
        assert parse("agent/touch").bind({}, items=(), rest=["a", "b"]) == ["a", "b"]


class TestLinking:
    INCLUDE = "-- About.\nlocal x, y = 1, 2\nlocal function f() return x end\nlocal function g()\n  return f()\nend\n"

    def test_only_what_is_reached_is_taken(self) -> None:
        assert link([self.INCLUDE], "return 1") == "return 1"
        assert link([self.INCLUDE], "return y") == "local x, y = 1, 2\nreturn y"
        linked = link([self.INCLUDE], "return g()")
        assert [line for line in linked.splitlines() if line.startswith("local")] == [
            "local x, y = 1, 2",
            "local function f() return x end",
            "local function g()",
        ]

    def test_a_mention_in_a_comment_is_no_use(self) -> None:
        assert link([self.INCLUDE], "-- see g\nreturn 1") == "return 1"

    def test_an_include_is_a_list_of_definitions(self) -> None:
        with pytest.raises(ValueError, match="must begin with a definition"):
            definitions("return 1\nlocal x = 1")


class TestKeys:
    INCLUDE = (
        "local root = KEYS[1]\nlocal function a_key(x) return root .. 'a:' .. x end\n"
        "local function pair_key(x, y) return root .. y .. ':' .. x end\n"
        "local function all_key() return root .. 'all' end\n"
        "local function twice(x) return {a_key(x), a_key(x)} end\n"
    )

    @pytest.mark.parametrize(
        ("asked", "spelled"),
        [
            ("return all_key()", "return (root .. 'all')"),
            ("return a_key(id)", "return (root .. 'a:' .. id)"),
            ("return a_key('b')", "return (root .. 'a:b')"),
            ("return a_key(t.id)", "return (root .. 'a:' .. t.id)"),
            ("return a_key(x or 'y')", "return (root .. 'a:' .. (x or 'y'))"),
            ("return a_key(f(1, 2))", "return (root .. 'a:' .. (f(1, 2)))"),
            ("return pair_key(a_key(1), t[2])", "return (root .. t[2] .. ':' .. ((root .. 'a:' .. 1)))"),
            ("return 'a_key(x)'", "return 'a_key(x)'"),
        ],
    )
    def test_a_key_is_spelled_where_it_is_asked_for(self, asked: str, spelled: str) -> None:
        assert link([self.INCLUDE], asked).splitlines()[-1] == spelled

    def test_definitions_spell_keys_too(self) -> None:
        assert link([self.INCLUDE], "return twice(1)").splitlines() == [
            "local root = KEYS[1]",
            "local function twice(x) return {(root .. 'a:' .. x), (root .. 'a:' .. x)} end",
            "return twice(1)",
        ]

    def test_a_key_with_an_argument_too_many_fails(self) -> None:
        with pytest.raises(ValueError, match="is asked for with"):
            link([self.INCLUDE], "return a_key(1, 2)")

    def test_no_script_calls_a_key_function(self, script: Script) -> None:
        keys = {name for entry in functions("keys") for name in entry.names}
        assert not keys & set(CALL.findall(STRING.sub("''", script.source)))
