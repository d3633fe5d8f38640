"""`hosts.yml` is a plain Ansible inventory, and what the platform cannot use of it is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dap.errors import ConfigurationError
from tests.unit.inventories import (
    GOOD_PLATFORM,
    HOSTS_FILE,
    InventoryFolder,
    Refusal,
    recorded,
    whole_message,
)

SHORTEST = "all: {children: {service_host: {hosts: {localhost: {ansible_connection: local}}}}}"

NESTED = """\
all:
  vars: {site: north, level: all}
  hosts:
    beta: {ansible_host: 192.0.2.11}
  children:
    runner_hosts:
      vars: {level: runners, ansible_user: admin}
      hosts:
        beta:
      children:
        service_host:
          vars: {level: service}
          hosts:
            alpha: {ansible_host: 192.0.2.10, ansible_port: 2222}
    ungrouped: {}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InventoryFolder:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAP_INVENTORIES", str(tmp_path / "inventories"))
    return InventoryFolder(tmp_path)


def _named(case: Refusal) -> str:
    return case.written.strip()[:60]


@pytest.mark.parametrize("case", recorded("hosts_files.txt"), ids=_named)
def test_wrong_hosts_file_is_refused(folder: InventoryFolder, case: Refusal) -> None:
    with pytest.raises(ConfigurationError) as caught:
        folder.load(hosts=case.written)
    assert str(caught.value) == case.message(HOSTS_FILE)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "reason", "suggestion"),
    [
        ("", "is empty", f"write at least {SHORTEST}"),
        (
            "all:\n\tchildren: {}\n",
            "is not valid YAML: line 2, column 1: a tab where spaces belong",
            "write spaces instead of the tab",
        ),
    ],
)
def test_unusable_hosts_file_is_refused(
    folder: InventoryFolder, written: str, reason: str, suggestion: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        folder.load(hosts=written)
    assert str(caught.value) == whole_message((HOSTS_FILE, reason, suggestion))


@pytest.mark.parametrize(
    ("written", "only_place"),
    [
        # The group is there, only misspelt: it is not missing, and its hosts are not without a group.
        (
            "all: {hosts: {a: {}}, children: {service_hosts: {hosts: {a: {}}}}}\n",
            "all.children.service_hosts",
        ),
        # The group has a host, only not a good one: it is not empty.
        ("service_host: {hosts: {'a b': {}}}\n", 'service_host.hosts["a b"]'),
        ("service_host: {hosts: [a, b]}\nrunner_hosts: {hosts: {c: {}}}\n", "service_host.hosts"),
        ("all: {hosts: {a: {}, b: {}}}\n", ""),
    ],
)
def test_one_cause_has_one_finding(folder: InventoryFolder, written: str, only_place: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        folder.load(hosts=written)
    assert [finding.path for finding in caught.value.findings] == [only_place]


def test_all_errors_come_at_once(folder: InventoryFolder) -> None:
    with pytest.raises(ConfigurationError) as caught:
        folder.load(
            hosts="service_host:\n  hosts:\n    a: {ansible_port: x}\n    a: {ansible_port: 99999}\n"
            "    b: 5\ndatabases: {}\nall: {hosts: {c: {}}}\n"
        )
    assert [finding.path for finding in caught.value.findings] == [
        "all.hosts.c",
        "databases",
        "service_host",
        "service_host.hosts.a",
        "service_host.hosts.a.ansible_port",
        "service_host.hosts.b",
    ]


def test_groups_and_variables_are_inherited_as_ansible_does(folder: InventoryFolder) -> None:
    """Compared with what Ansible itself makes of the same file."""
    inventory = folder.load(hosts=NESTED)
    told = subprocess.run(
        [Path(sys.executable).parent / "ansible-inventory", "-i", folder.root / HOSTS_FILE, "--list"],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder.root,
    )
    theirs = json.loads(told.stdout)["_meta"]["hostvars"]
    settings = {"domain"}
    assert {host.name: dict(host.variables) for host in inventory.hosts} == {
        name: {key: value for key, value in variables.items() if key not in settings}
        for name, variables in theirs.items()
    }
    assert inventory.service_host.name == "alpha"
    assert inventory.service_host.groups == {"service_host", "runner_hosts"}
    assert [host.name for host in inventory.runner_hosts] == ["beta", "alpha"]
    assert not inventory.service_host.is_local


def test_groups_may_stand_at_the_top_and_share_a_host(folder: InventoryFolder) -> None:
    inventory = folder.load(hosts="service_host: {hosts: {a: {}}}\nrunner_hosts: {hosts: {b: {}, a: {}}}\n")
    assert inventory.service_host.name == "a"
    assert {host.name for host in inventory.runner_hosts} == {"a", "b"}


def test_addresses_are_host_names_too(folder: InventoryFolder) -> None:
    hosts = "service_host: {hosts: {192.0.2.10: {}}}\nrunner_hosts: {hosts: {'2001:db8::1': {}}}\n"
    assert [host.name for host in folder.load(hosts=hosts).hosts] == ["192.0.2.10", "2001:db8::1"]


def test_values_encrypted_for_ansible_are_left_to_it(folder: InventoryFolder) -> None:
    hosts = (
        "service_host:\n  hosts:\n    a:\n      ansible_become_password: !vault |\n"
        "        $ANSIBLE_VAULT;1.1;AES256\n        6162\n"
    )
    assert folder.load(GOOD_PLATFORM, hosts).service_host.variables == {"ansible_become_password": None}
