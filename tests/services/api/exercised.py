"""Which routes and frames a test file asks for, read from its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

METHODS = frozenset({"GET", "POST", "PUT", "DELETE"})
#: What stands for a value that is only known when the test runs.
_UNKNOWN = "x"

Request = tuple[str, str]


def requests_in(path: Path) -> set[Request]:
    """Method and path of every request that is spelled out in one place: a call, or the values of a parametrized test.

    Names that are assigned a text in the same function or in the file are read as that text. Where the method does not
    stand beside the path, it is that of the client's function (``client.get``), or the one that stands in the helper.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    helpers = {function.name: method for function in functions if (method := _only_method(function))}
    of_file = _assigned(tree.body, {})
    found = set(_requests(ast.walk(tree), of_file, helpers))
    for function in functions:
        known = _assigned(ast.walk(function), of_file)
        found |= set(_requests(ast.walk(function), known, helpers))
    return found


def frames_in(path: Path) -> set[str]:
    """The types of all frames that are sent: texts in what is given to ``ask`` and ``send``, and frames as such."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="ask" | "send"), args=[frame, *_]):
                found |= {str(part.value) for part in ast.walk(frame) if isinstance(part, ast.Constant)}
            case ast.Dict(keys=[ast.Constant(value="type"), *_], values=[ast.Constant(value=str(kind)), *_]):
                found.add(kind)
    return found


def is_requested(route: str, requests: Iterable[Request]) -> bool:
    """Whether one of the requests is for this route, such as ``GET /api/tasks/{task_id}``."""
    method, _, template = route.partition(" ")
    pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", template))
    return any(asked == method and pattern.fullmatch(target) for asked, target in requests)


def _requests(nodes: Iterable[ast.AST], known: Mapping[str, str], helpers: Mapping[str, str]) -> Iterator[Request]:
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(attr=name), args=parts):
                implied = name.upper()
            case ast.Call(func=ast.Name(id=name), args=parts):
                implied = helpers.get(name, "")
            case ast.Tuple(elts=parts):
                implied = ""
            case _:
                continue
        texts = [text for part in parts if (text := _text(part, known)) is not None]
        methods = [text for text in texts if text in METHODS] or [implied]
        for target in (text.partition("?")[0] for text in texts if text.startswith("/")):
            yield from ((method, target) for method in methods if method in METHODS)


def _assigned(nodes: Iterable[ast.AST], known: Mapping[str, str]) -> dict[str, str]:
    found = dict(known)
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if (text := _text(value, found)) is not None:
                found[name] = text
    return found


def _only_method(function: ast.AST) -> str:
    named = {node.value for node in ast.walk(function) if isinstance(node, ast.Constant) and node.value in METHODS}
    return str(named.pop()) if len(named) == 1 else ""


def _text(node: ast.AST, known: Mapping[str, str]) -> str | None:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name):
            return known.get(name)
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, known) or _UNKNOWN for part in parts)
        case ast.FormattedValue(value=value):
            return _text(value, known) or _UNKNOWN
    return None
