"""The checker of container rules finds each broken one, and takes an exception only with key and reason."""

from __future__ import annotations

from typing import Any

import pytest

from tests.container_rules import RULES, broken

REASON = "the program cannot work without it"
GOOD: dict[str, Any] = {
    "image": "dap/app:1.0-0123456789ab",
    "user": "10900:10900",
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "mem_limit": 64 * 1024 * 1024,
    "memswap_limit": 64 * 1024 * 1024,
    "pids_limit": 64,
    "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
    "restart": "unless-stopped",
    "healthcheck": {"test": ["CMD", "true"]},
    "volumes": [
        {"type": "bind", "source": "/var/lib/dap/app/data"},
        {"type": "bind", "source": "./config", "read_only": True},
    ],
    "ports": [{"host_ip": "127.0.0.1", "published": "443"}],
    "networks": {"default": {}},
    "x-name": "app",
    "x-data": "/var/lib/dap",
    "x-ports": {("127.0.0.1", 443)},
    "x-job": False,
}
BAD = [
    ("image", "dap/app:1.0"),
    ("image", "dap/app:latest"),
    ("image", "registry.example.com/app"),
    ("image", "registry.example.com:5000/app"),
    ("image", "registry.example.com/app:latest"),
    ("user", "0:0"),
    ("user", "10900:0"),
    ("user", "root"),
    ("user", ""),
    ("read_only", False),
    ("cap_drop", []),
    ("cap_drop", ["NET_RAW"]),
    ("cap_add", ["NET_BIND_SERVICE"]),
    ("security_opt", None),
    ("security_opt", ["no-new-privileges:true", "seccomp=unconfined"]),
    ("privileged", True),
    ("mem_limit", 0),
    ("mem_limit", None),
    ("memswap_limit", -1),
    ("pids_limit", 0),
    ("pids_limit", -1),
    ("logging", None),
    ("logging", {"driver": "json-file", "options": {"max-size": "10m"}}),
    ("logging", {"driver": "none"}),
    ("restart", "no"),
    ("restart", None),
    ("healthcheck", None),
    ("healthcheck", {"test": ["NONE"]}),
    ("healthcheck", {"test": ["CMD", "true"], "disable": True}),
    ("volumes", ["/etc:/etc"]),
    ("volumes", [{"type": "volume", "source": "data"}]),
    ("volumes", [{"type": "bind", "source": "/var/lib/dap/other/data"}]),
    ("volumes", [{"type": "bind", "source": "/etc"}]),
    (
        "volumes",
        [{"type": "bind", "source": "/etc", "read_only": True, "bind": {"propagation": "rshared"}}],
    ),
    ("docker_socket", "/var/run/docker.sock"),
    ("docker_socket", "/run/containerd/containerd.sock"),
    ("ports", []),
    ("ports", ["443:443"]),
    ("ports", [{"host_ip": "0.0.0.0", "published": "443"}]),  # noqa: S104 - compared, not bound
    ("ports", [*GOOD["ports"], {"host_ip": "127.0.0.1", "published": "5432"}]),
    ("networks", {"host": {}}),
    ("networks", {"bridge": {}}),
    ("network_mode", "host"),
    ("pid", "host"),
    ("ipc", "host"),
    ("uts", "host"),
    ("userns_mode", "host"),
    ("cgroup", "host"),
    ("cgroup_parent", "/"),
    ("devices", ["/dev/sda"]),
    ("device_cgroup_rules", ["a *:* rwm"]),
    ("group_add", ["docker"]),
    ("sysctls", {"net.ipv4.ip_forward": 1}),
    ("oom_kill_disable", True),
    ("volumes_from", ["other"]),
]


def with_fault(key: str, value: object) -> dict[str, Any]:
    """A good service but for one key."""
    if key == "docker_socket":
        return {**GOOD, "volumes": [{"type": "bind", "source": value, "read_only": True}]}
    if key == "mem_limit":
        return {**GOOD, key: value, "memswap_limit": value}
    return {**GOOD, key: value}


def test_nothing_is_wrong_with_a_good_service() -> None:
    assert broken(GOOD, {}) == []


@pytest.mark.parametrize(("key", "value"), BAD)
def test_each_fault_is_found_and_only_its_own_key_excuses_it(key: str, value: object) -> None:
    service = with_fault(key, value)
    assert [line.partition(":")[0] for line in broken(service, {})] == [key]
    assert broken(service, {key: REASON}) == []
    assert broken(service, {key: "needed"}) == [f"{key}: the manifest's exception has no reason"]


def test_every_rule_has_a_fault_here() -> None:
    assert {key for key, _ in BAD} == set(RULES)


@pytest.mark.parametrize("key", RULES)
def test_an_exception_that_is_not_needed_is_found(key: str) -> None:
    assert broken(GOOD, {key: REASON}) == [f"{key}: the manifest makes an exception that is not needed"]


def test_a_job_is_not_restarted_and_needs_no_healthcheck() -> None:
    job = {**GOOD, "x-job": True, "restart": "no", "healthcheck": None}
    assert broken(job, {}) == []
    assert broken({**job, "restart": "always"}, {}) == ["restart: always, and no exception in the manifest"]
