"""Sites with development containers: their users and hosts, and what is refused of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dap.errors import ConfigurationError
from dap.site import Site, load_site
from tests.unit.platforms import tree_of

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 ada@laptop"
USERS = [
    {"name": name, "ssh_keys": [KEY], "full_name": f"{name}: the first"} for name in ("ada", "bob.b", "eve")
]
LOCAL = {"ansible_connection": "local"}
ONE_HOST: dict[str, Any] = {"service_host": {"hosts": {"main": LOCAL}}}
THREE_HOSTS: dict[str, Any] = {
    "service_host": {"hosts": {"main": {"ansible_host": "192.0.2.10"}}},
    "runner_hosts": {"hosts": {"one": {"ansible_host": "192.0.2.11"}, "two": {"ansible_host": "192.0.2.12"}}},
}


def site_with(
    folder: Path, *containers: dict[str, Any], hosts: dict[str, Any] = ONE_HOST, **settings: Any
) -> Site:
    """An inventory with these development containers."""
    written = {"domain": "dap.example.com", "users": USERS, "dev_containers": [*containers]} | settings
    tree_of(
        folder, {"group_vars/all/platform.yml": yaml.safe_dump(written), "hosts.yml": yaml.safe_dump(hosts)}
    )
    return load_site("team")


def refusal(folder: Path, *containers: dict[str, Any], **settings: Any) -> list[str]:
    """What is wrong with them, each in one line without the file."""
    with pytest.raises(ConfigurationError) as caught:
        site_with(folder, *containers, **settings)
    return [f"{one.path} = {one.value}: {one.reason}; {one.suggestion}" for one in caught.value.findings]
