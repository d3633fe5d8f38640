"""The provisioning job of Portainer, against the stand-in of its API."""

from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dap.jobs import portainer
from dap.jobs.portainer import PortainerError
from dap.jobs.report import Report

IMAGE = Path(__file__).parents[1] / "integration" / "fixtures" / "portainer" / "image"
PASSWORD = "the-first-password"
SECRET = "shared-by-server-and-agents"
AGENT = {"name": "alpha", "kind": "agent", "url": "tcp://alpha.example.com:9001"}
LOCAL = {"name": "local", "kind": "socket", "url": ""}


def _module() -> ModuleType:
    specification = importlib.util.spec_from_file_location("portainer_stand_in", IMAGE / "server.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


STAND_IN = _module()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    """A Portainer as it is after its first start with a password file; every environment answers."""
    store = STAND_IN.Store(tmp_path)
    store.set_password(PASSWORD)
    server = STAND_IN.StandIn(("127.0.0.1", 0), store, SECRET)
    server.ask = lambda url, secret: 1 if url.startswith("unix:") else 2
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def state(server: Any, **changes: Any) -> dict[str, Any]:
    """The desired state, as `dap.provisioning` makes it."""
    return {
        "service": "portainer",
        "host": "127.0.0.1",
        "port": server.server_address[1],
        "user": "admin",
        "password": PASSWORD,
        "environments": [LOCAL, AGENT],
    } | changes


def provisioned(server: Any, *, check: bool = False, **changes: Any) -> Report:
    report = Report(check=check)
    portainer.provision(state(server, **changes), report)
    return report


def environments(server: Any) -> list[tuple[str, str, int]]:
    return [(entry["Name"], entry["URL"], entry["Type"]) for entry in server.store.state["endpoints"]]


def test_environments_are_added_once(server: Any) -> None:
    first = provisioned(server)
    assert first.changed == [
        "portainer: usage statistics switched off",
        "portainer: environment local added",
        "portainer: environment alpha added",
    ]
    assert environments(server) == [
        ("local", "unix:///var/run/docker.sock", 1),
        ("alpha", "tcp://alpha.example.com:9001", 2),
    ]
    second = provisioned(server)
    assert (second.changed, second.unchanged) == ([], 4)


def test_check_mode_says_what_it_would_do_and_only_looks(server: Any) -> None:
    checked = provisioned(server, check=True)
    assert len(checked.changed) == 3
    assert environments(server) == []
    assert [entry for entry in server.requests if not entry.startswith("GET")] == ["POST /api/auth"]


def test_renamed_environment_keeps_its_name(server: Any) -> None:
    provisioned(server)
    server.store.state["endpoints"][1]["Name"] = "the big machine"
    assert provisioned(server).changed == []


def test_moved_agent_is_followed(server: Any) -> None:
    provisioned(server)
    moved = AGENT | {"url": "tcp://192.0.2.7:9001"}
    report = provisioned(server, environments=[LOCAL, moved])
    assert report.changed == ["portainer: environment alpha moved to tcp://192.0.2.7:9001"]
    assert environments(server)[1] == ("alpha", "tcp://192.0.2.7:9001", 2)


def test_address_without_its_scheme_is_the_same_address(server: Any) -> None:
    provisioned(server)
    for entry in server.store.state["endpoints"]:
        entry["URL"] = entry["URL"].rpartition("://")[2]
    assert provisioned(server).changed == []


def test_environments_of_people_are_left_alone(server: Any) -> None:
    server.store.state["endpoints"].append(
        {"Id": 7, "Name": "mine", "URL": "tcp://elsewhere:9001", "Type": 2, "Status": 1}
    )
    provisioned(server)
    assert [name for name, _, _ in environments(server)] == ["mine", "local", "alpha"]


def test_rotated_password_is_set_with_the_one_before(server: Any) -> None:
    provisioned(server)
    report = provisioned(server, password="the-second-password", previous=["never-in-force", PASSWORD])
    assert report.changed == ["portainer: password of admin set"]
    assert server.store.accepts("the-second-password")
    assert not server.store.accepts(PASSWORD)
    assert (
        provisioned(server, password="the-second-password", previous=["never-in-force", PASSWORD]).changed
        == []
    )


def test_check_mode_leaves_the_password(server: Any) -> None:
    provisioned(server)
    report = provisioned(
        server, check=True, password="the-second-password", previous=["never-in-force", PASSWORD]
    )
    assert report.changed == ["portainer: password of admin set"]
    assert server.store.accepts(PASSWORD)


@pytest.mark.parametrize("previous", [[], ["the-one-before"]])
def test_password_changed_by_hand_is_told(server: Any, previous: list[str]) -> None:
    server.store.set_password("only-people-know-this")
    with pytest.raises(PortainerError) as caught:
        provisioned(server, previous=previous)
    assert str(caught.value) == (
        "the password of admin was changed there, and is not known; set it back in Portainer, or as"
        " docs/how-to/use-portainer.md says"
    )


def test_agent_that_does_not_answer_is_told(server: Any) -> None:
    def unreachable(url: str, secret: str) -> int:
        if url.startswith("tcp:"):
            raise STAND_IN.ApiError(500, "Unable to initiate communications with environment", "timed out")
        return 1

    server.ask = unreachable
    with pytest.raises(PortainerError) as caught:
        provisioned(server)
    assert str(caught.value) == (
        "POST /api/endpoints answered 500: Unable to initiate communications with environment: timed out"
    )


def test_server_that_does_not_answer_is_told(server: Any) -> None:
    closed = state(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(PortainerError) as caught:
        portainer.provision(closed, Report())
    assert str(caught.value) == (
        f"127.0.0.1:{closed['port']} cannot be asked: [Errno 111] Connection refused"
    )


def test_too_many_logins_are_not_taken_for_a_wrong_password(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def banned(handler: Any, method: str, path: str) -> None:
        raise STAND_IN.ApiError(403, "Access denied", "Unauthorized")

    monkeypatch.setattr(STAND_IN.Handler, "_route", banned)
    with pytest.raises(PortainerError) as caught:
        provisioned(server, previous=["the-one-before"])
    assert str(caught.value) == "POST /api/auth answered 403: Access denied: Unauthorized"


def test_answer_that_is_no_json_is_told(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(handler: Any) -> None:
        handler.send_error(502, "Bad Gateway")

    monkeypatch.setattr(STAND_IN.Handler, "do_POST", broken)
    with pytest.raises(PortainerError, match=r"^POST /api/auth answered 502: .*Bad Gateway"):
        provisioned(server)
