"""The resolved platform: which services run on which host, under which names and addresses.

Everything here is derived from the operator's configuration and the manifests; nothing is read from a host.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from dap.configuration.inventory import Host, Inventory, load_inventory
from dap.configuration.schema import Platform, ServiceSettings, User
from dap.dev.containers import DevContainer, resolve
from dap.errors import ConfigurationError, DapError, Finding
from dap.images import environments
from dap.images.builds import BASE
from dap.images.environments import CODE_SERVER, Environment
from dap.layout import compose_dir, environments_dir, inventory_dir, shown
from dap.services import choices, customization
from dap.services.manifest import Port, Service, Web, find_folders, load_services

GITLAB = "gitlab"
# In a project's members: all other users.
EVERYBODY = "*"
WITH_DATA = ("developer", "maintainer", "owner")


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
    members: Mapping[str, str] = field(default_factory=dict, hash=False)
    examples: bool = False

    @property
    def database(self) -> str:
        """Database, and the role that owns it."""
        return self.name.replace("-", "_")

    @property
    def bucket(self) -> str:
        """Bucket, and the name of the policy that lets the project's key use it."""
        return self.name

    def role_of(self, user: str) -> str | None:
        """The role of a user by the configuration; None for who is no member."""
        return self.members.get(user) or self.members.get(EVERYBODY)


