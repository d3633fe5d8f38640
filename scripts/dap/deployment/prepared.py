"""What a deploy has made here and carries to the hosts next."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dap.bundle.archive import Bundle
from dap.bundle.supply import Supply, stage
from dap.configuration.inventory import Host
from dap.deployment.host_roles import ROLES, Given
from dap.deployment.selection import Selection
from dap.hosts import playbook_variables
from dap.images import distribution
from dap.images.builds import Build
from dap.images.distribution import Distribution, HandedImage
from dap.plan.reading import planned_files
from dap.provisioning import works_after
from dap.rendering.tree import HostTree
from dap.secrets import Secret
from dap.site import Site
from dap.trust.tls import Tls

# Tags of tasks that most deploys have no use for, and the variable of a host that is empty then.
_RARELY = {"after": "jobs_after", "commands": "commands"}
_EVERYWHERE, _NOWHERE = "service_host:runner_hosts", "all:!all"


@dataclass(frozen=True)
class Prepared:
    """What goes to the hosts.

    Attributes:
        trees: files of each host, by its name.
        given: what the roles that bring a host itself into state are given, by host.
        work: those of these roles that have anything to do there.
        handed_out: images that the service host has to bring into its registry for others, or for users.
        bundle: where images and packages come from, in place of the network.
        supplies: what each host gets from it.
        jobs_state: what the provisioning jobs take in place of their file, during a rotation or before it is
            written. Holds secrets.
        selection: the services that the deploy is for.
    """

    site: Site
    distribution: Distribution
    trees: Mapping[str, HostTree]
    given: Mapping[str, Given]
    work: Mapping[str, list[str]]
    handed_out: list[HandedImage]
    registry_password: Secret
    certificates: Tls
    selection: Selection
    jobs_state: str = field(default="", repr=False)
    bundle: Bundle | None = None
    supplies: Mapping[str, Supply] = field(default_factory=dict)

    @property
    def roles(self) -> set[str]:
        """The roles that have anything to do on any host."""
        return {role for roles in self.work.values() for role in roles}

    @property
    def builds(self) -> list[Build]:
        """The images that any host may have to build."""
        if "images" not in self.roles:
            return []
        own = (self.distribution.of(host).own.builds for host in self.site.inventory.hosts)
        return list({build.tag: build for builds in own for build in builds}.values())

    def variables(self, platform_id: str, staging: Path, *, check: bool) -> dict[str, Any]:
        """What the playbook ``deploy`` takes.

        Args:
            staging: folder with the build contexts of images.
            check: whether it only says what would change.
        """
        hosts = {
            host.name: self._of_host(host) for host in self.site.inventory.hosts if host.name in self.trees
        }
        if check:
            for host, tree in self.trees.items():
                hosts[host]["planned_files"] = planned_files(tree)
        return playbook_variables.of_platform(self.site) | {
            "platform_id": platform_id,
            "ca_certificates": [certificate.decode() for certificate in self.certificates.trusted],
            "registries": self.site.registries,
            "bundled": self.bundle is not None,
            "staging": str(staging),
            "hosts": hosts,
            # Hosts that get their images from the service host's registry wait until it runs.
            "first_hosts": "service_host" if self.handed_out else _EVERYWHERE,
            "other_hosts": "runner_hosts:!service_host" if self.handed_out else _NOWHERE,
            "image_registry": {
                "name": self.distribution.address,
                "user": distribution.USER,
                "password": self.registry_password.reveal(),
            },
        }

    def _of_host(self, host: Host) -> dict[str, Any]:
        tree = self.trees[host.name]
        given, images = self.given[host.name], self.distribution.of(host)
        supplies = host.name == self.site.inventory.service_host.name
        return {
            "work": self.work[host.name],
            "names": given.names["names"],
            "address": given.names["address"],
            "files": [file.as_variables() for file in tree.files],
            "secret_files": [file.as_variables() for file in tree.secret_files],
            "directories": [directory.as_variables() for directory in tree.directories],
            "reload": tree.reload,
            "commands": tree.commands,
            "services": [name for name in tree.services if name not in tree.jobs],
            "first": tree.first,
            "jobs": tree.jobs,
            "only": tree.only,
            "job_input": base64.b64encode(self.jobs_state.encode()).decode(),
            "job_commands": tree.token_commands,
            "jobs_all": [*tree.jobs, "all"] if tree.jobs and works_after(self.site) and not tree.only else [],
            "jobs_after": [*tree.jobs, "after"] if tree.jobs and works_after(self.site) else [],
            "pulled_images": given.pulls,
            "handed_out": [image.as_variables() for image in self.handed_out] if supplies else [],
            "handed_in": [image.as_variables() for image in images.handed],
            **self.supplies.get(host.name, Supply()).as_variables(self.site),
            **playbook_variables.of_builds(self.site, images.own.builds),
        }

    def stage_bundle(self, staging: Path) -> None:
        """Put together what hosts get from the bundle, each checksum compared.

        Raises:
            RefusedError: the bundle is damaged; nothing was changed on any host.
        """
        if self.bundle:
            stage(self.bundle, self.supplies.values(), self.site, staging)

    def idle_tags(self, variables: Mapping[str, Any]) -> list[str]:
        """Tags of what no host has any use for.

        Args:
            variables: the playbook's.
        """
        hosts = variables["hosts"].values()
        rare = [tag for tag, key in _RARELY.items() if not any(own[key] for own in hosts)]
        guard = [] if self.roles else ["guard"]
        return [*(role for role in ROLES if role not in self.roles), *rare, *guard]
