"""The site's HTTP proxy: what an engine and requests from a host have to know of it.

Pure functions: settings in, text and decisions out. They run on the hosts, whose Python may be as old as
3.10.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

SYSV_DEFAULTS = "/etc/default/docker"


@dataclass(frozen=True)
class Proxy:
    """The proxies for ``http://`` and ``https://``, and what is reached without them; empty for no proxy."""

    http: str = ""
    https: str = ""
    no_proxy: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> Proxy:
        """Read a module's parameter; a proxy for HTTP alone counts for HTTPS too."""
        given = given or {}
        http = str(given.get("http") or "")
        return cls(http, str(given.get("https") or http), tuple(map(str, given.get("no_proxy") or ())))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Proxy:
        """The proxy that variables of a process name, in either spelling."""
        values = [
            environment.get(name.upper()) or environment.get(name) or ""
            for name in ("http_proxy", "https_proxy", "no_proxy")
        ]
        return cls(values[0], values[1], tuple(part.strip() for part in values[2].split(",") if part.strip()))

    def __bool__(self) -> bool:
        return bool(self.http or self.https)

    @property
    def name(self) -> str:
        """What people call it: its address, without a login."""
        return without_login(self.https or self.http)

    def environment(self) -> dict[str, str]:
        """The variables that tell an engine of it; none where there is no proxy."""
        if not self:
            return {}
        values = {
            "HTTP_PROXY": self.http,
            "HTTPS_PROXY": self.https,
            "NO_PROXY": ",".join(self.no_proxy),
        }
        return {name: value for name, value in values.items() if value}

    def for_url(self, url: str) -> str:
        """The proxy that a request goes through; empty for none."""
        parts = urlsplit(url)
        if bypasses(parts.hostname or "", self.no_proxy):
            return ""
        return self.https if parts.scheme == "https" else self.http


NONE = Proxy()


def without_login(url: str) -> str:
    """An address without user and password."""
    return re.sub(r"//[^/@]*@", "//", url)


def bypasses(host: str, no_proxy: tuple[str, ...]) -> bool:
    """Whether a host is reached without the proxy, by the rules that Docker follows.

    A name stands for itself and all below it, ``.example.com`` only for what is below, an address or network
    for addresses; this machine itself is never reached through a proxy.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    for entry in no_proxy:
        name = entry.partition(":")[0] if entry.count(":") == 1 else entry
        if name == "*" or name == host:
            return True
        if address is None:
            suffix = name.removeprefix("*")
            if host.endswith(suffix if suffix.startswith(".") else f".{suffix}"):
                return True
        elif "/" in name and _within(address, name):
            return True
    return False


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


@dataclass(frozen=True)
class ProxyFile:
    """A file that tells the engine of the proxy; ``content`` is None where it has to go."""

    path: str
    content: str | None
    mode: int = 0o644


def environment_path(platform: str) -> str:
    """The file with the engine's variables."""
    return f"/etc/docker/{platform}-proxy.env"


def parse_environment(text: str) -> dict[str, str]:
    """The variables in such a file."""
    pairs = (word.partition("=") for word in shlex.split(text, comments=True))
    return {name: value for name, equals, value in pairs if equals}


def wanted_files(platform: str, init: str, proxy: Proxy, defaults: str) -> list[ProxyFile]:
    """The files that make an engine use the proxy when it starts, or those to remove.

    All that starts the engine reads one file with its variables: a drop-in for systemd, a marked block in
    SysV's defaults, or the platform itself where there is no init system.

    Args:
        platform: name of the platform, which the files are named after.
        init: ``systemd``, ``sysv`` or ``none``.
        proxy: the wanted one.
        defaults: what ``/etc/default/docker`` holds now.
    """
    values = environment_path(platform)
    drop_in = f"/etc/systemd/system/docker.service.d/{platform}-proxy.conf"
    begin, end = f"# BEGIN {platform} proxy", f"# END {platform} proxy"
    block = f"{begin}\nif [ -r {values} ]; then set -a; . {values}; set +a; fi\n{end}\n"
    rest = re.sub(rf"^{re.escape(begin)}\n.*?^{re.escape(end)}\n", "", defaults, flags=re.M | re.S)
    if not proxy:
        sysv = [ProxyFile(SYSV_DEFAULTS, rest)] if rest != defaults else []
        return [*sysv, ProxyFile(drop_in, None), ProxyFile(values, None)]
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in proxy.environment().items())
    # Other users of the host have no business with it.
    files = [ProxyFile(values, f"# Written by the platform {platform}.\n{lines}", 0o600)]
    if init == "systemd":
        # Variables from a file win over those that another drop-in sets itself. The dash: without the file
        # the engine starts all the same.
        text = f"# Written by the platform {platform}.\n[Service]\nEnvironmentFile=-{values}\n"
        files.append(ProxyFile(drop_in, text))
    if init == "sysv":
        if rest and not rest.endswith("\n"):
            rest += "\n"
        files.append(ProxyFile(SYSV_DEFAULTS, rest + block))
    return files


def differing(files: list[ProxyFile], found: Mapping[str, str | None]) -> list[ProxyFile]:
    """Those of the files that are not as wanted.

    Args:
        found: what each path holds now; None for nothing.
    """
    return [file for file in files if found.get(file.path) != file.content]
