"""Secrets are in the secrets folder, in the files of the services that use them, and nowhere else."""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform import DeployedPlatform, docker
from tests.integration.secret_values import SecretValues, files_below, secret_files
from tests.integration.small import change_settings, remove_own_service, write_own_service

SYSLOG = Path("/dev/log")
ELSEWHERE = [Path("/", name) for name in ("etc", "usr/local", "var/log", "run", "srv", "root", "tmp")]


@pytest.fixture
def values(platform: DeployedPlatform) -> SecretValues:
    """Every secret of the platform."""
    found = SecretValues.of(platform)
    assert len(set(found.names.values())) >= 10
    return found


def store_time(platform: DeployedPlatform) -> float:
    """When the platform's first secret was made, in seconds since the epoch."""
    return (platform.data / ".platform-id").stat().st_mtime - 60


def test_what_is_looked_for_would_be_found(platform: DeployedPlatform, values: SecretValues) -> None:
    found = values.in_files(secret_files(platform))
    assert len(found) >= 8
    assert {"minio.root_password", "postgres-data.admin_password"} <= set().union(*found.values())
    assert values.in_output(["cat", str(platform.secrets / "secrets.yml")]) >= {"minio.root_password"}


def test_no_secret_is_in_what_the_engine_tells(platform: DeployedPlatform, values: SecretValues) -> None:
    boxes = platform.containers()
    images = sorted({box["Config"]["Image"] for box in boxes.values()})
    places = {
        "containers": ["inspect", *[box["Id"] for box in boxes.values()]],
        "network": ["network", "inspect", platform.name],
        "images": ["image", "inspect", *images],
        **{f"history of {image}": ["history", "--no-trunc", image] for image in images},
        **{f"log of {name}": ["logs", box["Id"]] for name, box in boxes.items()},
    }
    found = {place: values.in_output(["docker", *arguments]) for place, arguments in places.items()}
    assert {place: names for place, names in found.items() if names} == {}


def test_no_process_has_a_secret_in_arguments_or_environment(
    platform: DeployedPlatform, values: SecretValues
) -> None:
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            for file in ("cmdline", "environ"):
                try:
                    names = values.in_bytes((process / file).read_bytes())
                except OSError:
                    continue
                if names:
                    found[f"{process.name} {file}"] = names
    assert found == {}


def test_no_other_file_of_the_platform_has_a_secret(platform: DeployedPlatform, values: SecretValues) -> None:
    own = secret_files(platform)
    rendered = [path for path in files_below(platform.root) if path not in own]
    kept = {platform.secrets / "secrets.yml", *platform.secrets.rglob("*.key")}
    here = [path for path in files_below(platform.folder) if path not in kept]
    assert len(rendered) >= 20 and any(path.suffix == ".log" for path in here)
    assert values.in_files([*rendered, *here]) == {}


def test_secret_files_are_readable_by_their_service_only(platform: DeployedPlatform) -> None:
    files = secret_files(platform)
    users = {
        name: int(box["Config"]["User"].partition(":")[0]) for name, box in platform.containers().items()
    }
    assert len(files) >= 8
    for path in files:
        state = path.stat()
        assert state.st_mode & 0o777 == 0o400, path
        service = path.relative_to(platform.root).parts[0]
        assert state.st_uid == users.get(service, state.st_uid) >= 1000, path


def test_no_file_elsewhere_has_a_secret(platform: DeployedPlatform, values: SecretValues) -> None:
    files = files_below(
        *ELSEWHERE,
        Path("/var/lib/docker/containers"),
        without=[platform.folder, platform.root],
        since=store_time(platform),
    )
    assert files
    assert values.in_files(files) == {}


def test_data_hold_hashes_and_no_passwords(platform: DeployedPlatform, values: SecretValues) -> None:
    files = files_below(platform.data)
    assert len(files) > 1000
    found = values.in_files(files)
    # MinIO has to know the secret keys themselves to check signatures; the documentation says so.
    system = platform.data / "minio" / "data" / ".minio.sys"
    # What is written anew there goes through the other folder, and stays in it for a while.
    keys = (str(system / "config" / "iam"), str(system / "tmp"))
    others = {path: names for path, names in found.items() if not path.startswith(keys)}
    assert others == {}
    assert {name.rpartition(".")[2] for names in found.values() for name in names} == {
        "s3_access_key",
        "s3_secret_key",
    }


