"""Finds every message that tells an operator what is wrong, by reading the source of the program.

A message is where an error or a finding is made: ``RefusedError(...)``, ``Finding(...)``, ``Wording(...)``,
``fail_json(msg=...)`` and their like. Its text is worked out without running anything. Where a function only
hands on what its callers say, they are asked. A text that cannot be worked out is an error, never left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dap.reference.source import Program, Scope
from dap.reference.texts import Hole, Text, Texts, hole_of, is_bare, is_literal, passes_on, written

_NOWHERE = 99


@dataclass(frozen=True)
class _Maker:
    """Where in a call the parts of a message stand: position and keyword.

    Attributes:
        text: what is told.
        step: what to do about it.
        heading: subject and value, which are told before the text; empty where there are none.
    """

    text: tuple[int, str]
    step: tuple[int, str] = (_NOWHERE, "")
    heading: tuple[tuple[int, str], ...] = ()


_ERROR = _Maker((0, "message"), (1, "next_step"))
_HOST_FINDING = _Maker((3, "reason"), (4, "suggestion"), ((1, "subject"), (2, "value")))
# What a function that returns a problem ends with.
_PROBLEM = _Maker((-2, "reason"), (-1, "suggestion"))
_MAKERS = {
    "Finding": _Maker((3, "reason"), (4, "suggestion")),
    "Trouble": _Maker((2, "reason"), (3, "suggestion"), ((0, "subject"), (1, "value"))),
    "Wording": _Maker((0, "reason"), (1, "suggestion")),
    "Plan": _Maker((_NOWHERE, "reasons"), (_NOWHERE, "suggestion")),
    "fail_json": _Maker((_NOWHERE, "msg")),
    "UsageError": _Maker((0, "message")),
    "BadParameter": _Maker((0, "message")),
}
# Its findings are made elsewhere, and each is a message.
_COLLECTIONS = ("ConfigurationError",)
# On a host these are caught and told; in the program they are mistakes of its own.
_BUILTIN_ERRORS = ("FileNotFoundError", "OSError", "RuntimeError", "TypeError", "ValueError")
_DEEPEST = 4


@dataclass(frozen=True, order=True)
class Message:
    """One thing that an operator can be told.

    Attributes:
        text: what is told, with words in angle brackets for what is known at run time only.
        next_step: what is told to do about it; empty where nothing is.
        module: the module that says so, dotted.
    """

    text: str
    next_step: str
    module: str


@dataclass
class Found:
    """All messages, and how many places were looked at.

    Attributes:
        places: that make a message, as ``module:line``, each with the number of messages it makes; none where
            it hands on what another place says.
    """

    messages: set[Message] = field(default_factory=set)
    places: dict[str, int] = field(default_factory=dict)


class UnreadableMessageError(Exception):
    """A message whose text cannot be worked out from the source."""


def find_messages(folders: Mapping[str, Path]) -> Found:
    """Every message of the modules below some folders.

    Args:
        folders: beginning of the modules' names to folder.

    Raises:
        UnreadableMessageError: with each place whose text cannot be worked out.
    """
    program = Program.read(folders)
    reader = _Reader(program)
    found = Found()
    unreadable = []
    for scope, node, maker in _makers(program):
        place = f"{scope.module}:{node.lineno}"
        try:
            made = reader.messages(scope, node, maker)
        except UnreadableMessageError as error:
            unreadable.append(f"{place}: {error}")
            continue
        found.messages |= made
        found.places[f"{place}:{node.col_offset}"] = len(made)
    if unreadable:
        raise UnreadableMessageError("\n".join(sorted(unreadable)))
    return found


_Node = ast.Call | ast.Dict | ast.Tuple


def _makers(program: Program) -> Iterator[tuple[Scope, _Node, _Maker]]:
    for scope, call in program.calls:
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        on_host = scope.module.startswith("plugins") and call in program.raised
        if name in _COLLECTIONS or (name == "Plan" and not _is_refusal(call)):
            continue
        if name == "Finding" and scope.module.startswith("plugins"):
            yield scope, call, _HOST_FINDING
        elif name in _MAKERS:
            yield scope, call, _MAKERS[name]
        elif name in program.error_names or (on_host and name in _BUILTIN_ERRORS):
            yield scope, call, _ERROR
    for scope, mapping in program.mappings:
        keys = {key.value for key in mapping.keys if isinstance(key, ast.Constant)}
        if {"severity", "reason", "suggestion"} <= keys:
            yield scope, mapping, _HOST_FINDING
    for scope, problem in program.returns:
        returns = getattr(scope.node, "returns", None)
        if returns and "Problem" in ast.unparse(returns):
            yield scope, problem, _PROBLEM


def _is_refusal(call: ast.Call) -> bool:
    """A host's plan for Docker is a message only where it is to refuse."""
    return bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == "refuse"


