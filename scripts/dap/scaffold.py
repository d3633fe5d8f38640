"""Creates an inventory for ``dap init``."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dap.configuration.hostsfile import GROUPS, RUNNER_HOSTS, SERVICE_HOST
from dap.configuration.inventory import load_inventory
from dap.errors import RefusedError
from dap.layout import compose_dir, inventories_dir, inventory_dir, shown
from dap.reference import commented_example
from dap.services.manifest import find_folders

_HOSTS = """\
# Which machines there are: a plain Ansible inventory. To add a runner host, add its lines and deploy; to
# remove one, take them out and deploy.
all:
  vars:
    # The account that logs in by SSH. It must be root, or may use sudo without a password.
    {user}
    # Where another key or port than SSH's own choice is wanted; either may stand below a single host, too.
    # ansible_ssh_private_key_file: ~/.ssh/id_ed25519
    # ansible_port: 22
  children:
    # {about_service_host}
    service_host:
      hosts:
{service_host}
    # {about_runner_hosts}
{runner_hosts}
"""

# What YAML reads as text without quotes.
_PLAIN = re.compile(r"[A-Za-z]([\w.:/-]*\w)?")


_USER = re.compile(r"[A-Za-z_][\w.-]*\$?", re.A)


@dataclass(frozen=True)
class Machine:
    """A machine as it is named on the command line: ``HOST``, or ``NAME=ADDRESS``."""

    name: str
    address: str = ""

    @classmethod
    def of(cls, text: str) -> Machine:
        """Read it."""
        name, _, address = text.partition("=")
        return cls(name, address)

    @property
    def is_this(self) -> bool:
        """Whether it is the one that this program runs on."""
        return self.name == "localhost" and not self.address

    def lines(self) -> list[str]:
        """Its part of ``hosts.yml``."""
        below = "ansible_connection: local" if self.is_this else ""
        if self.address:
            below = f"ansible_host: {_scalar(self.address)}"
        return [f"        {self.name}:", *([f"          {below}"] if below else [])]


def create_inventory(
    name: str, domain: str, service_host: str, runner_hosts: Sequence[str], user: str = ""
) -> str:
    """Create the inventory ``name``, every setting explained in comments, and check it.

    Args:
        service_host: as on the command line, like each of ``runner_hosts``.
        user: the account to log in with; SSH's own choice if empty.

    Returns:
        the new folder, as the operator would open it.

    Raises:
        RefusedError: it exists already, or its name is not a name, or the user's is none.
        ConfigurationError: domain or hosts are wrong; nothing was created.
    """
    folder = inventory_dir(name)
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise RefusedError(f"{name!r} is not an inventory name", "use lower-case letters, digits and '-'")
    if user and not _USER.fullmatch(user):
        raise RefusedError(f"{user!r} is not the name of an account", "write one, such as admin")
    if folder.exists():
        raise RefusedError(f"{shown(folder)} exists already", f"edit it, or choose another name than {name}")
    hosts = _hosts(Machine.of(service_host), [Machine.of(host) for host in runner_hosts], user)
    try:
        _write(folder, domain, hosts)
        load_inventory(name, find_folders([compose_dir()]))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return shown(folder)


def _write(folder: Path, domain: str, hosts: str) -> None:
    inventories_dir().mkdir(parents=True, exist_ok=True)
    variables = folder / "group_vars" / "all"
    variables.mkdir(parents=True)
    (variables / "platform.yml").write_text(_settings(domain), encoding="utf-8")
    (folder / "hosts.yml").write_text(hosts, encoding="utf-8")


def _hosts(service_host: Machine, runner_hosts: Sequence[Machine], user: str) -> str:
    """The list of machines."""
    runners = ["    runner_hosts:", "      hosts:", *(line for one in runner_hosts for line in one.lines())]
    if not runner_hosts:
        example = ["    runner_hosts:", "      hosts:", *Machine("runner1", "192.0.2.21").lines()]
        runners = [f"    # {line.removeprefix('    ')}" for line in example]
    return _HOSTS.format(
        user=f"ansible_user: {_scalar(user)}" if user else "# ansible_user: admin",
        about_service_host=GROUPS[SERVICE_HOST],
        service_host="\n".join(service_host.lines()),
        about_runner_hosts=GROUPS[RUNNER_HOSTS],
        runner_hosts="\n".join(runners),
    )


def _settings(domain: str) -> str:
    """The example's settings with another domain."""
    return re.sub(r"(?m)^domain: .*$", lambda _: f"domain: {_scalar(domain)}", commented_example())


def _scalar(text: str) -> str:
    """A text as YAML reads it as one."""
    return text if _PLAIN.fullmatch(text) or re.fullmatch(r"\d+(\.\d+){3}", text) else json.dumps(text)
