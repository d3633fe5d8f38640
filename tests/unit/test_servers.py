"""Servers of databases and object storage: the platform's own, and those of the operator in their place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dap.credentials import Credentials
from dap.errors import RefusedError
from dap.provisioning import desired_state
from dap.secrets import Secret, SecretStore
from dap.servers import public_address, server_named, servers
from dap.site import Site
from tests.unit.platforms import service_of, site_of

DATABASE = service_of(
    "db",
    provides="postgres",
    projects=True,
    tls={"names": "own"},
    ports=[{"name": "postgres", "container": 5432}],
    secrets={"admin_password": 40},
)
STORE = service_of(
    "store",
    provides="s3",
    projects=True,
    web=[{"name": "s3", "port": 9000, "access": "own"}],
    secrets={"root_user": 20, "root_password": 40},
)
APP = service_of("app", databases=[{"server": "db", "name": "app"}], buckets=[{"name": "app"}])
THEIR_DATABASE = {"url": "postgresql://pg.example.com:5433", "user": "dap_admin"}
THEIR_STORE = {"url": "https://s3.example.com", "user": "KEY", "region": "eu-1"}


def site(**services: Any) -> Site:
    """A platform with an application; ``services`` are its settings."""
    every = site_of(APP, DATABASE, STORE, services=services, projects=[{"name": "demo"}])
    out = {name: every.services[name] for name, own in services.items() if own.get("external")}
    kept = {name: service for name, service in every.services.items() if name not in out}
    return replace(every, services=kept, external=out)


def credentials(of: Site, **given: str) -> Credentials:
    store = SecretStore(Path("secrets.yml"), "team")
    for key, value in given.items():
        store.replace(key.replace("__", "."), Secret(value))
    return Credentials(of, store)


def test_servers_of_the_platform_are_reached_on_its_network() -> None:
    here = site()
    (database,), (store,) = servers(here, "postgres"), servers(here, "s3")
    assert (database.host, database.port, database.sslmode) == ("db.dap.example.com", 5432, "verify-full")
    assert (store.endpoint, store.region, store.own_keys) == ("http://store:9000", "us-east-1", True)
    assert public_address(here, database) == "db.dap.example.com:5432"
    assert public_address(here, store) == "https://s3.dap.example.com"


def test_servers_of_the_operator_are_reached_where_they_say() -> None:
    here = site(db={"external": THEIR_DATABASE}, store={"external": THEIR_STORE})
    database, store = server_named(here, "db"), server_named(here, "store")
    assert (database.host, database.port, database.sslmode) == ("pg.example.com", 5433, "verify-full")
    assert (store.endpoint, store.region, store.own_keys) == ("https://s3.example.com:443", "eu-1", False)
    assert public_address(here, database) == "pg.example.com:5433"
    assert public_address(here, store) == "https://s3.example.com:443"


def test_plain_connections_are_made_only_where_they_are_asked_for() -> None:
    plain = {"url": "postgresql://pg.example.com?sslmode=disable", "user": "dap"}
    database = server_named(site(db={"external": plain}), "db")
    assert (database.port, database.sslmode) == (5432, "disable")
    store = server_named(site(store={"external": THEIR_STORE | {"url": "http://s3:9000"}}), "store")
    assert store.endpoint == "http://s3:9000"


def test_password_of_a_server_of_the_operator_is_never_made_up() -> None:
    here = site(db={"external": THEIR_DATABASE})
    with pytest.raises(RefusedError) as caught:
        credentials(here).admin_password(server_named(here, "db"))
    assert str(caught.value) == (
        "inventories/team/group_vars/all/platform.yml: services.db.external\n"
        "    names a server, and its password (db.admin_password) is not known\n"
        "  next: dap -e team secret set db.admin_password"
    )


def test_state_of_external_servers_says_so_and_has_the_given_password() -> None:
    here = site(db={"external": THEIR_DATABASE}, store={"external": THEIR_STORE})
    state = desired_state(here, credentials(here, db__admin_password="given", store__root_password="key"))
    (database,), (store,) = state["postgres"], state["s3"]
    assert (database["external"], database["user"], database["password"]) == (True, "dap_admin", "given")
    assert [entry["name"] for entry in database["databases"]] == ["app", "demo"]
    assert (store["user"], store["password"], store["secure"]) == ("KEY", "key", True)
    assert [bucket["name"] for bucket in store["buckets"]] == ["app", "demo"]
    assert store["keys"] == []


def test_services_and_projects_share_the_one_key_of_an_external_store() -> None:
    here = site(store={"external": THEIR_STORE})
    key = credentials(here, store__root_password="shared").bucket_key(APP)
    assert key
    assert (key.access_key, key.secret_key.reveal()) == ("KEY", "shared")


def test_external_store_with_its_admin_interface_has_a_key_for_each() -> None:
    here = site(store={"external": THEIR_STORE | {"own_keys": True}})
    state = desired_state(here, credentials(here, store__root_password="root"))
    assert [key["policy"] for key in state["s3"][0]["keys"]] == ["app", "project-demo"]
