"""GPUs as a part of a deploy: promised before anything is rendered, on hosts that are prepared for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dap.errors import DapError, Problems
from dap.gpus import asking, promises
from dap.gpus.claims import claims_of, without_gpu
from dap.gpus.found import Found
from dap.hosts import playbook_variables
from dap.hosts.facts import HostFacts
from dap.plan import Change

if TYPE_CHECKING:
    from dap.deployment.deploy import Deployment


def promise(deployment: Deployment, facts: Mapping[str, HostFacts], problems: Problems) -> dict[str, Found]:
    """Promise everybody the GPUs of the site that they want; the hosts that are to be prepared for it first.

    Args:
        problems: gets what cannot be promised.
    """
    found = {host: seen.gpus for host, seen in facts.items() if seen.gpus}
    waiting = {host: has for host, has in found.items() if _to_be_prepared(deployment, host, has)}
    ready = {host: has for host, has in found.items() if host not in waiting}
    deployment.site, refused = promises.settle(deployment.site, ready)
    for findings in refused.values():
        for finding in findings:
            problems.add(finding)
    deployment.outcome.warnings += without_gpu(deployment.site)
    return waiting


def _to_be_prepared(deployment: Deployment, host: str, found: Found) -> bool:
    """Whether a host has a driver that works, and no spec of it, or one of another version of the driver."""
    wanted = any(claim.host == host and claim.of_usual_kind for claim in claims_of(deployment.site))
    works = bool(found.driver or found.uuids) and not found.complaint
    fits = any(not device.lacking for device in found.single)
    return deployment.site.platform.gpus.prepare and wanted and works and not fits


def prepare(deployment: Deployment, waiting: Mapping[str, Found], *, check: bool) -> None:
    """Install the toolkit where it is missing, write the specs, and promise what they name.

    Raises:
        DapError: hosts do not have what is wanted of them even then.
    """
    for host, found in waiting.items():
        steps = (
            ["CDI spec written"]
            if found.toolkit
            else ["NVIDIA's container toolkit installed", "CDI spec written"]
        )
        deployment.outcome.plan.hosts += [Change(host, step) for step in steps]
    if check:
        return
    site = deployment.site
    variables = playbook_variables.of_platform(site) | {
        "hosts": {host: {"toolkit": found.toolkit} for host, found in waiting.items()}
    }
    with deployment.progress.step("GPUs"):
        deployment.play(variables, playbook="gpus", limit=[*waiting])
        hosts = [host for host in site.inventory.hosts if host.name in waiting]
        now = {host.name: asking.ask(site.inventory.name, host) for host in hosts}
        deployment.site, refused = promises.settle(site, now)
        told = "\n".join(f"  {finding}" for findings in refused.values() for finding in findings)
        if told:
            raise DapError(
                f"GPUs cannot be promised, although their hosts were prepared:\n{told}",
                f"correct this, then: dap -e {site.inventory.name} deploy",
            )