class _Reader:
    """Works out the messages of one place after the other."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._texts = Texts(program)

    def messages(self, scope: Scope, node: _Node, maker: _Maker) -> set[Message]:
        """What this place may tell; nothing if it hands on what another place says."""
        said, advised = _argument(node, *maker.text), _argument(node, *maker.step)
        if said is None:
            if isinstance(node, ast.Call) and any(word.arg is None for word in node.keywords):
                return set()
            raise UnreadableMessageError(f"no text in {ast.unparse(node)}")
        heading = [_argument(node, *place) for place in maker.heading]
        texts = self._texts.of(_with_heading(said, [part for part in heading if part]), scope)
        steps = self._texts.of(advised, scope) if advised is not None else []
        made: set[Message] = set()
        for text in texts:
            for step in steps or [()]:
                made |= self._made(text, step, scope.module, ast.unparse(said))
        return made

    def _made(self, text: Text, step: Text, module: str, source: str, depth: int = 0) -> set[Message]:
        if passes_on(text):
            return set()
        owners = [part.owner for part in (*text, *step) if isinstance(part, Hole) and part.owner]
        owner = next((one for one in owners if one in self._program.callers), None)
        if owner is None or depth >= _DEEPEST:
            if is_bare(text):
                raise UnreadableMessageError(f"{source} cannot be worked out")
            return {Message(written(text), written(step), module)}
        made: set[Message] = set()
        for caller, call in self._program.callers[owner]:
            if any(isinstance(given, ast.Starred) for given in call.args):
                # A problem that is a message itself, where it is returned.
                continue
            arguments = owner.arguments(call)
            for one in self._with_arguments(text, owner, arguments, caller):
                for other in self._with_arguments(step, owner, arguments, caller) or [()]:
                    # What stands in the callers' words is their module's to tell.
                    where = caller.module if is_bare(text) else module
                    made |= self._made(one, other, where, source, depth + 1)
        return made

    def _with_arguments(
        self, text: Text, owner: Scope, arguments: Mapping[str, ast.expr], caller: Scope
    ) -> list[Text]:
        """A text with the arguments of a call for the parameters of the function that makes it.

        An argument that is not known in full stays a hole, by the parameter's name, unless that is all.
        """
        filled: list[Text] = [()]
        for part in text:
            choices: list[Text] = [(part,)]
            if isinstance(part, Hole) and part.owner is owner:
                given = arguments.get(part.parameter) or owner.default_of(part.parameter)
                known = self._texts.of(given, caller) if given is not None else []
                choices = known if is_bare(text) else _known_or_open(part, known)
            filled = [(*before, *choice) for before in filled for choice in choices]
        return filled


def _known_or_open(hole: Hole, given: list[Text]) -> list[Text]:
    """What is given for a hole inside a text, where it is known, or may be to those who call the caller."""
    choices: list[Text] = []
    for text in given:
        first = text[0] if is_bare(text) else None
        if isinstance(first, Hole) and first.owner:
            choices.append((replace(first, name=hole.name),))
        elif is_literal(text):
            # Where nothing is given, the message is about something else, or is not made at all.
            choices += [text] if written(text) else []
        else:
            return [(Hole(hole.name),)]
    return choices or [(Hole(hole.name),)]


def _with_heading(said: ast.expr, heading: list[ast.expr]) -> ast.expr:
    """The text as it is told below its heading: ``subject = value: text``."""
    if not heading:
        return said
    subject, value = heading
    # A function that words a value would only repeat each message for each of its wordings.
    found = (
        ast.Constant(str(hole_of(value))) if isinstance(value, ast.Call) else ast.FormattedValue(value, -1)
    )
    told = ast.FormattedValue(said, -1)
    return ast.JoinedStr(
        [ast.FormattedValue(subject, -1), ast.Constant(" = "), found, ast.Constant(": "), told]
    )


def _argument(node: _Node, position: int, keyword: str) -> ast.expr | None:
    if isinstance(node, ast.Tuple):
        return node.elts[position]
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return next((v for k, v in pairs if isinstance(k, ast.Constant) and k.value == keyword), None)
    named = next((word.value for word in node.keywords if word.arg == keyword), None)
    return named if named is not None else dict(enumerate(node.args)).get(position)
