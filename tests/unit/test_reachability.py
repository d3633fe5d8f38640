"""Which hosts do not answer: found in one try, with what ssh would say."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dap.configuration.inventory import Host
from dap.hosts import reachability
from tests.unit.platforms import LOCAL, executable, site_of

TARGET = {"ansible_host": "192.0.2.7", "ansible_user": "admin"}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``ssh -G`` prints; the file of that name plus ``.argv`` has how it was called."""
    answer = tmp_path / "settings"
    answer.write_text("user admin\nhostname 192.0.2.7\nport 2022\nproxyusefdpass no\n")
    script = f'#!/bin/sh\nprintf "%s\\n" "$@" >{answer}.argv\ncat {answer}\n'
    monkeypatch.setenv("PATH", f"{executable(tmp_path / 'ssh', script).parent}:{os.environ['PATH']}")
    return answer


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was tried to be reached; nobody answers."""
    tried: list[Any] = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        tried.append((address, timeout))
        raise TimeoutError

    monkeypatch.setattr("dap.hosts.reachability.socket.create_connection", connect)
    return tried


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def silent(**variables: Any) -> dict[str, str]:
    beta = Host("beta", frozenset({"runner_hosts"}), variables)
    return reachability.silent_hosts(site_of(hosts=(LOCAL, beta)).inventory)


def test_host_that_does_not_answer_is_named_as_ssh_would(settings: Path, attempts: list[Any]) -> None:
    found = silent(**TARGET, ansible_port=2022)
    assert attempts == [(("192.0.2.7", 2022), 10.0)]
    assert found == {
        "beta": "connection = admin@192.0.2.7, port 2022\n"
        "    cannot be reached: ssh says 'connect to host 192.0.2.7 port 2022: Connection timed out'\n"
        "    see that it runs and that no firewall is in between, or correct ansible_host or ansible_port"
        " below beta in inventories/team/hosts.yml; try it with: ssh -p 2022 admin@192.0.2.7"
    }
    assert Path(f"{settings}.argv").read_text().split() == ["-G", "-p", "2022", "admin@192.0.2.7"]


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.EHOSTUNREACH, "No route to host"), (errno.ENETUNREACH, "Network is unreachable")],
)
def test_host_without_a_way_to_it_is_silent(
    settings: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(number, said)

    monkeypatch.setattr("dap.hosts.reachability.socket.create_connection", refuse)
    assert f"ssh says 'connect to host 192.0.2.7 port 2022: {said}'" in silent(**TARGET)["beta"]


def test_host_that_answers_is_left_to_ansible_whatever_it_says(settings: Path, listener: int) -> None:
    settings.write_text(f"hostname 127.0.0.1\nport {listener}\n")
    assert silent() == {}
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    settings.write_text(f"hostname 127.0.0.1\nport {port}\n")
    assert silent() == {}


@pytest.mark.parametrize("line", ["proxyjump jump.example.com", "proxycommand nc -X 5 %h %p"])
def test_host_behind_another_one_is_not_tried_directly(
    settings: Path, attempts: list[Any], line: str
) -> None:
    settings.write_text(settings.read_text() + line + "\n")
    assert (silent(**TARGET), attempts) == ({}, [])


def test_name_that_nobody_knows_and_an_ssh_that_fails_are_left_to_ansible(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.write_text("hostname nowhere.invalid\nport 22\n")
    assert silent() == {}
    monkeypatch.setenv("PATH", "/nowhere")
    assert silent(**TARGET) == {}


def test_this_machine_is_not_looked_for(attempts: list[Any]) -> None:
    assert (reachability.silent_hosts(site_of().inventory), attempts) == ({}, [])
