"""The site's HTTP proxy, as programs, package managers and engines are told of it."""

from __future__ import annotations

from typing import Any

from dap.servers import server_of
from dap.site import Site


def environment(site: Site) -> dict[str, str]:
    """The proxy as programs read it from their environment, in both spellings; empty without one."""
    proxy = site.platform.proxy
    if not proxy.http and not proxy.https:
        return {}
    values = {"http_proxy": proxy.http, "https_proxy": proxy.https or proxy.http}
    values["no_proxy"] = ",".join(exceptions(site))
    written = {name: value for name, value in values.items() if value}
    return written | {name.upper(): value for name, value in written.items()}


def exceptions(site: Site) -> list[str]:
    """What is reached without the proxy: the platform, its hosts and servers, what the operator adds."""
    platform = site.platform
    machines = [str(host.variables.get("ansible_host", host.name)) for host in site.inventory.hosts]
    external = [server_of(site, service).host for service in site.external.values()]
    names = [
        *("localhost", "127.0.0.1", "::1"),
        *(platform.domain, f".{platform.domain}"),
        *sorted([*site.services, *machines, *external, *platform.extra_hosts]),
        *platform.proxy.no_proxy,
    ]
    return list(dict.fromkeys(names))


def of_hosts(site: Site) -> dict[str, Any]:
    """The proxy as playbooks take it, for apt and the engine: ``http``, ``https``, ``no_proxy`` (a list)."""
    told = environment(site)
    if not told:
        return {}
    return {
        "http": told.get("http_proxy", ""),
        "https": told.get("https_proxy", ""),
        "no_proxy": exceptions(site),
    }
