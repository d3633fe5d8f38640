"""What is there: containers, certificates, and the place from which users see it."""

from __future__ import annotations

import difflib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from dap.configuration.inventory import Host
from dap.containers import Container, argv_on, list_containers
from dap.credentials import Credentials
from dap.errors import DapError, RefusedError
from dap.gitlab.api import GitlabApi
from dap.gitlab.ci import KnownRunner, known_runners
from dap.gpus.listing import KnownGpu, known_gpus
from dap.layout import secrets_dir
from dap.rendering.portal import colon_fingerprint
from dap.secrets import SecretStore
from dap.site import Site
from dap.trust import certificates, pem, tls
from dap.verify import Place, Result


@dataclass(frozen=True)
class Status:
    """The state of a deployment.

    Attributes:
        missing: (host, service) of services that should run and have no container.
        certificates: days that each certificate still has, by service.
        unreached: hosts whose engine could not be asked, and why.
        runners: what runs CI jobs, as GitLab has it; None where it was not or could not be asked.
        gpus: those of the hosts that answered.
    """

    site: Site
    containers: list[Container]
    missing: list[tuple[str, str]]
    certificates: dict[str, int]
    unreached: dict[str, str] = field(default_factory=dict)
    runners: list[KnownRunner] | None = None
    gpus: list[KnownGpu] = field(default_factory=list)

    @property
    def deployed(self) -> bool:
        """Whether anything of the platform is there."""
        return bool(self.containers)

    @property
    def well(self) -> bool:
        """Whether everything that should run does, and is healthy."""
        all_well = all(container.well for container in self.containers)
        return all_well and not self.missing and not self.unreached

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "ok": self.well,
            "containers": [container.as_json() for container in self.containers],
            "missing": [{"host": host, "service": service} for host, service in self.missing],
            "unreached": [{"host": host, "reason": reason} for host, reason in self.unreached.items()],
            "left_out": [
                {"service": name, "reason": reason} for name, (_, reason) in self.site.left_out.items()
            ],
            "certificates": [
                {"service": name, "days_left": days} for name, days in sorted(self.certificates.items())
            ],
            "runners": None if self.runners is None else [runner.as_json() for runner in self.runners],
            "gpus": [gpu.as_json() for gpu in self.gpus],
        }


def status_of(site: Site) -> Status:
    """Ask every host.

    Raises:
        DapError: if none can be asked.
    """
    hosts = site.inventory.hosts
    found: dict[str, list[Container]] = {}
    silent: dict[str, DapError] = {}

    def ask(host: Host) -> None:
        try:
            found[host.name] = list_containers(site, host)
        except DapError as error:
            silent[host.name] = error

    with ThreadPoolExecutor(max_workers=16) as pool:
        gpus = pool.submit(known_gpus, site)
        list(pool.map(ask, hosts))
    if not found:
        raise next(iter(silent.values()))
    missing = []
    for host in hosts:
        if host.name in silent:
            continue
        present = {container.service for container in found[host.name]}
        wanted = [
            name for name, service in site.services_on(host).items() if service.manifest.provides != "jobs"
        ]
        missing += [(host.name, name) for name in wanted if name not in present]
    return Status(
        site,
        [container for host in hosts for container in found.get(host.name, [])],
        missing,
        tls.days_left(site),
        {
            host.name: silent[host.name].message.removeprefix(f"{host.name}: ")
            for host in hosts
            if host.name in silent
        },
        gpus=gpus.result(),
    )


def with_runners(status: Status) -> Status:
    """The state together with what GitLab says of the runners, where there are any."""
    if not status.site.providers("runner") or not status.deployed:
        return replace(status, runners=[])
    try:
        with GitlabApi(place_of(status.site)) as api:
            return replace(status, runners=known_runners(status.site, api))
    except DapError:
        return status


def container_results(site: Site) -> list[Result]:
    """The state of the containers as a result of verification, one for each host.

    Raises:
        DapError: there is no container at all, so that no other check would say anything new.
    """
    status = status_of(site)
    if not status.deployed:
        raise DapError(
            f"inventory {site.inventory.name} is not deployed: there is no container of it",
            f"dap -e {site.inventory.name} deploy",
        )
    results = []
    for host in site.inventory.hosts:
        if host.name in status.unreached:
            results.append(Result(host.name, "containers", False, status.unreached[host.name]))
            continue
        containers = [container for container in status.containers if container.host == host.name]
        bad = [
            f"{entry.service} is {entry.state} {entry.health}".rstrip()
            + (f" ({entry.complaint})" if entry.complaint else "")
            for entry in containers
            if not entry.well
        ]
        bad += [f"{service} has no container" for name, service in status.missing if name == host.name]
        detail = "; ".join(bad) or f"{len(containers)} running and healthy"
        results.append(Result(host.name, "containers", not bad, detail))
    return results


def place_of(site: Site) -> Place:
    """The place of a user of a deployed platform.

    Raises:
        RefusedError: if the inventory was never deployed, so that there is nothing to log in to.
    """
    folder = secrets_dir() / site.inventory.name
    store = SecretStore.load(folder, site.inventory.name)
    if store.is_new:
        raise RefusedError(
            f"inventory {site.inventory.name} has no secrets yet: it was never deployed from here",
            f"dap -e {site.inventory.name} deploy",
        )
    return Place(site, Credentials(site, store, generate=False), tls.trusted_file(site, folder))


@dataclass(frozen=True)
class CaCertificate:
    """The platform's CA certificate.

    Attributes:
        fingerprint: SHA-256, upper-case hex pairs with colons, as browsers and the portal show it.
    """

    pem: str
    fingerprint: str


def ca_certificate(site: Site) -> CaCertificate:
    """The platform's CA certificate.

    Raises:
        RefusedError: if the platform has none.
    """
    if site.platform.tls.mode != "private-ca":
        raise RefusedError(
            f"inventory {site.inventory.name} uses the operator's own certificate (tls.mode: files)",
            "hand out the CA that issued it",
        )
    file = secrets_dir() / site.inventory.name / "ca.crt"
    if not file.is_file():
        raise RefusedError(
            f"{file} does not exist: the CA is made by the first deploy",
            f"dap -e {site.inventory.name} deploy",
        )
    content = pem.certificate_pem(certificates.read_ca_certificate(file.parent))
    return CaCertificate(content.decode(), colon_fingerprint(content))


def logs_argv(site: Site, service: str, *, follow: bool, lines: int) -> list[str]:
    """What to run to see the log of ``service``.

    Raises:
        RefusedError: if there is no such service, with the nearest name.
    """
    for host in site.inventory.hosts:
        if service in site.services_on(host) and site.services[service].manifest.provides != "jobs":
            argv = ["docker", "logs", "--tail", str(lines), "--timestamps"]
            return argv_on(host, [*argv, *["--follow"] * follow, f"{site.platform.platform_name}-{service}"])
    names = [name for name, other in site.services.items() if other.manifest.provides != "jobs"]
    near = difflib.get_close_matches(service, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
    raise RefusedError(f"{service!r} is not a running service of inventory {site.inventory.name}", hint)