@dataclass(frozen=True)
class Site:
    """An inventory together with the services that it runs.

    Attributes:
        services: those that run here, by name, in alphabetical order.
        left_out: services that do not run here, and why.
        external: services in whose place the operator names a server.
        chosen_environments: those that the operator wants, by name.
        known_environments: all that there are, by name.
        dev_containers: what users work in.
        gpus: the devices that this run promises to whom, see `dap.gpus`; None before hosts were looked at.
    """

    inventory: Inventory
    services: Mapping[str, Service]
    left_out: Mapping[str, tuple[Service, str]] = field(default_factory=dict)
    external: Mapping[str, Service] = field(default_factory=dict)
    chosen_environments: Mapping[str, Environment] = field(default_factory=dict)
    known_environments: Mapping[str, Environment] = field(default_factory=dict)
    dev_containers: tuple[DevContainer, ...] = ()
    gpus: Mapping[str, tuple[str, ...]] | None = None

    @property
    def environments(self) -> Mapping[str, Environment]:
        """The environments whose images hosts run, by name."""
        of_containers = {name for one in self.dev_containers for name in self._images_of(one)}
        developed = {name: self.known_environments[name] for name in sorted(of_containers)}
        return {**self.job_environments, **developed}

    @property
    def job_environments(self) -> Mapping[str, Environment]:
        """The environments that CI jobs may run in, by name: every host that runs jobs has their images."""
        used = any(service.manifest.environments for service in self.services.values())
        return self.chosen_environments if used else {}

    @property
    def shared_environments(self) -> Mapping[str, Environment]:
        """The environments whose images users may pull from the platform's registry, by name."""
        if not (self.platform.share_environments and self.providers("images")):
            return {}
        return {name: one for name, one in self.environments.items() if name not in environments.TOOLS}

    def dev_environments_on(self, host: Host) -> frozenset[str]:
        """The environments of the development containers of ``host``, and what they get from others."""
        boxes = [one for one in self.dev_containers if one.host.name == host.name]
        return frozenset(name for one in boxes for name in self._images_of(one))

    @staticmethod
    def _images_of(box: DevContainer) -> set[str]:
        return {box.environment, CODE_SERVER} if box.settings.code_server else {box.environment}

    def dev_beside(self, host: Host) -> bool:
        """Whether development containers may run on ``host`` beside the services that have public names."""
        inventory = self.inventory
        alone = len(inventory.hosts) == 1
        return host.name == inventory.service_host.name and (alone or host in inventory.runner_hosts)

    @property
    def platform(self) -> Platform:
        """The operator's configuration."""
        return self.inventory.platform

    def settings(self, service: Service) -> ServiceSettings:
        """What the operator has set for ``service``."""
        return self.platform.services.get(service.name, ServiceSettings())

    def customization(self, service: Service) -> Path:
        """The operator's folder for a service of the product, whether or not it exists."""
        return inventory_dir(self.inventory.name) / "compose" / service.name

    def without(self, reasons: Mapping[str, str]) -> Site:
        """The site without some services, which may run or not as the platform decides.

        Args:
            reasons: service to why it is left out.

        Raises:
            ConfigurationError: one of them is needed by a service that must run.
        """
        reasons = choices.cascade(reasons, self.services, self.platform, shown(self.inventory.platform_file))
        left_out = {**self.left_out, **{name: (self.services[name], why) for name, why in reasons.items()}}
        kept = {name: service for name, service in self.services.items() if name not in reasons}
        return replace(self, services=kept, left_out=dict(sorted(left_out.items())))

    @cached_property
    def projects(self) -> list[ProjectNames]:
        """The configured projects."""
        return [
            ProjectNames(project.name, project.summary, project.members, project.examples)
            for project in self.platform.projects
        ]

    def projects_of(self, user: User) -> list[ProjectNames]:
        """The projects whose data a user may use with logins of their own."""
        if user.disabled:
            return []
        return [project for project in self.projects if project.role_of(user.name) in WITH_DATA]

    def email_of(self, user: User) -> str:
        """A user's e-mail address, which is made of name and domain where none is written."""
        return user.email or f"{user.name}@{self.platform.domain}"

    def services_on(self, host: Host) -> dict[str, Service]:
        """The services that run on ``host``."""
        roles = {"service_host": "service", "runner_hosts": "runner"}
        wanted = {"both", *(roles[group] for group in host.groups if group in roles)}
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

    @property
    def registries(self) -> list[str]:
        """Container registries for which Docker has to trust the site's CAs, as it names them.

        Beside the platform's own it is the mirror: a running engine does not read the system's trust store.
        """
        own = [f"{vhost.host}{self.port_suffix}" for vhost in self.vhosts if vhost.web.registry]
        mirror = self.platform.mirrors.registry if self.platform.trust.extra_cas else None
        return sorted({*own, *([mirror.partition("/")[0]] if mirror else [])})

    def tls_names(self, service: Service) -> list[str]:
        """The names on the certificate of ``service``."""
        tls = service.manifest.tls
        if tls is None:
            return []
        if tls.names == "own":
            return [self.own_host(service)]
        return sorted({self.platform.domain, *(vhost.host for vhost in self.vhosts), *self.page_hosts})

    def has_page(self, box: DevContainer) -> bool:
        """Whether the proxy opens the page of a development container."""
        return (self.has_jupyter(box) or box.settings.code_server) and bool(self.providers("proxy"))

    def has_jupyter(self, box: DevContainer) -> bool:
        """Whether the page of a development container, where it has one, is its JupyterLab."""
        return box.settings.jupyter and self.known_environments[box.environment].has_jupyter

    def page_links(self, box: DevContainer) -> dict[str, str]:
        """What the page of a development container opens: titles and addresses."""
        if not self.has_page(box):
            return {}
        page, found = self.page_url(box), {}
        if self.has_jupyter(box):
            found["JupyterLab"] = page
        if box.settings.code_server:
            found["VS Code"] = f"{page}code/"
        return found

    def page_host(self, box: DevContainer) -> str:
        """The host name of the page of a development container."""
        return f"{box.name}.{self.platform.domain}"

    def page_url(self, box: DevContainer) -> str:
        """The address of the page of a development container."""
        return f"https://{self.page_host(box)}{self.port_suffix}/"

    @property
    def page_hosts(self) -> list[str]:
        """The host names of all pages of development containers."""
        return [self.page_host(box) for box in self.dev_containers if self.has_page(box)]

    def secrets_of(self, service: Service) -> dict[str, Service]:
        """The secrets that ``service`` reads, by name, with the service whose secret each is."""
        shared = {name: self.services[owner] for name, owner in service.manifest.shared_secrets.items()}
        return dict.fromkeys(service.manifest.secrets, service) | shared

    def providers(self, kind: str) -> list[Service]:
        """The services here whose manifest says ``provides: kind``."""
        return [service for service in self.services.values() if service.manifest.provides == kind]

    def published_port(self, service: Service, port: Port) -> int:
        """A manifest's port on the host.

        It is ``services.<service>.ports.<name>`` or ``ports.<name>`` of the configuration, else the same as
        in the container.
        """
        common: int | None = getattr(self.platform.ports, port.name, port.container)
        number = self.settings(service).ports.get(port.name, common)
        if number is None:
            raise DapError(
                f"{service.name}: neither the configuration nor the manifest gives port {port.name} a number",
                f"set services.{service.name}.ports.{port.name}",
            )
        return number


