"""The conditions of ``rules:if``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<variable>\$\{?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}?)"
    r"|(?P<text>\"[^\"]*\"|'[^']*')"
    r"|(?P<pattern>/(?:[^/\\]|\\.)+/[ismU]*)"
    r"|(?P<null>null\b)"
    r"|(?P<operator>==|!=|=~|!~|&&|\|\||\(|\)))"
)
_PATTERN = re.compile(r"/(?P<body>.+)/(?P<flags>[ismU]*)", re.DOTALL)
_FLAGS = {"i": re.IGNORECASE, "s": re.DOTALL, "m": re.MULTILINE, "U": 0}


class ExpressionError(Exception):
    """A condition that cannot be read."""


class _Regex(str):
    """A text between slashes."""


def holds(expression: str, variables: Mapping[str, str]) -> bool:
    """Whether a condition is true.

    A variable is true when it is set and not empty; one that is not set is ``null``. ``&&`` binds stronger
    than ``||``; comparisons bind strongest.

    Raises:
        ExpressionError: when the condition is no condition.
    """
    reader = _Reader(_tokens(expression), variables, expression)
    value = reader.alternatives()
    if reader.left:
        raise ExpressionError(f"invalid expression syntax: {expression}")
    return _true(value)


def check(expression: str) -> None:
    """Raise what :func:`holds` would, whatever the variables are."""
    holds(expression, {})


def _true(value: Any) -> bool:
    return value if isinstance(value, bool) else bool(value)


def _tokens(expression: str) -> list[tuple[str, str]]:
    found, place, text = [], 0, expression.rstrip()
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise ExpressionError(f"invalid expression syntax: {expression}")
        kind = token.lastgroup or ""
        kind = "variable" if token["variable"] else kind
        found.append((kind, token["name"] or token[kind]))
        place = token.end()
    return found


class _Reader:
    """Reads from left to right, by strength of the operators."""

    def __init__(self, tokens: list[tuple[str, str]], variables: Mapping[str, str], expression: str) -> None:
        self.left = tokens
        self._variables, self._expression = variables, expression

    def _next(self, *operators: str) -> str | None:
        if self.left and self.left[0][0] == "operator" and self.left[0][1] in operators:
            return self.left.pop(0)[1]
        return None

    def alternatives(self) -> Any:
        value = self._all()
        while self._next("||"):
            other = self._all()
            value = _true(value) or _true(other)
        return value

    def _all(self) -> Any:
        value = self._comparison()
        while self._next("&&"):
            other = self._comparison()
            value = _true(value) and _true(other)
        return value

    def _comparison(self) -> Any:
        value = self._operand()
        operator = self._next("==", "!=", "=~", "!~")
        if operator is None:
            return value
        other = self._operand()
        if operator in ("==", "!="):
            return (value == other) == (operator == "==")
        return self._matches(value, other) == (operator == "=~")

    def _matches(self, value: Any, pattern: Any) -> bool:
        if value is None or pattern is None:
            return False
        found = _PATTERN.fullmatch(str(pattern))
        if found is None:
            raise ExpressionError(f"invalid expression syntax: {self._expression}")
        flags = 0
        for flag in found["flags"]:
            flags |= _FLAGS[flag]
        try:
            return re.search(found["body"].replace("\\/", "/"), str(value), flags) is not None
        except re.error:
            raise ExpressionError(f"invalid expression syntax: {self._expression}") from None

    def _operand(self) -> Any:
        if self._next("("):
            value = self.alternatives()
            if not self._next(")"):
                raise ExpressionError(f"invalid expression syntax: {self._expression}")
            return value
        if not self.left or self.left[0][0] == "operator":
            raise ExpressionError(f"invalid expression syntax: {self._expression}")
        kind, text = self.left.pop(0)
        if kind == "variable":
            return self._variables.get(text)
        if kind == "null":
            return None
        return _Regex(text) if kind == "pattern" else text[1:-1]
