"""Where the images of each host come from.

The service host builds and pulls all of them, and hands on through its registry what other hosts run: no host
builds what another has, and one way to the internet is enough. Where the registry is switched off, each
host gets its images itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from dap.configuration.inventory import Host
from dap.deployment.selection import Selection
from dap.images.builds import Images
from dap.services.manifest import Service
from dap.site import Site

USER = "dap"
PASSWORD = "password"  # noqa: S105  the secret's name


@dataclass(frozen=True)
class HandedImage:
    """An image that a host gets from the service host.

    Attributes:
        name: service whose folder builds it, or one that runs it.
        reference: what it is called on the hosts.
        source: what it is called in the platform's registry.
    """

    name: str
    reference: str
    source: str

    def as_variables(self) -> dict[str, str]:
        """As the role `handing` takes it."""
        return {"name": self.name, "reference": self.reference, "source": self.source}


@dataclass(frozen=True)
class HostImages:
    """The images of a host.

    Attributes:
        own: those that it builds, or pulls from where they come from.
        handed: those that it gets from the service host.
    """

    own: Images
    handed: list[HandedImage]


@dataclass(frozen=True)
class Distribution:
    """The images of all hosts of a site.

    Attributes:
        every: the images of all services that run.
    """

    site: Site
    every: Images
    selection: Selection = Selection()  # noqa: RUF009  frozen

    @cached_property
    def registry(self) -> Service | None:
        """The service that hands images on, if one runs."""
        return next(iter(self.site.providers("images")), None)

    @property
    def address(self) -> str:
        """The registry as Docker names it; empty without one."""
        return address_of(self.site)

    def of(self, host: Host) -> HostImages:
        """The images of ``host``."""
        service_host = self.site.inventory.service_host
        services = self._services(host)
        if self.registry is None:
            return HostImages(self.every.of(services, self._environments(host)), [])
        if host.name == service_host.name:
            # Also those that only others run: it has them for whichever host lacks them one day.
            for other in self.site.inventory.hosts:
                services |= self._services(other)
            every = [name for other in self.site.inventory.hosts for name in self._environments(other)]
            return HostImages(self.every.of(services, every), [])
        needed = self.every.of(services, self._environments(host))
        by_digest = [pull for pull in needed.pulls if "@" in pull.reference]
        named = {build.name: build.tag for build in needed.run}
        named |= {pull.name: pull.reference for pull in needed.pulls if pull not in by_digest}
        handed = [HandedImage(name, tag, f"{self.address}/{path_of(tag)}") for name, tag in named.items()]
        # What is named by its digest cannot be given a name of ours.
        return HostImages(Images(needed.references, [], by_digest), handed)

    def handed_out(self, lacking: Mapping[str, frozenset[str]]) -> list[HandedImage]:
        """What other hosts are to get from the service host.

        Args:
            lacking: references of images that are not there, by host.
        """
        wanted = {
            image.reference: image
            for host in self.site.inventory.hosts
            for image in self.of(host).handed
            if image.reference in lacking.get(host.name, ())
        }
        return list(wanted.values())

    def supplier(self, host: Host) -> Host:
        """The host that fetches from other registries what ``host`` runs."""
        return host if self.registry is None else self.site.inventory.service_host

    def _services(self, host: Host) -> dict[str, Service]:
        return self.selection.of(self.site.services_on(host))

    def _environments(self, host: Host) -> frozenset[str]:
        """The environments of the development containers of a host; none where only services are chosen."""
        return frozenset() if self.selection else self.site.dev_environments_on(host)


def address_of(site: Site) -> str:
    """The platform's registry as Docker names it; empty without one."""
    registry = next(iter(site.providers("images")), None)
    return f"{site.web_host(registry.manifest.web[0])}{site.port_suffix}" if registry else ""


def path_of(reference: str) -> str:
    """A reference as a path in another registry, in which no colon may be but that of the tag."""
    name, colon, tag = reference.rpartition(":")
    if "/" in tag or not colon:
        name, tag = reference, "latest"
    return f"{name.replace(':', '-')}:{tag}"
