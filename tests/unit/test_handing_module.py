"""Handing images on through the registry, with a Docker that notes how it was called."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins import FakeDocker, load, run_module

handing = load("modules.dap_handing")

HERE, THERE = "dap/app:1", "registry.example.com/dap/app:1"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """A Docker without images, for which everything succeeds and which keeps the login that it was given."""
    fake = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(handing, "RETRY_PAUSES", (0, 0))
    fake.answer("*", then=f'test "$1" != --config || cp "$2/config.json" {tmp_path}/login')
    return fake


def hand(tmp_path: Path, state: str, *, check: bool = False) -> dict[str, Any]:
    return run_module(
        "dap_handing",
        check=check,
        state=state,
        root=str(tmp_path),
        registry="registry.example.com",
        user="dap",
        password="secret-word",
        images=[{"name": "app", "reference": HERE, "source": THERE}],
    )


def without_folder(calls: list[str]) -> list[str]:
    """The calls without the folder of the login, which has another name each time."""
    words = [call.split() for call in calls]
    return [" ".join([one[0], *one[2:]] if one[0] == "--config" else one) for one in words]


def test_image_is_brought_to_the_registry_under_another_name_that_does_not_stay(
    tmp_path: Path, docker: FakeDocker
) -> None:
    result = hand(tmp_path, "pushed")
    assert (result["changed"], result["changed_items"]) == (False, [])
    assert without_folder(docker.calls) == [
        f"tag {HERE} {THERE}",
        f"--config push {THERE}",
        f"image rm {THERE}",
    ]


def test_image_is_fetched_and_gets_the_name_that_it_has_on_every_host(
    tmp_path: Path, docker: FakeDocker
) -> None:
    result = hand(tmp_path, "pulled")
    assert result["changed_items"] == [f"image {HERE} fetched from the service host"]
    assert without_folder(docker.calls) == [
        "image ls --format {{.Repository}}:{{.Tag}}",
        f"--config pull {THERE}",
        f"tag {THERE} {HERE}",
        f"image rm {THERE}",
        "image ls --format {{.Repository}}:{{.Tag}} --filter label=dap.image=app",
    ]


def test_newest_two_of_an_image_stay(tmp_path: Path, docker: FakeDocker) -> None:
    docker.answer("image ls * --filter *", f"{HERE}\ndap/app:0\ndap/app:<none>\nother/app:0\ndap/app:00\n")
    hand(tmp_path, "pulled")
    assert docker.calls_of("rm") == [f"image rm {THERE}", "image rm dap/app:00"]


def test_image_that_is_there_is_not_fetched(tmp_path: Path, docker: FakeDocker) -> None:
    docker.answer("image ls *", f"{HERE}\n")
    result = hand(tmp_path, "pulled")
    assert (result["changed"], len(docker.calls)) == (False, 1)


def test_password_is_in_a_file_that_is_gone_afterwards_and_in_no_argument(
    tmp_path: Path, docker: FakeDocker
) -> None:
    result = hand(tmp_path, "pulled")
    login = json.loads((tmp_path / "login").read_text())
    auth = base64.b64encode(b"dap:secret-word").decode()
    assert login == {"auths": {"registry.example.com": {"auth": auth}}}
    folder = next(Path(call.split()[1]) for call in docker.calls if call.startswith("--config"))
    assert not folder.exists()
    # What ran in this process has its arguments noted by Ansible: hidden.
    written = json.dumps(result) + "\n".join(docker.calls) + (tmp_path / "log/pull-app.log").read_text()
    assert "secret-word" not in written
    assert auth not in written


def test_check_says_what_would_be_fetched_and_fetches_nothing(tmp_path: Path, docker: FakeDocker) -> None:
    assert hand(tmp_path, "pushed", check=True)["changed"] is False
    result = hand(tmp_path, "pulled", check=True)
    assert result["changed_items"] == [f"image {HERE} fetched from the service host"]
    assert docker.calls == ["image ls --format {{.Repository}}:{{.Tag}}"]


def test_check_before_docker_is_there_says_what_would_be_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setattr("ansible.module_utils.dap_docker.search_path", lambda: str(tmp_path / "bin"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert hand(tmp_path, "pulled", check=True)["changed_items"] == [
        f"image {HERE} fetched from the service host"
    ]
    assert hand(tmp_path, "pulled")["msg"] == "Docker is not installed"


@pytest.mark.parametrize(
    ("state", "action", "failed"),
    [("pushed", "push", "be brought to"), ("pulled", "pull", "be fetched from")],
)
def test_failure_names_image_registry_and_log(
    tmp_path: Path, docker: FakeDocker, state: str, action: str, failed: str
) -> None:
    docker.answer(f"* {action} *", error="unauthorized: authentication required", status=1)
    result = hand(tmp_path, state)
    assert result["msg"] == (
        f"image {HERE} cannot {failed} the platform's registry registry.example.com:"
        f" unauthorized: authentication required\n  log: {tmp_path}/log/{action}-app.log"
    )


def test_image_that_the_host_has_lost_is_named(tmp_path: Path, docker: FakeDocker) -> None:
    docker.answer("tag *", error=f"Error response from daemon: No such image: {HERE}", status=1)
    assert hand(tmp_path, "pushed")["msg"] == (
        f"image {HERE} cannot be named {THERE}: Error response from daemon: No such image: {HERE}"
    )