def layers(image: str) -> Iterator[Any]:
    """Every file of an image as the engine exports it: its layers, and what it says about itself."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as process:
        assert process.stdout
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                if member.isfile():
                    yield archive.extractfile(member)
        process.stdout.read()
    assert process.returncode == 0


def secrets_in_image(image: str, values: SecretValues) -> set[str]:
    """The secrets in all layers of an image."""
    found, parts = set(), 0
    for part in layers(image):
        parts += 1
        rest = b""
        while chunk := part.read(8 * 1024 * 1024):
            found |= values.in_bytes(rest + chunk)
            # What stands across the border of two chunks.
            rest = chunk[-200:]
    assert parts >= 3
    return found


def test_no_image_that_is_younger_than_the_secrets_has_one(
    platform: DeployedPlatform, values: SecretValues
) -> None:
    write_own_service(platform, "own", build=f"echo {secrets.token_hex(8)} > /nonce")
    try:
        platform.must("deploy", "--no-verify")
        images = {box["Config"]["Image"] for box in platform.containers().values()}
        ages = {
            image: datetime.fromisoformat(
                docker("image", "inspect", "--format", "{{.Created}}", image).strip()
            )
            for image in images
        }
        young = {image for image, created in ages.items() if created.timestamp() > store_time(platform)}
        assert any(image.startswith("dap/own:") for image in young)
        assert {image: names for image in young if (names := secrets_in_image(image, values))} == {}
    finally:
        remove_own_service(platform, "own")


# --- while a deploy runs ------------------------------------------------------------------------------------


class Watch:
    """What is seen of all processes, and what is sent to the system's log, for as long as something runs."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.rounds = 0
        self._ended = threading.Event()

    def processes(self) -> None:
        """Look at the arguments and the environment of every process, again and again."""
        while not self._ended.is_set():
            self.rounds += 1
            for process in Path("/proc").iterdir():
                if process.name.isdigit():
                    for file in ("cmdline", "environ"):
                        try:
                            self.seen.add((process / file).read_bytes())
                        except OSError:
                            continue
            time.sleep(0.02)

    def system_log(self, receiver: socket.socket) -> None:
        """Take what Ansible's modules tell the system's log about their parameters."""
        receiver.settimeout(0.2)
        while not self._ended.is_set():
            try:
                self.seen.add(receiver.recv(256 * 1024))
            except TimeoutError:
                continue

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch as long as the block lasts."""
        threads = [threading.Thread(target=self.processes)]
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver:
            own_log = not SYSLOG.exists()
            if own_log:
                receiver.bind(str(SYSLOG))
                threads.append(threading.Thread(target=self.system_log, args=[receiver]))
            for thread in threads:
                thread.start()
            try:
                yield
            finally:
                self._ended.set()
                for thread in threads:
                    thread.join()
                if own_log:
                    SYSLOG.unlink()


def test_no_secret_passes_by_while_a_deploy_makes_and_spreads_new_ones(platform: DeployedPlatform) -> None:
    before = change_settings(
        platform,
        projects=[{"name": "demo"}, {"name": "other-team"}, {"name": "passing-by"}],
        users=[{"name": "grace"}],
    )
    watch = Watch()
    try:
        with watch.watching():
            output = platform.must("deploy", "--diff", "--no-verify")
        values = SecretValues.of(platform)
        assert "project.passing-by.database" in values.names.values()
        assert "role passing_by created" in output
        assert values.in_bytes(output.encode()) == set()
        for log in platform.secrets.glob("logs/*.log"):
            assert values.in_bytes(log.read_bytes()) == set(), log
        seen = b"\n".join(watch.seen)
        # The watch saw the deploy, and what modules tell the system's log.
        assert watch.rounds > 50 and b"dap.hosts.playbooks" in seen and b"compose" in seen
        assert values.in_bytes(seen) == set()
        left = {
            str(path): json.dumps(sorted(names))
            for path, names in values.in_files(
                files_below(*ELSEWHERE, without=[platform.folder, platform.root], since=time.time() - 600)
            ).items()
        }
        assert left == {}
    finally:
        platform.settings_file.write_text(before, encoding="utf-8")
