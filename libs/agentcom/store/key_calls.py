"""Spelling keys out where scripts ask for them.

``include/keys.lua`` has one function for each key. Calling one costs a closure and a call each time a script runs, so
the linker puts the key's expression in the place of the call: ``due_key('accept')`` becomes ``(root .. 'due:accept')``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

KEY_FUNCTION = re.compile(r"local function (\w+_key|\w+_channel)\(([\w, ]*)\) return (root \.\. .+) end")
LEXEME = re.compile(r"'(?:[^'\\]|\\.)*'|[A-Za-z_]\w*|.", re.DOTALL)
ADJACENT_TEXTS = re.compile(r"' \.\. '")
#: An argument that can stand in a concatenation as it is.
PLAIN = re.compile(r"'[^']*'|[\w.]+|[\w.]+\[\w+\]")


@dataclass(frozen=True, slots=True)
class KeyFunction:
    parameters: tuple[str, ...]
    lexemes: tuple[str, ...]

    def spelled(self, arguments: list[str]) -> str:
        """The expression for a call with these arguments."""
        if len(arguments) != len(self.parameters):
            raise ValueError(f"a key of {self.parameters} is asked for with {arguments}")
        given = {
            parameter: argument if PLAIN.fullmatch(argument) else f"({argument})"
            for parameter, argument in zip(self.parameters, arguments, strict=True)
        }
        expression = "".join(given.get(lexeme, lexeme) for lexeme in self.lexemes)
        return f"({ADJACENT_TEXTS.sub('', expression)})"


class KeyCalls:
    """The key functions among some definitions."""

    def __init__(self, definitions: Iterable[str]) -> None:
        self._functions = {
            match[1]: KeyFunction(
                tuple(match[2].replace(" ", "").split(",")) if match[2] else (), tuple(LEXEME.findall(match[3]))
            )
            for source in definitions
            if (match := KEY_FUNCTION.fullmatch(source))
        }

    def spelled_out(self, source: str) -> str:
        """The Lua source with every call of a key function replaced by the key's expression."""
        lexemes = LEXEME.findall(source)
        written, _ = self._written(lexemes, 0, until=None)
        return written

    def _written(self, lexemes: list[str], at: int, *, until: str | None) -> tuple[str, int]:
        """The source from one lexeme to the closing parenthesis that belongs to it, or to the end."""
        parts: list[str] = []
        while at < len(lexemes):
            lexeme = lexemes[at]
            if lexeme == until:
                return "".join(parts), at
            function = self._functions.get(lexeme)
            if function is not None and lexemes[at + 1 : at + 2] == ["("] and not _is_defined(parts):
                arguments, at = self._arguments(lexemes, at + 2)
                parts.append(function.spelled(arguments))
            elif lexeme == "(":
                inner, at = self._written(lexemes, at + 1, until=")")
                parts.append(f"({inner})")
            else:
                parts.append(lexeme)
            at += 1
        return "".join(parts), at

    def _arguments(self, lexemes: list[str], at: int) -> tuple[list[str], int]:
        """The arguments of a call whose parenthesis is open, and where it closes."""
        inner, end = self._written(lexemes, at, until=")")
        arguments: list[str] = []
        depth, current = 0, ""
        for lexeme in LEXEME.findall(inner):
            depth += (lexeme in "([{") - (lexeme in ")]}")
            if lexeme == "," and not depth:
                arguments.append(current.strip())
                current = ""
            else:
                current += lexeme
        return ([*arguments, current.strip()] if current.strip() else arguments), end


def _is_defined(parts: list[str]) -> bool:
    """Whether what follows is the head of a definition."""
    return parts[-2:] == ["function", " "]
