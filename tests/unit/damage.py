"""What can happen to a file: cut off, changed, taken for another, or no file any more; as strategies."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st


@dataclass(frozen=True)
class Damage:
    """Something done to a file.

    Attributes:
        what: what it is, for whoever reads of a failure.
        do: does it to the file, which is there.
    """

    what: str
    do: Callable[[Path], object]

    def __repr__(self) -> str:
        return self.what


def written(what: str, content: bytes) -> Damage:
    """Other content in the file's place."""
    return Damage(f"{what}: {content[:200]!r}", lambda path: path.write_bytes(content))


def _replaced(what: str, make: Callable[[Path], object]) -> Damage:
    def do(path: Path) -> None:
        path.unlink()
        make(path)

    return Damage(what, do)


# Where a file was there is now something else, or nothing.
KINDS = (
    _replaced("no file", lambda path: None),
    _replaced("a folder", lambda path: path.mkdir()),
    _replaced("a link that leads nowhere", lambda path: path.symlink_to("nowhere")),
    _replaced("a link to itself", lambda path: path.symlink_to(path.name)),
    _replaced("a pipe", lambda path: os.mkfifo(path)),
    _replaced("a link to a device", lambda path: path.symlink_to("/dev/null")),
)

# Aliases of aliases: thirty lines that stand for 10^30 values.
_BOMB = b"".join(
    [b"a0: &a0 [x]\n", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n".encode() for n in range(1, 31))]
)
_MERGES = b"".join(
    [b"a0: &a0 {x: 1}\n", *(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n".encode() for n in range(1, 31))]
)
# What has stopped other programs: values that a parser takes and what reads them does not expect.
CONTENTS = (
    written("empty", b""),
    written("blank lines", b"\n\n \n"),
    written("NUL bytes", bytes(512)),
    written("not UTF-8", b"a: \xff\xfe\n"),
    written("UTF-16", "domain: dap.example.com\n".encode("utf-16")),
    written("brackets without end", b"[" * 1200),
    written("braces without end", b'{"a":' * 1200),
    written("closed brackets", b"[" * 300 + b"]" * 300),
    written("deep list", b"- " * 600),
    written("aliases of aliases", _BOMB),
    written("merges of merges", _MERGES),
    written(
        "chain of aliases",
        b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d]\n" % (n, n, n - 1) for n in range(1, 300)),
    ),
    written("merges itself", b"a: &a {<<: *a}\n"),
    written("sums of text and numbers", b"{{ 1 + 'a' }}"),
    written("division by nothing", b"{{ 1 / 0 }}"),
    written("a template without end", b"{% for a in b %}"),
    written("a part that is not there", b"{% include 'nowhere' %}"),
    written("merge that is no mapping", b"<<: 1\n"),
    written("contains itself", b"a: &a {b: *a}\n"),
    written("list", b"- 1\n"),
    written("word", b"word"),
    written("number of 5000 digits", b"9" * 5000),
    written("number of 5000 digits below a key", b"a: " + b"9" * 5000),
    written("endless number", b'{"a": 1e999, "b": NaN}'),
    written("keys that are no text", b"{1: 2, [a]: b, {c: d}: e, null: f}\n"),
    written("a tag that makes objects", b"!!python/object/apply:os.system [exit]\n"),
    written("two documents", b"a: 1\n---\nb: 2\n"),
    written("only the mark of the vault", b"$ANSIBLE_VAULT;1.1;AES256\n"),
    written("the mark of the vault and nonsense", b"$ANSIBLE_VAULT;1.1;AES256\n6\xff\n"),
    written("unknown cipher", b"$ANSIBLE_VAULT;1.1;ROT13\n3132\n"),
    written("an empty certificate", b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
    written("an empty key", b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"),
)

_SCALARS: tuple[object, ...] = (
    None,
    True,
    "",
    "\0",
    "x" * 100_000,
    "{{ nothing }}",
    "../../etc/passwd",
    "\ud7ff\ufeff‮",
    -1,
    0,
    10**400,
    float("nan"),
    float("inf"),
    [],
    {},
    [None],
    {"": None},
    {"a": {"b": {"c": []}}},
    [[["x"]]],
)


def bytes_of(valid: bytes, others: Sequence[bytes]) -> st.SearchStrategy[Damage]:
    """Damage to the bytes of a file with this content; ``others`` is what may come into its place."""
    places = st.integers(0, max(0, len(valid) - 1))
    return st.one_of(
        places.map(lambda end: written("cut off", valid[:end])),
        places.map(lambda start: written("beginning lost", valid[start + 1 :])),
        st.lists(st.tuples(places, st.integers(0, 7)), min_size=1, max_size=8).map(
            lambda bits: written("bits flipped", _flipped(valid, bits))
        ),
        st.tuples(places, st.binary(min_size=1, max_size=16)).map(
            lambda drawn: written("bytes put in", valid[: drawn[0]] + drawn[1] + valid[drawn[0] :])
        ),
        st.tuples(places, places).map(lambda ends: written("a part lost", _without(valid, *sorted(ends)))),
        st.just(written("twice", valid + valid)),
        st.sampled_from(others).map(lambda content: written("another file's content", content)),
    )


def tree_of(valid: bytes, dump: Callable[[Any], bytes]) -> st.SearchStrategy[Damage]:
    """Values of another kind anywhere in a document, a key more, or one less."""
    data = yaml.safe_load(valid)
    places = [*_places(data)]
    return st.one_of(
        st.tuples(st.sampled_from(places), st.sampled_from(_SCALARS)).map(
            lambda drawn: written(f"{drawn[0]} replaced", dump(_with(data, *drawn)))
        ),
        st.sampled_from(places).map(lambda place: written(f"{place} lost", dump(_lost(data, place)))),
        st.tuples(st.sampled_from(places), st.text(max_size=8)).map(
            lambda drawn: written(f"a key more at {drawn[0]}", dump(_with_key(data, *drawn)))
        ),
    )


def as_yaml(data: Any) -> bytes:
    """A document as the operator writes it; strange characters are escaped."""
    return yaml.safe_dump(data, sort_keys=False).encode()


def as_json(data: Any) -> bytes:
    """A document as the program writes it."""
    return json.dumps(data).encode()


def _flipped(content: bytes, bits: Sequence[tuple[int, int]]) -> bytes:
    changed = bytearray(content)
    for place, bit in bits:
        if changed:
            changed[place] ^= 1 << bit
    return bytes(changed)


def _without(content: bytes, start: int, end: int) -> bytes:
    return content[:start] + content[end + 1 :]


def _places(data: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield here
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in pairs:
        yield from _places(value, (*here, key))


def _with(data: Any, place: tuple[Any, ...], value: object) -> Any:
    if not place:
        return value
    changed = copy.deepcopy(data)
    _at(changed, place[:-1])[place[-1]] = value
    return changed


def _lost(data: Any, place: tuple[Any, ...]) -> Any:
    if not place:
        return None
    changed = copy.deepcopy(data)
    del _at(changed, place[:-1])[place[-1]]
    return changed


def _with_key(data: Any, place: tuple[Any, ...], key: str) -> Any:
    found = _at(data, place)
    return _with(data, place, {**found, key: 1} if isinstance(found, dict) else {key: found})


def _at(data: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        data = data[key]
    return data
