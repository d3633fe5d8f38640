"""The resolved platform: which services run on which host, under which names and addresses.

Everything here is derived from the operator's configuration and the manifests; nothing is read from a host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from dap.configuration.inventory import Host, Inventory, load_inventory
from dap.configuration.schema import Platform
from dap.errors import ConfigurationError, DapError, Finding
from dap.layout import compose_dir, inventory_dir, shown
from dap.services.manifest import Port, Service, Web, find_folders, load_services


@dataclass(frozen=True)
class Vhost:
    """A name that the proxy serves."""

    host: str
    service: str
    title: str
    upstream: str
    web: Web


@dataclass(frozen=True)
class ProjectNames:
    """What a project is called in the services."""

    name: str
    summary: str

    @property
    def database(self) -> str:
        """Database, and the role that owns it."""
        return self.name.replace("-", "_")

    @property
    def bucket(self) -> str:
        """Bucket, and the name of the policy that lets the project's key use it."""
        return self.name


@dataclass(frozen=True)
class Site:
    """An inventory together with the services that it runs.

    Attributes:
        services: by name, in alphabetical order.
        left_out: services that do not run here, and why.
    """

    inventory: Inventory
    services: Mapping[str, Service]
    left_out: Mapping[str, tuple[Service, str]] = field(default_factory=dict)

    @property
    def platform(self) -> Platform:
        """The operator's configuration."""
        return self.inventory.platform

    @cached_property
    def projects(self) -> list[ProjectNames]:
        """The configured projects."""
        return [ProjectNames(project.name, project.summary) for project in self.platform.projects]

    def services_on(self, host: Host) -> dict[str, Service]:
        """The services that run on ``host``."""
        roles = {"service_host": "service", "runner_hosts": "runner"}
        wanted = {roles[group] for group in host.groups if group in roles}
        return {name: service for name, service in self.services.items() if service.manifest.role in wanted}

    def web_host(self, web: Web) -> str:
        """The full host name of a manifest's web name."""
        return self.platform.domain if web.name == "@" else f"{web.name}.{self.platform.domain}"

    def own_host(self, service: Service) -> str:
        """The host name of a service that ends TLS itself."""
        return f"{service.name}.{self.platform.domain}"

    @property
    def port_suffix(self) -> str:
        """``:port`` for URLs, empty on the standard port."""
        return "" if self.platform.ports.https == 443 else f":{self.platform.ports.https}"

    def url(self, web: Web) -> str:
        """The address that users type, without a slash at the end."""
        return f"https://{self.web_host(web)}{self.port_suffix}"

    @cached_property
    def vhosts(self) -> list[Vhost]:
        """Every name that the proxy serves, in the order of the services."""
        return [
            Vhost(self.web_host(web), service.name, service.manifest.title, f"{service.name}:{web.port}", web)
            for service in self.services.values()
            for web in service.manifest.web
        ]

    @cached_property
    def names(self) -> list[str]:
        """Every host name of the platform: the proxy's and those of services that end TLS themselves."""
        own = [
            self.own_host(service)
            for service in self.services.values()
            if service.manifest.tls and service.manifest.tls.names == "own"
        ]
        return sorted({self.platform.domain, *(vhost.host for vhost in self.vhosts), *own})

    def tls_names(self, service: Service) -> list[str]:
        """The names on the certificate of ``service``."""
        tls = service.manifest.tls
        if tls is None:
            return []
        if tls.names == "own":
            return [self.own_host(service)]
        return sorted({self.platform.domain, *(vhost.host for vhost in self.vhosts)})

    def providers(self, kind: str) -> list[Service]:
        """The services whose manifest says ``provides: kind``."""
        return [service for service in self.services.values() if service.manifest.provides == kind]

    def published_port(self, port: Port) -> int:
        """A manifest's port on the host: ``ports.<name>`` of the configuration, else as in the container."""
        number: int | None = getattr(self.platform.ports, port.name, port.container)
        if number is None:
            raise DapError(f"port {port.name}: neither the configuration nor the manifest gives a number")
        return number


def load_site(inventory_name: str) -> Site:
    """Read and check all that the operator wrote; no host is touched.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    folders = find_folders([compose_dir(), inventory_dir(inventory_name) / "compose"])
    inventory = load_inventory(inventory_name, folders)
    services = load_services(folders)
    settings = inventory.platform.services
    left_out = [name for name in services if name in settings and not settings[name].enabled]
    kept = {name: service for name, service in services.items() if name not in left_out}
    findings = [
        Finding(
            shown(inventory.platform_file),
            f"services.{name}.enabled",
            "false",
            f"leaves out what {', '.join(users)} needs",
            f"remove it, or switch off {', '.join(users)} too",
        )
        for name in left_out
        if (users := [other for other, service in kept.items() if name in _needed_by(service, services)])
    ]
    if findings:
        raise ConfigurationError(findings)
    reasons = {name: "switched off in platform.yml" for name in left_out}
    return Site(inventory, kept, {name: (services[name], reason) for name, reason in reasons.items()})


def _needed_by(service: Service, services: Mapping[str, Service]) -> set[str]:
    """The services without which ``service`` cannot run."""
    manifest = service.manifest
    needed = {*manifest.needs, *(database.server for database in manifest.databases)}
    if manifest.image.same_as:
        needed.add(manifest.image.same_as)
    if manifest.buckets:
        needed |= {name for name, other in services.items() if other.manifest.provides == "s3"}
    return needed
