"""Names in the platform's servers that two owners claim: databases with their roles, buckets, policies.

Each owner is checked by itself where it is written down; here they meet, after what is made of their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dap.errors import Finding
from dap.layout import shown
from dap.servers import Server, servers
from dap.services.manifest import MANIFEST, Service
from dap.site import Site


@dataclass(frozen=True)
class _Claim:
    """A name that somebody wants on a server.

    Attributes:
        name: on the server.
        owner: for people: ``the service mlflow``.
        file: where the owner's name is written, as the operator would open it.
        path: where in the file.
        written: what is written there.
    """

    name: str
    owner: str
    file: str = ""
    path: str = ""
    written: str = ""


def findings(site: Site) -> Iterator[Finding]:
    """Every name on a server that somebody else has there already."""
    for server in _postgres_servers(site):
        yield from _taken_twice("database and role", _database_claims(site, server))
    for store in servers(site, "s3"):
        yield from _taken_twice("bucket", _bucket_claims(site, store))
    yield from _services_names(site)


def _services_names(site: Site) -> Iterator[Finding]:
    """Development containers with a service's name, which would be two on one network, or one web name."""
    owners = {
        label: name
        for name, service in site.services.items()
        for label in (name, *(web.name for web in service.manifest.web))
    }
    for box in site.dev_containers:
        if owner := owners.get(box.name):
            yield Finding(
                shown(site.inventory.platform_file),
                f"dev_containers[{box.index}].name",
                box.name,
                f"is a name of the service {owner}",
                "write a different name",
            )


def _taken_twice(kind: str, claims: Iterator[_Claim]) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for claim in claims:
        owner = owners.setdefault(claim.name, claim.owner)
        if owner != claim.owner:
            reason = f"would be the {kind} {claim.name}, which is that of {owner}"
            yield Finding(claim.file, claim.path, claim.written, reason, "write a different name")


def _postgres_servers(site: Site) -> list[list[Server]]:
    """The PostgreSQL servers; one that stands in for several services is one."""
    by_address: dict[tuple[str, int], list[Server]] = {}
    for server in servers(site, "postgres"):
        by_address.setdefault((server.host, server.port), []).append(server)
    return list(by_address.values())


def _database_claims(site: Site, same: list[Server]) -> Iterator[_Claim]:
    yield _Claim(same[0].user, "the server's administrator")
    names = {server.name for server in same}
    for service in site.services.values():
        for index, database in enumerate(service.manifest.databases):
            if database.server in names:
                yield _service_claim(service, f"databases[{index}].name", database.name)
    if any(server.service.manifest.projects for server in same):
        yield from _project_claims(site, "database")


def _bucket_claims(site: Site, store: Server) -> Iterator[_Claim]:
    for service in site.services.values():
        for index, bucket in enumerate(service.manifest.buckets):
            yield _service_claim(service, f"buckets[{index}].name", bucket.name)
    if store.service.manifest.projects:
        yield from _project_claims(site, "bucket")


def _service_claim(service: Service, path: str, name: str) -> _Claim:
    return _Claim(name, f"the service {service.name}", shown(service.folder / MANIFEST), path, name)


def _project_claims(site: Site, kind: str) -> Iterator[_Claim]:
    file = shown(site.inventory.platform_file)
    for index, project in enumerate(site.projects):
        name = project.bucket if kind == "bucket" else project.database
        yield _Claim(name, f"projects[{index}]", file, f"projects[{index}].name", project.name)
