"""Servers of the operator's own: whether they are what the platform needs, asked before anything is touched.

They are asked from here. Whether the hosts reach them too is the business of the module ``dap_preflight``.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dap.credentials import Credentials
from dap.errors import Finding, Problems
from dap.layout import shown
from dap.secrets import Secret
from dap.servers import Server, servers
from dap.site import Site
from dap.trust import tls

OLDEST_POSTGRES = 14
_MAY_MAKE_BOTH = (
    "SELECT rolsuper OR (rolcreatedb AND rolcreaterole) FROM pg_roles WHERE rolname = current_user"
)
_SECONDS = 10


def examine(site: Site, credentials: Credentials, problems: Problems) -> list[str]:
    """Log in to every server of the operator's, and look at its version and at what its user may do.

    Args:
        problems: gets what is wrong with any of them, and passwords that are not known.

    Returns:
        warnings: servers that cannot be reached from here, which the hosts may reach all the same.
    """
    warnings: list[str] = []
    for kind, look in (("postgres", _postgres), ("s3", _s3)):
        for server in servers(site, kind):
            if not server.external:
                continue
            with problems.gathered(), _trusted(site) as ca_file:
                password = credentials.admin_password(server)
                # Names of `extra_hosts` are known to the hosts only after a deploy.
                address = server.known_address(site)
                try:
                    problem = look(server, password, ca_file, address)
                except _UnreachableError as error:
                    warnings.append(
                        f"services.{server.name}.external.url = {server.external.url}: cannot be reached from"
                        f" here ({error}), so neither its version nor its user's rights were looked at"
                    )
                    continue
                if problem:
                    problems.add(_finding(site, server, *problem))
    return warnings


class _UnreachableError(Exception):
    """No answer, for a reason that need not hold on the hosts."""


_Problem = tuple[str, str, str]
"""The key below ``external``, the reason and the suggestion."""


def _finding(site: Site, server: Server, key: str, reason: str, suggestion: str) -> Finding:
    assert server.external  # noqa: S101  only those are asked
    value = str(getattr(server.external, key))
    file = shown(site.inventory.platform_file)
    return Finding(file, f"services.{server.name}.external.{key}", value, reason, suggestion)


@contextmanager
def _trusted(site: Site) -> Iterator[Path]:
    """A file with the public CAs and the site's own further ones."""
    with tempfile.NamedTemporaryFile(prefix="dap-", suffix=".crt") as file:
        file.write(tls.public_and_extra_cas(site))
        file.flush()
        yield Path(file.name)


def _postgres(server: Server, password: Secret, ca_file: Path, address: str | None) -> _Problem | None:
    import psycopg

    secret_set = f"dap secret set {server.name}.admin_password"
    try:
        with psycopg.connect(
            host=server.host,
            hostaddr=address,
            port=server.port,
            dbname="postgres",
            user=server.user,
            password=password.reveal(),
            connect_timeout=_SECONDS,
            sslmode=server.sslmode,
            sslrootcert=str(ca_file),
        ) as connection:
            version = connection.info.server_version // 10000
            row = connection.execute(_MAY_MAKE_BOTH).fetchone()
    except psycopg.OperationalError as error:
        said = " ".join(str(error).split())
        if "password authentication failed" in said:
            return "user", "is refused with the password that is known", f"set the right one: {secret_set}"
        if "certificate" in said or "SSL" in said:
            advice = "name its CA in trust.extra_cas, or write ?sslmode=disable after the port"
            return "url", f"cannot be spoken to over TLS: {said}", advice
        if "FATAL" in said:
            return (
                "user",
                f"may not log in: {said.partition('FATAL:')[2].strip()}",
                "let it in, see pg_hba.conf",
            )
        raise _UnreachableError(said) from error
    if version < OLDEST_POSTGRES:
        reason = f"is PostgreSQL {version}; the platform needs {OLDEST_POSTGRES} or newer"
        return "url", reason, "upgrade that server, or name another"
    if row != (True,):
        advice = f"run there as a superuser: ALTER ROLE {server.user} CREATEDB CREATEROLE;"
        return "user", "may not make databases and roles", advice
    return None


def _s3(server: Server, password: Secret, ca_file: Path, address: str | None) -> _Problem | None:
    import urllib3
    from minio import Minio
    from minio.error import S3Error

    context = ssl.create_default_context(cafile=str(ca_file))
    names: dict[str, Any] = {"server_hostname": server.host, "assert_hostname": server.host}
    pool = urllib3.PoolManager(
        timeout=urllib3.Timeout(_SECONDS),
        retries=urllib3.Retry(1),
        ssl_context=context,
        **(names if server.tls else {}),
    )
    client = Minio(
        endpoint=f"{address or server.host}:{server.port}",
        access_key=server.user,
        secret_key=password.reveal(),
        secure=server.tls,
        region=server.region,
        http_client=pool,
    )
    try:
        client.list_buckets()
    except S3Error as error:
        if error.code in ("InvalidAccessKeyId", "SignatureDoesNotMatch"):
            advice = f"set the right one: dap secret set {server.name}.root_password"
            return "user", f"is refused with the secret key that is known: {error.message}", advice
        return (
            "user",
            f"may not list buckets: {error.message}",
            "give the key the rights to make and use buckets",
        )
    except urllib3.exceptions.HTTPError as error:
        said = " ".join(str(error).split())
        if "CERTIFICATE" in said:
            return "url", "has a certificate that nothing here trusts", "name its CA in trust.extra_cas"
        raise _UnreachableError(said) from error
    return None
