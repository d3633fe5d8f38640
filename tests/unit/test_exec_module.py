"""Commands in running containers: what they read stays out of arguments and messages."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins import FakeDocker, run_module

RECORDED = Path(__file__).parent / "recorded"
HEALTHY = (RECORDED / "inspect-healthy.json").read_text(encoding="utf-8")
WEB = next(
    item["Id"]
    for item in json.loads(HEALTHY)
    if item["Config"]["Labels"]["com.docker.compose.service"] == "web"
)
SECRET = "the-new-password"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """A Docker whose project runs, all of it healthy."""
    fake = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    fake.answer("ps *", "one\ntwo\n")
    fake.answer("inspect *", HEALTHY)
    fake.answer("exec *", then=f"cat > {fake.folder}/read")
    return fake


def command(service: str = "web") -> dict[str, Any]:
    return {
        "service": service,
        "command": ["app-admin", "set-password"],
        "input": base64.b64encode(f"password = {SECRET}\n".encode()).decode(),
        "secret": SECRET,
        "change": f"{service}: password set",
    }


def test_command_gets_its_input_and_the_arguments_do_not_have_it(docker: FakeDocker) -> None:
    result = run_module("dap_exec", project="dap", commands=[command()])

    assert (result["changed"], result["changed_items"]) == (True, ["web: password set"])
    assert docker.calls_of("exec") == [f"exec --interactive {WEB} app-admin set-password"]
    assert (docker.folder / "read").read_text(encoding="utf-8") == f"password = {SECRET}\n"
    assert not [call for call in docker.calls if SECRET in call]


def test_check_mode_runs_nothing(docker: FakeDocker) -> None:
    result = run_module("dap_exec", check=True, project="dap", commands=[command()])

    assert (result["changed"], result["changed_items"]) == (True, ["web: password set"])
    assert docker.calls == []


def test_failure_tells_the_last_words_without_the_secret(docker: FakeDocker) -> None:
    docker.answer("exec *", error=f"trying\nno such user: {SECRET}\n", status=3)

    result = run_module("dap_exec", project="dap", commands=[command()])

    assert result["failed"]
    assert result["msg"] == (
        "web: app-admin set-password ended with status 3\n  trying\n  no such user: ********"
    )
    assert SECRET not in json.dumps(result)


def test_service_that_does_not_run_is_a_failure(docker: FakeDocker) -> None:
    result = run_module("dap_exec", project="dap", commands=[command(), command("cache")])

    assert result["failed"]
    assert result["msg"] == "cache does not run"
    assert result["changed_items"] == ["web: password set"]
