"""Checks of databases and object storage with a project's own logins."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dap.credentials import DatabaseLogin
from dap.servers import server_of
from dap.services.manifest import Service
from dap.verify import Place, check, expect

if TYPE_CHECKING:
    import psycopg
    from minio import Minio

_PART = 5 * 1024 * 1024


@check
def project_databases(place: Place, service: Service) -> Iterator[str]:
    """Each project reaches its database over verified TLS, with its own role, and no other database."""
    import psycopg

    port = place.site.published_port(service, service.manifest.ports[0])
    host = place.site.own_host(service)
    projects = place.site.projects
    for project in projects:
        login = place.credentials.project_database(project, server_of(place.site, service))
        with _connect(place, host, port, login, login.name) as connection:
            row = connection.execute(
                "SELECT current_user, ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            ).fetchone()
            expect(
                row and row[0] == login.user and row[1], f"{login.name}: not over TLS as {login.user}: {row}"
            )
            connection.execute("CREATE TEMP TABLE verify AS SELECT generate_series(1, 1000) AS n")
            total = connection.execute("SELECT sum(n) FROM verify").fetchone()
            expect(total == (500500,), f"{login.name}: a sum came out as {total}")
        try:
            _connect(place, host, port, login, "postgres").close()
        except psycopg.OperationalError:
            continue
        expect(False, f"role {login.user} may connect to the database postgres")
    yield f"{len(projects)} project database(s), verify-full"
    _refuses_plain(place, host, port)
    yield "refused without TLS"


def _connect(
    place: Place, host: str, port: int, login: DatabaseLogin, database: str
) -> psycopg.Connection[tuple[object, ...]]:
    import psycopg

    return psycopg.connect(
        host=host,
        port=port,
        dbname=database,
        user=login.user,
        password=login.password.reveal(),
        connect_timeout=10,
        autocommit=True,
        sslmode="verify-full",
        sslrootcert=str(place.ca_file),
    )


def _refuses_plain(place: Place, host: str, port: int) -> None:
    import psycopg

    try:
        psycopg.connect(
            host=host, port=port, dbname="postgres", user="postgres", connect_timeout=10, sslmode="disable"
        ).close()
    except psycopg.OperationalError as error:
        refusal = str(error)
    else:
        refusal = ""
    expect("no encryption" in refusal, f"a connection without TLS was not refused: {refusal!r}")


@check
def not_published(place: Place, service: Service) -> Iterator[str]:
    """The service cannot be reached from outside the platform's network."""
    host = f"{service.name}.{place.site.platform.domain}"
    published = {
        place.site.published_port(other, port)
        for other in place.site.services.values()
        for port in other.manifest.ports
    }
    expect(not service.manifest.ports, f"{service.name} publishes a port")
    if 5432 not in published:
        try:
            socket.create_connection((place.site.platform.domain, 5432), timeout=3).close()
        except OSError:
            yield f"{host}: nothing listens on 5432"
            return
    yield "no published port"


@check
def object_store(place: Place, service: Service) -> Iterator[str]:
    """A project's key can put, get and upload in parts in its bucket; anything else is refused."""
    url = place.site.url(service.manifest.web[0])
    projects = place.site.projects
    for project in projects:
        key = place.credentials.project_key(project)
        client = _client(place, url, key.access_key, key.secret_key.reveal())
        name, content = f"dap-verify/{os.urandom(8).hex()}", os.urandom(2 * _PART + 1000)
        client.put_object(
            bucket_name=project.bucket,
            object_name=name,
            data=io.BytesIO(content),
            length=len(content),
            part_size=_PART,
        )
        try:
            answer = client.get_object(bucket_name=project.bucket, object_name=name)
            try:
                expect(answer.read() == content, f"{project.bucket}/{name} came back changed")
            finally:
                answer.close()
                answer.release_conn()
        finally:
            client.remove_object(bucket_name=project.bucket, object_name=name)
        others = [bucket.name for other in place.site.services.values() for bucket in other.manifest.buckets]
        for bucket in others:
            _refused(client, bucket, ("AccessDenied",), f"project {project.name}'s key")
    yield f"put, get and multipart in {len(projects)} bucket(s)"
    if projects:
        key = place.credentials.project_key(projects[0])
        _refused(
            _client(place, url, key.access_key, "wrong-secret-key"),
            projects[0].bucket,
            ("SignatureDoesNotMatch",),
            "a wrong secret key",
        )
        _refused(
            _client(place, url, "UNKNOWNKEY", "wrong"),
            projects[0].bucket,
            ("InvalidAccessKeyId",),
            "an unknown key",
        )
        _refused(_client(place, url, None, None), projects[0].bucket, ("AccessDenied",), "a stranger")
        yield "wrong keys and strangers refused"


def _client(place: Place, url: str, access_key: str | None, secret_key: str | None) -> Minio:
    import urllib3
    from minio import Minio

    pool = urllib3.PoolManager(
        cert_reqs="CERT_REQUIRED", ca_certs=str(place.ca_file), retries=False, timeout=60
    )
    return Minio(
        endpoint=url.removeprefix("https://"),
        access_key=access_key,
        secret_key=secret_key,
        region="us-east-1",
        http_client=pool,
    )


def _refused(client: Minio, bucket: str, codes: tuple[str, ...], who: str) -> None:
    from minio.error import S3Error

    try:
        list(client.list_objects(bucket_name=bucket))
    except S3Error as error:
        expect(error.code in codes, f"{who} was answered {error.code} for bucket {bucket}")
        return
    expect(False, f"{who} may list bucket {bucket}")
