"""Whose password the job on a PostgreSQL server logs in with, and when it sets the stored one."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from dap.jobs import postgres
from dap.jobs.postgres import LoginError
from dap.jobs.report import Report


class FakeServer:
    """A server that accepts one password and notes what is executed."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.tried: list[str] = []
        self.executed: list[Any] = []
        self.pgconn = self

    def connect(self, **given: Any) -> FakeServer:
        self.tried.append(given["password"])
        if given["password"] != self.password:
            raise psycopg.OperationalError('FATAL:  password authentication failed for user "postgres"')
        return self

    def execute(self, statement: Any) -> None:
        self.executed.append(statement.as_string(None))

    def encrypt_password(self, password: bytes, user: bytes, algorithm: bytes) -> bytes:
        assert (password, user, algorithm) == (b"new", b"postgres", b"scram-sha-256")
        return b"SCRAM-SHA-256$hash"


def state(**more: Any) -> dict[str, Any]:
    server = {"service": "postgres-data", "host": "postgres-data", "port": 5432, "verify": True}
    return server | {"external": False, "user": "postgres", "password": "new"} | more


def log_in(monkeypatch: pytest.MonkeyPatch, server: FakeServer, check: bool = False, **more: Any) -> Report:
    monkeypatch.setattr(psycopg, "connect", server.connect)
    report = Report(check=check)
    postgres._administrator(state(**more), report)
    return report


def test_the_stored_password_is_tried_first_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer("new")
    report = log_in(monkeypatch, server, previous=["old"])
    assert (server.tried, server.executed, report.changed) == (["new"], [], [])


def test_a_password_from_before_is_replaced_by_the_stored_one_as_a_hash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = FakeServer("older")
    report = log_in(monkeypatch, server, previous=["old", "older"])
    assert server.tried == ["new", "old", "older"]
    assert server.executed == ["""ALTER ROLE "postgres" PASSWORD 'SCRAM-SHA-256$hash'"""]
    assert report.changed == ["postgres-data: password of postgres set"]


def test_check_mode_only_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer("old")
    report = log_in(monkeypatch, server, check=True, previous=["old"])
    assert (server.executed, report.changed) == ([], ["postgres-data: password of postgres set"])


def test_an_unknown_password_is_a_failure_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LoginError) as caught:
        log_in(monkeypatch, FakeServer("drifted"), previous=["old"])
    assert str(caught.value) == (
        "the password of postgres was changed there, and is not known; docs/how-to/rotate-secrets.md says"
        " what to do"
    )


def test_other_trouble_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    server = FakeServer("old")

    def refuse(**given: Any) -> None:
        server.tried.append(given["password"])
        raise psycopg.OperationalError("connection refused")

    monkeypatch.setattr(psycopg, "connect", refuse)
    with pytest.raises(psycopg.OperationalError, match=r"^connection refused$"):
        postgres._administrator(state(previous=["old"]), Report())
    assert server.tried == ["new"]
