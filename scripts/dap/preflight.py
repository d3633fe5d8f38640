"""Preflight: what the hosts must offer, and what is wrong with them, all findings at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dap.errors import ConfigurationError, Finding, RefusedError
from dap.facts import HostFacts
from dap.hosts import Run
from dap.layout import shown
from dap.site import Site

_DISK_GIB = 15
_CLOCK_SECONDS = 120


def wanted(site: Site) -> dict[str, dict[str, Any]]:
    """What each host must offer: published ports, memory in MiB, disk in GiB."""
    return {
        host.name: {
            "ports": [
                {
                    "port": site.published_port(port),
                    "address": str(site.platform.listen_address),
                    "service": service.name,
                }
                for service in site.services_on(host).values()
                for port in service.manifest.ports
            ],
            "memory_required_mib": 2048 if site.services_on(host) else 512,
            "disk_required_gib": _DISK_GIB,
        }
        for host in site.inventory.hosts
    }


def facts_of(run: Run) -> dict[str, HostFacts]:
    """Facts of every host from a run of the playbook ``preflight``."""
    return {host: HostFacts.of(result["facts"]) for (_, host), result in run.results.items()}


def judge(run: Run) -> tuple[dict[str, HostFacts], list[str]]:
    """Facts of every host, and warnings.

    Raises:
        RefusedError: if any host has an error; the message lists them all.
    """
    errors: list[str] = []
    warnings: list[str] = []
    for (_, host), result in run.results.items():
        for finding in [*result["findings"], *_clock(result["facts"])]:
            value = f" = {finding['value']}" if finding.get("value") not in (None, "") else ""
            text = (
                f"{host}: {finding['subject']}{value}\n    {finding['reason']}\n    {finding['suggestion']}"
            )
            (errors if finding["severity"] == "error" else warnings).append(text)
    if errors:
        count = f"{len(errors)} error{'s' if len(errors) > 1 else ''}"
        raise RefusedError("\n  ".join([f"preflight found {count}; nothing was changed:", *errors]))
    return facts_of(run), warnings


def refuse_oversized(site: Site, facts: Mapping[str, HostFacts]) -> None:
    """Refuse limits that a host cannot give: the engine takes more cores than there are for an error.

    Raises:
        ConfigurationError: with each such setting.
    """
    findings = [
        Finding(
            shown(site.inventory.platform_file),
            f"services.{name}.cpus",
            str(settings.cpus),
            f"is more than the {facts[host.name].cpus} cores of {host.name}",
            f"write at most {facts[host.name].cpus}, or remove it",
        )
        for host in site.inventory.hosts
        for name, settings in site.platform.services.items()
        if name in site.services_on(host) and settings.cpus and settings.cpus > facts[host.name].cpus
    ]
    if findings:
        raise ConfigurationError(findings)


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
