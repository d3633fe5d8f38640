"""The rules that every container keeps, and the claims of every manifest, looked up on the running ones."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

from dap.layout import compose_dir
from tests.container_rules import as_service, broken
from tests.integration.platform import DeployedPlatform, docker


@dataclass(frozen=True)
class Running:
    """A running container and the manifest of its service."""

    platform: DeployedPlatform
    name: str
    box: dict[str, Any]

    @cached_property
    def manifest(self) -> dict[str, Any]:
        text = (compose_dir() / self.name / "service.yml").read_text(encoding="utf-8")
        manifest: dict[str, Any] = yaml.safe_load(text)
        return manifest

    @property
    def exceptions(self) -> dict[str, str]:
        return dict(self.manifest.get("exceptions", {}))

    @cached_property
    def settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = yaml.safe_load(self.platform.settings_file.read_text(encoding="utf-8"))
        return settings

    @property
    def ports(self) -> set[tuple[str, int]]:
        """Address and number of every port that it may publish."""
        numbers = self.settings["ports"]
        declared = self.manifest.get("ports", [])
        return {
            (self.settings["listen_address"], numbers.get(port["name"]) or port["container"])
            for port in declared
        }

    @property
    def address(self) -> str:
        """Its address on the platform's network."""
        found: str = self.box["NetworkSettings"]["Networks"][self.platform.name]["IPAddress"]
        return found

    @property
    def processes(self) -> list[Path]:
        """The folders in /proc of all its processes."""
        listed = docker("top", self.box["Id"], "-eo", "pid").split()[1:]
        return [path for pid in listed if (path := Path("/proc", pid)).is_dir()]


@pytest.fixture
def running(platform: DeployedPlatform) -> list[Running]:
    """Every container of the platform."""
    found = [Running(platform, name, box) for name, box in sorted(platform.containers().items())]
    expected = {"minio", "nginx-proxy", "portal", "postgres-data", "postgres-service"}
    assert {entry.name for entry in found} >= expected
    return found


def test_every_container_keeps_every_rule_or_its_manifest_says_why_not(running: list[Running]) -> None:
    found = {}
    for entry in running:
        known = {
            "x-name": entry.name,
            "x-data": str(entry.platform.data),
            "x-ports": entry.ports,
            "x-job": False,
        }
        if faults := broken({**as_service(entry.box), **known}, entry.exceptions):
            found[entry.name] = faults
    assert found == {}


def status_of(process: Path) -> dict[str, str]:
    """The lines of /proc/<pid>/status; none if the process has ended."""
    try:
        lines = (process / "status").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_the_kernel_says_so_too_of_every_process(running: list[Running]) -> None:
    found = []
    for entry in running:
        statuses = [(process, status) for process in entry.processes if (status := status_of(process))]
        assert statuses, entry.name
        for process, status in statuses:
            where = f"{entry.name}: {process} {status['Name']}"
            if "user" not in entry.exceptions:
                expected = {str(entry.manifest["user"])}
                if set(f"{status['Uid']}\t{status['Gid']}".split("\t")) != expected:
                    found.append(f"{where}: uids {status['Uid']}, gids {status['Gid']}")
                if status["Groups"].split() not in ([], [*expected]):
                    found.append(f"{where}: groups {status['Groups']}")
            if "cap_add" not in entry.exceptions:
                capabilities = {
                    name: status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
                }
                if any(int(value, 16) for value in capabilities.values()):
                    found.append(f"{where}: {capabilities}")
            if "security_opt" not in entry.exceptions and status["NoNewPrivs"] != "1":
                found.append(f"{where}: may gain privileges")
            if "security_opt" not in entry.exceptions and status["Seccomp"] != "2":
                found.append(f"{where}: no filter of system calls")
    assert found == []


def test_the_root_file_system_is_mounted_read_only(running: list[Running]) -> None:
    writable = []
    for entry in running:
        mounts = Path("/proc", str(entry.box["State"]["Pid"]), "mountinfo").read_text(encoding="utf-8")
        options = [line.split()[5].split(",") for line in mounts.splitlines() if line.split()[4] == "/"]
        assert options, entry.name
        if "ro" not in options[-1] and "read_only" not in entry.exceptions:
            writable.append(entry.name)
    assert writable == []


# --- ports ------------------------------------------------------------------------------------------------


def listeners(process: Path) -> Iterator[tuple[str, int]]:
    """IPv4 address (or :: for IPv6) and number of the TCP ports that are listened on where a process runs."""
    for file in ("tcp", "tcp6"):
        for line in (process / "net" / file).read_text(encoding="utf-8").splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A":
                address, port = local.split(":")
                quad = socket.inet_ntoa(bytes.fromhex(address)[::-1]) if file == "tcp" else "::"
                yield quad, int(port, 16)


