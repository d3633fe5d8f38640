"""Platforms made up in memory, for tests of what is derived from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dap.configuration.inventory import Host, Inventory
from dap.configuration.schema import Platform
from dap.hosts import ansible as running
from dap.images.environments import Environment, EnvironmentManifest
from dap.services.manifest import Manifest, Service
from dap.site import Site

LOCAL = Host("alpha", frozenset({"service_host"}), {"ansible_connection": "local"})


def service_of(name: str, folder: Path = Path("services"), /, **keys: Any) -> Service:
    """A service with the least manifest, and what is said besides."""
    least = {
        "title": name.title(),
        "summary": "Does something",
        "image": {"build": "1"},
        "user": 10900,
        "memory": "64m",
    }
    return Service(name, folder / name, Manifest.model_validate(least | keys))


def environment_of(
    name: str, folder: Path = Path("environments"), parent: Environment | None = None, **keys: Any
) -> Environment:
    """An environment whose manifest says no more than it must, and ``keys``."""
    return Environment(name, folder, EnvironmentManifest.model_validate({"summary": name, **keys}), parent)


def site_of(*services: Service, hosts: tuple[Host, ...] = (LOCAL,), **settings: Any) -> Site:
    """A platform ``team`` below dap.example.com with these services and settings."""
    platform = Platform.model_validate({"domain": "dap.example.com"} | settings)
    folder = Path("inventories/team")
    inventory = Inventory(
        "team", folder, folder / "group_vars/all/platform.yml", folder / "hosts.yml", platform, hosts
    )
    return Site(inventory, {service.name: service for service in services})


def host_with(**variables: Any) -> Host:
    """A service host ``alpha`` with these Ansible variables."""
    return Host("alpha", frozenset({"service_host"}), variables)


def executable(path: Path, script: str) -> Path:
    """A program that the test makes up."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(script, encoding="utf-8")
    path.chmod(0o755)
    return path


def tree_of(folder: Path, files: Mapping[str, str]) -> Path:
    """A folder with these files."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return folder


ANSIBLE = """\
import runpy, sys
class PlaybookCLI:
    @classmethod
    def cli_executor(cls, arguments):
        sys.argv = arguments
        runpy.run_path({program!r}, run_name="__main__")
"""


def loaded_ansible(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a package in Ansible's place, whose ``ansible-playbook`` is a script that is yet to be written.

    Returns:
        the script, which is run for each playbook with the arguments of ``ansible-playbook``.
    """
    program = folder / "ansible-playbook"
    tree_of(
        folder / "lib" / "ansible" / "cli",
        {"__init__.py": "", "playbook.py": ANSIBLE.format(program=str(program))},
    )
    constants = f"DEFAULT_LOCAL_TMP = {str(folder / 'temporary')!r}\n"
    tree_of(
        folder / "lib" / "ansible",
        {"__init__.py": "", "constants.py": constants, "release.py": "__version__ = 'none'\n"},
    )
    monkeypatch.setenv("PYTHONPATH", str(folder / "lib"))
    monkeypatch.setattr(running, "_runner", None)
    return program
