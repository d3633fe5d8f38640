"""What a deploy has made here and carries to the hosts next."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dap import playbook_variables
from dap.configuration.inventory import Host
from dap.host_roles import ROLES
from dap.plan.reading import planned_files
from dap.provisioning import works_after
from dap.selection import Selection
from dap.services.images import Images
from dap.site import Site
from dap.tree import HostTree
from dap.trust.tls import Tls

# Tags of tasks that most deploys have no use for, and the variable of a host that is empty then.
_RARELY = {"after": "jobs_after", "commands": "commands"}


@dataclass(frozen=True)
class Prepared:
    """What goes to the hosts.

    Attributes:
        trees: files of each host, by its name.
        work: the roles that have anything to do on a host, of those that bring the host itself into state.
        jobs_state: what the provisioning jobs take in place of their file, during a rotation or before it is
            written. Holds secrets.
        selection: the services that the deploy is for.
    """

    site: Site
    images: Images
    trees: Mapping[str, HostTree]
    work: Mapping[str, list[str]]
    certificates: Tls
    selection: Selection
    jobs_state: str = field(default="", repr=False)

    @property
    def roles(self) -> set[str]:
        """The roles that have anything to do on any host."""
        return {role for roles in self.work.values() for role in roles}

    def variables(self, platform_id: str, staging: Path, *, check: bool) -> dict[str, Any]:
        """What the playbook ``deploy`` takes.

        Args:
            staging: folder with the build contexts of images.
            check: whether it only says what would change.
        """
        hosts = {host.name: self._of_host(host) for host in self.site.inventory.hosts}
        if check:
            for host, tree in self.trees.items():
                hosts[host]["planned_files"] = planned_files(tree)
        return playbook_variables.of_platform(self.site) | {
            "platform_id": platform_id,
            "ca_certificates": [certificate.decode() for certificate in self.certificates.trusted],
            "registries": self.site.registries,
            "staging": str(staging),
            "hosts": hosts,
        }

    def _of_host(self, host: Host) -> dict[str, Any]:
        tree = self.trees[host.name]
        own = self.images.of(self.selection.of(self.site.services_on(host)))
        return {
            "work": self.work[host.name],
            "names": self.site.names,
            "address": playbook_variables.address_of(host, self.site.inventory),
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
            "jobs_after": [*tree.jobs, "after"] if tree.jobs and works_after(self.site) else [],
            "pulled_images": playbook_variables.of_pulls(self.site, own.pulls),
            **playbook_variables.of_builds(self.site, own.builds),
        }

    def idle_tags(self, variables: Mapping[str, Any]) -> list[str]:
        """Tags of what no host has any use for.

        Args:
            variables: the playbook's.
        """
        hosts = variables["hosts"].values()
        rare = [tag for tag, key in _RARELY.items() if not any(own[key] for own in hosts)]
        return [*(role for role in ROLES if role not in self.roles), *rare]
