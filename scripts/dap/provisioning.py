"""What the provisioning jobs have to bring about: databases, roles, buckets, keys.

The jobs themselves (`dap.jobs`) run in the toolbox container, inside the platform's network.
"""

from __future__ import annotations

from typing import Any

from dap.credentials import BucketKey, Credentials, DatabaseLogin
from dap.services.manifest import Service
from dap.site import Site


def desired_state(site: Site, credentials: Credentials) -> dict[str, Any]:
    """The state to reach, as `dap.jobs` reads it. Holds secrets."""
    return {
        "postgres": [_postgres(site, credentials, server) for server in site.providers("postgres")],
        "s3": [_s3(site, credentials, server) for server in site.providers("s3")],
    }


def _postgres(site: Site, credentials: Credentials, server: Service) -> dict[str, Any]:
    logins: list[DatabaseLogin] = [
        login
        for service in site.services.values()
        for login in credentials.databases(service).values()
        if login.server == server.name
    ]
    if server.manifest.projects:
        logins += [credentials.project_database(project, server.name) for project in site.projects]
    return {
        "service": server.name,
        "host": site.own_host(server) if server.manifest.tls else server.name,
        "port": 5432,
        "verify": server.manifest.tls is not None,
        "user": "postgres",
        "password": credentials.secret(server, "admin_password").reveal(),
        "databases": [
            {"name": login.name, "role": login.user, "password": login.password.reveal()} for login in logins
        ],
    }


def _s3(site: Site, credentials: Credentials, server: Service) -> dict[str, Any]:
    buckets = [bucket for service in site.services.values() for bucket in service.manifest.buckets]
    state = [{"name": bucket.name, "versioning": bucket.versioning} for bucket in buckets]
    keys: list[BucketKey] = [
        key for service in site.services.values() if (key := credentials.bucket_key(service))
    ]
    if server.manifest.projects:
        state += [{"name": project.bucket, "versioning": False} for project in site.projects]
        keys += [credentials.project_key(project) for project in site.projects]
    return {
        "service": server.name,
        "endpoint": f"{server.name}:9000",
        "user": credentials.secret(server, "root_user").reveal(),
        "password": credentials.secret(server, "root_password").reveal(),
        "buckets": state,
        "keys": [
            {
                "access_key": key.access_key,
                "secret_key": key.secret_key.reveal(),
                "policy": key.policy,
                "buckets": list(key.buckets),
            }
            for key in keys
        ],
    }
