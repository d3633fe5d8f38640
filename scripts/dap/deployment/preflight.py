"""Preflight: what the hosts must offer, and what is wrong with them, all findings at once."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any

from dap.configuration.inventory import Host
from dap.configuration.values import mebibytes
from dap.dev.numbers import address_on, ports_on
from dap.errors import Finding, Problems
from dap.gpus.claims import claims_of
from dap.hosts.ansible import Run
from dap.hosts.facts import HostFacts
from dap.images.builds import Pull
from dap.images.distribution import Distribution
from dap.layout import shown
from dap.servers import servers
from dap.services import choices
from dap.services.manifest import Service
from dap.site import Site

_DISK_GIB = 15
_MEMORY_MIB = 2048
_CLOCK_SECONDS = 120


def wanted(site: Site, host: Host) -> dict[str, Any]:
    """What a host must offer: ports, memory in MiB, disk in GiB, servers to reach.

    What services need that may be left out is not asked for; `left_out` judges that.
    """
    services = site.services_on(host)
    sure = [
        service for service in services.values() if choices.choice(service, site.platform.services) != "auto"
    ]
    memory = sum(mebibytes(service.manifest.minimum_memory) for service in sure)
    disk = sum(mebibytes(service.manifest.minimum_disk) for service in sure)
    external = [server for kind in ("postgres", "s3") for server in servers(site, kind) if server.external]
    return {
        "ports": [
            {
                "port": site.published_port(service, port),
                "address": str(site.platform.listen_address),
                "service": service.name,
            }
            for service in services.values()
            for port in service.manifest.ports
        ]
        + [
            {
                "port": port,
                "address": address_on(site, host),
                "service": f"the development container {name}",
            }
            for name, port in ports_on(site, host)
        ],
        "gpus": any(claim.host == host.name for claim in claims_of(site)),
        "memory_required_mib": (_MEMORY_MIB if services else 512) + memory,
        "disk_required_gib": _DISK_GIB + disk // 1024,
        "endpoints": [
            {"name": server.name, "host": server.known_address(site) or server.host, "port": server.port}
            for server in external
            if services
        ],
    }


def left_out(
    distribution: Distribution,
    facts: Mapping[str, HostFacts],
    problems: Problems,
    *,
    bundled: bool = False,
) -> dict[str, str]:
    """The services set to ``auto`` that cannot run on their hosts, and why.

    Args:
        problems: gets the images of services that must run, where they are neither there nor to be had.
        bundled: they come from a bundle, and not from registries.
    """
    site, pulls = distribution.site, distribution.every.pulls
    out: dict[str, str] = {}
    for host in (host for host in site.inventory.hosts if host.name in facts):
        found, supplier = facts[host.name], distribution.supplier(host)
        for name, service in site.services_on(host).items():
            auto = choices.choice(service, site.platform.services) == "auto"
            for pull in pulls:
                lack = facts[supplier.name].images.get(pull.name) if name in pull.users else None
                if lack and auto:
                    out[name] = f"its image {pull.reference} cannot be had: {lack}"
                elif lack:
                    problems.add(_no_image(site, name, pull, supplier.name, lack, bundled))
            # What runs already is not taken away because the host has become full.
            if auto and name not in found.deployed and (small := _too_small(service, host.name, found)):
                out[name] = small
    return out


def _too_small(service: Service, host: str, found: HostFacts) -> str:
    """Why a host is too small for a service; empty if it is not."""
    memory = _MEMORY_MIB + mebibytes(service.manifest.minimum_memory)
    disk = _DISK_GIB * 1024 + mebibytes(service.manifest.minimum_disk)
    for kind, there, needed in (("memory", found.memory_mib, memory), ("free disk", found.free_mib, disk)):
        if there < needed:
            return f"{host} has {there / 1024:.1f} GiB of {kind}, and {needed / 1024:.1f} GiB are needed"
    return ""


def _no_image(site: Site, service: str, pull: Pull, host: str, lack: str, bundled: bool) -> Finding:
    way = "make the bundle anew" if bundled else "set mirrors.registry or proxy"
    return Finding(
        shown(site.inventory.platform_file),
        f"services.{service}",
        pull.reference,
        f"is an image that {host} neither has nor can {'get' if bundled else 'pull'}: {lack}",
        f"load it there (docker load), {way}, or write services.{service}.enabled: auto",
    )


def facts_of(run: Run) -> dict[str, HostFacts]:
    """Facts of every host from a run of the playbook ``preflight``."""
    return {host: HostFacts.of(result["facts"]) for (_, host), result in run.results.items()}


def judge(
    run: Run, problems: Problems, ignored: Collection[str] = (), absent: Collection[str] = ()
) -> list[str]:
    """Warnings of all hosts.

    Args:
        problems: gets what is wrong with hosts, and which could not be looked at.
        ignored: services whose findings don't count, because they are left out.
        absent: hosts that the deploy goes on without.
    """
    for host, message in run.failures:
        if host not in absent:
            problems.add(f"{host}: {message}")
    warnings: list[str] = []
    for (_, host), result in run.results.items():
        for finding in [*result["findings"], *_clock(result["facts"])]:
            if finding.get("service") in ignored:
                continue
            value = f" = {finding['value']}" if finding.get("value") not in (None, "") else ""
            text = (
                f"{host}: {finding['subject']}{value}\n    {finding['reason']}\n    {finding['suggestion']}"
            )
            if finding["severity"] == "error":
                problems.add(text)
            else:
                warnings.append(text)
    return warnings


def find_oversized(site: Site, facts: Mapping[str, HostFacts], problems: Problems) -> None:
    """Find limits that a host cannot give: the engine takes more cores than there are for an error."""
    for host in (host for host in site.inventory.hosts if host.name in facts):
        for name, settings in site.platform.services.items():
            if name in site.services_on(host):
                _find_cores(site, host, facts, (f"services.{name}.cpus", settings.cpus), problems)
        for box in site.dev_containers:
            if box.host.name != host.name:
                continue
            where = f"dev_containers[{box.index}]"
            _find_cores(site, host, facts, (f"{where}.cpus", box.settings.cpus), problems)
            if mebibytes(box.settings.memory) > facts[host.name].memory_mib:
                problems.add(
                    Finding(
                        shown(site.inventory.platform_file),
                        f"{where}.memory",
                        box.settings.memory,
                        f"is more than the {facts[host.name].memory_mib} MiB of {host.name}",
                        f"write at most {facts[host.name].memory_mib}m, or name another host",
                    )
                )


def _find_cores(
    site: Site,
    host: Host,
    facts: Mapping[str, HostFacts],
    setting: tuple[str, float | None],
    problems: Problems,
) -> None:
    where, wanted_cores = setting
    cores = facts[host.name].cpus
    if wanted_cores and wanted_cores > cores:
        problems.add(
            Finding(
                shown(site.inventory.platform_file),
                where,
                str(wanted_cores),
                f"is more than the {cores} cores of {host.name}",
                f"write at most {cores}, or remove it",
            )
        )


def _clock(facts: dict[str, Any]) -> list[dict[str, str]]:
    """A wrong clock makes certificates invalid and S3 signatures expire."""
    off = int(facts["epoch"] - time.time())
    if abs(off) <= _CLOCK_SECONDS:
        return []
    return [
        {
            "severity": "error",
            "subject": "clock",
            "value": f"{off:+d} s",
            "reason": f"differs from this machine's by more than {_CLOCK_SECONDS} s",
            "suggestion": "set the time, for example with: apt-get install chrony",
        }
    ]
