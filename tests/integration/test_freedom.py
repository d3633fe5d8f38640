"""What an operator may change: limits, environment, names, files of their own, and whole servers."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import psycopg
import pytest
import yaml

from dap.images.builds import resolve
from dap.services.manifest import find_folders, load_services
from tests.integration.platform import DeployedPlatform, docker

COMPOSE = Path(__file__).resolve().parents[2] / "compose"
SECONDS = 60
SCRATCH = "/tmp"  # noqa: S108  the container's own


@dataclass
class OwnServers:
    """A PostgreSQL server and an S3 server that the platform has nothing to do with.

    Attributes:
        name: prefix of the containers.
        address: of this machine, where containers of any network reach it.
    """

    name: str
    address: str
    password: str

    def start(self, folder: Path) -> None:
        """Start both; they are empty and forget everything when they stop."""
        references, _ = resolve(load_services(find_folders([COMPOSE])))
        secret = folder / "password"
        secret.write_text(self.password)
        user = folder / "user"
        user.write_text("ownkey")
        for file in (secret, user):
            file.chmod(0o444)
        common = ["--detach", "--read-only", "--cap-drop", "ALL", "--publish"]
        docker(
            *("run", "--name", f"{self.name}-pg", *common, f"{self.address}::5432"),
            *("--tmpfs", "/var/lib/postgresql:uid=10002", "--tmpfs", "/run/postgresql:uid=10002"),
            *("--tmpfs", SCRATCH, "--volume", f"{secret}:/run/secrets/admin_password:ro"),
            *("--env", "POSTGRES_PROFILE=small", "--env", "POSTGRES_TLS=off", references["postgres-service"]),
        )
        docker(
            *("run", "--name", f"{self.name}-s3", *common, f"{self.address}::9000"),
            *("--tmpfs", "/data:uid=10004", "--tmpfs", SCRATCH),
            *("--volume", f"{secret}:/run/secrets/root_password:ro"),
            *("--volume", f"{user}:/run/secrets/root_user:ro", references["minio"]),
        )
        self._await_postgres()

    def _await_postgres(self) -> None:
        """Wait for it, and make the role that the platform gets: no superuser."""
        make = "CREATE ROLE dap_admin LOGIN CREATEDB CREATEROLE PASSWORD 'given-to-the-platform'"
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                docker("exec", f"{self.name}-pg", "pg_isready", "-q", "-h", "127.0.0.1")
                docker("exec", f"{self.name}-pg", "psql", "-h", "/run/postgresql", "-qc", make, "postgres")
                return
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def port(self, which: str) -> int:
        """The published port of ``pg`` or ``s3``."""
        bindings = json.loads(docker("inspect", f"{self.name}-{which}"))[0]["NetworkSettings"]["Ports"]
        return next(int(binding[0]["HostPort"]) for binding in bindings.values() if binding)


@pytest.fixture(scope="module")
def servers(platform: DeployedPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServers]:
    """The servers, on images that the shared platform has had built."""
    gateway = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}").strip()
    own = OwnServers(f"dapt{secrets.token_hex(3)}-own", gateway, "of-the-site")
    try:
        own.start(tmp_path_factory.mktemp("own-servers"))
        yield own
    finally:
        docker("rm", "--force", "--volumes", f"{own.name}-pg", f"{own.name}-s3")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[DeployedPlatform]:
    """A second platform, not deployed yet."""
    second = DeployedPlatform(tmp_path)
    second.write_inventory()
    try:
        yield second
    finally:
        second.remove()


def settings_of(platform: DeployedPlatform) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(platform.settings_file.read_text())
    return found


def write_settings(
    platform: DeployedPlatform, services: dict[str, dict[str, object]], **changes: object
) -> None:
    """Change settings, those of ``services`` beside the ones that are there."""
    settings = settings_of(platform)
    every = {**settings["services"], **services}
    platform.settings_file.write_text(yaml.safe_dump(settings | changes | {"services": every}))


def refusal(platform: DeployedPlatform) -> str:
    """What ``dap check`` refuses, without the place of the settings file and of the program."""
    done = platform.dap("check")
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr.replace(str(platform.settings_file), "platform.yml")


def test_platform_lives_on_servers_of_the_operator(other: DeployedPlatform, servers: OwnServers) -> None:
    ldap = f"ldap.{other.name}.test"
    names = {"pg.example.test": servers.address, ldap: "192.0.2.7"}
    postgres = {
        "url": f"postgresql://pg.example.test:{servers.port('pg')}?sslmode=disable",
        "user": "dap_admin",
    }
    store = {"url": f"http://{servers.address}:{servers.port('s3')}", "user": "ownkey"}
    write_settings(
        other,
        extra_hosts=names,
        services={
            "postgres-service": {"external": postgres},
            "postgres-data": {"external": postgres},
            "minio": {"external": store},
            "pgadmin": {"enabled": False},
        },
    )

    keys = ("postgres-data.admin_password", "postgres-service.admin_password", "minio.root_password")
    told = refusal(other)
    for key in keys:
        assert f"({key}) is not known" in told
        other.must("secret", "set", key, stdin="wrong-password")
    told = refusal(other)
    assert told.count("is refused with the password that is known") == 2
    assert told.count("is refused with the secret key that is known") == 1
    for server in ("postgres-data", "postgres-service"):
        other.must("secret", "set", f"{server}.admin_password", stdin="given-to-the-platform")
    other.must("secret", "set", "minio.root_password", stdin=servers.password)

    # Verification logs a run with an artifact: database and bucket are the operator's.
    other.must("deploy")
    assert "192.0.2.7" in docker("exec", f"{other.name}-portal", "getent", "hosts", ldap)
    assert f"192.0.2.7 {ldap}" in Path("/etc/hosts").read_text()
    assert set(other.containers()) == {"mlflow", "nginx-proxy", "portal"}
    client = boto3.client(
        "s3",
        endpoint_url=store["url"],
        aws_access_key_id="ownkey",
        aws_secret_access_key=servers.password,
        region_name="us-east-1",
    )
    assert {bucket["Name"] for bucket in client.list_buckets()["Buckets"]} >= {"mlflow", "demo"}
    user, password = other.login("Project demo: database")
    with psycopg.connect(
        host=servers.address, port=servers.port("pg"), dbname="demo", user=user, password=password
    ) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("demo",)
    assert other.deploy() == 0
    other.must("destroy")
    assert ldap not in Path("/etc/hosts").read_text()


def test_service_is_shaped_without_a_change_to_the_product(platform: DeployedPlatform) -> None:
    folder = platform.inventory / "compose" / "portal"
    before = settings_of(platform)
    portal = {"memory": "96m", "pids": 32, "environment": {"GREETING": "hello"}}
    try:
        write_settings(platform, services={"portal": portal})
        folder.mkdir(parents=True)
        override = {"services": {"portal": {"labels": {"owner": "{{ platform.name }}"}}}}
        (folder / "compose.override.yaml.j2").write_text(yaml.safe_dump(override))
        (folder / "nginx.conf.j2").write_text(
            'location = /team.txt { return 200 "of {{ platform.name }}"; }\n'
        )
        platform.deploy()
        box = platform.containers()["portal"]
        assert box["HostConfig"]["Memory"] == 96 * 1024**2
        assert box["HostConfig"]["PidsLimit"] == 32
        assert "GREETING=hello" in box["Config"]["Env"]
        assert box["Config"]["Labels"]["owner"] == platform.name
        with httpx.Client(verify=platform.trust) as client:
            assert client.get(f"{platform.url()}/team.txt").text == f"of {platform.name}"
    finally:
        # The next deploy brings it back.
        shutil.rmtree(folder.parent, ignore_errors=True)
        platform.settings_file.write_text(yaml.safe_dump(before))


def test_image_that_cannot_be_had_refuses_or_is_left_out(platform: DeployedPlatform) -> None:
    before = settings_of(platform)
    image = "127.0.0.1:9/nowhere/portal:1"
    try:
        write_settings(platform, services={"pgadmin": {"image": image}})
        lines = refusal(platform).splitlines()
        assert lines[0].startswith("✗ Preflight (")
        assert lines[1] == "error: preflight found 1 error; nothing was changed:"
        assert lines[2] == f"  platform.yml: services.pgadmin = {image}"
        assert lines[3].startswith("    is an image that localhost neither has nor can pull: 127.0.0.1:9 ")
        assert lines[4] == (
            "    load it there (docker load), set mirrors.registry or proxy,"
            " or write services.pgadmin.enabled: auto"
        )
        write_settings(platform, services={"pgadmin": {"image": image, "enabled": "auto"}})
        summary = platform.must("deploy", "--no-verify")
        assert f"Left out:      pgadmin (its image {image} cannot be had: " in summary
        assert "pgadmin" not in platform.containers()
        status = platform.must("status")
        assert f"pgadmin (its image {image} cannot be had: " in status
        with httpx.Client(verify=platform.trust) as client:
            assert f"its image {image} cannot be had" in client.get(platform.url()).text
    finally:
        platform.settings_file.write_text(yaml.safe_dump(before))
        platform.deploy()
    assert "pgadmin" in platform.containers()
