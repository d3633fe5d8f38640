"""Buckets, and keys that may use just their buckets, on one MinIO server."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from minio import Minio
from minio.commonconfig import ENABLED
from minio.credentials.providers import StaticProvider
from minio.error import S3Error
from minio.minioadmin import MinioAdmin
from minio.versioningconfig import VersioningConfig

from .report import Report


def provision(server: dict[str, Any], report: Report) -> None:
    """Bring buckets, policies and keys of ``server`` into the desired state."""
    client = _client(server, server["user"], server["password"])
    for bucket in server["buckets"]:
        _bucket(client, server["service"], bucket, report)
    if not (server["keys"] or server.get("gone")):
        # Not every S3 server has MinIO's admin interface; then all use the one key.
        return
    admin = MinioAdmin(
        endpoint=server["endpoint"],
        credentials=StaticProvider(server["user"], server["password"]),
        secure=server["secure"],
        region=server["region"],
    )
    policies = json.loads(admin.policy_list())
    users = json.loads(admin.user_list())
    for key in server["keys"]:
        _policy(admin, server["service"], key, policies, report)
        _key(admin, server, key, users, report)
    for key in server.get("gone", []):
        present = users.get(key["access_key"], {"status": "disabled"})
        report.ensure(
            present.get("status") == "disabled",
            f"{server['service']}: key of {key['policy']} disabled",
            partial(admin.user_disable, key["access_key"]),
        )


def _client(server: dict[str, Any], access_key: str, secret_key: str) -> Minio:
    return Minio(
        endpoint=server["endpoint"],
        access_key=access_key,
        secret_key=secret_key,
        secure=server["secure"],
        region=server["region"],
    )


def policy_of(buckets: list[str]) -> dict[str, Any]:
    """The policy that lets a key list, read and write ``buckets``, and nothing else."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": [
                    "s3:GetBucketLocation",
                    "s3:GetBucketVersioning",
                    "s3:ListBucket",
                    "s3:ListBucketMultipartUploads",
                    "s3:ListBucketVersions",
                ],
                "Resource": [f"arn:aws:s3:::{bucket}" for bucket in buckets],
            },
            {
                "Effect": "Allow",
                "Action": [
                    "s3:AbortMultipartUpload",
                    "s3:DeleteObject",
                    "s3:DeleteObjectTagging",
                    "s3:DeleteObjectVersion",
                    "s3:GetObject",
                    "s3:GetObjectTagging",
                    "s3:GetObjectVersion",
                    "s3:ListMultipartUploadParts",
                    "s3:PutObject",
                    "s3:PutObjectTagging",
                ],
                "Resource": [f"arn:aws:s3:::{bucket}/*" for bucket in buckets],
            },
        ],
    }


def _bucket(client: Minio, service: str, bucket: dict[str, Any], report: Report) -> None:
    name = bucket["name"]
    exists = client.bucket_exists(bucket_name=name)
    report.ensure(exists, f"{service}: bucket {name} created", lambda: client.make_bucket(bucket_name=name))
    if bucket["versioning"]:
        on = exists and client.get_bucket_versioning(bucket_name=name).status == ENABLED
        report.ensure(
            on,
            f"{service}: versioning of bucket {name} switched on",
            lambda: client.set_bucket_versioning(bucket_name=name, config=VersioningConfig(ENABLED)),
        )


def _policy(
    admin: MinioAdmin, service: str, key: dict[str, Any], policies: dict[str, Any], report: Report
) -> None:
    wanted, name = policy_of(key["buckets"]), key["policy"]
    report.ensure(
        _normal(policies.get(name)) == _normal(wanted),
        f"{service}: policy {name} set",
        lambda: admin.policy_add(policy_name=name, policy=wanted),
    )


def _normal(policy: dict[str, Any] | None) -> set[tuple[str, str, str]]:
    """A policy as a set of (effect, action, resource): the server keeps no order."""
    return {
        (statement["Effect"], action, resource)
        for statement in (policy or {}).get("Statement", [])
        for action in statement["Action"]
        for resource in statement["Resource"]
    }


def _key(
    admin: MinioAdmin, server: dict[str, Any], key: dict[str, Any], users: dict[str, Any], report: Report
) -> None:
    service, policy = server["service"], key["policy"]
    present = users.get(key["access_key"])
    right = present is not None and present.get("status") == "enabled" and _key_works(server, key)
    report.ensure(
        right,
        f"{service}: key of {policy} set",
        lambda: admin.user_add(access_key=key["access_key"], secret_key=key["secret_key"]),
    )
    attached = (present or {}).get("policyName", "").split(",")
    report.ensure(
        attached == [policy],
        f"{service}: policy {policy} attached to its key",
        lambda: admin.policy_set(policy_name=policy, user=key["access_key"]),
    )


def _key_works(server: dict[str, Any], key: dict[str, Any]) -> bool:
    """Whether the server accepts the secret key, whatever the key may do."""
    client = _client(server, key["access_key"], key["secret_key"])
    try:
        # Not a HEAD request: its answer has no body that would tell a wrong key from a missing right.
        next(iter(client.list_objects(bucket_name=key["buckets"][0])), None)
    except S3Error as error:
        return error.code == "AccessDenied"
    return True
