"""The two spellings of the keys, in Python and in Lua, are one."""

from __future__ import annotations

import inspect
import re
from importlib.resources import files

import pytest
from redis.crc import key_slot

from agentcom.errors import TaskNotFound
from agentcom.store.keys import Keys
from agentcom.store.replies import as_bytes
from agentcom.store.store import Store
from tests.support.builders import a_task, an_agent

INCLUDE = files("agentcom.store").joinpath("lua", "include", "keys.lua").read_text(encoding="utf-8")
FUNCTIONS = [
    (name, tuple(parameters.replace(" ", "").split(",")) if parameters else ())
    for name, parameters in re.findall(r"^local function (\w+)\(([^)]*)\)", INCLUDE, re.MULTILINE)
]
#: Used by Python alone.
PYTHON_ONLY = {"root", "clock_shift", "services"}
#: Names as they may come from outside, some of them mean.
NAMES = ["a1", "x:history", "x:tokens", "{other}", "é 🙂", "a\x1fb", ""]


def python_name(lua_name: str) -> str:
    return lua_name.removesuffix("_key")


def spelled(keys: Keys, name: str, *arguments: str) -> str:
    found = getattr(keys, python_name(name))(*arguments)
    assert isinstance(found, str)
    return found


def test_both_sides_have_the_same_functions() -> None:
    methods = {name for name, _ in inspect.getmembers(Keys) if not name.startswith("_")} - {"namespace"}
    assert {python_name(name) for name, _ in FUNCTIONS} == methods - PYTHON_ONLY


@pytest.mark.parametrize(("name", "parameters"), FUNCTIONS, ids=[name for name, _ in FUNCTIONS])
async def test_both_sides_spell_the_same(store: Store, name: str, parameters: tuple[str, ...]) -> None:
    for argument in NAMES:
        arguments = [f"{argument}{index}" if index else argument for index in range(len(parameters))]
        call = f"return {name}({', '.join(f'ARGV[{index + 1}]' for index in range(len(parameters)))})"
        lua = await store.link.call("EVAL", f"{INCLUDE}\n{call}", 1, store.keys.root, *arguments)
        assert as_bytes(lua).decode() == spelled(store.keys, name, *arguments)


def test_a_namespace_lives_in_one_slot() -> None:
    keys = Keys("some-namespace")
    all_keys = [
        spelled(keys, name, *[argument] * len(parameters)) for name, parameters in FUNCTIONS for argument in NAMES
    ]
    all_keys += [keys.root, keys.clock_shift(), keys.config(), keys.services()]
    assert len({key_slot(key.encode()) for key in all_keys}) == 1
    assert key_slot(keys.root.encode()) != key_slot(Keys("another").root.encode())


def test_no_name_from_outside_spells_a_key_of_another_kind() -> None:
    """Agents, capabilities and tasks may be called anything: no two kinds of key ever meet."""
    keys = Keys("n")
    kinds = [
        (name, spelled(keys, name, *[""] * len(parameters)), bool(parameters))
        for name, parameters in FUNCTIONS
        if name not in {"gateway_agents_key", "idempotency_key"}
    ]
    for name, prefix, open_ended in kinds:
        for other, spelling, _ in kinds:
            if other != name and open_ended:
                assert not spelling.startswith(prefix), f"{name} of some name can spell {other}"


async def test_an_agent_and_a_task_with_mean_names_get_along_with_others(store: Store) -> None:
    await an_agent(store, "alice")
    await an_agent(store, "alice:tokens")
    await store.tasks.submit(a_task("t1", target_agent="nobody"))
    with pytest.raises(TaskNotFound):
        await store.task_reader.get("t1:history")
    assert await store.agents.count() == 2
    assert await store.tokens.revoke("alice:tokens") == 1
    assert await store.tokens.revoke("alice") == 1
