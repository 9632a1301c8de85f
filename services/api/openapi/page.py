"""The documentation page: the OpenAPI document as HTML, without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, Final

import orjson

Document = dict[str, Any]

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8882}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:13px/1.45 ui-monospace,monospace}
pre{background:var(--soft);padding:.75rem;overflow:auto;border-radius:6px}
details{border:1px solid var(--line);border-radius:6px;margin:.4rem 0;padding:.1rem .75rem}
summary{cursor:pointer;padding:.4rem 0}
.m{display:inline-block;min-width:4.5rem;font-weight:700}
.s{opacity:.75;margin-left:.75rem}
table{border-collapse:collapse;width:100%}
td,th{border-bottom:1px solid var(--line);text-align:left;padding:.25rem .5rem}
"""


def render_page(document: Document) -> str:
    """The whole page."""
    info = document["info"]
    return "".join(
        [
            "<!doctype html><html lang=en><meta charset=utf-8>",
            "<meta name=viewport content='width=device-width,initial-scale=1'>",
            f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style>",
            f"<h1>{escape(info['title'])} API <small>{escape(info['version'])}</small></h1>",
            f"<p>{escape(info['description'])} The same as JSON: <a href='openapi.json'>openapi.json</a>.</p>",
            *_sections(document),
            "<h2>Shapes</h2>",
            *(_shape(name, schema) for name, schema in document["components"]["schemas"].items()),
            "</html>",
        ]
    )


def _sections(document: Document) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    for tag, operations in by_tag.items():
        yield f"<h2>{escape(tag.capitalize())}</h2>"
        yield from operations


def _operation(method: str, path: str, operation: Document) -> str:
    rows = [
        f"<tr><td><code>{escape(found['name'])}</code><td>{found['in']}<td>{_type(found['schema'])}"
        for found in operation.get("parameters", [])
    ]
    answers = [
        f"<tr><td>{status}<td>{escape(answer['description'])}<td>{_content(answer['content'])}"
        for status, answer in operation["responses"].items()
    ]
    body = operation.get("requestBody")
    return "".join(
        [
            f"<details><summary><span class=m>{method.upper()}</span><code>{escape(path)}</code>",
            f"<span class=s>{escape(operation['summary'])}</span></summary>",
            f"<p>{escape(operation['description'])}",
            f" Rate limit: {escape(operation['x-rate-limit'])}." if "x-rate-limit" in operation else "",
            "</p>",
            f"<p>Body: {_content(body['content'])}</p>" if body else "",
            f"<table><tr><th>parameter<th>in<th>type{''.join(rows)}</table>" if rows else "",
            f"<table><tr><th>status<th>meaning<th>body{''.join(answers)}</table></details>",
        ]
    )


def _content(content: Document) -> str:
    [(media_type, described)] = content.items()
    return _type(described["schema"]) if media_type == "application/json" else escape(media_type)


def _type(schema: Document) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"<a href='#{escape(name)}'>{escape(name)}</a>"
    words = " | ".join(map(str, schema["enum"])) if "enum" in schema else schema.get("type", "any")
    return escape(str(words))


def _shape(name: str, schema: Document) -> str:
    name = escape(name)
    text = orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode()
    return f"<details id='{name}'><summary><code>{name}</code></summary><pre>{escape(text)}</pre></details>"
