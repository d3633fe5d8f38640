"""A platform that is really deployed on this machine, for the length of a test run.

It has names, ports and folders of its own, so that it can stand beside an operator's platform.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import boto3
import psycopg
import yaml

Connection = psycopg.Connection[tuple[Any, ...]]
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
KEPT_LOGS = ROOT / ".cache" / "test-logs"


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on, and that no connection of a client gets by chance.

    From the kernel's own choice a client may take one while the container that has it is started again.
    """
    found: list[int] = []
    while len(found) < count:
        port = 10_000 + secrets.randbelow(20_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            found += [port] if port not in found else []
    return found


Made = TypeVar("Made", bound="DeployedPlatform")


@contextlib.contextmanager
def from_nothing(made: Made) -> Iterator[Made]:
    """A platform that is deployed, not verified, and removed in the end; its inventory is written."""
    try:
        made.must("deploy", "--no-verify")
        yield made
    finally:
        made.remove()


def docker(*arguments: str) -> str:
    """Standard output of a docker command that must succeed."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class DeployedPlatform:
    """An inventory of its own and the program to work on it.

    Attributes:
        folder: holds inventory and secrets.
        name: prefix of containers, network and Compose project.
    """

    folder: Path
    name: str = field(default_factory=lambda: f"dapt{secrets.token_hex(3)}")
    ports: dict[str, int] = field(default_factory=dict)
    known_logins: tuple[bytes, dict[str, tuple[str, str]]] = field(default=(b"", {}), repr=False)

    @property
    def domain(self) -> str:
        return f"{self.name}.localhost"

    @property
    def inventory(self) -> Path:
        return self.folder / "inventories" / self.name

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets" / self.name

    @property
    def root(self) -> Path:
        return Path("/opt") / self.name

    @property
    def data(self) -> Path:
        return Path("/var/lib") / self.name

    @property
    def ca_file(self) -> Path:
        return self.secrets / "ca.crt"

    @property
    def trust(self) -> ssl.SSLContext:
        """What a client trusts who was told of the platform's CA."""
        return ssl.create_default_context(cafile=str(self.ca_file))

    @property
    def settings_file(self) -> Path:
        return self.inventory / "group_vars" / "all" / "platform.yml"

    @property
    def environment(self) -> dict[str, str]:
        """The environment that makes the program work on this inventory."""
        return os.environ | {
            "DAP_INVENTORIES": str(self.inventory.parent),
            "DAP_SECRETS": str(self.secrets.parent),
            "DAP_INVENTORY": self.name,
        }

    def url(self, service: str = "") -> str:
        """The address of a web name; of the portal without one."""
        host = f"{service}.{self.domain}" if service else self.domain
        return f"https://{host}:{self.ports['https']}"

    def write_inventory(self) -> None:
        """Write the files that an operator would write."""
        self.ports = dict(zip(["http", "https", "postgres", "ssh"], free_ports(4), strict=True))
        self.settings_file.parent.mkdir(parents=True)
        settings = {
            "platform_name": self.name,
            "domain": self.domain,
            "listen_address": "127.0.0.1",
            "paths": {"root": str(self.root), "data": str(self.data)},
            "ports": self.ports,
            "projects": [{"name": "demo"}, {"name": "other-team"}],
            # Its image is far too large for every platform of a test; it has tests of its own.
            "services": {"gitlab": {"enabled": False}},
        }
        self.settings_file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        hosts = {"service_host": {"hosts": {"localhost": {"ansible_connection": "local"}}}}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")

    def dap(
        self, *arguments: str, timeout: float = 1500, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run the program as an operator would, with ``stdin`` as its input."""
        return subprocess.run(
            [str(BIN / "dap"), *arguments],
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def must(self, *arguments: str, stdin: str = "") -> str:
        """Run the program; its standard output. Fails the test with all it said if it failed."""
        done = self.dap(*arguments, stdin=stdin)
        assert done.returncode == 0, (
            f"dap {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout

    def deploy(self) -> int:
        """Deploy without verification; the number of changes."""
        found = re.match(r"(\d+) changes?\n", self.must("deploy", "--no-verify"))
        assert found
        return int(found.group(1))

    def login(self, what: str) -> tuple[str, str]:
        """User and secret of a line of ``dap credentials``, asked again when its sources have changed."""
        now = (self.secrets / "secrets.yml").read_bytes() + self.settings_file.read_bytes()
        if self.known_logins[0] != now:
            entries = json.loads(self.must("credentials", "--json"))
            self.known_logins = now, {entry["what"]: (entry["user"], entry["secret"]) for entry in entries}
        return self.known_logins[1][what]

    def postgres(self, database: str, user: str, password: str, ca_file: Path | None = None) -> Connection:
        """A connection to a database of ``postgres-data`` as users make it: over TLS, the server verified."""
        return psycopg.connect(
            host=f"postgres-data.{self.domain}",
            port=self.ports["postgres"],
            dbname=database,
            user=user,
            password=password,
            sslmode="verify-full",
            sslrootcert=str(ca_file or self.ca_file),
        )

    def s3(self, project: str, secret: str | None = None, **more: Any) -> Any:
        """A boto3 client with a project's key, or with another secret; ``more`` is what boto3 is told."""
        user, right = self.login(f"Project {project}: bucket")
        return boto3.client(
            "s3",
            endpoint_url=self.url("s3"),
            aws_access_key_id=user,
            aws_secret_access_key=secret or right,
            region_name="us-east-1",
            verify=str(self.ca_file),
            **more,
        )

    def containers(self) -> dict[str, dict[str, Any]]:
        """``docker inspect`` of every container, by service."""
        label = f"label=com.docker.compose.project={self.name}"
        ids = docker("ps", "--all", "--quiet", "--filter", label).split()
        inspected = json.loads(docker("inspect", *ids)) if ids else []
        return {entry["Config"]["Labels"]["dap.service"]: entry for entry in inspected}

    def container_ids(self) -> dict[str, str]:
        """Id of every container, by service; another one after it was replaced."""
        return {name: box["Id"] for name, box in self.containers().items()}

    def starts(self) -> dict[str, tuple[str, str]]:
        """Id and start of every container, by service; another one after it was replaced or started again."""
        return {name: (box["Id"], box["State"]["StartedAt"]) for name, box in self.containers().items()}

    def keep_logs(self) -> Path:
        """Save what the services and the program have said; the folder."""
        kept = KEPT_LOGS / self.name
        kept.mkdir(parents=True, exist_ok=True)
        for service in self.containers():
            with (kept / f"{service}.log").open("wb") as log:
                subprocess.run(
                    ["docker", "logs", f"{self.name}-{service}"], stdout=log, stderr=log, check=False
                )
        if (self.secrets / "logs").is_dir():
            shutil.copytree(self.secrets / "logs", kept, dirs_exist_ok=True)
        return kept

    def remove(self) -> None:
        """Leave nothing behind but the logs."""
        self.keep_logs()
        # Nothing is lost by an end without a warning here, and all of them take their time otherwise.
        if containers := self.containers():
            docker("rm", "--force", *(box["Id"] for box in containers.values()))
        done = self.dap("destroy", "--data", "--yes")
        assert done.returncode == 0, done.stderr
        assert not self.containers()
        assert not self.root.exists()
        assert not self.data.exists()
