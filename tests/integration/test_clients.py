"""What users run on their own machines: the libraries themselves, set up as the portal says."""

from __future__ import annotations

import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import httpx
import mlflow
import psycopg
import pytest
from botocore.exceptions import ClientError
from mlflow.tracking import MlflowClient

from tests.integration.platform import DeployedPlatform, docker


def test_mlflow_logs_a_run_with_metrics_and_an_artifact(trusting: DeployedPlatform, tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(bytes(range(256)) * 4096)
    mlflow.set_tracking_uri(trusting.url("mlflow"))
    mlflow.set_experiment("from-a-laptop")
    with mlflow.start_run() as run:
        mlflow.log_param("depth", 3)
        for step in range(5):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_artifact(str(model))
    client = MlflowClient()
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [metric.value for metric in history] == [1.0, 0.5, 1 / 3, 0.25, 0.2]
    fetched = client.download_artifacts(run.info.run_id, "model.bin", str(tmp_path / "back"))
    assert Path(fetched).read_bytes() == model.read_bytes()


def test_large_artifact_does_not_pass_through_the_servers_memory(trusting: DeployedPlatform) -> None:
    size = 400 * 1024 * 1024
    address = f"{trusting.url('mlflow')}/api/2.0/mlflow-artifacts/artifacts/large/artifact.bin"
    with httpx.Client(
        verify=ssl.create_default_context(cafile=str(trusting.ca_file)),
        auth=trusting.login("Platform login"),
        timeout=120,
    ) as client:
        block = bytes(1024 * 1024)
        client.put(address, content=(block for _ in range(size // len(block)))).raise_for_status()
        with client.stream("GET", address) as answer:
            assert sum(len(piece) for piece in answer.iter_bytes()) == size
        client.delete(address).raise_for_status()
    # Processes may end between the shell's listing and the reading.
    peaks = docker(
        "exec", f"{trusting.name}-mlflow", "sh", "-c", "cat /proc/[0-9]*/status 2>/dev/null | grep VmHWM"
    ).splitlines()
    assert max(int(line.split()[1]) for line in peaks) * 1024 < size


def test_mlflow_without_login_is_refused(trusting: DeployedPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(mlflow.MlflowException, match="401"):
        MlflowClient(trusting.url("mlflow")).search_experiments()


def test_boto3_multipart_upload_comes_back_whole(trusting: DeployedPlatform, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"0123456789abcdef" * (20 * 65536))
    client = trusting.s3("demo")
    client.upload_file(str(source), "demo", "big/file")
    client.download_file("demo", "big/file", str(target))
    etag = client.head_object(Bucket="demo", Key="big/file")["ETag"]
    client.delete_object(Bucket="demo", Key="big/file")
    assert target.read_bytes() == source.read_bytes()
    assert "-" in etag, "the upload was to go in parts"


def test_presigned_address_works_without_a_key(trusting: DeployedPlatform) -> None:
    client = trusting.s3("demo")
    client.put_object(Bucket="demo", Key="shared.txt", Body=b"for you")
    address = client.generate_presigned_url("get_object", Params={"Bucket": "demo", "Key": "shared.txt"})
    context = ssl.create_default_context(cafile=str(trusting.ca_file))
    with urllib.request.urlopen(address, context=context) as answer:  # noqa: S310
        assert answer.read() == b"for you"
    client.delete_object(Bucket="demo", Key="shared.txt")


@pytest.mark.parametrize("bucket", ["other-team", "mlflow"])
def test_key_of_a_project_opens_no_other_bucket(trusting: DeployedPlatform, bucket: str) -> None:
    with pytest.raises(ClientError) as refusal:
        trusting.s3("demo").list_objects_v2(Bucket=bucket)
    assert refusal.value.response["Error"]["Code"] == "AccessDenied"


def test_wrong_secret_key_is_refused(trusting: DeployedPlatform) -> None:
    with pytest.raises(ClientError) as refusal:
        trusting.s3("demo", secret="wrong-secret").list_objects_v2(Bucket="demo")
    assert refusal.value.response["Error"]["Code"] == "SignatureDoesNotMatch"


def test_psycopg_bulk_loads_over_verified_tls(trusting: DeployedPlatform) -> None:
    user, password = trusting.login("Project demo: database")
    with trusting.postgres("demo", user, password) as connection:
        connection.execute("CREATE TEMP TABLE bulk (id int, text text)")
        with connection.cursor().copy("COPY bulk FROM STDIN") as copy:
            for number in range(50_000):
                copy.write_row((number, f"row {number}"))
        assert connection.execute("SELECT count(*), sum(id) FROM bulk").fetchone() == (50_000, 1_249_975_000)


def test_psycopg_without_the_ca_refuses_the_server(trusting: DeployedPlatform, tmp_path: Path) -> None:
    user, password = trusting.login("Project demo: database")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        trusting.postgres("demo", user, password, Path("/etc/ssl/certs/ISRG_Root_X1.pem"))


def test_project_cannot_enter_another_projects_database(trusting: DeployedPlatform) -> None:
    user, password = trusting.login("Project demo: database")
    with pytest.raises(psycopg.OperationalError, match='permission denied for database "other_team"'):
        trusting.postgres("other_team", user, password)


def test_exported_ca_is_the_one_that_signs(platform: DeployedPlatform, tmp_path: Path) -> None:
    exported = tmp_path / "ca.crt"
    platform.must("ca", "export", "-o", str(exported))
    context = ssl.create_default_context(cafile=str(exported))
    with urllib.request.urlopen(platform.url() + "/healthz", context=context) as answer:  # noqa: S310
        assert answer.status == 200


def test_host_store_trusts_the_platform(platform: DeployedPlatform) -> None:
    context = ssl.create_default_context(cafile="/etc/ssl/certs/ca-certificates.crt")
    with urllib.request.urlopen(platform.url() + "/healthz", context=context) as answer:  # noqa: S310
        assert answer.status == 200


def test_logs_verb_shows_the_services_log(platform: DeployedPlatform) -> None:
    assert "database system is ready to accept connections" in (
        platform.must("logs", "postgres-service") + platform.dap("logs", "postgres-service").stderr
    )


def test_old_tls_is_refused(platform: DeployedPlatform) -> None:
    done = subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{platform.ports['https']}", "-tls1_1", "-brief"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "CONNECTION ESTABLISHED" not in done.stderr


def test_wrong_logins_are_slowed_down(platform: DeployedPlatform) -> None:
    context = ssl.create_default_context(cafile=str(platform.ca_file))
    codes = set()
    for attempt in range(60):
        request = urllib.request.Request(platform.url("mlflow"))  # noqa: S310
        request.add_header("Authorization", f"Basic {attempt:08d}")
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request, context=context)  # noqa: S310
        codes.add(refusal.value.code)
    assert codes == {401, 429}


@pytest.mark.parametrize("path", ["/minio/admin/v3/info", "/minio/v2/metrics/cluster"])
def test_administration_of_the_object_storage_is_not_public(platform: DeployedPlatform, path: str) -> None:
    context = ssl.create_default_context(cafile=str(platform.ca_file))
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(platform.url("s3") + path, context=context)  # noqa: S310
    assert refusal.value.code == 403
    assert b"nginx" in refusal.value.read(), "the proxy refuses, before the service is asked"


def test_proxy_passes_websockets_on(platform: DeployedPlatform) -> None:
    context = ssl.create_default_context(cafile=str(platform.ca_file))
    host = f"pgadmin.{platform.domain}"
    request = (
        f"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {host}:{platform.ports['https']}\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with (
        socket.create_connection((host, platform.ports["https"]), timeout=30) as raw,
        context.wrap_socket(raw, server_hostname=host) as connection,
    ):
        connection.sendall(request.encode())
        assert connection.recv(1024).startswith(b"HTTP/1.1 101 ")
