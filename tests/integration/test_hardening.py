"""What the platform refuses to those who probe it: at the TLS ports, at logins, in storage and databases."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
import time
from collections.abc import Callable
from typing import Any

import boto3
import httpx
import psycopg
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.integration.platform import DeployedPlatform
from tests.integration.raw import offer

TLS_PORTS = ("https", "postgres")
SSL_3, TLS_1_0, TLS_1_1, TLS_1_2 = 0x0300, 0x0301, 0x0302, 0x0303
# Every cipher that a number was ever given to for TLS 1.2 and older, but the one that is a signal.
CIPHERS = {*range(0x100), *range(0xC000, 0xC100), *range(0xCC00, 0xCD00), *range(0xD000, 0xD010)} - {0xFF}
# With keys for one connection, and encryption that notices each change: AES in GCM and ChaCha20.
GOOD = {0xC02B, 0xC02C, 0xC02F, 0xC030, 0xCCA8, 0xCCA9}
BURST = 20


# --- TLS --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", TLS_PORTS)
def test_no_protocol_before_tls_1_2_is_spoken(platform: DeployedPlatform, port: str) -> None:
    spoken = {version: offer(platform, port, version, CIPHERS) for version in (SSL_3, TLS_1_0, TLS_1_1)}
    assert spoken == {SSL_3: None, TLS_1_0: None, TLS_1_1: None}
    newest = offer(platform, port, TLS_1_2, CIPHERS)
    assert newest and (newest.version, newest.compression) == (TLS_1_2, 0)


@pytest.mark.parametrize("port", TLS_PORTS)
def test_every_cipher_keeps_past_traffic_secret_and_notices_changes(
    platform: DeployedPlatform, port: str
) -> None:
    left, taken = set(CIPHERS), set()
    while chosen := offer(platform, port, TLS_1_2, left):
        taken.add(chosen.cipher)
        left -= taken
    assert taken <= GOOD
    assert len(taken) == 3


@pytest.mark.parametrize("port", TLS_PORTS)
def test_keys_are_not_renegotiated_and_nothing_is_compressed(platform: DeployedPlatform, port: str) -> None:
    reading, writing = os.pipe()
    # By this line openssl asks for it. At the end of its input it would not wait for the answer.
    os.write(writing, b"R\n")
    try:
        argv = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{platform.ports[port]}"]
        argv += ["-starttls", "postgres"] if port == "postgres" else []
        done = subprocess.run(argv, stdin=reading, capture_output=True, text=True, timeout=20, check=False)
    finally:
        os.close(reading)
        os.close(writing)
    assert "Secure Renegotiation IS supported" in done.stdout
    assert "Compression: NONE" in done.stdout
    assert "RENEGOTIATING" in done.stderr + done.stdout
    assert "no renegotiation" in done.stderr and done.returncode == 1


def test_certificates_hold_to_the_letter_of_the_standard(platform: DeployedPlatform) -> None:
    strict = platform.trust
    strict.verify_flags |= ssl.VERIFY_X509_STRICT
    for service in ("", "mlflow", "minio", "s3", "pgadmin"):
        assert httpx.get(platform.url(service), verify=strict, trust_env=False).status_code < 500


# --- headers ----------------------------------------------------------------------------------------------

PAGES = ("", "mlflow", "minio", "s3", "pgadmin")
WANTED = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "strict-origin-when-cross-origin",
}


@pytest.fixture(scope="module")
def web(platform: DeployedPlatform) -> Any:
    """A client that trusts the platform's CA."""
    with httpx.Client(verify=platform.trust, trust_env=False, timeout=30) as client:
        yield client


@pytest.mark.parametrize("service", PAGES)
@pytest.mark.parametrize("path", ["/", "/no-such-page", "/unavailable.html"])
def test_every_answer_has_the_headers_that_protect_browsers_once(
    platform: DeployedPlatform, web: httpx.Client, service: str, path: str
) -> None:
    answer = web.get(platform.url(service) + path)
    assert {name: answer.headers.get_list(name) for name in WANTED} == {
        name: [value] for name, value in WANTED.items()
    }
    assert answer.headers.get_list("server") == ["nginx"]
    # With a CA that browsers may not know, a rule for them to insist on TLS would lock people out.
    assert not {"x-powered-by", "strict-transport-security"} & set(answer.headers)


