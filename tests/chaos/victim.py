"""The platform that is hit: all that a single machine can have, with its data on a file system of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.chaos.clients import (
    Artifacts,
    Commits,
    Files,
    Metrics,
    Objects,
    PgAdmin,
    Pipelines,
    Portal,
    Pushes,
    Rows,
)
from tests.chaos.writers import Writer
from tests.engine import start_engine
from tests.gitlab_double.image_build import double_image
from tests.gitlab_runner.image_build import runner_images
from tests.integration.desks import Desks, make_key
from tests.integration.disks import Disk, mounted
from tests.integration.pipelines import RunnerPlatform
from tests.integration.platform import DeployedPlatform, docker, free_ports

DISK_GIB = 40
LEFT_OUT = ("portainer", "portainer-agent")


@dataclass
class Victim(RunnerPlatform, Desks):
    """A machine that is service host and runner host, with GitLab's double and a development container."""

    def write_inventory(self) -> None:
        DeployedPlatform.write_inventory(self)
        self.keys = {name: make_key(self.folder / "keys", name) for name in ("alice", "bob")}
        settings = yaml.safe_load(self.settings_file.read_text(encoding="utf-8"))
        (port,) = free_ports(1)
        settings |= {
            "users": [
                {"name": name, "ssh_keys": [key.with_suffix(".pub").read_text().strip()]}
                for name, key in self.keys.items()
            ],
            "projects": [{"name": "demo", "members": {"alice": "developer", "bob": "developer"}}],
            "dev_containers": [{"user": "alice", "environment": "python", "port": port, "memory": "512m"}],
            "environments": ["python"],
            "runners": {"image": self.image, "memory": "200m", "jobs": 3, "image_builds": {"enabled": False}},
            "services": {
                **{name: {"enabled": False} for name in LEFT_OUT},
                "gitlab": {"image": self.image, "memory": "1g"},
                "gitlab-runner": {
                    "image": self.images["runner"],
                    "images": {"helper": self.images["helper"]},
                },
                "postgres-data": {"memory": "1g"},
                # On a single machine nothing else would need it.
                "registry": {"enabled": True},
            },
        }
        self.settings_file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        here = {"hosts": {"localhost": {"ansible_connection": "local"}}}
        hosts = {"service_host": here, "runner_hosts": here}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")

    def containers(self) -> dict[str, dict[str, Any]]:
        """Those of the services, and the development containers as ``dev-<name>``."""
        prefix = f"{self.name}-dev-"
        ids = docker("ps", "--all", "--quiet", "--filter", f"name=^/{prefix}").split()
        boxes = json.loads(docker("inspect", *ids)) if ids else []
        return super().containers() | {box["Name"].removeprefix(f"/{self.name}-"): box for box in boxes}

    def remove(self) -> None:
        """Leave nothing behind but the logs and the mount point of the data."""
        self.keep_logs()
        if boxes := self.containers():
            docker("rm", "--force", *(box["Id"] for box in boxes.values()))
        done = self.dap("destroy", "--data", "--yes")
        assert done.returncode == 0, done.stderr
        assert not self.containers()


@contextmanager
def deployed(folder: Path) -> Iterator[tuple[Victim, Disk]]:
    """The platform, deployed and verified, and the disk of its data."""
    base = start_engine(folder / "engine")
    victim = Victim(folder / "victim")
    victim.images = {**runner_images(base), "gitlab": double_image(base)}
    victim.write_inventory()
    with mounted(folder / "data.img", victim.data, DISK_GIB) as disk:
        try:
            victim.must("deploy")
            victim.configure_client()
            yield victim, disk
        finally:
            disk.make_room()
            victim.remove()


def writers(victim: Victim) -> list[Writer]:
    """One of each."""
    shared = [kind(victim) for kind in (Rows, Objects, Metrics, Artifacts, Pushes, Portal, PgAdmin)]
    projects = [victim.new_project(name) for name in ("commits", "pipelines")]
    return [*shared, Commits(projects[0]), Pipelines(projects[1], victim.image), Files(victim)]
