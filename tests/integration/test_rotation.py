"""New values of secrets in the store and in the services together: who starts anew, who may still log in."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import httpx
import psycopg
import pytest
import yaml
from botocore.exceptions import ClientError

from tests.integration.platform import BIN, Connection, DeployedPlatform, docker

PATIENCE_S = 60
# One of each kind of login. A wrong password costs a try at places that slow down guessing.
KEYS = (
    "minio.root_password",
    "mlflow.database.mlflow",
    "pgadmin.admin_password",
    "postgres-data.admin_password",
    "postgres-service.admin_password",
    "project.demo.database",
    "project.demo.s3_secret_key",
    "user.admin.password",
)


class Logins:
    """Tries passwords where people and services use them."""

    def __init__(self, platform: DeployedPlatform) -> None:
        self.platform = platform

    @property
    def stored(self) -> dict[str, str]:
        """The secrets by key."""
        document = yaml.safe_load((self.platform.secrets / "secrets.yml").read_text(encoding="utf-8"))
        values: dict[str, str] = document["values"]
        return values

    @property
    def previous(self) -> dict[str, list[str]]:
        """The values before, of rotations that are not finished."""
        document = yaml.safe_load((self.platform.secrets / "secrets.yml").read_text(encoding="utf-8"))
        values: dict[str, list[str]] = document.get("previous", {})
        return values

    def accepts(self, key: str, password: str) -> bool:
        """Whether a password is accepted where the secret is used; any other trouble is an error."""
        ways: dict[str, Callable[[str], bool]] = {
            "minio.root_password": lambda word: self._s3(self.stored["minio.root_user"], word),
            "mlflow.database.mlflow": lambda word: self._inside("mlflow", "mlflow", word),
            "pgadmin.admin_password": self._pgadmin,
            "postgres-data.admin_password": lambda word: self._data("postgres", word),
            "postgres-service.admin_password": lambda word: self._inside("postgres", "postgres", word),
            "project.demo.database": lambda word: self._data("demo", word),
            "project.demo.s3_secret_key": lambda word: self._s3(
                self.stored["project.demo.s3_access_key"], word, "demo"
            ),
            "user.admin.password": self._wall,
        }
        return ways[key](password)

    def _data(self, user: str, password: str) -> bool:
        return connects(lambda: self.platform.postgres("demo", user, password))

    def _inside(self, database: str, user: str, password: str) -> bool:
        networks = self.platform.containers()["postgres-service"]["NetworkSettings"]["Networks"]
        address = networks[self.platform.name]["IPAddress"]
        return connects(lambda: psycopg.connect(host=address, dbname=database, user=user, password=password))

    def _s3(self, access_key: str, secret_key: str, bucket: str = "") -> bool:
        client = boto3.client(
            "s3",
            endpoint_url=self.platform.url("s3"),
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name="us-east-1",
            verify=str(self.platform.ca_file),
        )
        try:
            client.list_objects_v2(Bucket=bucket) if bucket else client.list_buckets()
        except ClientError as error:
            assert error.response["Error"]["Code"] == "SignatureDoesNotMatch"
            return False
        return True

    def _wall(self, password: str) -> bool:
        answer = httpx.get(
            self.platform.url("mlflow") + "/version",
            auth=("admin", password),
            verify=self.platform.trust,
        )
        assert answer.status_code in (200, 401), answer.status_code
        return answer.status_code == 200

    def _pgadmin(self, password: str) -> bool:
        with self.pgadmin_session(password) as client:
            return logged_in(client)

    @contextlib.contextmanager
    def pgadmin_session(self, password: str) -> Iterator[httpx.Client]:
        """A browser that has tried to log in to pgAdmin."""
        url = self.platform.url("pgadmin")
        with httpx.Client(base_url=url, verify=self.platform.trust, timeout=30) as client:
            page = client.get("/login").raise_for_status()
            token = re.search(r'"csrfToken": ?"([^"]+)"', page.text)
            assert token
            form = {"email": f"admin@{self.platform.domain}", "password": password, "csrf_token": token[1]}
            client.post(
                "/authenticate/login",
                data=form | {"internal_button": "Login"},
                headers={"Referer": url + "/login"},
            )
            yield client


def connects(connect: Callable[[], Connection]) -> bool:
    """Whether PostgreSQL accepts the password; any other trouble is an error."""
    try:
        connect().close()
    except psycopg.OperationalError as error:
        if "password authentication failed" in str(error):
            return False
        raise
    return True


def logged_in(client: httpx.Client) -> bool:
    return client.get("/browser/").status_code == 200


def replaced(platform: DeployedPlatform, before: dict[str, str]) -> set[str]:
    """Services whose container is another one."""
    return {name for name, identifier in platform.container_ids().items() if identifier != before.get(name)}


@pytest.fixture
def logins(platform: DeployedPlatform) -> Logins:
    return Logins(platform)


# --- all at once -----------------------------------------------------------------------------------------

# As pgAdmin does it: AES in CFB8 with the login's password as the key, the initialization vector in front.
SAVED_PASSWORD = """
import base64, os, sqlite3, sys
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.decrepit.ciphers.modes import CFB8
word, verb = sys.stdin.readline().strip(), sys.argv[1]
database = sqlite3.connect("/var/lib/pgadmin/pgadmin4.db")
key = word.encode()
if verb == "save":
    vector = os.urandom(16)
    crypt = Cipher(algorithms.AES(key), CFB8(vector)).encryptor()
    value = base64.b64encode(vector + crypt.update(b"people's own") + crypt.finalize()).hex()
    database.execute("UPDATE server SET password = ? WHERE name = 'postgres-data'", (value,))
