"""The rules that every container keeps, looked up on the running ones."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from dap.layout import compose_dir
from tests.integration.platform import DeployedPlatform, docker

RULES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "runs as a user": lambda box: int(box["Config"]["User"].split(":")[0]) >= 1000,
    "read-only root": lambda box: box["HostConfig"]["ReadonlyRootfs"] is True,
    "no capabilities": lambda box: (
        box["HostConfig"]["CapDrop"] == ["ALL"] and not box["HostConfig"]["CapAdd"]
    ),
    "no new privileges": lambda box: box["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"],
    "not privileged": lambda box: box["HostConfig"]["Privileged"] is False,
    "healthy": lambda box: box["State"]["Health"]["Status"] == "healthy",
    "memory limit": lambda box: box["HostConfig"]["Memory"] > 0,
    "process limit": lambda box: box["HostConfig"]["PidsLimit"] > 0,
    "log limit": lambda box: box["HostConfig"]["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"},
    "restarts": lambda box: box["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped",
    "pinned image": lambda box: (
        ":" in box["Config"]["Image"] and not box["Config"]["Image"].endswith(":latest")
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_every_container_keeps_the_rule(platform: DeployedPlatform, rule: str) -> None:
    containers = platform.containers()
    assert set(containers) >= {"nginx-proxy", "postgres-data", "minio", "mlflow", "pgadmin", "portal"}
    assert [name for name, box in containers.items() if not RULES[rule](box)] == []


def test_only_declared_ports_are_published(platform: DeployedPlatform) -> None:
    published = {
        (name, int(entry["HostPort"]))
        for name, box in platform.containers().items()
        for entries in (box["HostConfig"]["PortBindings"] or {}).values()
        for entry in entries
    }
    assert published == {
        ("nginx-proxy", platform.ports["http"]),
        ("nginx-proxy", platform.ports["https"]),
        ("postgres-data", platform.ports["postgres"]),
    }


def test_data_directories_have_the_owner_and_mode_of_the_manifest(platform: DeployedPlatform) -> None:
    for manifest in sorted(compose_dir().glob("*/service.yml")):
        declared = yaml.safe_load(manifest.read_text(encoding="utf-8"))
        for data in declared.get("data", []):
            folder = platform.data / manifest.parent.name / data.get("name", "data")
            state = folder.stat()
            assert (state.st_uid, oct(state.st_mode & 0o777)) == (declared["user"], "0o700"), folder


def test_no_secret_is_where_it_does_not_belong(platform: DeployedPlatform) -> None:
    store = yaml.safe_load((platform.secrets / "secrets.yml").read_text(encoding="utf-8"))
    values = [value for value in store["values"].values() if len(value) >= 16]
    assert len(values) > 10
    names = list(platform.containers())
    images = {box["Config"]["Image"] for box in platform.containers().values()}
    places = {
        "docker inspect": docker("inspect", *[f"{platform.name}-{name}" for name in names]),
        "image history": "".join(docker("history", "--no-trunc", image) for image in images),
        "processes": subprocess.run(
            ["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True
        ).stdout,
        "deploy logs": "".join(path.read_text() for path in (platform.secrets / "logs").glob("*.log")),
        "rendered files": "".join(
            path.read_text(encoding="utf-8", errors="replace")
            for path in platform.root.rglob("*")
            if path.is_file() and path.parent.name not in {"secrets", "tls"}
        ),
    }
    for name in names:
        done = subprocess.run(
            ["docker", "logs", f"{platform.name}-{name}"], capture_output=True, text=True, check=True
        )
        places[f"log of {name}"] = done.stdout + done.stderr
    assert [place for place, text in places.items() if any(value in text for value in values)] == []


def test_secret_files_are_readable_by_their_service_only(platform: DeployedPlatform) -> None:
    files = [path for path in platform.root.glob("*/secrets/*") if path.is_file()]
    assert len(files) >= 8
    for path in files:
        state = path.stat()
        assert state.st_mode & 0o777 == 0o400, path
        assert state.st_uid >= 1000, path


def test_no_error_in_the_logs(platform: DeployedPlatform) -> None:
    bad = {}
    for name in platform.containers():
        done = subprocess.run(
            ["docker", "logs", f"{platform.name}-{name}"], capture_output=True, text=True, check=True
        )
        lines = (done.stdout + done.stderr).splitlines()
        found = [
            line
            for line in lines
            if any(word in line for word in ("PANIC", "Traceback", "[emerg]", "[crit]"))
        ]
        if found:
            bad[name] = found
    assert bad == {}
