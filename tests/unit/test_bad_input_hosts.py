"""What a host lacks, as the operator reads it: all of it, with value, reason and what to do."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import pytest

from dap.deployment.preflight import judge as judge_run
from dap.errors import ConfigurationError, Problems, RefusedError
from dap.errors import Finding as Refused
from dap.hosts.ansible import Run
from module_utils.dap_engine import EngineState, HostState, refusal
from module_utils.dap_host import GIB, FileSystem, Finding, Wants, judge
from tests.unit.plugins import load
from tests.unit.test_preflight import DISK, FACTS, WANTS

SMALL = replace(DISK, free=GIB)


@pytest.mark.parametrize(
    ("different", "subject", "value", "reason", "suggestion"),
    [
        (
            {"memory_mib": 1990},
            "memory",
            "1990 MiB",
            "the services of this host need 4000 MiB",
            "give the host more memory, or turn services off",
        ),
        (
            {"data": SMALL, "docker": replace(SMALL, path="/var/lib/docker")},
            "disk space at /var/lib/dap",
            "1.0 GiB free",
            "data and images need 20.0 GiB",
            "free some space, or put the folder on a larger file system",
        ),
        (
            {"root": FileSystem("/opt/dap", device=7, free=100 * 1024**2)},
            "disk space at /opt/dap",
            "0.1 GiB free",
            "rendered files need 0.2 GiB",
            "free some space, or put the folder on a larger file system",
        ),
        (
            {"distribution": "fedora", "version": "41"},
            "operating system",
            "fedora 41",
            "the platform is made for Debian 12 and 13, Ubuntu 22.04 and 24.04",
            "use a host with one of these systems",
        ),
        (
            {"machine": "riscv64"},
            "architecture",
            "riscv64",
            "the images are built for x86_64 and aarch64",
            "use a 64-bit x86 or ARM host",
        ),
        (
            {"is_root": False},
            "rights",
            "not root",
            "packages, the trust store and Docker need root",
            "connect as root (ansible_user: root), or as a user who may use sudo",
        ),
    ],
)
def test_what_a_host_lacks_is_told_in_full(
    different: dict[str, Any], subject: str, value: str, reason: str, suggestion: str
) -> None:
    assert judge(replace(FACTS, **different), WANTS) == [Finding("error", subject, value, reason, suggestion)]


def test_address_of_another_machine_is_told_in_full() -> None:
    wanted = [("192.0.2.7", 443, "nginx-proxy"), ("127.0.0.1", 80, "nginx-proxy")]
    (finding,) = load("modules.dap_preflight").address_findings(wanted)
    assert Finding(**asdict(finding)) == Finding(
        "error",
        "listen_address",
        "192.0.2.7",
        "is not an address of this host: Cannot assign requested address",
        "write one of its addresses (ip address shows them), or 0.0.0.0 for all",
    )


def test_docker_that_is_too_old_and_from_nowhere_is_told_in_full() -> None:
    engine = EngineState(command="/usr/local/bin/docker", running="18.9.1", compose="2.26.1", buildx="0.13.1")
    refused = refusal(HostState("debian", "12", "bookworm", "", engine))
    assert refused is not None
    assert (refused.reasons, refused.suggestion) == (
        ("engine 18.9.1 is older than 20.10, and it was not installed from a package",),
        "upgrade it the way it was installed, or remove it; the deploy then installs the packaged engine",
    )


def test_everything_wrong_on_all_hosts_is_one_message() -> None:
    """Hosts that could not be looked at stand beside the findings on the others; warnings do not count."""
    run = Run()
    run.failures = [("beta", "connection = beta, port 22\n    cannot be reached\n    start it")]
    facts = {"epoch": 0.0}
    findings = [
        {
            "severity": "error",
            "subject": "memory",
            "value": "1 MiB",
            "reason": "needs 2",
            "suggestion": "buy",
        },
        {"severity": "warning", "subject": "kernel", "value": "6", "reason": "slow", "suggestion": "load it"},
    ]
    run.results = {("Look", "alpha"): {"facts": facts, "findings": findings}}
    problems = Problems()
    problems.add(RefusedError("alpha: /data holds data of unknown origin", "move it away"))
    problems.add(
        ConfigurationError([Refused("platform.yml", "services.git", "git:1", "cannot be had", "load it")])
    )
    warnings = judge_run(run, problems)
    assert warnings == ["alpha: kernel = 6\n    slow\n    load it"]
    with pytest.raises(RefusedError) as caught:
        problems.refuse()
    clock = str(caught.value).splitlines()[-3].partition(" = ")
    assert clock[0] == "  alpha: clock"
    assert str(caught.value) == (
        "preflight found 5 errors; nothing was changed:\n"
        "  alpha: /data holds data of unknown origin\n    move it away\n"
        "  platform.yml: services.git = git:1\n    cannot be had\n    load it\n"
        "  beta: connection = beta, port 22\n    cannot be reached\n    start it\n"
        "  alpha: memory = 1 MiB\n    needs 2\n    buy\n"
        f"  alpha: clock = {clock[2]}\n"
        "    differs from this machine's by more than 120 s\n"
        "    set the time, for example with: apt-get install chrony"
    )
    assert caught.value.exit_code == 2


def test_wanting_nothing_finds_nothing() -> None:
    """The findings above come from what is wanted, not from the host alone."""
    assert judge(replace(FACTS, memory_mib=1), Wants(project="dap")) == []
