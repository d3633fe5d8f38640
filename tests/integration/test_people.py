"""Somebody comes, works with logins of their own, and leaves again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import httpx
import psycopg
import pytest
import yaml
from botocore.exceptions import ClientError

from tests.integration.platform import DeployedPlatform

DATABASE = "Own database login: demo"
BUCKET = "Own key to buckets of eve: demo"


@pytest.fixture
def settings(platform: DeployedPlatform) -> Any:
    """The settings, in which `demo` has members; as they were afterwards."""
    before = platform.settings_file.read_text(encoding="utf-8")
    written = yaml.safe_load(before)
    written["projects"][0]["members"] = {"*": "developer"}
    platform.settings_file.write_text(yaml.safe_dump(written, sort_keys=False), encoding="utf-8")
    yield
    platform.settings_file.write_text(before, encoding="utf-8")
    platform.deploy()


def bucket(platform: DeployedPlatform, login: tuple[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=platform.url("s3"),
        aws_access_key_id=login[0],
        aws_secret_access_key=login[1],
        region_name="us-east-1",
        verify=str(platform.ca_file),
    )


def mlflow(platform: DeployedPlatform, login: tuple[str, str]) -> int:
    url = f"{platform.url('mlflow')}/health"
    return httpx.get(url, auth=login, verify=platform.trust, trust_env=False).status_code


def test_logins_of_ones_own_come_and_go(platform: DeployedPlatform, settings: None, tmp_path: Path) -> None:
    told = platform.must("user", "add", "eve", "--full-name", "Eve")
    for change in (
        *("postgres-data: role eve created", "postgres-data: eve may use demo"),
        *("minio: policy user-eve set", "minio: key of user-eve set"),
    ):
        assert change in told
    database, key, web = (platform.login(what) for what in (DATABASE, BUCKET, "Platform login"))
    assert web[0] == "eve"

    # What one person makes in a project is the project's, for all who work on it.
    connection = platform.postgres("demo", *database)
    with connection:
        connection.execute("CREATE TABLE of_eve (number int)")
    with platform.postgres("demo", *platform.login("Project demo: database")) as project:
        assert project.execute("SELECT tableowner FROM pg_tables WHERE tablename = 'of_eve'").fetchone() == (
            "demo",
        )
        project.execute("DROP TABLE of_eve")
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        platform.postgres("other_team", *database)
    client = bucket(platform, key)
    client.put_object(Bucket="demo", Key="of-eve", Body=b"hers")
    assert platform.s3("demo").get_object(Bucket="demo", Key="of-eve")["Body"].read() == b"hers"
    platform.s3("demo").delete_object(Bucket="demo", Key="of-eve")
    with pytest.raises(ClientError, match="AccessDenied"):
        client.list_objects(Bucket="other-team")
    assert mlflow(platform, web) == 200

    told = platform.must("user", "disable", "eve")
    for change in (
        *("postgres-data: role eve closed", "postgres-data: eve may no longer use demo"),
        "minio: key of user-eve disabled",
    ):
        assert change in told
    with pytest.raises(psycopg.OperationalError, match="is not permitted to log in"):
        platform.postgres("demo", *database)
    with pytest.raises(ClientError, match=r"AccessDenied|InvalidAccessKeyId"):
        client.list_objects(Bucket="demo")
    assert mlflow(platform, web) == 401
    assert platform.deploy() == 0
