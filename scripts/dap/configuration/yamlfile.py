"""Reads a YAML file and remembers what was written where, so that a refusal can show it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.reader import ReaderError

from dap.configuration import wording
from dap.configuration.wording import Fault, Location, Wording, closest
from dap.files import read

HIDDEN = "(not shown)"
LONGEST_VALUE = 60
# Far above what anybody writes by hand. With aliases a few lines can stand for more than fits into memory.
_MOST_VALUES = 100_000
_MOST_LEVELS = 100
# Of a value, to see whether it is secret; the search takes long where it is long, and no more is ever shown.
_LOOKED_AT = 1000

_TAG = "tag:yaml.org,2002:"
_KNOWN_TAGS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null", "timestamp", "seq", "map")}
_PLAIN_NUMBER = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.(inf|nan|[0-9]+)", re.I)
_SECRET_KEY = re.compile(r"passw|passphrase|pwd|secret|token|credential|keys?$", re.I)
_SECRET_WORDS = ("password", "passwd", "passphrase", "secret", "token", "credentials")
_SECRET_CONTENT = re.compile(
    r"-----BEGIN|PRIVATE KEY|\$ANSIBLE_VAULT|(?:^|\W)(?:gl[a-z]{2,4}-|gh[a-z]_|AKIA|xox.-|\$2[aby]\$)"
    # A long run of letters with digits that no host name, path or sentence has.
    r"|(?=[A-Za-z0-9+/=_-]*[0-9])(?=[A-Za-z0-9+/=_-]*[A-Z])[A-Za-z0-9+=_-][A-Za-z0-9+/=_-]{31,}"
    r"|\b(?=[a-f]*[0-9])[0-9a-f]{32,}\b"
)
_PATH = re.compile(r"[\"']?(\.{0,2}/|~/)?[\w.-]+(/[\w.-]+)*\.(pem|key|crt|cer)[\"']?", re.A)

# PyYAML's words for what it stumbled over, and ours. None of ours repeats what is written in the file:
# PyYAML's would print a password that begins with an asterisk as the name of an unknown alias.
_PROBLEMS = (
    (r"character '\\t'", "a tab where spaces belong", "write spaces instead of the tab"),
    (
        r"mapping values are not allowed",
        "a colon where no key can stand",
        "check this line and the one above, or quote the value",
    ),
    (r"could not find expected ':'", "a key without a colon", "write key: value"),
    (
        r"escape character|escape sequence",
        "a backslash that means nothing",
        "use single quotes around the value",
    ),
    (r"expected ',' or", "a bracket that is not closed, or a missing comma", "close it, or quote the value"),
    (r"end of stream|quoted scalar", "a quotation mark that is not closed", "close it"),
    (
        r"expected <block end>",
        "a line that does not fit the lines above",
        "indent it like the keys it belongs to",
    ),
    (r"undefined alias", "an alias (*) of something that was not named before", "put the value in quotes"),
    (r"cannot start any token", "a character that cannot start a value", "put the value in quotes"),
    (r"expected a single document", "a second document", "remove the line with --- and what follows"),
)
_BEGINS_EARLIER = re.compile(r"could not find expected ':'|end of stream in|unexpected end of stream")
_OTHER_PROBLEM = ("something unexpected", "check the line and the one above it, or put the value in quotes")


@dataclass
class YamlFile:
    """What a file holds.

    Attributes:
        text: the file's text; empty where it cannot be read.
        data: its content as plain Python; keys are always text, as written. None where it cannot be parsed.
        parsed: whether `data` stands for the file.
        faults: what is wrong with the YAML itself.
        surprising: the meaning of what YAML 1.1 reads as few people expect: ``yes``, ``0644``, ``22:22``.
        written: what is written at each location, shortened, secrets hidden.
    """

    text: str = ""
    data: object = None
    parsed: bool = False
    faults: list[Fault] = field(default_factory=list)
    surprising: dict[Location, str] = field(default_factory=dict)
    written: dict[Location, str] = field(default_factory=dict)


def read_yaml(path: Path, opaque_tags: Collection[str] = ()) -> YamlFile:
    """Read a file that exists; whatever is wrong with it is in the result's ``faults``.

    Values with one of ``opaque_tags`` are left to another program and become None.
    """
    try:
        text = read(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        return YamlFile(faults=[Fault((), wording.unreadable("not UTF-8"))])
    except OSError as error:
        return YamlFile(faults=[Fault((), wording.unreadable(error.strerror or "unknown error"))])
    return parse_yaml(text, opaque_tags)


def parse_yaml(text: str, opaque_tags: Collection[str] = ()) -> YamlFile:
    """Parse a text; like `read_yaml`."""
    document = YamlFile(text=text)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        document.faults.append(Fault((), _syntax_wording(error)))
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - (text.rfind("\n", 0, error.position) + 1) + 1
        document.faults.append(
            Fault((), wording.syntax(line, column, "a control character", "remove the invisible character"))
        )
    except RecursionError:
        document.faults.append(Fault((), wording.too_deep(_MOST_LEVELS)))
    else:
        refusal = too_large(node) if node else None
        document.parsed = refusal is None
        if refusal:
            document.faults.append(Fault((), refusal))
        elif node is not None:
            document.data = _Reader(document, opaque_tags).read(node, ())
    return document


def too_large(root: Node) -> Wording | None:
    """Why a document is not to be read, though it can be parsed; None where it can be read."""
    try:
        values, levels = _size(root, {})
    except RecursionError:
        return wording.too_deep(_MOST_LEVELS)
    if levels > _MOST_LEVELS:
        return wording.too_deep(_MOST_LEVELS)
    return wording.too_many_values(_MOST_VALUES) if values > _MOST_VALUES else None


def _size(node: Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node stands for, one with several names counted for each, and in how many levels."""
    if id(node) not in known:
        # What contains itself is refused where it does.
        known[id(node)] = (1, 1)
        parts: list[Node] = []
        if isinstance(node, MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, SequenceNode):
            parts = node.value
        inside = [_size(part, known) for part in parts]
        levels = 1 + max((levels for _, levels in inside), default=0)
        known[id(node)] = (1 + sum(values for values, _ in inside), levels)
    return known[id(node)]


