"""Records in an SQLite file that several processes share: the server and the commands beside it."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .records import ALL, Record

R = TypeVar("R", bound=Record)
BUSY_S = 10


def _plain(hint: Any) -> Any:
    """The type of a field that may be None without the None."""
    return next((one for one in get_args(hint) if one is not type(None)), hint) if _optional(hint) else hint


def _optional(hint: Any) -> bool:
    return type(None) in get_args(hint)


class Store:
    """All records. Every call is a transaction of its own."""

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        self._database.row_factory = sqlite3.Row
        # A machine that goes down in the middle of a test takes the test with it: no need to wait for disks.
        self._database.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;")
        self._types: dict[type[Record], dict[str, Any]] = {}
        for kind in ALL:
            hints = get_type_hints(kind)
            self._types[kind] = {field.name: _plain(hints[field.name]) for field in fields(kind)}
            self._make_table(kind)

    def _make_table(self, kind: type[Record]) -> None:
        columns = ", ".join(f'"{name}"' for name in self._types[kind] if name != "id")
        table = f'"{kind.__name__}" (id INTEGER PRIMARY KEY AUTOINCREMENT, {columns})'
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {table}")
        there = {row["name"] for row in self._database.execute(f'PRAGMA table_info("{kind.__name__}")')}
        assert there == set(self._types[kind]), f"{kind.__name__} was written by another version"

    def close(self) -> None:
        self._database.close()

    def add(self, record: R) -> R:
        """Keep a new record, which gets its number."""
        names = [name for name in self._types[type(record)] if name != "id" or record.id]
        quoted = ", ".join(f'"{name}"' for name in names)
        marks = ", ".join("?" * len(names))
        done = self._database.execute(
            f'INSERT INTO "{type(record).__name__}" ({quoted}) VALUES ({marks})',  # noqa: S608  own names
            [self._write(getattr(record, name)) for name in names],
        )
        assert done.lastrowid is not None
        record.id = done.lastrowid
        return record

    def save(self, record: R) -> R:
        names = [name for name in self._types[type(record)] if name != "id"]
        quoted = ", ".join(f'"{name}" = ?' for name in names)
        self._database.execute(
            f'UPDATE "{type(record).__name__}" SET {quoted} WHERE id = ?',  # noqa: S608  own names
            [*(self._write(getattr(record, name)) for name in names), record.id],
        )
        return record

    def delete(self, record: Record) -> None:
        self._database.execute(
            f'DELETE FROM "{type(record).__name__}" WHERE id = ?',  # noqa: S608  own names
            [record.id],
        )

    def find(self, kind: type[R], /, **equal: Any) -> list[R]:
        """Records by the values of some fields, oldest first."""
        where = "".join(f' AND "{name}" IS ?' for name in equal)
        rows = self._database.execute(
            f'SELECT * FROM "{kind.__name__}" WHERE 1{where} ORDER BY id',  # noqa: S608  own names
            [self._write(value) for value in equal.values()],
        )
        return [self._read(kind, row) for row in rows]

    def first(self, kind: type[R], /, **equal: Any) -> R | None:
        return next(iter(self.find(kind, **equal)), None)

    def get(self, kind: type[R], number: int | None) -> R | None:
        return self.first(kind, id=number) if number is not None else None

    def must(self, kind: type[R], number: int | None) -> R:
        """A record that has to be there."""
        found = self.get(kind, number)
        assert found is not None, f"no {kind.__name__} {number}"
        return found

    def clear(self, kind: type[Record]) -> None:
        self._database.execute(f'DELETE FROM "{kind.__name__}"')  # noqa: S608  own names

    @staticmethod
    def _write(value: Any) -> Any:
        return json.dumps(value) if isinstance(value, (dict, list)) else value

    def _read(self, kind: type[R], row: sqlite3.Row) -> R:
        values = {}
        for name, hint in self._types[kind].items():
            value = row[name]
            if value is not None and get_origin(hint) in (dict, list):
                value = json.loads(value)
            elif value is not None and hint is bool:
                value = bool(value)
            values[name] = value
        return kind(**values)
