"""What playbooks take: the variables of a platform and of each of its hosts."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any

from dap import http_proxy
from dap.configuration.inventory import Host, Inventory
from dap.errors import RefusedError
from dap.images import builds as images
from dap.images import digests
from dap.layout import shown
from dap.site import Site

# Package indexes, mirrors and proxies of the site, by the names that package managers read.
_BUILD_ENVIRONMENT = (
    *("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "GOPROXY", "GOSUMDB", "npm_config_registry"),
    *("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)


def of_platform(site: Site) -> dict[str, Any]:
    """What every playbook takes."""
    platform = site.platform
    return {
        "name": platform.platform_name,
        "domain": platform.domain,
        "root": str(platform.paths.root),
        "data": str(platform.paths.data),
        "wait_seconds": wait_seconds(site),
        "parallel_builds": platform.deploy.parallel_builds,
        "proxy": http_proxy.of_hosts(site),
        "extra_hosts": {name: str(address) for name, address in platform.extra_hosts.items()},
        "build_environment": _build_environment(site),
    }


def wait_seconds(site: Site) -> int:
    """How long a deploy waits: as written, otherwise at least as long as the slowest first start may take."""
    deploy = site.platform.deploy
    if "wait_seconds" in deploy.model_fields_set:
        return deploy.wait_seconds
    starts = [service.manifest.start_seconds for service in site.services.values()]
    # A runner that is replaced waits for its jobs first.
    drain = [site.platform.runners.drain_seconds + 60] if site.providers("runner") else []
    return max(deploy.wait_seconds, *starts, *drain)


def _build_environment(site: Site) -> dict[str, str]:
    """What image builds are told of mirrors and proxies: by this shell, then by the configuration."""
    given = {name: os.environ[name] for name in _BUILD_ENVIRONMENT if name in os.environ}
    mirrors = site.platform.mirrors
    chosen = {
        "DEBIAN_MIRROR": mirrors.debian,
        "DEBIAN_SECURITY_MIRROR": mirrors.debian_security,
        "PIP_INDEX_URL": mirrors.pypi,
        "UV_DEFAULT_INDEX": mirrors.pypi,
        "npm_config_registry": mirrors.npm,
        "GOPROXY": mirrors.go,
    }
    written = {name: value for name, value in chosen.items() if value}
    return given | http_proxy.environment(site) | written


def of_builds(site: Site, builds: Sequence[images.Build]) -> dict[str, Any]:
    """What the role `images` takes: images in the order of building, and what the first is built upon."""
    base = {
        "tag": images.DEBIAN_TAG,
        "suite": images.DEBIAN_SUITE,
        "source": images.source_of(images.DEBIAN_TAG, site.platform.mirrors.registry),
    }
    by_tag = {build.tag: build.name for build in builds}
    return {
        "base_images": [base] if builds else [],
        "images": [
            {
                "name": build.name,
                "tag": build.tag,
                "context": f"{build.name}.tar",
                "base": build.upon,
                "depends_on": [by_tag[build.upon]] if build.upon in by_tag else [],
            }
            for build in builds
        ],
    }


def of_pulls(site: Site, pulls: Sequence[images.Pull]) -> list[dict[str, str]]:
    """The images that the role `images` pulls, with what each was when it was first seen."""
    recorded = digests.recall(site.inventory.name)
    return [
        {
            "name": pull.name,
            "reference": pull.reference,
            "source": pull.source,
            "digest": recorded.get(pull.reference, ""),
        }
        for pull in pulls
    ]


def address_of(host: Host, inventory: Inventory) -> str:
    """The address under which ``host`` reaches the platform's names: the service host's.

    Raises:
        RefusedError: the service host's name has no address here, and none is configured.
    """
    service_host = inventory.service_host
    if host.name == service_host.name:
        listening = inventory.platform.listen_address
        return "127.0.0.1" if listening.is_unspecified else str(listening)
    address = str(service_host.variables.get("ansible_host", service_host.name))
    try:
        return str(socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise RefusedError(
            f"{shown(inventory.hosts_file)}: {service_host.name}: no address is known for {address}",
            f"write ansible_host: <address> below {service_host.name}",
        ) from error
