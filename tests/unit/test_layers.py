"""Who may use what: read from the sources, so that no import or string slips through."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBS, SERVICES, SIDECAR = ROOT / "libs" / "agentcom", ROOT / "services", ROOT / "sidecar" / "agentcom_sidecar"
CLIENT = ROOT / "libs" / "agentcom-client" / "agentcom_client"

#: folder -> what may not be imported there, and why.
FORBIDDEN = [
    (LIBS / "domain", r"(?!agentcom\.domain)agentcom|redis|hiredis|arq|asyncio|orjson|pydantic", "the domain is pure"),
    (LIBS / "store", r"agentcom\.wire|starlette|uvicorn", "the store knows the domain only"),
    (LIBS / "wire", r"agentcom\.store\.(keys|link|scripts)|starlette|uvicorn|redis", "shapes do no I/O"),
    (LIBS, r"services|tests|bench|agentcom_sidecar|starlette|uvicorn", "nothing imports a service"),
    (SERVICES, r"redis|hiredis|tests|bench|agentcom_sidecar", "Redis is reached through the store"),
    (SERVICES, r"agentcom\.store\.(keys|scripts|replies|linker)", "no service builds its own Redis call"),
    (CLIENT, r"agentcom|agentcom_sidecar|services|tests|redis|starlette", "the client is a distribution of its own"),
    (SIDECAR, r"agentcom|services|tests|redis|starlette", "the sidecar is a distribution of its own"),
]
#: A key of a namespace, or a command of Redis given as text.
KEY = re.compile(r"\bac:\{|^ac:")
COMMAND = re.compile(r"(GET|SET|DEL|EXISTS|EVAL(SHA)?|EXPIRE|TTL|SCAN|[HLSZX][A-Z]{2,}|PUBLISH|SUBSCRIBE|INCR(BY)?)")


def sources(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""


def redis_command(call: ast.Call) -> str | None:
    """The command, if this is ``something.call("COMMAND", ...)``."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in {"call", "execute_command"} or not call.args:
        return None
    first = call.args[0]
    text = first.value if isinstance(first, ast.Constant) else None
    return text if isinstance(text, str) and COMMAND.fullmatch(text) else None


@pytest.mark.parametrize(("folder", "forbidden", "reason"), FORBIDDEN, ids=lambda value: getattr(value, "name", ""))
def test_imports_point_one_way(folder: Path, forbidden: str, reason: str) -> None:
    pattern = re.compile(rf"(?:{forbidden})(?:\.|$)")
    found = [
        f"{path.relative_to(ROOT)}: {name}" for path in sources(folder) for name in imports(path) if pattern.match(name)
    ]
    assert found == [], reason


@pytest.mark.parametrize("folder", [LIBS, SERVICES, SIDECAR], ids=lambda path: path.name)
def test_no_key_is_spelled_and_no_command_is_called_outside_the_store(folder: Path) -> None:
    found = []
    for path in sources(folder):
        if path.is_relative_to(LIBS / "store"):
            continue
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and KEY.search(node.value):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} spells a key")
            if isinstance(node, ast.Call) and (command := redis_command(node)):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} calls {command}")
            if isinstance(node, ast.Attribute) and node.attr in {"link", "blocking", "scripts"}:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno} reaches into the store")
    assert found == []


def test_these_checks_can_fail() -> None:
    store = LIBS / "store"
    assert "redis.asyncio" in set(imports(store / "store.py"))
    reader = list(ast.walk(parsed(store / "task_reader.py")))
    assert {redis_command(node) for node in reader if isinstance(node, ast.Call)} >= {"HGETALL", "ZRANGEBYSCORE"}
    assert KEY.search("ac:{default}:task:1")
