"""Deploying some services only: what is refused, and what of the files and of the provisioning remains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from dap.containers import Container
from dap.credentials import Credentials
from dap.deployment import selection
from dap.deployment.selection import Selection, select
from dap.errors import RefusedError
from dap.hosts.facts import HostFacts
from dap.provisioning import desired_state
from dap.rendering.tree import Directory, File, HostTree
from dap.secrets import SecretStore
from tests.unit.platforms import service_of, site_of

DB = service_of("db", provides="postgres", projects=True, secrets={"admin_password": 20})
STORE = service_of("store", provides="s3", projects=True, secrets={"root_user": 20, "root_password": 20})
JOBS = service_of("toolbox", provides="jobs")
SHOP = service_of(
    "shop",
    needs=["db"],
    databases=[{"server": "db", "name": "shop"}],
    buckets=[{"name": "pictures"}],
)
WIKI = service_of("wiki", databases=[{"server": "db", "name": "wiki"}], buckets=[{"name": "pages"}])
SITE = replace(
    site_of(DB, STORE, JOBS, SHOP, WIKI, projects=[{"name": "demo"}]),
    left_out={"old": (service_of("old"), "switched off in platform.yml")},
    external={"elsewhere": service_of("elsewhere", provides="s3")},
)
EVERY = ("db", "shop", "store", "toolbox", "wiki")


def facts(*deployed: str) -> dict[str, HostFacts]:
    return {"alpha": HostFacts(memory_mib=16000, cpus=4, deployed=deployed)}


def let_run(monkeypatch: pytest.MonkeyPatch, *services: str, ill: tuple[str, ...] = ()) -> None:
    """Let these services run, and some of them not be well."""
    containers = [
        Container("alpha", name, "running", "unhealthy" if name in ill else "healthy", "", "")
        for name in services
    ]
    monkeypatch.setattr(selection, "list_containers", lambda site, host: containers)


def test_without_names_all_services_are_chosen_and_nobody_is_asked() -> None:
    chosen = select(SITE, [], {})
    assert not chosen
    assert list(chosen.of(SITE.services)) == list(SITE.services)


def test_services_whose_needs_run_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    let_run(monkeypatch, "db", "store")
    assert select(SITE, ["shop", "shop"], facts("db", "store", "toolbox")).names == ("shop",)


def test_what_is_chosen_too_need_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    let_run(monkeypatch, "store")
    assert select(SITE, ["shop", "db"], facts("store", "toolbox")).names == ("shop", "db")


@pytest.mark.parametrize(
    ("names", "deployed", "message"),
    [
        (["shpo"], EVERY, "'shpo' is no service of inventory team\n  next: did you mean shop?"),
        (
            ["old"],
            EVERY,
            "old does not run in inventory team: switched off in platform.yml\n"
            "  next: change that in platform.yml, or run dap -e team deploy without --only",
        ),
        (
            ["elsewhere"],
            EVERY,
            "elsewhere is a server of your own in inventory team: there is nothing to deploy\n"
            "  next: dap -e team deploy",
        ),
        (
            ["shop"],
            (),
            "nothing is deployed yet that a single service could be added to\n  next: dap -e team deploy",
        ),
        (
            ["shop"],
            ("store", "toolbox"),
            "shop needs db, which is not deployed\n  next: dap -e team deploy --only db --only shop",
        ),
        (
            ["shop"],
            EVERY,
            "shop needs store, which does not run\n  next: dap -e team deploy --only store --only shop",
        ),
    ],
)
def test_services_that_cannot_be_deployed_alone_are_refused(
    monkeypatch: pytest.MonkeyPatch, names: list[str], deployed: tuple[str, ...], message: str
) -> None:
    let_run(monkeypatch, "db", "store", ill=("store",))
    with pytest.raises(RefusedError) as refused:
        select(SITE, names, facts(*deployed))
    assert str(refused.value) == message
    assert refused.value.exit_code == 2


def tree(*services: str) -> HostTree:
    """A host's tree in which every service has everything."""
    return HostTree(
        files=[File("compose.yaml", b"all"), *(File(f"{name}/compose.yaml", b"") for name in services)],
        secret_files=[File(f"{name}/secrets/key", b"") for name in services],
        directories=[Directory(f"/var/lib/dap/{name}/data", "0700", 1) for name in services],
        reload=[{"service": name, "signal": "HUP", "paths": []} for name in services],
        commands=[{"service": name} for name in services],
        services=list(services),
        first=["db", "store"],
        jobs=["toolbox"],
    )


def test_tree_is_narrowed_to_the_chosen_services() -> None:
    chosen = Selection(("shop", "toolbox"))
    narrow = chosen.narrow(tree(*EVERY), SITE, ["db", "store", "toolbox", "gone"], with_jobs=True)

    project = yaml.safe_load(next(file.content for file in narrow.files if file.path == "compose.yaml"))
    # What is deployed and not configured any more stays included, what is not deployed yet is not.
    assert project["include"] == [
        f"{name}/compose.yaml" for name in ("db", "shop", "store", "toolbox", "gone")
    ]
    assert [file.path for file in narrow.files[1:]] == [f"{name}/compose.yaml" for name in EVERY]
    assert [one.path for one in narrow.directories] == [
        "/var/lib/dap/shop/data",
        "/var/lib/dap/toolbox/data",
    ]
    assert [entry["service"] for entry in narrow.reload] == ["shop", "toolbox"]
    assert [entry["service"] for entry in narrow.commands] == ["shop", "toolbox"]
    assert (narrow.services, narrow.first, narrow.jobs) == (["shop"], [], ["toolbox"])
    assert narrow.only == ["shop", "toolbox", "compose.yaml"]


def test_jobs_do_not_run_where_they_have_nothing_to_do() -> None:
    narrow = Selection(("db",)).narrow(tree(*EVERY), SITE, EVERY, with_jobs=False)
    assert (narrow.services, narrow.first, narrow.jobs) == (["db"], ["db"], [])


def test_host_without_a_chosen_service_is_left_as_it_is() -> None:
    narrow = Selection(("shop",)).narrow(tree("wiki"), SITE, ["wiki"], with_jobs=False)
    assert (narrow.services, narrow.reload, narrow.directories) == ([], [], [])
    assert narrow.only == ["."]


def test_nothing_is_narrowed_without_a_selection() -> None:
    whole = tree(*EVERY)
    assert Selection().narrow(whole, SITE, EVERY, with_jobs=True) is whole


@pytest.mark.parametrize(
    ("names", "databases", "buckets", "keys"),
    [
        (("shop",), ["shop"], ["pictures"], 1),
        (("db",), ["demo", "shop", "wiki"], [], 0),
        (("store", "wiki"), ["wiki"], ["demo", "pages", "pictures"], 3),
        (("toolbox",), [], [], 0),
    ],
)
def test_provisioning_is_narrowed_to_the_chosen_services(
    tmp_path: Any, names: tuple[str, ...], databases: list[str], buckets: list[str], keys: int
) -> None:
    credentials = Credentials(SITE, SecretStore.load(tmp_path, "team"))
    site = replace(SITE, external={})

    state = Selection(names).narrow_state(desired_state(site, credentials), site, credentials)

    found = [one["name"] for server in state["postgres"] for one in server["databases"]]
    assert sorted(found) == databases
    assert sorted(one["name"] for server in state["s3"] for one in server["buckets"]) == buckets
    assert sum(len(server["keys"]) for server in state["s3"]) == keys
