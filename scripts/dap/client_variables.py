"""The variables by which client programs find the platform: in CI jobs and in development containers."""

from __future__ import annotations

from dap.rendering.portal import connect
from dap.servers import Server, public_address, servers
from dap.site import Site

# Python, Go, R, OpenSSL; requests and pip; curl; Git; Node; boto3 and AWS; PostgreSQL.
_CA_VARIABLES = (
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS"),
    *("AWS_CA_BUNDLE", "PGSSLROOTCERT"),
)


def of_trust(file: str) -> dict[str, str]:
    """What makes programs trust the authorities in ``file``."""
    return dict.fromkeys(_CA_VARIABLES, file)


def of_tracking(site: Site) -> dict[str, str]:
    """Where MLflow is; nothing without it."""
    url = connect(site)["mlflow_url"]
    return {"MLFLOW_TRACKING_URI": url} if url else {}


def of_storage(site: Site) -> dict[str, str]:
    """Where the buckets of projects are; nothing without object storage."""
    found = [server for server in servers(site, "s3") if server.service.manifest.projects]
    if not found:
        return {}
    return {"AWS_ENDPOINT_URL": public_address(site, found[0]), "AWS_DEFAULT_REGION": found[0].region}


def of_database(site: Site, server: Server) -> dict[str, str]:
    """Where the databases of projects are."""
    host, _, port = public_address(site, server).rpartition(":")
    sslmode = server.sslmode if server.external else "verify-full"
    return {"PGHOST": host, "PGPORT": port, "PGSSLMODE": sslmode}
