"""Hosts of which no answer comes, found before Ansible tries them three times, for up to a minute.

A host that is slow is not among them. Whatever comes after the first answer is left to Ansible's patience.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

from dap.configuration.inventory import Host, Inventory
from dap.hosts.connection import explained, ssh_argv
from dap.layout import shown

# So long the kernel asks four times.
_PATIENCE_S = 10.0
_UNREACHABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ETIMEDOUT)
_AT_ONCE = 64


def silent_hosts(inventory: Inventory) -> dict[str, str]:
    """The hosts that do not answer, each with what to tell of it.

    Those that are reached through another one are left to ssh.
    """
    hosts = [host for host in inventory.hosts if not host.is_local]
    if not hosts:
        return {}
    with ThreadPoolExecutor(min(len(hosts), _AT_ONCE)) as pool:
        reasons = list(pool.map(_silence, hosts))
    hosts_file = shown(inventory.hosts_file)
    return {
        host.name: explained(host, hosts_file, f"Failed to connect to the host via ssh: {reason}")
        for host, reason in zip(hosts, reasons, strict=True)
        if reason
    }


def _silence(host: Host) -> str:
    """What ssh would say of a host that does not answer; empty where it does, or is not asked directly."""
    settings = _settings(host)
    name, port = settings.get("hostname"), settings.get("port", "22")
    if not name or settings.keys() & {"proxyjump", "proxycommand"}:
        return ""
    try:
        socket.create_connection((name, int(port)), _PATIENCE_S).close()
    except TimeoutError:
        return _said(name, port, errno.ETIMEDOUT)
    except OSError as error:
        return _said(name, port, error.errno) if error.errno in _UNREACHABLE else ""
    return ""


def _said(name: str, port: str, number: int) -> str:
    return f"connect to host {name} port {port}: {os.strerror(number)}"


def _settings(host: Host) -> dict[str, str]:
    """How ssh would connect, its own configuration included; empty where it cannot say."""
    program, *rest = ssh_argv(host)
    try:
        done = subprocess.run(  # noqa: S603  our own argv, no shell
            [program, "-G", *rest], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
    except OSError:
        return {}
    pairs = (line.partition(" ") for line in done.stdout.splitlines() if done.returncode == 0)
    return {key: value for key, _, value in pairs if value != "none"}
