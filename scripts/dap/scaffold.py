"""Creates an inventory for ``dap init``."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from dap.configuration.inventory import load_inventory
from dap.errors import RefusedError
from dap.layout import compose_dir, inventories_dir, inventory_dir, shown
from dap.reference import commented_example
from dap.services.manifest import find_folders

_HOSTS = """\
# Which machines there are. Anything that Ansible's YAML inventory knows may stand here, for example
# ansible_host, ansible_user, ansible_port of a host.
service_host:
  hosts:
    {service_host}:{local}
{runner_hosts}"""


# What YAML reads as text without quotes.
_PLAIN = re.compile(r"[A-Za-z]([\w.:/-]*\w)?")


def create_inventory(name: str, domain: str, service_host: str, runner_hosts: Sequence[str]) -> str:
    """Create the inventory ``name``, every setting explained in comments, and check it.

    Returns:
        the new folder, as the operator would open it.

    Raises:
        RefusedError: it exists already, or its name is not a name.
        ConfigurationError: domain or hosts are wrong; nothing was created.
    """
    folder = inventory_dir(name)
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise RefusedError(f"{name!r} is not an inventory name", "use lower-case letters, digits and '-'")
    if folder.exists():
        raise RefusedError(f"{shown(folder)} exists already", f"edit it, or choose another name than {name}")
    try:
        _write(folder, domain, service_host, runner_hosts)
        load_inventory(name, find_folders([compose_dir()]))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return shown(folder)


def _write(folder: Path, domain: str, service_host: str, runner_hosts: Sequence[str]) -> None:
    inventories_dir().mkdir(parents=True, exist_ok=True)
    variables = folder / "group_vars" / "all"
    variables.mkdir(parents=True)
    (variables / "platform.yml").write_text(_settings(domain), encoding="utf-8")
    (folder / "hosts.yml").write_text(
        _HOSTS.format(
            service_host=service_host,
            local="\n      ansible_connection: local" if service_host == "localhost" else "",
            runner_hosts=_group("runner_hosts", runner_hosts),
        ),
        encoding="utf-8",
    )


def _settings(domain: str) -> str:
    """The example's settings with another domain."""
    written = domain if _PLAIN.fullmatch(domain) else json.dumps(domain)
    return re.sub(r"(?m)^domain: .*$", lambda _: f"domain: {written}", commented_example())


def _group(name: str, hosts: Sequence[str]) -> str:
    if not hosts:
        return f"# {name}:\n#   hosts:\n#     runner-1.example.com:\n"
    return "\n".join([f"{name}:", "  hosts:", *(f"    {host}:" for host in hosts)]) + "\n"