def load_site(inventory_name: str, *, reconsider: bool = False) -> Site:
    """Read and check all that the operator wrote; no host is touched.

    Args:
        reconsider: take every service that is set to ``auto`` as running, as a deploy does before it decides;
            otherwise what the last deploy decided holds.

    Raises:
        ConfigurationError: with everything that is wrong.
    """
    roots = [compose_dir(), inventory_dir(inventory_name) / "compose"]
    folders = find_folders(roots)
    inventory = load_inventory(inventory_name, folders)
    services = load_services(folders)
    settings = inventory.platform.services
    file = shown(inventory.platform_file)
    environment_folders = environments.find_environments(
        [environments_dir(), inventory_dir(inventory_name) / "environments"]
    )
    wanted, variants = inventory.platform.environments, inventory.platform.environment_variants
    known, wrong_environments = environments.load_environments(
        environment_folders, {*services, BASE}, variants
    )
    dev_containers, dev_findings = resolve(inventory, environment_folders, file)
    findings = [
        *dev_findings,
        *customization.findings(roots[1], folders),
        *wrong_environments,
        *environments.unknown(wanted, {*environment_folders} - {environments.CODE_SERVER}, file),
        *environments.unknown_variants(variants, known, environment_folders, file),
        *choices.findings(services, inventory.platform, file),
    ]
    if findings:
        raise ConfigurationError(findings)
    external = {name: service for name, service in services.items() if choices.is_external(service, settings)}
    reasons = choices.switched_off(services, settings)
    if len(inventory.hosts) == 1 and not inventory.platform.share_environments:
        reasons |= choices.without_other_hosts(services, settings)
    if not inventory.runner_hosts:
        reasons = choices.without_runner_hosts(services) | reasons
    kept = {name: service for name, service in services.items() if name not in {*external, *reasons}}
    left_out = {name: (services[name], reason) for name, reason in reasons.items()}
    builds = inventory.platform.runners.image_builds.enabled
    chosen = environments.chosen(known, wanted, with_builder=builds)
    site = Site(inventory, kept, left_out, external, chosen, known, dev_containers)
    # It asks for servers, which know what a site is.
    from dap import collisions
    from dap.dev import numbers
    from dap.gpus import claims

    checks = (_ports_twice, _unreachable, _unshared, collisions.findings, numbers.findings, claims.findings)
    wrong = [finding for check in checks for finding in check(site)]
    if wrong:
        raise ConfigurationError(wrong)
    decided = {} if reconsider else choices.recall(inventory.name)
    return site.without({name: why for name, why in decided.items() if name in kept})


def _unreachable(site: Site) -> Iterator[Finding]:
    """An address to listen on that other hosts cannot reach."""
    address, here = site.platform.listen_address, site.inventory.service_host.name
    others = [host.name for host in site.inventory.hosts if host.name != here]
    if address.is_loopback and others:
        yield Finding(
            shown(site.inventory.platform_file),
            "listen_address",
            str(address),
            f"is reached from {here} only, and {', '.join(others)} must reach it too",
            f"write the address of {here} in the network of all hosts, or remove it",
        )


def _unshared(site: Site) -> Iterator[Finding]:
    """Images that users are to pull from a registry that does not run."""
    if site.platform.share_environments and not site.providers("images"):
        yield Finding(
            shown(site.inventory.platform_file),
            "share_environments",
            "true",
            "needs the service registry, which is switched off",
            "remove services.registry.enabled, or share_environments",
        )


def _ports_twice(site: Site) -> Iterator[Finding]:
    """Services, and development containers, that publish the same port of one host."""
    for host in site.inventory.hosts:
        owners: dict[int, str] = {}
        for service in site.services_on(host).values():
            for port in service.manifest.ports:
                number = site.published_port(service, port)
                owner = owners.setdefault(number, f"{service.name}.{port.name}")
                if owner != f"{service.name}.{port.name}":
                    yield Finding(
                        shown(site.inventory.platform_file),
                        f"services.{service.name}.ports.{port.name}",
                        str(number),
                        f"is published by {owner} already",
                        "write another number",
                    )
        for box in site.dev_containers:
            if box.host.name == host.name and box.port:
                owner = owners.setdefault(box.port, f"dev_containers[{box.index}]")
                if owner != f"dev_containers[{box.index}]":
                    yield Finding(
                        shown(site.inventory.platform_file),
                        f"dev_containers[{box.index}].port",
                        str(box.port),
                        f"is published by {owner} already",
                        "write another number, or remove it",
                    )