def test_session_cookies_go_over_tls_only_and_not_to_scripts(
    platform: DeployedPlatform, web: httpx.Client
) -> None:
    user, password = platform.login("Project demo: bucket")
    console = patiently(
        lambda: web.post(
            platform.url("minio") + "/api/v1/login", json={"accessKey": user, "secretKey": password}
        )
    )
    assert console.status_code == 204
    page = patiently(lambda: web.get(platform.url("pgadmin") + "/login"))
    cookies = [*console.headers.get_list("set-cookie"), *page.headers.get_list("set-cookie")]
    sessions = [cookie for cookie in cookies if cookie.startswith(("token=", "pga4_session="))]
    assert len(sessions) == 2
    assert [one for one in sessions if "Secure" not in one or "HttpOnly" not in one] == []


# --- guessing passwords -----------------------------------------------------------------------------------


def patiently(send: Callable[[], httpx.Response], seconds: float = 10) -> httpx.Response:
    """The answer once somebody's guesses from the same address no longer count."""
    end = time.monotonic() + seconds
    while (answer := send()).status_code == 429 and time.monotonic() < end:
        time.sleep(0.5)
    return answer


def wrong_login(address: str) -> Callable[[httpx.Client], int]:
    """Log in to pgAdmin, or to MinIO's console, with a password that is wrong."""
    if "minio" in address:
        body: dict[str, Any] = {"json": {"accessKey": "admin", "secretKey": "wrong-password"}}
    else:
        body = {"data": {"email": "admin@example.com", "password": "wrong-password"}}
    return lambda web: web.post(address, **body).status_code


@pytest.mark.parametrize(
    ("service", "path"),
    [("pgadmin", "/authenticate/login"), ("pgadmin", "/login"), ("minio", "/api/v1/login")],
)
@pytest.mark.parametrize("written", ["{}", "{}/", "/{}", "/x/%2e%2e{}", "/%2e{}", "{}?next=/"])
def test_guessing_at_a_login_form_is_slowed_down_however_it_is_addressed(
    platform: DeployedPlatform, web: httpx.Client, service: str, path: str, written: str
) -> None:
    spend = wrong_login(platform.url(service) + path)
    began = time.monotonic()
    passed = 0
    while spend(web) != 429:
        passed += 1
        # One more in two seconds.
        assert passed <= BURST + 1 + (time.monotonic() - began) / 2 + 1
    guess, began = wrong_login(platform.url(service) + written.format(path)), time.monotonic()
    passed = [guess(web) != 429 for _ in range(5)].count(True)
    assert passed <= 1 + (time.monotonic() - began) / 2


def test_who_knows_the_password_gets_in_although_a_colleague_guesses(
    platform: DeployedPlatform, web: httpx.Client
) -> None:
    """From one address, as behind the router of an office."""
    mlflow, right = platform.url("mlflow") + "/health", platform.login("Platform login")
    while web.get(mlflow, auth=("admin", "wrong-password")).status_code != 429:
        pass
    assert [web.get(mlflow, auth=right).status_code for _ in range(100)] == [200] * 100
    assert web.get(mlflow, auth=("admin", "wrong-password")).status_code in (401, 429)
    # A form does not tell who is right before it is sent: there it takes some seconds.
    form = platform.url("minio") + "/api/v1/login"
    while wrong_login(form)(web) != 429:
        pass
    user, password = platform.login("Project demo: bucket")
    known = patiently(lambda: web.post(form, json={"accessKey": user, "secretKey": password}))
    assert known.status_code == 204


# --- S3 ---------------------------------------------------------------------------------------------------

KEYS = {"Bucket": "demo", "Key": "private.txt"}
CALLS: dict[str, dict[str, Any]] = {
    "list_objects_v2": {"Bucket": "demo"},
    "list_multipart_uploads": {"Bucket": "demo"},
    "get_bucket_policy": {"Bucket": "demo"},
    "put_bucket_policy": {"Bucket": "demo", "Policy": "{}"},
    "get_bucket_versioning": {"Bucket": "demo"},
    "delete_bucket": {"Bucket": "demo"},
    "get_object": KEYS,
    "head_object": KEYS,
    "get_object_tagging": KEYS,
    "put_object": KEYS | {"Body": b"changed"},
    "create_multipart_upload": KEYS,
    "delete_object": KEYS,
}


