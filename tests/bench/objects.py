"""S3 under the platform's name beside a MinIO that clients reach without a proxy."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from tests.bench.measure import Goal, Number, in_turn
from tests.engine import start_engine
from tests.image_build import build, digest_of, is_built
from tests.integration.platform import DeployedPlatform, docker, free_ports

GROUP = "S3"
SECONDS, SECONDS_FULL = 2, 10
MIB = 1024 * 1024
LEAST = {"put": 0.9, "get": 0.85}
USER = 10004
CLIENT = Path(__file__).parent / "s3_client"
FROM_ENVIRONMENT = ("GOPROXY", "GOSUMDB", "GOFLAGS")


@dataclass(frozen=True)
class Store:
    """A bucket, and how a client reaches it.

    Attributes:
        address: host and port, which speak TLS.
    """

    address: str
    bucket: str
    user: str
    password: str
    ca_file: Path

    def rates(self, image: str, size: int, clients: int, seconds: float) -> dict[str, float]:
        """How many objects of a size some clients together put, and then get, in a second."""
        login = {"AWS_ACCESS_KEY_ID": self.user, "AWS_SECRET_ACCESS_KEY": self.password}
        command = ["docker", "run", "--rm", "--network", "host", "--volume", f"{self.ca_file}:/ca.crt:ro"]
        command += ["--env", "SSL_CERT_FILE=/ca.crt", *(word for name in login for word in ("--env", name))]
        command += [image, "-endpoint", self.address, "-bucket", self.bucket, "-size", str(size)]
        command += ["-clients", str(clients), "-seconds", str(seconds)]
        done = subprocess.run(command, env=os.environ | login, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, float] = json.loads(done.stdout)
        return found


def measure(platform: DeployedPlatform, rounds: int, full: bool) -> Iterator[Number]:
    """Large objects by one client and by several, and small ones by several."""
    image, seconds = _client_image(), SECONDS_FULL if full else SECONDS
    login = platform.login("Project demo: bucket")
    ours = Store(f"s3.{platform.domain}:{platform.ports['https']}", "demo", *login, platform.ca_file)
    with _direct(platform) as theirs:
        for size, clients, unit, share in (
            (64 * MIB, 1, "MiB/s", 64),
            (64 * MIB, 8, "MiB/s", 64),
            (16384, 8, "objects/s", 1),
        ):
            timed = partial(Store.rates, image=image, size=size, clients=clients, seconds=seconds)
            values, others = in_turn(rounds, partial(timed, ours), partial(timed, theirs))
            of = f"{size // MIB} MiB" if size >= MIB else f"{size // 1024} KiB"
            for what, least in LEAST.items():
                yield Number(
                    GROUP,
                    f"{what} of {of}, {clients} client{'s' if clients > 1 else ''}",
                    unit,
                    [share * one[what] for one in values],
                    "MinIO's own TLS",
                    [share * one[what] for one in others],
                    Goal("ratio", at_least=least),
                )
    left = platform.s3("demo")
    for entry in left.list_objects_v2(Bucket="demo", Prefix="bench/")["Contents"]:
        left.delete_object(Bucket="demo", Key=entry["Key"])


def _client_image() -> str:
    """The image of a client that a processor has time to spare for: MinIO's own library, in Go."""
    with tempfile.TemporaryDirectory() as folder:
        base = start_engine(Path(folder))
    reference = f"dapt/s3-client:{digest_of(base, sorted(CLIENT.iterdir()))}"
    if not is_built(reference):
        build(reference, CLIENT, base, variables=FROM_ENVIRONMENT)
    return reference


@contextlib.contextmanager
def _direct(platform: DeployedPlatform) -> Iterator[Store]:
    """A server of the same image and limits, on the same disk, that ends TLS itself."""
    box = platform.containers()["minio"]
    name, (port,) = f"{platform.name}-bench-minio", free_ports(1)
    folder, user, password = platform.data / "bench-minio", "bench", secrets.token_hex(20)
    files = {
        "certs/public.crt": (platform.root / "nginx-proxy/tls/tls.crt").read_bytes(),
        "certs/private.key": (platform.root / "nginx-proxy/tls/tls.key").read_bytes(),
        "secrets/root_user": user.encode(),
        "secrets/root_password": password.encode(),
    }
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "data").mkdir()
    for made in (folder, *folder.rglob("*")):
        shutil.chown(made, USER, USER)
    try:
        docker(
            *("run", "--detach", "--name", name, "--publish", f"127.0.0.1:{port}:9000", "--read-only"),
            *("--memory", str(box["HostConfig"]["Memory"]), "--tmpfs", "/tmp:mode=1777"),  # noqa: S108  the container's own
            *("--volume", f"{folder}/data:/data", "--volume", f"{folder}/certs:/certs:ro"),
            *("--volume", f"{folder}/secrets:/run/secrets:ro", "--entrypoint", "entrypoint"),
            *(box["Config"]["Image"], "server", "/data", "--address", ":9000", "--certs-dir", "/certs"),
        )
        store = Store(f"s3.{platform.domain}:{port}", "bench", user, password, platform.ca_file)
        _make_bucket(store, name)
        yield store
    finally:
        docker("rm", "--force", "--volumes", name)
        shutil.rmtree(folder)


def _make_bucket(store: Store, container: str) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=f"https://{store.address}",
        aws_access_key_id=store.user,
        aws_secret_access_key=store.password,
        region_name="us-east-1",
        verify=str(store.ca_file),
    )
    deadline = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket=store.bucket)
            return
        except (BotoCoreError, ClientError):
            assert time.monotonic() < deadline, docker("logs", container)
            time.sleep(0.2)