def forwarders(running: list[Running]) -> set[tuple[str, int]]:
    """Address and number of the ports that Docker's helpers hold on the host for these containers."""
    addresses = {entry.address for entry in running}
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                arguments = (process / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if arguments[0].endswith("docker-proxy"):
                given = dict(zip(arguments[1::2], arguments[2::2], strict=False))
                if given["-container-ip"] in addresses:
                    found.add((given["-host-ip"], int(given["-host-port"])))
    return found


def answers(address: str, port: int) -> bool:
    """Whether a connection is accepted."""
    try:
        socket.create_connection((address, port), timeout=3).close()
    except OSError:
        return False
    return True


def test_nothing_listens_for_the_platform_but_the_declared_ports(running: list[Running]) -> None:
    declared = {port for entry in running for port in entry.ports}
    assert len(declared) >= 3
    assert forwarders(running) <= declared
    assert [port for port in sorted(declared) if not answers(*port)] == []


def test_no_other_port_of_a_container_is_reached_by_an_address_of_the_host(running: list[Running]) -> None:
    platform = running[0].platform
    gateway = docker(
        "network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", platform.name
    ).strip()
    inside = {
        port for entry in running for _, port in listeners(Path("/proc", str(entry.box["State"]["Pid"])))
    }
    assert inside >= {5432, 9000, 8000}
    # What listens on the host itself is another program's, or another platform's.
    foreign = {port for _, port in set(listeners(Path("/proc/self"))) - forwarders(running)}
    declared = {port for entry in running for _, port in entry.ports}
    tried = sorted(inside - foreign - declared)
    reached = [(host, port) for host in ("127.0.0.1", gateway) for port in tried if answers(host, port)]
    assert reached == []
    # The declared ones are there on the declared address alone.
    assert [port for port in sorted(declared - foreign) if answers(gateway, port)] == []


# --- claims of the manifests ------------------------------------------------------------------------------


def test_data_directories_have_the_owner_and_mode_of_the_manifest(running: list[Running]) -> None:
    seen = 0
    for entry in running:
        for data in entry.manifest.get("data", []):
            folder = entry.platform.data / entry.name / data.get("name", "data")
            state = folder.stat()
            expected = (entry.manifest["user"], entry.manifest["user"], data.get("mode", "0700"))
            assert (state.st_uid, state.st_gid, f"{state.st_mode & 0o7777:04o}") == expected, folder
            seen += 1
    assert seen >= 3


def test_every_web_port_and_container_port_of_a_manifest_is_listened_on(running: list[Running]) -> None:
    silent = []
    for entry in running:
        numbers = [web["port"] for web in entry.manifest.get("web", [])]
        numbers += [port["container"] for port in entry.manifest.get("ports", []) if "container" in port]
        silent += [(entry.name, number) for number in numbers if not answers(entry.address, number)]
    assert silent == []


def http_status(address: str, port: int, path: str) -> int:
    """The status of an answer to a GET."""
    connection = http.client.HTTPConnection(address, port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def speaks_postgres(address: str, port: int) -> bool:
    """Whether a server answers the request for TLS as PostgreSQL does."""
    with socket.create_connection((address, port), timeout=10) as connection:
        connection.sendall(bytes.fromhex("0000000804d2162f"))
        return connection.recv(1) in (b"S", b"N")


def test_every_probe_of_a_manifest_is_answered(running: list[Running]) -> None:
    failed, seen = [], 0
    for entry in running:
        probe = entry.manifest.get("probe")
        if probe is None:
            continue
        seen += 1
        if probe["type"] == "http":
            status = http_status(entry.address, probe["port"], probe.get("path", "/"))
            well = 200 <= status < 400 or status in (401, 403)
        elif probe["type"] == "postgres":
            well = speaks_postgres(entry.address, probe["port"])
        else:
            well = answers(entry.address, probe["port"])
        failed += [] if well else [entry.name]
    assert failed == []
    assert seen >= 5


def test_every_container_is_healthy_and_was_never_restarted_for_lack_of_memory(
    running: list[Running],
) -> None:
    states = {entry.name: entry.box["State"] for entry in running}
    assert {name: state["Health"]["Status"] for name, state in states.items()} == dict.fromkeys(
        states, "healthy"
    )
    assert [name for name, state in states.items() if state["OOMKilled"]] == []


def test_no_error_in_the_logs(running: list[Running]) -> None:
    bad = {}
    for entry in running:
        done = subprocess.run(["docker", "logs", entry.box["Id"]], capture_output=True, text=True, check=True)
        lines = (done.stdout + done.stderr).splitlines()
        words = re.compile(r"PANIC|Traceback|\[emerg\]|\[crit\]")
        if found := [line for line in lines if words.search(line)]:
            bad[entry.name] = found
    assert bad == {}
