"""``dap init`` creates an inventory that loads, or nothing at all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from dap.cli import main
from dap.configuration.inventory import load_inventory
from dap.reference import commented_example


@pytest.fixture
def inventories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAP_INVENTORIES", str(tmp_path / "inventories"))
    return tmp_path / "inventories"


def init(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["init", *arguments])


def team(*more: str, domain: str = "dap.example.com", host: str = "alpha.example.com") -> Result:
    return init("team", "--domain", domain, "--service-host", host, *more)


def files(folder: Path) -> list[str]:
    """Every file and folder below a folder; none where it is not there."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) if folder.exists() else []


def test_new_inventory_has_its_two_files_and_says_what_to_do_next(inventories: Path) -> None:
    result = team()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "Created inventories/team. Next:\n"
        "  edit inventories/team/group_vars/all/platform.yml\n"
        "  dap -e team check\n"
    )
    assert files(inventories / "team") == [
        "group_vars",
        "group_vars/all",
        "group_vars/all/platform.yml",
        "hosts.yml",
    ]


def test_new_inventory_is_the_commented_example_with_its_own_domain(inventories: Path) -> None:
    team(domain="lab.example.org")
    text = (inventories / "team/group_vars/all/platform.yml").read_text()
    assert text == commented_example().replace("\ndomain: dap.example.com\n", "\ndomain: lab.example.org\n")
    assert yaml.safe_load(text) == {"domain": "lab.example.org"}


def test_new_inventory_loads_with_the_hosts_that_were_named(inventories: Path) -> None:
    team("--runner-host", "beta", "--runner-host", "192.0.2.12")
    inventory = load_inventory("team", [])
    assert inventory.service_host.name == "alpha.example.com"
    assert not inventory.service_host.is_local
    assert [host.name for host in inventory.runner_hosts] == ["beta", "192.0.2.12"]


def test_list_of_machines_says_what_stands_where(inventories: Path) -> None:
    team("--runner-host", "runner1=192.0.2.21", "--runner-host", "beta", "--user", "admin")
    lines = (inventories / "team/hosts.yml").read_text().splitlines()
    assert [line for line in lines if not line.lstrip().startswith("#")] == [
        "all:",
        "  vars:",
        "    ansible_user: admin",
        "  children:",
        "    service_host:",
        "      hosts:",
        "        alpha.example.com:",
        "    runner_hosts:",
        "      hosts:",
        "        runner1:",
        "          ansible_host: 192.0.2.21",
        "        beta:",
    ]
    assert "    # Exactly one host: all services run on it." in lines
    runner = load_inventory("team", []).runner_hosts[0]
    assert runner.variables == {"ansible_user": "admin", "ansible_host": "192.0.2.21"}


def test_what_is_in_comments_is_an_inventory_when_the_marks_are_taken_out(inventories: Path) -> None:
    team()
    path = inventories / "team/hosts.yml"
    text = path.read_text()
    assert load_inventory("team", []).runner_hosts == ()
    path.write_text(re.sub(r"(?m)^( +)# (?=ansible_|  +|runner_hosts)", r"\1", text))
    inventory = load_inventory("team", [])
    assert [host.name for host in inventory.runner_hosts] == ["runner1"]
    assert inventory.service_host.variables == {
        "ansible_user": "admin",
        "ansible_port": 22,
        "ansible_ssh_private_key_file": "~/.ssh/id_ed25519",
    }


def test_what_is_not_given_is_asked_for_on_a_terminal(
    inventories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dap.verbs.init.asks", lambda: True)
    answers = "dap.example.com\nalpha=192.0.2.10\nbeta gamma=192.0.2.12\nadmin\n"
    result = CliRunner().invoke(main, ["init", "team"], input=answers)
    assert result.exit_code == 0, result.output
    inventory = load_inventory("team", [])
    assert inventory.platform.domain == "dap.example.com"
    assert [host.name for host in inventory.hosts] == ["alpha", "beta", "gamma"]
    assert {host.variables["ansible_user"] for host in inventory.hosts} == {"admin"}


def test_for_this_machine_alone_no_account_is_asked_for(
    inventories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dap.verbs.init.asks", lambda: True)
    result = CliRunner().invoke(main, ["init", "team"], input="dap.example.com\nlocalhost\n\n")
    assert result.exit_code == 0, result.output
    assert load_inventory("team", []).service_host.is_local


def test_account_that_is_none_is_refused(inventories: Path) -> None:
    result = team("--user", "root\n    x: y")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: 'root\\n    x: y' is not the name of an account\n  next: write one, such as admin\n"
    )
    assert files(inventories) == []


def test_this_machine_is_reached_without_ssh(inventories: Path) -> None:
    team(host="localhost")
    assert load_inventory("team", []).service_host.is_local


def test_inventory_that_exists_is_left_alone(inventories: Path) -> None:
    team()
    settings = inventories / "team/group_vars/all/platform.yml"
    settings.write_text("domain: mine.example.com\n")
    result = team()
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "error: inventories/team exists already\n  next: edit it, or choose another name than team\n"
    )
    assert settings.read_text() == "domain: mine.example.com\n"


@pytest.mark.parametrize("name", ["Team", "../team", "team/a", "1st", "te am", ".team"])
def test_name_that_is_none_is_refused(inventories: Path, name: str) -> None:
    result = init(name, "--domain", "dap.example.com", "--service-host", "alpha")
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {name!r} is not an inventory name\n  next: use lower-case letters, digits and '-'\n"
    )
    assert files(inventories.parent) == []


PLATFORM = "inventories/team/group_vars/all/platform.yml"
HOSTS = "inventories/team/hosts.yml"


@pytest.mark.parametrize(
    ("domain", "finding"),
    [
        (
            "https://dap.example.com",
            f"{PLATFORM}: domain = https://dap.example.com\n    is a URL, not a domain\n"
            "    write dap.example.com",
        ),
        (
            "localhost",
            f"{PLATFORM}: domain = localhost\n    has no dot, and a domain has at least two parts\n"
            "    write dap.localhost",
        ),
    ],
)
def test_wrong_domain_is_refused_and_leaves_nothing_behind(
    inventories: Path, domain: str, finding: str
) -> None:
    result = team(domain=domain)
    assert result.exit_code == 2
    assert result.stderr == f"error: 1 error in the configuration; nothing was changed:\n  {finding}\n"
    assert files(inventories) == []


def test_wrong_host_is_refused_and_leaves_nothing_behind(inventories: Path) -> None:
    result = team(host="-alpha")
    assert result.exit_code == 2
    assert result.stderr.startswith(
        "error: 1 error in the configuration; nothing was changed:\n"
        f"  {HOSTS}: all.children.service_host.hosts.-alpha\n"
        "    is not a host name or IP address\n"
    )
    assert files(inventories) == []


def test_other_inventories_survive_a_refusal(inventories: Path) -> None:
    init("first", "--domain", "dap.example.com", "--service-host", "alpha")
    before = files(inventories)
    assert team(domain="localhost").exit_code == 2
    assert files(inventories) == before


@pytest.mark.parametrize("missing", ["--domain", "--service-host"])
def test_what_is_required_is_asked_for(inventories: Path, missing: str) -> None:
    given = {"--domain": "dap.example.com", "--service-host": "alpha"}
    del given[missing]
    result = init("team", *(word for option in given.items() for word in option))
    assert result.exit_code == 2
    assert f"Missing option '{missing}'" in result.stderr
    assert files(inventories.parent) == []
