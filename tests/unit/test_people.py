"""People in the configuration: how they are written into the file, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from dap import people
from dap.cli import main
from dap.credentials import Credentials
from dap.layout import compose_dir
from dap.provisioning import desired_state
from dap.rotation import rotatable
from dap.secrets import SecretStore
from dap.services.manifest import find_folders, load_services
from dap.site import Site, load_site
from tests.unit.platforms import site_of, tree_of

SETTINGS = """\
# Ours.
domain: dap.example.com   # not ours to choose

users:
  # Who was first.
  - name: ada   # the countess
    full_name: Ada Lovelace
    ssh_keys:
      - ssh-ed25519 AAAA ada
  # Who comes next stands here.

projects:
  - name: demo
    members: {ada: owner, '*': developer}
"""
HOSTS = "service_host: {hosts: {localhost: {ansible_connection: local}}}\n"
EVE = {"name": "eve", "full_name": "Eve: née Smith", "ssh_keys": ["ssh-ed25519 BBBB eve"]}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAP_INVENTORIES", str(tmp_path / "inventories"))
    monkeypatch.setenv("DAP_SECRETS", str(tmp_path / "secrets"))
    folder = tmp_path / "inventories" / "team"
    tree_of(folder, {"group_vars/all/platform.yml": SETTINGS, "hosts.yml": HOSTS})
    return folder / "group_vars" / "all" / "platform.yml"


def dap(*arguments: str) -> tuple[int, str]:
    """Status and output of the program."""
    done = CliRunner().invoke(main, ["-e", "team", *arguments])
    return done.exit_code, done.output


# --- logins of one's own ---------------------------------------------------------------------------------


def databases_and_keys(known: Site, store: SecretStore) -> tuple[dict[str, Any], dict[str, Any]]:
    state = desired_state(known, Credentials(known, store))
    (database,) = [server for server in state["postgres"] if server["service"] == "postgres-data"]
    return database, state["s3"][0]


def test_who_works_on_projects_has_logins_to_their_data_and_loses_them_again(tmp_path: Path) -> None:
    services = load_services(find_folders([compose_dir()]))
    own = [services[name] for name in ("minio", "postgres-data")]
    projects = [
        {"name": "demo", "members": {"ada": "owner", "*": "reporter"}},
        {"name": "other", "members": {"*": "developer"}},
    ]
    store = SecretStore(tmp_path / "secrets.yml", "team")
    before = site_of(*own, projects=projects, users=[{"name": "ada"}, {"name": "b.b"}, {"name": "eve"}])
    database, storage = databases_and_keys(before, store)
    assert [(one["role"], one["projects"]) for one in database["people"]] == [
        ("ada", ["demo", "other"]),
        ("b.b", ["other"]),
        ("eve", ["other"]),
    ]
    keys = {key["policy"]: key["buckets"] for key in storage["keys"]}
    assert keys["user-ada"] == ["demo", "other"]
    assert keys["user-b.b"] == ["other"]
    assert (database["gone"], storage["gone"]) == ([], [])
    # Shown to hand out, and rotated like any other.
    logins = {login.what for login in Credentials(before, store).logins()}
    assert {"Own database login: demo, other", "Own key to buckets of ada: demo, other"} <= logins
    assert {"user.ada.database", "user.b.b.s3_secret_key"} <= rotatable(before).keys()
    # One is disabled, one is no longer there.
    after = site_of(*own, projects=projects, users=[{"name": "ada"}, {"name": "b.b", "disabled": True}])
    database, storage = databases_and_keys(after, store)
    assert [one["role"] for one in database["people"]] == ["ada"]
    assert sorted(database["gone"]) == ["b.b", "eve"]
    stored = store.all_values()
    gone = {stored[f"user.{name}.s3_access_key"].reveal() for name in ("b.b", "eve")}
    assert {key["access_key"] for key in storage["gone"]} == gone
    assert {key["policy"] for key in storage["gone"]} == {"user-b.b", "user-eve"}
    assert not gone & {key["access_key"] for key in storage["keys"]}


# --- the text --------------------------------------------------------------------------------------------


def test_user_is_added_below_the_others_and_comments_stay() -> None:
    changed = people.with_user(SETTINGS, EVE)
    lines = changed.splitlines()
    new = ["  - name: eve", "    full_name: 'Eve: née Smith'", "    ssh_keys:", "    - ssh-ed25519 BBBB eve"]
    assert lines[9:13] == new
    assert lines[:9] + lines[13:] == SETTINGS.splitlines()
    assert yaml.safe_load(changed)["users"][1] == EVE


@pytest.mark.parametrize(
    "users",
    [
        "",
        "users:\n",
        "users: []\n",
        "users: []  # nobody yet\n",
        "users: [{name: ada}]\n",
        "users: [{name: ada}, {name: bob, full_name: 'B, b'}]  # two\n",
        "users:\n- name: ada\n- {name: bob}\n",
        "users:\n    - name: ada\n      full_name: |-\n        Ada\n",
        "users:\n  - name: ada",
    ],
)
def test_user_is_added_however_the_others_are_written(users: str) -> None:
    for text in (f"domain: d.example.com\n{users}", f"{users}\n# between\ndomain: d.example.com\n"):
        before, after = yaml.safe_load(text), yaml.safe_load(people.with_user(text, EVE))
        assert after == before | {"users": [*(before.get("users") or []), EVE]}
        for comment in ("# nobody yet", "# two", "# between"):
            assert (comment in text) == (comment in people.with_user(text, EVE))


@pytest.mark.parametrize(
    "users",
    [
        "users: [{name: ada}, {name: bob, full_name: B}]\n",
        "users:\n- full_name: B  # b\n  name: bob\n- name: ada\n",
        "users:\n  - name: bob\n    disabled: false  # not yet\n    full_name: B\n",
        "users:\n  - name: bob",
    ],
)
def test_user_is_disabled_however_it_is_written(users: str) -> None:
    changed = people.with_disabled(users, "bob", True)
    before, after = yaml.safe_load(users)["users"], yaml.safe_load(changed)["users"]
    assert after == [one | ({"disabled": True} if one["name"] == "bob" else {}) for one in before]
    assert changed.count("#") == users.count("#")
    again = yaml.safe_load(people.with_disabled(changed, "bob", False))["users"]
    assert [one.get("disabled") for one in again if one["name"] == "bob"] == [False]


# --- the verbs -------------------------------------------------------------------------------------------


def test_adding_disabling_and_enabling(file: Path, tmp_path: Path) -> None:
    file.chmod(0o640)
    key = tmp_path / "eve.pub"
    key.write_text("ssh-ed25519 BBBB eve\n")
    added = dap("user", "add", "eve", "--email", "eve@example.com", "--ssh-key", str(key), "--no-deploy")
    assert added == (
        0,
        f"Added eve to {file}.\nNext: dap -e team deploy\n"
        "Logins to hand out: dap -e team credentials --user eve\n",
    )
    eve = {"name": "eve", "email": "eve@example.com", "ssh_keys": ["ssh-ed25519 BBBB eve"]}
    assert yaml.safe_load(file.read_text())["users"][1] == eve
    assert file.stat().st_mode & 0o777 == 0o640
    listed = json.loads(dap("user", "list", "--json")[1])
    assert [(one["name"], one["projects"]) for one in listed] == [
        ("ada", {"demo": "owner"}),
        ("eve", {"demo": "developer"}),
    ]
    store = SecretStore.load(tmp_path / "secrets" / "team", "team")
    store.get("project.demo.database")
    store.get("project.demo.s3_secret_key")
    store.save()
    assert dap("user", "disable", "eve", "--no-deploy") == (
        0,
        f"Disabled eve in {file}.\nNext: dap -e team deploy\n"
        "Each project has a login to its database and its bucket that belongs to nobody.\n"
        "  If eve knows them: dap -e team rotate project.demo.database project.demo.s3_secret_key\n"
        "In GitLab, what they made, their memberships and their keys stay with the blocked account.\n"
        f"  To remove them: in {file} and in GitLab\n",
    )
    assert [user.disabled for user in load_site("team").platform.users] == [False, True]
    assert "eve   -             eve@example.com      disabled  -" in dap("user", "list")[1]
    assert dap("user", "enable", "eve", "--no-deploy")[0] == 0
    assert [user.disabled for user in load_site("team").platform.users] == [False, False]
    assert "# Who comes next stands here." in file.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("add", "ada"),
            "there is a user ada already\n  next: dap -e team user list",
        ),
        (("disable", "adda"), "there is no user adda\n  next: did you mean ada?"),
        (
            ("add", "eve", "--ssh-key", "/nowhere.pub"),
            "/nowhere.pub cannot be read: [Errno 2] No such file or directory: '/nowhere.pub'\n"
            "  next: name a file that ends in .pub",
        ),
    ],
)
def test_what_cannot_be_is_refused(file: Path, arguments: tuple[str, ...], message: str) -> None:
    assert dap("user", *arguments) == (2, f"error: {message}\n")
    assert file.read_text() == SETTINGS


def test_file_stays_as_it_was_where_it_would_be_wrong(file: Path) -> None:
    status, told = dap("user", "add", "Eve", "--no-deploy")
    assert status == 2
    assert told == (
        f"error: 1 error in the configuration; nothing was changed:\n  {file}: users[1].name = Eve\n"
        "    is not a name of at most 31 small letters, digits, dots, hyphens and underscores, with a letter"
        " first\n    write eve\n"
    )
    assert file.read_text() == SETTINGS
