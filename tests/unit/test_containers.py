"""What ``docker ps`` said, and how a command gets to the host it has to run on."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from dap.containers import Container, argv_on, list_containers, parse
from dap.errors import EXIT_FAILED, DapError
from tests.unit.platforms import LOCAL, executable, host_with, site_of

# Printed by Docker 20.10, one line for each state a container can be in.
RECORDED = (Path(__file__).parent / "recorded" / "docker-ps.jsonl").read_text(encoding="utf-8")


def as_user(monkeypatch: pytest.MonkeyPatch, uid: int) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def test_recorded_containers_are_understood() -> None:
    found = {entry.service: (entry.state, entry.health, entry.since) for entry in parse("alpha", RECORDED)}
    assert found == {
        "pgadmin": ("running", "healthy", "Up 4 seconds"),
        "toolbox": ("created", "", "Created"),
        "postgres-data": ("paused", "", "Up 4 seconds"),
        "guestbook": ("running", "", "Up 5 seconds"),
        "portal": ("exited", "", "Exited (137) 5 seconds ago"),
        "nginx-proxy": ("restarting", "", "Restarting (1) 1 second ago"),
        "minio": ("running", "unhealthy", "Up 6 seconds"),
        "mlflow": ("running", "starting", "Up 6 seconds"),
    }


def test_only_running_and_healthy_is_well() -> None:
    assert [entry.service for entry in parse("alpha", RECORDED) if entry.well] == ["pgadmin"]


def test_container_as_json_has_all_it_knows() -> None:
    first = parse("alpha", RECORDED)[0]
    assert first.as_json() == {
        "host": "alpha",
        "service": "pgadmin",
        "state": "running",
        "health": "healthy",
        "since": "Up 4 seconds",
        "image": "debian:trixie-slim",
        "complaint": "",
    }


def test_no_lines_are_no_containers() -> None:
    assert parse("alpha", "") == []


ARGV = ["docker", "ps", "--filter", "label=a b"]


def test_root_runs_a_command_here_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, 0)
    assert argv_on(LOCAL, ARGV) == ARGV


def test_other_users_run_a_command_here_by_sudo_that_never_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, 1000)
    assert argv_on(LOCAL, ARGV) == ["sudo", "-n", *ARGV]


@pytest.mark.parametrize(
    ("variables", "options", "target", "sudo"),
    [
        ({}, [], "alpha", "sudo -n "),
        ({"ansible_host": "192.0.2.10"}, [], "192.0.2.10", "sudo -n "),
        ({"ansible_user": "admin"}, [], "admin@alpha", "sudo -n "),
        ({"ansible_user": "root"}, [], "root@alpha", ""),
        ({"ansible_port": 2222}, ["-p", "2222"], "alpha", "sudo -n "),
        ({"ansible_ssh_private_key_file": "~/.ssh/dap"}, ["-i", "~/.ssh/dap"], "alpha", "sudo -n "),
        ({"ansible_ssh_common_args": "-J 'jump host'"}, ["-J", "jump host"], "alpha", "sudo -n "),
        (
            {
                "ansible_host": "alpha.example.com",
                "ansible_user": "ops",
                "ansible_port": 2022,
                "ansible_ssh_private_key_file": "/keys/ops",
            },
            ["-p", "2022", "-i", "/keys/ops"],
            "ops@alpha.example.com",
            "sudo -n ",
        ),
    ],
)
def test_other_hosts_are_reached_as_ansible_reaches_them(
    variables: dict[str, object], options: list[str], target: str, sudo: str
) -> None:
    argv = argv_on(host_with(**variables), ["docker", "ps"])
    assert argv == [
        "ssh",
        "-o",
        "BatchMode=yes",
        "-o",
        "ConnectTimeout=10",
        *options,
        target,
        f"{sudo}'docker' 'ps'",
    ]


@pytest.mark.parametrize("word", ["a b", "it's", "$HOME", "`id`", '"', "a\nb", "", "{{json .State}}", "\\"])
def test_words_arrive_at_the_other_side_as_they_are(word: str) -> None:
    remote = argv_on(host_with(ansible_user="root"), ["docker", word])[-1]
    assert shlex.split(remote) == ["docker", word]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the program ``docker`` is looked for, before anywhere else."""
    as_user(monkeypatch, 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "docker"


def test_containers_of_the_platform_are_asked_for(engine: Path) -> None:
    answer = engine.with_name("answer")
    answer.write_text(RECORDED)
    listing = f'printf "%s\\n" "$@" > {engine}.argv; cat {answer}'
    executable(engine, f'#!/bin/sh\ntest "$1" != ps || {{ {listing}; }}\n')
    found = list_containers(site_of(platform_name="lab"), LOCAL)
    assert [entry.service for entry in found] == sorted(entry.service for entry in found)
    assert all(isinstance(entry, Container) and entry.host == "alpha" for entry in found)
    asked = Path(f"{engine}.argv").read_text().splitlines()
    assert asked[:4] == ["ps", "--all", "--filter", "label=com.docker.compose.project=lab"]


def test_what_the_healthcheck_of_an_ill_service_has_said_last_is_told(engine: Path) -> None:
    health = [
        '{"service":"minio","health":{"Status":"unhealthy","Log":['
        '{"ExitCode":0,"Output":"well"},{"ExitCode":1,"Output":"first line\\nthe disk is full\\n"}]}}',
        '{"service":"mlflow","health":{"Status":"starting","Log":[]}}',
        '{"service":"portal","health":null}',
        '{"service":"guestbook","health":{"Status":"unhealthy","Log":[{"ExitCode":1,"Output":""}]}}',
    ]
    listed, inspected = engine.with_name("listed"), engine.with_name("inspected")
    listed.write_text(RECORDED)
    inspected.write_text("\n".join(health))
    lines = (
        f'if [ "$1" = ps ]; then cat {listed}; else printf "%s\\n" "$@" >{engine}.argv; cat {inspected}; fi'
    )
    executable(engine, f"#!/bin/sh\n{lines}\n")
    found = list_containers(site_of(platform_name="lab"), LOCAL)
    assert {one.service: one.complaint for one in found if one.complaint} == {"minio": "the disk is full"}
    asked = Path(f"{engine}.argv").read_text().split()
    assert asked[-2:] == ["lab-minio", "lab-mlflow"]
    listed.write_text(RECORDED.splitlines()[0])
    Path(f"{engine}.argv").unlink()
    assert [one.complaint for one in list_containers(site_of(), LOCAL)] == [""]
    assert not Path(f"{engine}.argv").exists()


def test_engine_that_refuses_is_told_in_its_own_words(engine: Path) -> None:
    executable(engine, "#!/bin/sh\necho warning >&2\necho 'permission denied' >&2\nexit 1\n")
    with pytest.raises(DapError) as caught:
        list_containers(site_of(), LOCAL)
    assert str(caught.value) == "alpha: Docker cannot be asked: permission denied\n  next: dap -e team deploy"
    assert caught.value.exit_code == EXIT_FAILED


def test_engine_that_says_nothing_is_no_answer(engine: Path) -> None:
    executable(engine, "#!/bin/sh\nexit 125\n")
    with pytest.raises(DapError, match="alpha: Docker cannot be asked: no answer"):
        list_containers(site_of(), LOCAL)


def test_machine_without_docker_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_user(monkeypatch, 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DapError, match=r"alpha: Docker cannot be asked: .*No such file"):
        list_containers(site_of(), LOCAL)