else:
    (value,) = database.execute("SELECT password FROM server WHERE name = 'postgres-data'").fetchone()
    raw = base64.b64decode(bytes.fromhex(value))
    crypt = Cipher(algorithms.AES(key), CFB8(raw[:16])).decryptor()
    sys.stdout.buffer.write(crypt.update(raw[16:]) + crypt.finalize())
    database.execute("UPDATE server SET password = NULL WHERE name = 'postgres-data'")
database.commit()
"""


def saved_password(platform: DeployedPlatform, verb: str, login_password: str) -> str:
    """Save a password in an entry of pgAdmin's administrator, or take it out again."""
    argv = ["docker", "exec", "-i", f"{platform.name}-pgadmin", "python", "-c", SAVED_PASSWORD, verb]
    done = subprocess.run(argv, input=login_password, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_get_new_values_and_only_who_must_starts_anew(platform: DeployedPlatform, logins: Logins) -> None:
    old, before = logins.stored, platform.container_ids()
    listed = json.loads(platform.must("rotate", "--list", "--json"))
    restarting = {service for entry in listed for service in entry["restarts"]}
    saved_password(platform, "save", old["pgadmin.admin_password"])
    with logins.pgadmin_session(old["pgadmin.admin_password"]) as session:
        assert logged_in(session)

        # Verified at its end, so MLflow answers.
        output = platform.must("rotate", "all")

        assert not logged_in(session)
    new = logins.stored
    assert {key for key in new if new[key] != old[key]} == {entry["secret"] for entry in listed}
    assert restarting == {"minio", "mlflow"}
    assert replaced(platform, before) == restarting
    assert {key: logins.accepts(key, new[key]) for key in KEYS} == dict.fromkeys(KEYS, True)
    assert {key: logins.accepts(key, old[key]) for key in KEYS} == dict.fromkeys(KEYS, False)
    assert saved_password(platform, "take", new["pgadmin.admin_password"]) == "people's own"
    assert "New values, in use everywhere now:\n  minio.root_password\n" in output
    assert not [value for value in (*old.values(), *new.values()) if value in output]
    assert logins.previous == {}
    assert platform.deploy() == 0


# --- the proxy -------------------------------------------------------------------------------------------


class SlowDownload(threading.Thread):
    """Reads an object slowly until it may hurry: MinIO ends downloads that nobody reads on."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.body = body
        self.read = 0
        self.hurry = threading.Event()

    def run(self) -> None:
        while part := self.body.read(64 * 1024):
            self.read += len(part)
            self.hurry.wait(0.25)


def test_new_logins_end_no_connection(platform: DeployedPlatform, logins: Logins) -> None:
    settings = platform.settings_file.read_text(encoding="utf-8")
    before, old = platform.container_ids(), logins.stored["user.admin.password"]
    size = 64 * 1024 * 1024
    client = platform.s3("demo")
    client.put_object(Bucket="demo", Key="large", Body=bytes(size))
    download = SlowDownload(client.get_object(Bucket="demo", Key="large")["Body"])
    download.start()
    try:
        platform.settings_file.write_text(settings + "users: [{name: newcomer}]\n", encoding="utf-8")
        platform.must("rotate", "--no-verify", "user.admin.password")
        before_the_end = download.read
        download.hurry.set()
        download.join(PATIENCE_S)
        newcomer = httpx.get(
            platform.url("mlflow") + "/version",
            auth=("newcomer", logins.stored["user.newcomer.password"]),
            verify=platform.trust,
        )
        accepted = [
            logins.accepts("user.admin.password", word)
            for word in (logins.stored["user.admin.password"], old)
        ]
    finally:
        download.hurry.set()
        platform.settings_file.write_text(settings, encoding="utf-8")
        client.delete_object(Bucket="demo", Key="large")
        platform.deploy()
    assert before_the_end < download.read == size
    assert newcomer.status_code == 200
    assert accepted == [True, False]
    assert replaced(platform, before) == set()


# --- killed ----------------------------------------------------------------------------------------------


def is_stored(platform: DeployedPlatform) -> bool:
    return "\nprevious:\n" in (platform.secrets / "secrets.yml").read_text(encoding="utf-8")


def job_runs(platform: DeployedPlatform) -> bool:
    return bool(docker("ps", "--quiet", "--filter", f"name={platform.name}-toolbox-run").strip())


def command_runs(platform: DeployedPlatform) -> bool:
    return "set_password.py" in docker("top", f"{platform.name}-pgadmin")


def kill_rotation(platform: DeployedPlatform, arrived: Callable[[DeployedPlatform], bool]) -> None:
    """Start a rotation and end it without a warning as soon as it has arrived at a point."""
    environment = os.environ | {
        "DAP_INVENTORIES": str(platform.inventory.parent),
        "DAP_SECRETS": str(platform.secrets.parent),
        "DAP_INVENTORY": platform.name,
    }
    argv = [str(BIN / "dap"), "rotate", "--no-verify", *KEYS]
    with subprocess.Popen(
        argv, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        end = time.monotonic() + 10 * PATIENCE_S
        while not arrived(platform):
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)


def eventually_accepted(logins: Logins, key: str, passwords: list[str]) -> bool:
    """Whether one of the passwords is accepted, as soon as the service answers.

    A job that the killed rotation has started goes on, and may change the password between two tries.
    """
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            if any(logins.accepts(key, password) for password in passwords):
                return True
        except (psycopg.OperationalError, httpx.HTTPError, ClientError, AssertionError, KeyError):
            if time.monotonic() > end:
                raise
        if time.monotonic() > end:
            return False
        time.sleep(0.5)


def test_killed_rotation_locks_nobody_out_and_the_next_deploy_finishes_it(
    platform: DeployedPlatform, logins: Logins
) -> None:
    old = {key: logins.stored[key] for key in KEYS}
    kept: list[dict[str, str]] = []
    for arrived in (is_stored, job_runs, command_runs):
        kill_rotation(platform, arrived)
        stored, previous = logins.stored, logins.previous
        assert previous == {key: [old[key]] for key in KEYS}
        kept.append({key: stored[key] for key in KEYS})
        accepted = {key: eventually_accepted(logins, key, [stored[key], *previous[key]]) for key in KEYS}
        assert accepted == dict.fromkeys(KEYS, True)
    # Started again, it goes on with the values that it has made already.
    assert kept[0] == kept[1] == kept[2]
    listed = json.loads(platform.must("rotate", "--list", "--json"))
    assert {entry["secret"] for entry in listed if entry["pending"]} == {*KEYS}

    platform.deploy()

    assert logins.previous == {}
    assert {key: logins.stored[key] for key in KEYS} == kept[0]
    assert {key: logins.accepts(key, kept[0][key]) for key in KEYS} == dict.fromkeys(KEYS, True)
    assert {key: logins.accepts(key, old[key]) for key in KEYS} == dict.fromkeys(KEYS, False)
    assert platform.deploy() == 0