def _syntax_wording(error: yaml.MarkedYAMLError) -> Wording:
    problem = f"{error.context or ''} {error.problem or ''}"
    # For what is not closed or not finished, where it begins says more than where the parser gave up.
    marks = (error.problem_mark, error.context_mark)
    mark = next(filter(None, marks[::-1] if _BEGINS_EARLIER.search(problem) else marks), None)
    ours = next((rest for pattern, *rest in _PROBLEMS if re.search(pattern, problem)), _OTHER_PROBLEM)
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return wording.syntax(line, column, *ours)


class _Reader:
    """Turns nodes into plain Python and notes what was written where."""

    def __init__(self, document: YamlFile, opaque_tags: Collection[str]) -> None:
        self._document = document
        self._opaque_tags = opaque_tags
        self._constructor = SafeConstructor()
        self._open: list[Node] = []

    def read(self, node: Node, location: Location) -> object:
        if node in self._open:
            self._fault(location, wording.contains_itself())
            return None
        self._open.append(node)
        value = self._value(node, location)
        self._open.pop()
        self._document.written[location] = self._shown(node, location)
        return value

    def _value(self, node: Node, location: Location) -> object:
        if node.tag in self._opaque_tags:
            return None
        if node.tag not in _KNOWN_TAGS:
            # Any other tag may be a password that begins with an exclamation mark.
            tag = f"the tag {node.tag}" if node.tag in ("!vault", "!unsafe") else "a YAML tag"
            self._fault(location, wording.unknown_tag(tag))
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, location)
        if isinstance(node, SequenceNode):
            return [self.read(item, (*location, index)) for index, item in enumerate(node.value)]
        try:
            value: object = self._constructor.construct_object(node)
        except (ConstructorError, ValueError):
            # Looks like a date or a number and is none, as in 2026-02-31.
            return str(node.value)
        self._note_surprise(node, value, location)
        return value

    def _mapping(self, node: MappingNode, location: Location) -> dict[str, object]:
        self._find_duplicates(node, location)
        try:
            self._constructor.flatten_mapping(node)
        except ConstructorError:
            self._fault(location, wording.odd_key(node.start_mark.line + 1))
            return {}
        result: dict[str, object] = {}
        for key, value in node.value:
            if isinstance(key, ScalarNode):
                result[str(key.value)] = self.read(value, (*location, str(key.value)))
            else:
                self._fault(location, wording.odd_key(key.start_mark.line + 1))
        return result

    def _find_duplicates(self, node: MappingNode, location: Location) -> None:
        lines: dict[str, list[int]] = {}
        for key, _ in node.value:
            if isinstance(key, ScalarNode):
                lines.setdefault(str(key.value), []).append(key.start_mark.line + 1)
        for name, where in lines.items():
            if len(where) > 1:
                self._fault((*location, name), wording.duplicate_key(where), value="")

    def _note_surprise(self, node: Node, value: object, location: Location) -> None:
        plain = isinstance(node, ScalarNode) and node.style is None
        if not plain or isinstance(value, str):
            return
        if isinstance(value, bool) and node.value.lower() not in ("true", "false"):
            self._document.surprising[location] = str(value).lower()
        elif isinstance(value, int | float) and not isinstance(value, bool):
            if _PLAIN_NUMBER.fullmatch(node.value):
                return
            self._document.surprising[location] = str(value)

    def _shown(self, node: Node, location: Location) -> str:
        """A value as written, on one line; of mappings the keys only."""
        if isinstance(node, MappingNode):
            keys = [str(key.value) for key, _ in node.value if isinstance(key, ScalarNode)]
            text = "{" + ", ".join(f"{key}: …" for key in keys) + "}" if keys else "{}"
            return _shortened(text)
        if isinstance(node, SequenceNode):
            parts = [self._document.written.get((*location, index), "…") for index in range(len(node.value))]
            return _shortened(f"[{', '.join(parts)}]")
        text = " ".join(self._document.text[node.start_mark.index : node.end_mark.index].split())
        return HIDDEN if text and looks_secret(location, text) else _shortened(text)

    def _fault(self, location: Location, text: Wording, value: str | None = None) -> None:
        self._document.faults.append(Fault(location, text, value))


def looks_secret(location: Location, text: str) -> bool:
    """Whether a value must not be shown, by the names of its keys or by what it looks like.

    A key's file name (``tls.key: site.key``) is no secret, the same place with the key itself in it is one.
    """
    if _SECRET_CONTENT.search(text[:_LOOKED_AT]):
        return True
    return any(isinstance(part, str) and _names_secret(part) for part in location) and not _PATH.fullmatch(
        text
    )


@cache
def _names_secret(key: str) -> bool:
    # Misspelt keys are what most refusals are about: `pasword` must not show its value either.
    words = re.split(r"[\W_]+", key)
    return bool(_SECRET_KEY.search(key)) or any(closest(word, _SECRET_WORDS, cutoff=0.8) for word in words)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
