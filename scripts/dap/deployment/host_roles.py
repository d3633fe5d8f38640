"""What brings a host itself into state: what each role is given, and which of them have anything to do.

Preflight looks at all of it at once. A role that it finds with nothing to do is not run: a look more would
cost each deploy half a second for each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dap.configuration.inventory import Host
from dap.hosts import playbook_variables
from dap.hosts.facts import HostFacts
from dap.images.distribution import HostImages
from dap.site import Site

ROLES = ("bundle", "trust", "docker", "gpu", "names", "images", "handing")


@dataclass(frozen=True)
class Given:
    """What the roles of a host are given, as the module ``dap_preflight`` takes it.

    Attributes:
        pulls: images from registries: ``name``, ``reference``, ``source``, ``digest``.
        tags: of the images that are built.
        handed: references of the images that come from the service host.
    """

    trust: dict[str, Any]
    names: dict[str, Any]
    pulls: list[dict[str, str]]
    tags: list[str]
    handed: list[str]

    @classmethod
    def of(cls, site: Site, host: Host, trusted: Sequence[bytes], images: HostImages) -> Given:
        """What the roles of ``host`` are given.

        Args:
            trusted: CAs that hosts have to trust, PEM.
            images: of the services that run there.

        Raises:
            RefusedError: the service host's name has no address here, and none is configured.
        """
        platform = site.platform
        return cls(
            trust={
                "name": platform.platform_name,
                "certificates": [certificate.decode() for certificate in trusted],
                "registries": site.registries,
            },
            names={
                "platform": platform.platform_name,
                "names": sorted({*site.names, *site.page_hosts}),
                "address": playbook_variables.address_of(host, site.inventory),
                "extra": {name: str(address) for name, address in platform.extra_hosts.items()},
            },
            pulls=playbook_variables.of_pulls(site, images.own.pulls),
            tags=[build.tag for build in images.own.builds],
            handed=[image.reference for image in images.handed],
        )

    def as_variables(self) -> dict[str, Any]:
        """As the role `preflight` takes it."""
        tags = [*self.tags, *self.handed]
        return {"trust": self.trust, "names": self.names, "images": self.pulls, "tags": tags}


def with_work(asked: Given, now: Given, facts: HostFacts) -> list[str]:
    """The roles that have something to do on a host.

    Args:
        asked: what preflight has compared the host with.
        now: what the roles will be given: the first deploy makes a CA, and preflight may leave out services.
    """
    lacking = facts.missing_tags & {*now.tags}
    unknown = {pull["name"] for pull in now.pulls} - facts.known_images
    work = {
        "trust": "trust" not in facts.ready or asked.trust != now.trust,
        "docker": "docker" not in facts.ready,
        "gpu": facts.gpus is not None and not facts.gpus.cdi,
        "names": "names" not in facts.ready or asked.names != now.names,
        "images": bool(lacking or unknown) or facts.building,
        "handing": bool(facts.missing_tags & {*now.handed}),
    }
    return [role for role, has_work in work.items() if has_work]
