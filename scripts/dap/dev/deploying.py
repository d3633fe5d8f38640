"""Development containers as a part of a deploy: made where they are missing, left alone where they run."""

from __future__ import annotations

from collections.abc import Mapping

from dap.configuration.inventory import Host
from dap.credentials import Credentials
from dap.deployment.outcome import Outcome
from dap.deployment.progress import Progress
from dap.dev import hosts, numbers
from dap.dev.rendering import DevRenderer, Rendered
from dap.errors import DapError
from dap.plan import Change
from dap.secrets import SecretStore
from dap.site import Site


def concerned(site: Site) -> list[Host]:
    """The hosts that have development containers, or had some at the last deploy."""
    names = {box.host.name for box in site.dev_containers} | {*numbers.recall(site.inventory.name).hosts}
    return [host for host in site.inventory.hosts if host.name in names]


def prepare(site: Site, store: SecretStore, *, keep: bool) -> dict[str, list[Rendered]]:
    """Render all containers, by host.

    Args:
        keep: whether what is made for them is remembered: before any host gets it.
    """
    given = numbers.numbers_of(site)
    renderer = DevRenderer(site, Credentials(site, store), given)
    found: dict[str, list[Rendered]] = {}
    for box in site.dev_containers:
        found.setdefault(box.host.name, []).append(renderer.render(box))
    if keep:
        store.save()
        known = numbers.recall(site.inventory.name)
        given.ports = {**known.ports, **given.ports}
        given.pages = {**known.pages, **given.pages}
        # Until they have been asked, hosts may still have containers that are no longer wanted.
        given.hosts = sorted({*given.hosts, *known.hosts})
        numbers.remember(site.inventory.name, given)
    return found


def bring(site: Site, store: SecretStore, outcome: Outcome, progress: Progress, *, check: bool) -> None:
    """Bring all development containers into state.

    Raises:
        DapError: it cannot be done on the service host; other hosts are named among the failed ones.
    """
    concerned_hosts = [host for host in concerned(site) if host.name not in outcome.failed]
    if not concerned_hosts:
        return
    with progress.step("Development containers"):
        wanted = prepare(site, store, keep=not check)
        told = hosts.bring_all(site, store.platform_id, wanted, concerned_hosts, check=check)
        _note(site, told, outcome)
    if not check:
        _forget_hosts(site, told)


def _note(site: Site, told: Mapping[str, hosts.Answer | DapError], outcome: Outcome) -> None:
    service_host = site.inventory.service_host.name
    failures = {host: answer for host, answer in told.items() if isinstance(answer, DapError)}
    for host, answer in told.items():
        if isinstance(answer, DapError):
            continue
        outcome.plan.dev += [Change(host, what) for what in answer.changes]
        outcome.warnings += [
            f"{name} runs as it was made before. To bring it up to date, which ends what runs in it:"
            f" dap -e {site.inventory.name} dev recreate {name}"
            for name in answer.outdated
        ]
        outcome.warnings += [
            f"{host}: homes are only watched, and not held to their limits: the file system of {folder}"
            " has no project quotas (docs/how-to/give-development-containers.md)"
            for folder in answer.watched
        ]
    outcome.changes = [(change.host, change.what) for change in outcome.plan.changes]
    if service_host in failures:
        raise failures[service_host]
    outcome.failed |= {host: error.message for host, error in failures.items()}


def _forget_hosts(site: Site, told: Mapping[str, hosts.Answer | DapError]) -> None:
    """Remember only hosts that have containers now, and those of which that is not known."""
    known = numbers.recall(site.inventory.name)
    having = {box.host.name for box in site.dev_containers}
    known.hosts = [host for host in known.hosts if host in having or isinstance(told.get(host), DapError)]
    numbers.remember(site.inventory.name, known)


def remove_all(site: Site, store: SecretStore) -> list[tuple[str, str]]:
    """Remove all development containers, as a part of removing the platform; homes stay with the data."""
    changes = []
    for host in concerned(site):
        answer = hosts.ask(site, host, store.platform_id, "remove_all")
        changes += [(host.name, what) for what in answer.changes]
    known = numbers.recall(site.inventory.name)
    known.hosts = []
    numbers.remember(site.inventory.name, known)
    return changes
