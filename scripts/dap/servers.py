"""The servers of databases and object storage, the platform's or the operator's, as services reach them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from dap.configuration.schema import External
from dap.services.manifest import Service
from dap.site import Site

_PORTS = {"postgresql": 5432, "http": 80, "https": 443}
_S3_PORT = 9000


@dataclass(frozen=True)
class Server:
    """A server of databases or buckets.

    Attributes:
        service: the service whose place it has; its manifest says what the server is for.
        host: its name on the platform's network, which certificates are checked against.
        tls: whether TLS is spoken with it.
        external: what the operator says of a server of their own; None for the platform's.
    """

    service: Service
    host: str
    port: int
    tls: bool
    external: External | None = None

    @property
    def name(self) -> str:
        """The name of the service."""
        return self.service.name

    @property
    def user(self) -> str:
        """The role of a PostgreSQL server that makes databases and roles."""
        return self.external.user if self.external else "postgres"

    @property
    def sslmode(self) -> str:
        """``sslmode`` for PostgreSQL's clients."""
        return "verify-full" if self.tls else "disable"

    @property
    def endpoint(self) -> str:
        """The address of an S3 server."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def region(self) -> str:
        """The region of an S3 server."""
        return self.external.region if self.external else "us-east-1"

    def known_address(self, site: Site) -> str | None:
        """The address that ``extra_hosts`` has for its name."""
        address = site.platform.extra_hosts.get(self.host)
        return str(address) if address else None

    @property
    def own_keys(self) -> bool:
        """Whether keys can be made on an S3 server; otherwise all share one."""
        return self.external is None or self.external.own_keys


def servers(site: Site, kind: str) -> list[Server]:
    """The servers that provide ``postgres`` or ``s3``, by the name of their service."""
    every = [*site.providers(kind), *(own for own in site.external.values() if own.manifest.provides == kind)]
    return [server_of(site, service) for service in sorted(every, key=lambda service: service.name)]


def server_of(site: Site, service: Service) -> Server:
    """The server that is ``service`` or stands in for it."""
    external = site.settings(service).external
    if external is None:
        if service.manifest.provides == "s3":
            return Server(service, service.name, _S3_PORT, tls=False)
        own_tls = service.manifest.tls is not None
        return Server(service, site.own_host(service) if own_tls else service.name, 5432, own_tls)
    parts = urlsplit(external.url)
    port = parts.port or _PORTS[parts.scheme]
    plain = parts.scheme == "http" or parse_qs(parts.query).get("sslmode") == ["disable"]
    return Server(service, parts.hostname or "", port, not plain, external)


def server_named(site: Site, name: str) -> Server:
    """The server that is the service ``name`` or stands in for it."""
    return server_of(site, site.external.get(name) or site.services[name])


def public_address(site: Site, server: Server) -> str:
    """Where users reach a server: ``host:port`` of PostgreSQL, the URL of S3."""
    if server.service.manifest.provides == "s3":
        return server.endpoint if server.external else site.url(server.service.manifest.web[0])
    if server.external:
        return f"{server.host}:{server.port}"
    return f"{server.host}:{site.published_port(server.service, server.service.manifest.ports[0])}"
