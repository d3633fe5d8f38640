"""Works out what texts an expression of the program's source may stand for.

A text is a row of literal pieces and holes; a hole is what is known at run time only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from dap.reference.source import Program, Scope

MOST_CHOICES = 60
_DEEPEST = 8
# An error's own text, or a part of a finding that was made elsewhere.
_PASSED_ON = {"reason", "reasons", "message", "msg", "suggestion", "next_step"}
_UNCHANGED = ("strip", "rstrip", "lstrip", "removesuffix", "removeprefix", "split", "splitlines")
# Better words than the names in the source.
_HOLES = {
    "strerror": "what the system says",
    "error": "what went wrong",
    "last words": "the end of its output",
    "excerpt": "the end of its output",
    "len": "number",
    "dir": "folder",
    "directory": "folder",
    "MANIFEST": "file",
    "argv": "program",
    "returncode": "status",
    "not after": "date",
    "not valid after utc": "date",
    "not valid before utc": "date",
    "memory mib": "number",
    "st uid": "number",
    "PASSWORD VARIABLE": "ANSIBLE_VAULT_PASSWORD_FILE",
}


@dataclass(frozen=True)
class Hole:
    """What is known at run time only.

    Attributes:
        name: for people.
        owner: the function whose parameter it is, if it is one.
        parameter: the parameter's name.
        passed_on: it is the text of a message that was made elsewhere.
    """

    name: str
    owner: Scope | None = None
    parameter: str = ""
    passed_on: bool = False

    def __str__(self) -> str:
        return f"<{self.name}>"


Text = tuple[str | Hole, ...]


def written(text: Text) -> str:
    """A text for people."""
    return re.sub(r"\s+", " ", "".join(map(str, text))).strip()


def is_bare(text: Text) -> bool:
    """Whether nothing of a text is known but that it is one."""
    return len(text) == 1 and isinstance(text[0], Hole)


def is_literal(text: Text) -> bool:
    """Whether all of a text is known."""
    return all(isinstance(part, str) for part in text)


def tells(text: Text) -> bool:
    """Whether a text says something by itself, without what fills its holes."""
    return any(isinstance(part, str) and re.search(r"[A-Za-z]{3}", part) for part in text)


def passes_on(text: Text) -> bool:
    """Whether a text is that of a message that was made elsewhere, and no more."""
    return not tells(text) and any(isinstance(part, Hole) and part.passed_on for part in text)


class Texts:
    """The texts that expressions stand for."""

    def __init__(self, program: Program) -> None:
        self._program = program

    def of(self, node: ast.expr, scope: Scope, depth: int = 0) -> list[Text]:
        """Every text that an expression may stand for; a bare hole where none can be told."""
        if depth > _DEEPEST:
            return [(hole_of(node),)]
        found = self._of(node, scope, depth + 1)
        return list(dict.fromkeys(found))[:MOST_CHOICES]

    def _of(self, node: ast.expr, scope: Scope, depth: int) -> list[Text]:
        match node:
            case ast.Constant(value=None):
                return []
            case ast.Constant(value=value):
                return [(str(value),)]
            case ast.JoinedStr(values=values):
                return self._joined([self._piece(value, scope, depth) for value in values])
            case ast.BinOp(left=left, op=ast.Add(), right=ast.Constant(value=int())):
                return self.of(left, scope, depth)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._joined([self.of(left, scope, depth), self.of(right, scope, depth)])
            case ast.BinOp(left=left, op=ast.Mult()):
                return [*self.of(left, scope, depth), ("",)]
            case ast.IfExp(body=body, orelse=orelse):
                return [*self.of(body, scope, depth), *self.of(orelse, scope, depth)]
            case ast.BoolOp(values=values):
                # What is empty gives way to what comes after it.
                return [text for value in values for text in self.of(value, scope, depth) if written(text)]
            case ast.NamedExpr(value=value):
                return self.of(value, scope, depth)
            case ast.Tuple(elts=items) | ast.List(elts=items):
                last = [item for item in items if not isinstance(item, ast.Starred)][-1:]
                return [text for item in last for text in self.of(item, scope, depth)]
            case ast.GeneratorExp(elt=element) | ast.ListComp(elt=element):
                return self.of(element, scope, depth)
            case ast.Name():
                return self._name(node, scope, depth)
            case ast.Call():
                return self._call(node, scope, depth)
            case ast.Attribute():
                constant = self._program.attribute(node, scope)
                return self.of(*constant, depth) if constant else [(hole_of(node),)]
            case ast.Subscript(value=ast.Attribute(attr=attr)) if attr in _PASSED_ON:
                return [(Hole(attr, passed_on=True),)]
        return [(hole_of(node),)]

    def _joined(self, pieces: Sequence[list[Text]]) -> list[Text]:
        pieces = [piece or [("",)] for piece in pieces]
        count = 1
        for piece in pieces:
            count *= len(piece)
        if count > MOST_CHOICES:
            pieces = [piece if len(piece) < 3 else [(Hole("…"),)] for piece in pieces]
        return [_merged(sum(chosen, ())) for chosen in product(*pieces)]

    def _piece(self, node: ast.expr, scope: Scope, depth: int) -> list[Text]:
        """A part of an f-string: names and calls become holes unless they say something."""
        if not isinstance(node, ast.FormattedValue):
            return self.of(node, scope, depth)
        found = self.of(node.value, scope, depth)
        if isinstance(node.value, ast.Name | ast.Call | ast.Attribute):
            parameter = [text for text in found if is_bare(text) and getattr(text[0], "owner", None)]
            plain = isinstance(node.value, ast.Name) and all(is_literal(text) for text in found)
            if plain and isinstance(node.format_spec, ast.JoinedStr):
                return [(_formatted(written(text), node.format_spec),) for text in found]
            if not found or not (plain or all(tells(text) for text in found)):
                return parameter[:1] if len(found) == 1 and parameter else [(hole_of(node.value),)]
        return found

    def _name(self, node: ast.Name, scope: Scope, depth: int) -> list[Text]:
        here: Scope | None = scope
        while here and here.outer:
            values = self._program.values(node, here)
            if values:
                known = [
                    text for value in values if value is not None for text in self.of(value, here, depth)
                ]
                return [*known, *[(hole_of(node),)] * (None in values)]
            if node.id in here.parameters:
                return [(Hole(_words(node.id), here, node.id),)]
            here = here.outer
        constant = self._program.constant(node.id, scope)
        return self.of(*constant, depth) if constant else [(hole_of(node),)]

    def _call(self, node: ast.Call, scope: Scope, depth: int) -> list[Text]:
        if isinstance(node.func, ast.Name) and node.func.id == "str" and node.args:
            # str(error): what the error said when it was made.
            return [(Hole("what went wrong", passed_on=isinstance(node.args[0], ast.Name)),)]
        if isinstance(node.func, ast.Attribute):
            if node.func.attr in _UNCHANGED:
                return self.of(node.func.value, scope, depth)
            if node.func.attr == "join" and node.args and isinstance(node.func.value, ast.Constant):
                return self._joined_list(str(node.func.value.value), node.args[0], scope, depth)
        function = self._program.function_of(node, scope)
        annotation = getattr(function.node, "returns", None) if function else None
        if function is None or annotation is None or not ast.unparse(annotation).startswith("str"):
            return [(hole_of(node),)]
        arguments = function.arguments(node)
        found = [text for value in function.returned() for text in self.of(value, function, depth)]
        return [
            self._filled(text, function, arguments, scope, depth) for text in found if not is_bare(text)
        ] or [(hole_of(node),)]

    def _filled(
        self, text: Text, function: Scope, arguments: dict[str, ast.expr], scope: Scope, depth: int
    ) -> Text:
        """The text that a function returns, with the arguments of one call where they are literal."""
        parts: list[str | Hole] = []
        for part in text:
            if isinstance(part, Hole) and part.owner is function:
                given = arguments.get(part.parameter) or function.default_of(part.parameter)
                known = self.of(given, scope, depth) if given else []
                literal = known[0] if len(known) == 1 and is_literal(known[0]) else (Hole(part.name),)
                parts += literal
            else:
                parts.append(part)
        return _merged(tuple(parts))

    def _joined_list(self, separator: str, items: ast.expr, scope: Scope, depth: int) -> list[Text]:
        constant = self._program.constant(items.id, scope) if isinstance(items, ast.Name) else None
        if constant and isinstance(constant[0], ast.Tuple):
            items, scope = constant[0], constant[1]
        if not isinstance(items, ast.List | ast.Tuple):
            found = self.of(items, scope, depth)
            told = any(not is_bare(text) or passes_on(text) for text in found)
            return found if told else [(hole_of(items),)]
        pieces: list[list[Text]] = []
        for item in items.elts:
            starred: list[Text] = [(hole_of(item),)]
            known = starred if isinstance(item, ast.Starred) else self.of(item, scope, depth)
            if pieces:
                pieces.append([(separator,)])
            pieces.append(known)
        return self._joined(pieces)


def _merged(parts: Text) -> Text:
    """The same text with neighbouring literal pieces in one."""
    merged: list[str | Hole] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        elif part != "":
            merged.append(part)
    return tuple(merged)


def _formatted(value: str, specification: ast.JoinedStr) -> str:
    """A literal number as the f-string writes it."""
    if value.isdigit() and ast.unparse(specification) in ("f'o'", "f'04o'"):
        return f"{int(value):o}"
    return value


def hole_of(node: ast.expr) -> Hole:
    """The hole that an expression leaves in a text."""
    return Hole(_words(_named(node)), passed_on=_is_passed_on(node))


def _is_passed_on(node: ast.expr) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in _PASSED_ON
    if isinstance(node, ast.Name):
        return node.id in _PASSED_ON
    if isinstance(node, ast.Subscript):
        return isinstance(node.slice, ast.Constant) and node.slice.value in _PASSED_ON
    return False


def _words(name: str) -> str:
    plain = name.strip("_").replace("_", " ")
    return _HOLES.get(plain, plain) or "…"


def _named(node: ast.expr) -> str:
    """What an expression is best called."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Constant(value=value):
            return str(value)
        case ast.Call(func=ast.Attribute(attr="join" | "decode" | "get"), args=[first, *_]):
            return _named(first)
        case ast.Call(func=ast.Name(id="len")):
            return "len"
        case ast.Call(func=ast.Name(id="excerpt")):
            return "excerpt"
        case ast.Call(args=[first, *_]) if not isinstance(first, ast.Constant):
            return _named(first)
        case ast.Call(func=ast.Attribute(value=value), args=[]) | ast.Starred(value=value):
            return _named(value)
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name
        case ast.Subscript(slice=ast.Constant(value=str(key))):
            return key
        case ast.Subscript(value=value) | ast.Await(value=value) | ast.FormattedValue(value=value):
            return _named(value)
        case ast.BinOp(left=left):
            return _named(left)
        case ast.IfExp(body=body):
            return _named(body)
        case ast.BoolOp(values=[first, *_]):
            return _named(first)
        case ast.GeneratorExp(elt=element) | ast.ListComp(elt=element):
            return _named(element)
    return "…"
