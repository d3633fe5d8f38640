"""The program in the toolbox: which state it works on, what it says, and how it ends."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from dap.jobs import __main__ as program
from dap.jobs.report import LaterError, Report

STATE = {
    "postgres": [{"service": "db"}, {"service": "ill"}],
    "s3": [{"service": "store"}],
    "portainer": [{"service": "panel"}],
    "gitlab": [],
}


@pytest.fixture(autouse=True)
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that find one thing missing in each server, and one server that does not answer."""

    def provision(server: dict[str, Any], report: Report) -> None:
        if server["service"] == "ill":
            raise ConnectionError("refused")
        report.ensure(False, f"{server['service']}: thing made", lambda: None)

    for job in (*program.BEFORE, *program.AFTER):
        monkeypatch.setattr(job, "provision", provision)
    monkeypatch.setattr(program, "STATE", tmp_path / "desired_state.json")
    program.STATE.write_text(json.dumps(STATE), encoding="utf-8")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, what was told in JSON, and what was said besides."""
    code = program.main(list(arguments))
    said = capsys.readouterr()
    return code, json.loads(said.out), said.err


def test_first_failure_ends_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    code, told, error = run(capsys)
    assert (code, told["changed"]) == (1, ["db: thing made"])
    assert error == "ill: ConnectionError: refused\n"


def test_check_goes_on_and_says_who_could_not_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    code, told, error = run(capsys, "--check")
    assert (code, error) == (0, "")
    assert told == {
        "changed": ["db: thing made", "store: thing made"],
        "ok": 0,
        "asked": ["db", "store"],
        "unasked": {"ill": "ConnectionError: refused"},
        "wants": [],
        "renew": [],
        "complete": False,
        "sealed": "",
    }


def test_state_is_read_from_standard_input_where_it_is_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**STATE, "postgres": [], "s3": [{"service": "other"}]}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(given)))
    code, told, _ = run(capsys, "--state", "-")
    assert (code, told["changed"]) == (0, ["other: thing made"])


def test_check_asks_the_platforms_servers_where_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(program.BEFORE[0], "provision", lambda server, report: asked.append(server))
    deployed = [{"service": "db", "host": "db.old"}, {"service": "moved", "host": "moved.old"}]
    program.STATE.write_text(json.dumps({"postgres": deployed}), encoding="utf-8")
    coming = [
        {"service": "db", "host": "db.new", "password": "new"},
        {"service": "moved", "host": "elsewhere", "external": True},
        {"service": "extra", "host": "extra.new"},
    ]
    for arguments in (["--check", "--state", "-"], ["--state", "-"]):
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"postgres": coming, "s3": []})))
        assert program.main(arguments) == 0
    capsys.readouterr()
    assert [server["host"] for server in asked[:3]] == ["db.old", "elsewhere", "extra.new"]
    assert asked[0]["password"] == "new"
    assert asked[3:] == coming


def test_jobs_that_come_after_the_start_are_run_on_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    code, told, _ = run(capsys, "after")
    assert (code, told["changed"]) == (0, ["panel: thing made"])


@pytest.mark.parametrize(("check", "made"), [(False, ["thing"]), (True, [])])
def test_what_is_not_right_is_made_unless_only_checked(check: bool, made: list[str]) -> None:
    done: list[str] = []
    report = Report(check=check)
    assert report.ensure(True, "right already", lambda: done.append("never")) is True
    assert report.ensure(False, "thing made", lambda: done.append("thing")) is False
    assert (done, report.changed, report.unchanged) == (made, ["thing made"], 1)


def test_server_that_waits_for_its_token_is_no_failure_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(server: dict[str, Any], report: Report) -> None:
        report.wants.append("panel.api_token")
        raise LaterError("its token is not made yet")

    monkeypatch.setattr(program.AFTER[0], "provision", wait)
    program.STATE.write_text(json.dumps({**STATE, "gitlab": [{"service": "code"}]}), encoding="utf-8")
    code, told, error = run(capsys, "after")
    assert (code, error, told["changed"]) == (0, "", ["code: thing made"])
    assert (told["asked"], told["unasked"]) == (["code"], {"panel": "its token is not made yet"})
    assert told["wants"] == ["panel.api_token"]


@pytest.mark.parametrize(("after_works", "complete"), [(True, True), (False, False)])
def test_all_jobs_are_run_at_once_and_those_that_fail_for_now_are_left(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    after_works: bool,
    complete: bool,
) -> None:
    def fail(server: dict[str, Any], report: Report) -> None:
        assert not report.patient
        raise ConnectionError("refused")

    if not after_works:
        monkeypatch.setattr(program.AFTER[0], "provision", fail)
    program.STATE.write_text(json.dumps({**STATE, "postgres": [{"service": "db"}]}), encoding="utf-8")
    code, told, error = run(capsys, "all")
    assert (code, error, told["complete"]) == (0, "", complete)
    made = ["db: thing made", "store: thing made"]
    assert told["changed"] == made + ["panel: thing made"] * after_works


def test_all_jobs_fail_where_the_first_ones_do(capsys: pytest.CaptureFixture[str]) -> None:
    code, told, error = run(capsys, "all")
    assert (code, error, told["complete"]) == (1, "ill: ConnectionError: refused\n", False)
    assert told["changed"] == ["db: thing made"]
