"""A runner host that fails keeps no other from being deployed; without the service host nothing goes on."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from dap import status, summary
from dap.configuration.inventory import Host
from dap.containers import Container
from dap.deployment.outcome import Outcome
from dap.deployment.partial import goes_on_without, refuse_failed
from dap.errors import DapError
from tests.unit.platforms import site_of

SERVICE = Host("alpha", frozenset({"service_host"}), {"ansible_host": "192.0.2.1"})
RUNNERS = tuple(
    Host(name, frozenset({"runner_hosts"}), {"ansible_host": address})
    for name, address in (("beta", "192.0.2.2"), ("gamma", "192.0.2.3"))
)
SITE = site_of(hosts=(SERVICE, *RUNNERS))


def test_deploy_goes_on_without_runner_hosts() -> None:
    outcome = Outcome()
    assert goes_on_without([("gamma", "disk full")], outcome, SITE.inventory, "deploy")
    # What was wrong first is what matters.
    assert goes_on_without([("beta", "off"), ("gamma", "off, too")], outcome, SITE.inventory, "deploy")
    assert outcome.failed == {"gamma": "disk full", "beta": "off"}


@pytest.mark.parametrize(
    ("failures", "verb"),
    [([("beta", "off"), ("alpha", "off")], "deploy"), ([("beta", "off")], "check")],
)
def test_nothing_goes_on_without_the_service_host_or_in_a_check(
    failures: list[tuple[str, str]], verb: str
) -> None:
    outcome = Outcome()
    assert not goes_on_without(failures, outcome, SITE.inventory, verb)
    assert outcome.failed == {}


@pytest.mark.parametrize(
    ("failed", "head"),
    [
        ({"beta": "off"}, "1 of 3 hosts left as it is; the others are in order:\n  beta: off"),
        (
            {"beta": "off", "gamma": "disk full"},
            "2 of 3 hosts left as they are; the others are in order:\n  beta: off\n  gamma: disk full",
        ),
    ],
)
def test_hosts_that_were_left_are_told_at_the_end(failed: dict[str, str], head: str) -> None:
    with pytest.raises(DapError) as caught:
        refuse_failed(Outcome(failed=failed, log=Path("run.log")), SITE.inventory)
    assert caught.value.exit_code == 1
    assert str(caught.value) == (
        f"{head}\n  next: correct this, then run the same command again\n  log:  run.log"
    )


def test_nothing_is_told_where_no_host_was_left() -> None:
    refuse_failed(Outcome(), SITE.inventory)


def silent(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let these machines not answer; on the others nothing runs."""

    def run(argv: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if argv[0] == "ssh" and any(address in argv for address in addresses):
            said = f"ssh: connect to host {argv[-2]} port 22: No route to host\n"
            return subprocess.CompletedProcess(argv, 255, "", said)
        return subprocess.CompletedProcess(argv, 0, "", "")

    monkeypatch.setattr("dap.containers.subprocess.run", run)


def test_status_names_hosts_that_do_not_answer_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    silent(monkeypatch, "192.0.2.3")
    found = status.status_of(SITE)
    reason = "Docker cannot be asked: ssh: connect to host 192.0.2.3 port 22: No route to host"
    assert found.unreached == {"gamma": reason}
    assert not found.well
    assert found.as_json()["unreached"] == [{"host": "gamma", "reason": reason}]
    text = summary.of_status(found)
    assert text.splitlines()[:2] == [
        "HOST   SERVICE  STATE      SINCE  IMAGE",
        f"gamma  -        unreached         {reason}",
    ]
    assert text.endswith(
        "next: see that every host runs; dap -e team check says what keeps one from being reached"
    )


def test_status_says_what_an_ill_service_complains_of(monkeypatch: pytest.MonkeyPatch) -> None:
    ill = Container("gamma", "runner", "running", "unhealthy", "Up 1 hour", "runner:1", "the disk is full")
    monkeypatch.setattr(status, "list_containers", lambda _, host: [ill] if host.name == "gamma" else [])
    found = status.status_of(SITE)
    assert summary.of_status(found).splitlines()[:3] == [
        "HOST   SERVICE  STATE      SINCE      IMAGE",
        "gamma  runner   unhealthy  Up 1 hour  runner:1",
        "gamma: runner: the disk is full",
    ]
    (bad,) = [one for one in status.container_results(SITE) if not one.ok]
    assert (bad.service, bad.detail) == ("gamma", "runner is running unhealthy (the disk is full)")


def test_status_fails_where_no_host_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    silent(monkeypatch, "192.0.2.1", "192.0.2.2", "192.0.2.3")
    with pytest.raises(DapError, match=r"^\w+: Docker cannot be asked: ssh: connect to host"):
        status.status_of(SITE)
