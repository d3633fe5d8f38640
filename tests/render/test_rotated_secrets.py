"""What new values of secrets change in the files of a host, and so which containers are replaced for them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
import yaml

from dap import rotation
from dap.hosts.facts import HostFacts
from dap.rendering.tree import HostTree
from dap.secrets import Secret
from tests.rendering import Rendered, render

FACTS = HostFacts(memory_mib=16000, cpus=4)


@pytest.fixture
def local(tmp_path: Path) -> Rendered:
    """The shipped inventory `local`, rendered for this test alone, which changes its secrets."""
    return render("local", tmp_path)


def tree_of(local: Rendered) -> HostTree:
    return local.renderer.tree(local.site.services_on(local.site.inventory.service_host).values(), FACTS)


def containers(tree: HostTree) -> dict[str, object]:
    """What Compose compares of each service that stays up."""
    files = {file.path: file.content for file in tree.files}
    return {
        name: yaml.safe_load(files[f"{name}/compose.yaml"])["services"][name]
        for name in tree.services
        if name not in tree.jobs
    }


def test_every_secret_of_the_shipped_services_can_be_rotated_or_says_why_not(local: Rendered) -> None:
    stored = {*local.store.all_values()}
    assert len(stored) > 8
    assert stored - {*rotation.rotatable(local.site), *rotation.fixed(local.site)} == set()


def test_containers_are_replaced_where_the_list_says_so_and_nowhere_else(local: Rendered) -> None:
    seen = {}
    for key, entry in rotation.rotatable(local.site).items():
        before = containers(tree_of(local))
        local.store.rotate(key, entry.length)
        after = containers(tree_of(local))
        seen[key] = tuple(sorted(name for name in after if after[name] != before[name]))
    assert seen == {key: entry.restarts for key, entry in rotation.rotatable(local.site).items()}


def test_new_logins_reach_the_proxy_by_a_signal(local: Rendered) -> None:
    before = {file.path: file.content for file in tree_of(local).secret_files}
    local.store.rotate("user.admin.password", 24)
    tree = tree_of(local)
    changed = {file.path for file in tree.secret_files if file.content != before[file.path]}
    assert changed == {"nginx-proxy/live/htpasswd", "nginx-proxy/live/known_logins"}
    signals = [entry for entry in tree.reload if entry["service"] == "nginx-proxy"]
    assert signals == [
        {"service": "nginx-proxy", "signal": "HUP", "paths": ["nginx-proxy/tls/", "nginx-proxy/live/"]}
    ]


def test_a_command_gets_the_new_and_the_old_password_and_only_while_it_is_pending(local: Rendered) -> None:
    assert tree_of(local).commands == []
    old = local.store.get("pgadmin.admin_password").reveal()
    local.store.rotate("pgadmin.admin_password", 24)
    (command,) = tree_of(local).commands
    assert command["command"] == ["python", "/opt/dap/set_password.py"]
    assert command["change"] == "pgadmin: admin_password set"
    new = local.store.get("pgadmin.admin_password").reveal()
    assert json.loads(base64.b64decode(command["input"])) == {"password": new, "previous": [old]}
    local.store.settle(["pgadmin.admin_password"])
    assert tree_of(local).commands == []


def test_no_value_from_before_lies_in_a_file_of_a_host(local: Rendered) -> None:
    old = [secret.reveal() for secret in local.store.all_values().values()]
    for key, entry in rotation.rotatable(local.site).items():
        local.store.rotate(key, entry.length)
    kept = {*old} - {secret.reveal() for secret in local.store.all_values().values()}
    assert len(kept) == len(rotation.rotatable(local.site))
    tree = tree_of(local)
    for file in [*tree.files, *tree.secret_files]:
        text = file.content.decode(errors="replace")
        assert not [value for value in kept if value in text], file.path


def test_a_password_of_ones_own_may_have_any_characters_in_pgadmins_file(local: Rendered) -> None:
    local.store.replace("postgres-data.admin_password", Secret("with:colon and \\backslash"))
    (file,) = [file for file in tree_of(local).secret_files if file.path == "pgadmin/live/pgpass"]
    (line,) = [line for line in file.content.decode().splitlines() if line.startswith("postgres-data.")]
    assert line.endswith(":5432:*:postgres:with\\:colon and \\\\backslash")