@pytest.fixture
def strangers(platform: DeployedPlatform) -> dict[str, Any]:
    """Clients of somebody without a key, and of another project."""
    nobody = boto3.client(
        "s3",
        endpoint_url=platform.url("s3"),
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED),
        verify=str(platform.ca_file),
    )
    return {"nobody": nobody, "another project": platform.s3("other-team")}


@pytest.mark.parametrize("who", ["nobody", "another project"])
def test_objects_are_for_their_project_only(
    platform: DeployedPlatform, strangers: dict[str, Any], who: str
) -> None:
    owner = platform.s3("demo")
    owner.put_object(**KEYS, Body=b"of demo")
    client, allowed = strangers[who], []
    try:
        for call, arguments in CALLS.items():
            with pytest.raises(ClientError) as refusal:
                allowed.append((call, getattr(client, call)(**arguments)))
            # The answer to HEAD has no body to say more in.
            assert refusal.value.response["Error"]["Code"] in ("AccessDenied", "403"), call
        assert allowed == []
        assert owner.get_object(**KEYS)["Body"].read() == b"of demo"
    finally:
        owner.delete_object(**KEYS)


def test_another_projects_object_cannot_be_copied_nor_its_bucket_be_seen(
    platform: DeployedPlatform, strangers: dict[str, Any]
) -> None:
    owner, other = platform.s3("demo"), strangers["another project"]
    owner.put_object(**KEYS, Body=b"of demo")
    try:
        with pytest.raises(ClientError, match="AccessDenied"):
            other.copy_object(Bucket="other-team", Key="stolen.txt", CopySource=KEYS)
    finally:
        owner.delete_object(**KEYS)
    assert [bucket["Name"] for bucket in other.list_buckets()["Buckets"]] == ["other-team"]
    with pytest.raises(ClientError, match="AccessDenied"):
        strangers["nobody"].list_buckets()
    with pytest.raises(ClientError, match="AccessDenied"):
        other.create_bucket(Bucket="one-more")


# --- PostgreSQL -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["other_team", "postgres", "template1", "template0"])
def test_role_of_a_project_enters_its_own_database_only(platform: DeployedPlatform, database: str) -> None:
    user, password = platform.login("Project demo: database")
    with pytest.raises(
        psycopg.OperationalError,
        match=f'permission denied for database "{database}"|database "template0" is not currently accepting',
    ):
        platform.postgres(database, user, password)


@pytest.mark.parametrize(
    "statement",
    [
        "SET ROLE other_team",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_read_file('/run/secrets/admin_password')",
        "SELECT pg_ls_dir('/run/secrets')",
        "SELECT lo_import('/run/secrets/admin_password')",
        "COPY (SELECT 1) TO '/tmp/written'",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "CREATE TEMP TABLE words (word text); COPY words FROM '/etc/passwd'",
        "CREATE ROLE guest",
        "CREATE DATABASE guest",
        "CREATE EXTENSION dblink",
        "CREATE EXTENSION file_fdw",
        "CREATE FUNCTION run() RETURNS int LANGUAGE c AS 'libc.so.6', 'system'",
        "ALTER SYSTEM SET log_statement = 'all'",
        "ALTER ROLE demo SUPERUSER",
        "ALTER ROLE other_team PASSWORD 'known'",
        "GRANT other_team TO demo",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    ],
)
def test_role_of_a_project_has_no_rights_beyond_its_database(
    platform: DeployedPlatform, statement: str
) -> None:
    user, password = platform.login("Project demo: database")
    with (
        pytest.raises(psycopg.errors.InsufficientPrivilege) as refusal,
        platform.postgres("demo", user, password) as connection,
    ):
        connection.autocommit = True
        connection.execute(statement.encode())
    assert re.match("permission denied|must be superuser|only roles with|could not open", str(refusal.value))
