"""Which secrets can be rotated, what is refused, and how the value before is kept until it is done with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dap import rotation
from dap.credentials import Credentials
from dap.errors import RefusedError
from dap.provisioning import desired_state
from dap.secrets import Secret, SecretStore
from dap.site import Site
from tests.unit.platforms import service_of, site_of

EXTERNAL = {"external": {"url": "postgresql://db.example.com", "user": "dap_admin"}}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAP_SECRETS", str(tmp_path / "secrets"))


def site(*more: Any, **settings: Any) -> Site:
    database = service_of(
        "postgres",
        provides="postgres",
        projects=True,
        ports=[{"name": "postgres", "container": 5432}],
        secrets={"admin_password": 40},
        rotation=[{"secret": "admin_password", "job": True}],
    )
    storage = service_of(
        "minio",
        provides="s3",
        projects=True,
        web=[{"name": "s3", "port": 9000, "access": "own"}],
        secrets={"root_user": 20, "root_password": 40},
        rotation=[{"secret": "root_user", "fixed": "is a user name"}],
    )
    app = service_of(
        "app",
        secrets={"token": 30, "key": 40},
        rotation=[{"secret": "key", "fixed": "encrypts the database"}],
        tokens=[
            {
                "name": "api",
                "length": 20,
                "prefix": "app-",
                "command": ["set-token"],
                "input": "tokens/api.j2",
            }
        ],
        databases=[{"server": "postgres", "name": "app"}],
        buckets=[{"name": "app"}],
    )
    settings = {"projects": [{"name": "demo"}], "users": [{"name": "ada"}]} | settings
    return site_of(database, storage, app, *more, **settings)


def store_of(site: Site, tmp_path: Path) -> SecretStore:
    """The secrets of a platform that was deployed."""
    folder = tmp_path / "secrets" / "team"
    folder.mkdir(parents=True, mode=0o700)
    store = SecretStore.load(folder, "team")
    credentials = Credentials(site, store)
    desired_state(site, credentials)
    for service in site.services.values():
        for name in (*service.manifest.secrets, *(token.name for token in service.manifest.tokens)):
            credentials.secret(service, name)
    list(credentials.logins())
    store.save()
    return SecretStore.load(folder, "team")


# --- what there is ---------------------------------------------------------------------------------------


def test_every_secret_can_be_rotated_or_says_why_not(tmp_path: Path) -> None:
    known = site()
    store = store_of(known, tmp_path)
    assert {*store.all_values()} == {*rotation.rotatable(known), *rotation.fixed(known)}
    assert not {*rotation.rotatable(known)} & {*rotation.fixed(known)}


def test_who_starts_anew_is_told() -> None:
    reader = service_of("reader", shared_secrets={"token": "app"})
    found = {key: entry.restarts for key, entry in rotation.rotatable(site(reader)).items() if entry.restarts}
    assert found == {
        "app.database.app": ("app",),
        "app.s3_secret_key": ("app",),
        "app.token": ("app", "reader"),
        "minio.root_password": ("minio",),
    }


def test_a_token_has_its_prefix_and_nobody_starts_anew_for_it(tmp_path: Path) -> None:
    known = site()
    store = store_of(known, tmp_path)
    old = store.all_values()["app.api"].reveal()
    begun(known, store, "app.api")
    new = store.all_values()["app.api"].reveal()
    assert old != new
    for value in (old, new):
        assert re.fullmatch(r"app-[A-Za-z0-9]{20}", value)
    assert rotation.rotatable(known)["app.api"].restarts == ()


def test_a_service_that_reads_an_administrators_password_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "admin" / "secrets").mkdir(parents=True)
    template = tmp_path / "admin" / "secrets" / "pgpass.j2"
    template.write_text("{{ admin_secret('postgres') }}", encoding="utf-8")
    admin = service_of("admin", tmp_path, admin_of="postgres")
    assert rotation.rotatable(site(admin))["postgres.admin_password"].restarts == ("admin",)
    (tmp_path / "admin" / "live").mkdir()
    template.rename(tmp_path / "admin" / "live" / "pgpass.j2")
    assert rotation.rotatable(site(admin))["postgres.admin_password"].restarts == ()


def test_all_are_all_and_each_is_taken_once() -> None:
    known = site()
    assert [entry.key for entry in rotation.chosen(known, ["all", "app.token"])] == [
        *rotation.rotatable(known)
    ]
    assert [entry.key for entry in rotation.chosen(known, ["app.token", "app.token"])] == ["app.token"]


REFUSED = {
    "app.tokn": ("'app.tokn' is not a secret that can be rotated", "did you mean app.token?"),
    "alll": ("'alll' is not a secret that can be rotated", "did you mean all?"),
    "app": (
        "'app' is not a secret that can be rotated",
        "did you mean app.api, app.database.app, app.s3_secret_key or app.token?",
    ),
    "xyz": ("'xyz' is not a secret that can be rotated", "dap -e team rotate --list"),
    "app.key": ("app.key cannot be rotated: it encrypts the database", "dap -e team rotate --list"),
    "project.demo.s3_access_key": (
        "project.demo.s3_access_key cannot be rotated: it is the name of a key; rotate "
        "project.demo.s3_secret_key",
        "dap -e team rotate --list",
    ),
    "ca": (
        "the certificate authority is not rotated: everybody would have to trust the new one first",
        "docs/how-to/rotate-secrets.md says how to make a new one",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_rotated_is_refused(name: str) -> None:
    with pytest.raises(RefusedError) as caught:
        rotation.chosen(site(), ["app.token", name])
    assert str(caught.value) == "\n  next: ".join(REFUSED[name])
    assert caught.value.exit_code == 2


# --- the value before ------------------------------------------------------------------------------------


def begun(known: Site, store: SecretStore, *keys: str) -> None:
    rotation.begin(known, store, rotation.chosen(known, keys))


def test_the_value_before_is_kept_beside_the_new_one_until_the_deploy_is_over(tmp_path: Path) -> None:
    known = site()
    store = store_of(known, tmp_path)
    old = store.all_values()
    begun(known, store, "app.token", "postgres.admin_password")
    store.save()
    again = SecretStore.load(store.path.parent, "team")
    new = again.all_values()
    assert {key for key in new if new[key] != old[key]} == {"app.token", "postgres.admin_password"}
    assert len(new["app.token"].reveal()) == 30
    assert again.pending() == ["app.token", "postgres.admin_password"]
    assert again.previous("app.token") == [old["app.token"]]
    assert rotation.finish(known, again) == ["app.token", "postgres.admin_password"]
    settled = SecretStore.load(store.path.parent, "team")
    assert (settled.pending(), settled.all_values()) == ([], new)
    assert "previous" not in store.path.read_text(encoding="utf-8")


def test_nothing_is_saved_before_the_deploy_saves_it(tmp_path: Path) -> None:
    known = site()
    store = store_of(known, tmp_path)
    before = store.path.read_bytes()
    begun(known, store, "all")
    assert store.path.read_bytes() == before


def test_a_rotation_that_was_killed_goes_on_with_the_value_that_it_made(tmp_path: Path) -> None:
    known = site()
    store = store_of(known, tmp_path)
    old = store.all_values()["app.token"]
    begun(known, store, "app.token")
    made = store.all_values()["app.token"]
    begun(known, store, "app.token", "user.ada.password")
    assert store.all_values()["app.token"] == made
    assert store.previous("app.token") == [old]
    assert store.pending() == ["app.token", "user.ada.password"]


def test_what_a_deploy_does_not_reach_stays_pending(tmp_path: Path) -> None:
    known = site()
    store = store_of(known, tmp_path)
    begun(known, store, "app.token", "user.ada.password")
    without_app = site_of(*(service for name, service in known.services.items() if name != "app"))
    assert rotation.finish(without_app, store) == []
    assert rotation.finish(known, store) == ["app.token", "user.ada.password"]


def test_jobs_get_the_passwords_before_only_while_a_rotation_is_not_over(tmp_path: Path) -> None:
    known = site()
    store = store_of(known, tmp_path)
    credentials = Credentials(known, store)
    assert rotation.jobs_state(known, credentials) == ""
    old = store.all_values()["postgres.admin_password"].reveal()
    begun(known, store, "postgres.admin_password")
    (server,) = json.loads(rotation.jobs_state(known, credentials))["postgres"]
    assert server["previous"] == [old]
    assert server["password"] == store.all_values()["postgres.admin_password"].reveal() != old
    assert old not in json.dumps(desired_state(known, credentials))


def test_a_platform_that_was_never_deployed_is_refused(tmp_path: Path) -> None:
    known = site()
    store = SecretStore.load(tmp_path / "secrets" / "team", "team")
    with pytest.raises(RefusedError) as caught:
        begun(known, store, "all")
    assert str(caught.value) == (
        "inventory team has no secrets yet: it was never deployed from here\n  next: dap -e team deploy"
    )


def test_the_list_tells_what_is_pending(tmp_path: Path) -> None:
    known = site()
    store = store_of(known, tmp_path)
    begun(known, store, "app.token")
    assert rotation.as_json(known, store)[3] == {
        "secret": "app.token",
        "what": "App: token",
        "restarts": ["app"],
        "pending": True,
    }


# --- values that the operator gives ----------------------------------------------------------------------


def external_site() -> Site:
    known = site(services={"postgres": EXTERNAL})
    services = dict(known.services)
    outside = services.pop("postgres")
    return Site(known.inventory, services, external={"postgres": outside})


def loaded(tmp_path: Path) -> SecretStore:
    return SecretStore.load(tmp_path / "secrets" / "team", "team")


def test_the_password_of_a_server_of_ones_own_is_stored_as_it_is(tmp_path: Path) -> None:
    rotation.set_value(external_site(), "postgres.admin_password", 'pass "word" 100% ä')
    rotation.set_value(external_site(), "postgres.admin_password", "x")
    store = loaded(tmp_path)
    assert store.peek("postgres.admin_password") == Secret("x")
    assert store.pending() == []
    assert store.path.stat().st_mode & 0o777 == 0o600


def test_a_server_of_ones_own_is_not_rotated() -> None:
    with pytest.raises(RefusedError) as caught:
        rotation.chosen(external_site(), ["postgres.admin_password"])
    assert str(caught.value) == (
        "postgres.admin_password is the password of a server of your own, which dap does not change\n"
        "  next: change it there, then: dap -e team secret set postgres.admin_password"
    )


def test_a_chosen_value_is_brought_to_the_services_like_a_rotated_one(tmp_path: Path) -> None:
    known = site()
    old = store_of(known, tmp_path).all_values()["user.ada.password"]
    rotation.set_value(known, "user.ada.password", "correct-horse-battery")
    rotation.set_value(known, "user.ada.password", "correct-horse-battery-staple")
    store = loaded(tmp_path)
    assert store.peek("user.ada.password") == Secret("correct-horse-battery-staple")
    assert store.previous("user.ada.password") == [Secret("correct-horse-battery"), old]


WRONG = {
    "": ("no value was given for user.ada.password", "write it to the command's standard input"),
    "two\nlines-and-more": (
        "the value for user.ada.password has a line end or another control character in it",
        "give one line of text",
    ),
    "tabulator\there": (
        "the value for user.ada.password has a line end or another control character in it",
        "give one line of text",
    ),
    "short": ("the value for user.ada.password has 5 characters", "give 12 to 128"),
    "x" * 129: ("the value for user.ada.password has 129 characters", "give 12 to 128"),
    "with:colon-and-more": (
        "the value for user.ada.password has characters that it may not have",
        "use letters, digits and . _ ~ -",
    ),
}


@pytest.mark.parametrize("value", WRONG)
def test_a_value_that_cannot_be_a_password_is_refused(tmp_path: Path, value: str) -> None:
    known = site()
    before = store_of(known, tmp_path).path.read_bytes()
    with pytest.raises(RefusedError) as caught:
        rotation.set_value(known, "user.ada.password", value)
    assert str(caught.value) == "\n  next: ".join(WRONG[value])
    assert loaded(tmp_path).path.read_bytes() == before


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "user.ad.password",
            "'user.ad.password' is not a secret of inventory team\n  next: did you mean user.ada.password?",
        ),
        ("xyz", "'xyz' is not a secret of inventory team\n  next: dap -e team rotate --list"),
        ("app.key", "app.key cannot be set: it encrypts the database"),
    ],
)
def test_a_value_for_no_secret_is_refused(tmp_path: Path, key: str, message: str) -> None:
    with pytest.raises(RefusedError) as caught:
        rotation.set_value(site(), key, "correct-horse-battery")
    assert str(caught.value) == message
    assert not (tmp_path / "secrets").exists()
