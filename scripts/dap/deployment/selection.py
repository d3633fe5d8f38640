"""Deploying some services only: whether that is possible, and what of a host's files belongs to it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dap.configuration import wording
from dap.containers import list_containers
from dap.credentials import Credentials
from dap.errors import RefusedError
from dap.hosts.facts import HostFacts
from dap.rendering.templates import project_file
from dap.rendering.tree import HostTree
from dap.services.choices import needed_by
from dap.services.manifest import Service
from dap.site import Site

PROJECT_FILE = "compose.yaml"
# The others bring the host itself into state, for all services.
TAGS = ("images", "handing", "stack", "provision", "services")
# No path of the tree begins with it: of a host without a chosen service nothing is touched.
_NOTHING = "."


@dataclass(frozen=True)
class Selection:
    """The services that a deploy is for.

    Attributes:
        names: of the services; all of them if empty.
    """

    names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.names)

    def of(self, services: Mapping[str, Service]) -> dict[str, Service]:
        """Those of ``services`` that are chosen."""
        return {name: service for name, service in services.items() if not self or name in self.names}

    def narrow(self, tree: HostTree, site: Site, deployed: Collection[str], *, with_jobs: bool) -> HostTree:
        """A host's tree as far as it concerns the chosen services.

        Its files stay complete, so that those that differ can be named; ``only`` says which are written.

        Args:
            deployed: the services whose files are on the host.
            with_jobs: whether the provisioning jobs have anything to do.
        """
        if not self:
            return tree
        here = [name for name in tree.services if name in self.names]
        included = [name for name in tree.services if name in {*deployed, *here}]
        included += sorted({*deployed} - {*included})
        data = {f"{site.platform.paths.data}/{name}" for name in here}
        project = project_file(
            site.platform.platform_name, included, with_jobs=tree.with_jobs, with_dev=tree.with_dev
        )
        return replace(
            tree,
            files=[project if file.path == PROJECT_FILE else file for file in tree.files],
            directories=[one for one in tree.directories if one.path.rpartition("/")[0] in data],
            reload=[entry for entry in tree.reload if entry["service"] in here],
            commands=[entry for entry in tree.commands if entry["service"] in here],
            token_commands=[entry for entry in tree.token_commands if entry["service"] in here],
            services=[name for name in here if name not in tree.jobs],
            first=[name for name in tree.first if name in here],
            jobs=tree.jobs if with_jobs else [],
            only=[*here, PROJECT_FILE] if here else [_NOTHING],
        )

    def narrow_state(self, state: Mapping[str, Any], site: Site, credentials: Credentials) -> dict[str, Any]:
        """What the provisioning jobs have to bring about for the chosen services.

        For a chosen server that is all that belongs on it; otherwise the databases, buckets and keys of the
        chosen services.
        """
        if not self:
            return dict(state)
        chosen = [*self.of(site.services).values()]
        logins = [login for service in chosen for login in credentials.databases(service).values()]
        databases = {(login.server.name, login.name) for login in logins}
        buckets = {bucket.name for service in chosen for bucket in service.manifest.buckets}
        policies = {key.policy for service in chosen if (key := credentials.bucket_key(service))}

        def of_server(kind: str, server: dict[str, Any]) -> dict[str, Any] | None:
            name = server["service"]
            if name in self.names:
                return server
            if kind == "postgres":
                kept = [one for one in server["databases"] if (name, one["name"]) in databases]
                return {**server, "databases": kept, "people": [], "gone": []} if kept else None
            if kind == "s3":
                own = [one for one in server["buckets"] if one["name"] in buckets]
                keys = [one for one in server["keys"] if one["policy"] in policies]
                return {**server, "buckets": own, "keys": keys, "gone": []} if own or keys else None
            if kind == "gitlab" and any(service.manifest.provides == "runner" for service in chosen):
                return server
            return None

        return {
            kind: [kept for server in servers if (kept := of_server(kind, server))]
            for kind, servers in state.items()
        }


def select(site: Site, names: Sequence[str], facts: Mapping[str, HostFacts]) -> Selection:
    """The services to deploy, all if there are no ``names``.

    Raises:
        RefusedError: one is unknown or does not run here, or needs something that does not run.
        DapError: a host's engine cannot be asked.
    """
    selection = Selection(tuple(dict.fromkeys(names)))
    if not selection:
        return selection
    for name in selection.names:
        _refuse_absent(site, name)
    again = f"dap -e {site.inventory.name} deploy"
    deployed = {name for found in facts.values() for name in found.deployed}
    if not deployed:
        raise RefusedError("nothing is deployed yet that a single service could be added to", again)
    running = {
        container.service
        for host in site.inventory.hosts
        if host.name in facts
        for container in list_containers(site, host)
        if container.well
    }
    jobs = {service.name for service in site.providers("jobs")}
    for name in selection.names:
        needed = {other for other in needed_by(site.services[name], site.services) if other in site.services}
        for other in sorted(needed - {*selection.names}):
            if other not in deployed or other not in running | jobs:
                state = "does not run" if other in deployed else "is not deployed"
                more = " ".join(f"--only {one}" for one in (other, *selection.names))
                raise RefusedError(f"{name} needs {other}, which {state}", f"{again} {more}")
    return selection


def _refuse_absent(site: Site, name: str) -> None:
    if name in site.services:
        return
    if name in site.left_out:
        reason = site.left_out[name][1]
        raise RefusedError(
            f"{name} does not run in inventory {site.inventory.name}: {reason}",
            f"change that in platform.yml, or run dap -e {site.inventory.name} deploy without --only",
        )
    if name in site.external:
        raise RefusedError(
            f"{name} is a server of your own in inventory {site.inventory.name}: there is nothing to deploy",
            f"dap -e {site.inventory.name} deploy",
        )
    raise RefusedError(
        f"{name!r} is no service of inventory {site.inventory.name}", wording.one_of(name, site.services)
    )
