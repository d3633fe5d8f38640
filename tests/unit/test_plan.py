"""What is made of Ansible's events: a plan, in data and in words."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from dap.hosts.ansible import Run
from dap.plan import Change, ContainerChange, Issued, Plan
from dap.plan.reading import foresee_new_servers, planned_files, read
from dap.plan.text import of_plan
from dap.rendering.tree import Directory, File, HostTree
from dap.secrets import Secret
from dap.trust.certificates import Leaf
from dap.trust.tls import Tls
from tests.unit.platforms import service_of, site_of

WEB, DB = service_of("web"), service_of("db", provides="postgres")
OFF = service_of("old")
SITE = replace(site_of(WEB, DB), left_out={"old": (OFF, "switched off in platform.yml")})
END = datetime(2030, 1, 1, tzinfo=UTC)


def tls(**renewed: str) -> Tls:
    """Certificates, some of them issued anew for a reason."""
    leaves = {name: Leaf(b"", Secret("key"), END, bool(why), why) for name, why in renewed.items()}
    return Tls(leaves, b"", (), public=False, warnings=())


def event(role: str = "", kind: str = "changed", **values: Any) -> dict[str, Any]:
    """What the callback plugin reports of a task."""
    return {"event": kind, "host": "alpha", "task": "Do it", "role": role, **values}


def container(service: str, action: str, *reasons: str) -> dict[str, Any]:
    return {"service": service, "action": action, "reasons": list(reasons)}


def reading(*events: dict[str, Any], **renewed: str) -> Plan:
    return read(Run(events=list(events)), SITE, tls(**renewed))


def test_every_event_is_sorted_to_its_kind() -> None:
    compose = {"containers": [container("web", "recreated", "memory 2g → 3g")], "provisioning": []}
    job = {"containers": [], "provisioning": ["db: role a created"], "asked": ["db"]}
    plan = reading(
        event("trust", changed_items=["trusts x"]),
        event("names", changed_items=["/etc/hosts: the platform's names"]),
        event("docker"),
        event("images", changed_items=["image web built", "/opt/dap/.build"]),
        event("stack", changed_items=["web/compose.yaml written"]),
        event("provision", dap=job, changed_items=["db: role a created"]),
        event("services", dap=compose, changed_items=["web: container recreated"]),
        event("services", changed_items=["web: password set"]),
        event("stack", "diff", message="--- before"),
        event("stack", "ok"),
    )
    assert plan == Plan(
        containers=[ContainerChange("alpha", "web", "recreated", ("memory 2g → 3g",))],
        images=[Change("alpha", "image web built")],
        provisioning=[Change("alpha", "db: role a created"), Change("alpha", "web: password set")],
        hosts=[
            Change("alpha", "trusts x"),
            Change("alpha", "/etc/hosts: the platform's names"),
            Change("alpha", "Do it"),
        ],
        files=[Change("alpha", "web/compose.yaml written")],
        left_out={"old": "switched off in platform.yml"},
        differences=[Change("alpha", "--- before")],
    )
    assert plan.count == 8


@pytest.mark.parametrize(
    ("entry", "renewed", "reasons"),
    [
        (container("old", "removed"), {}, ("switched off in platform.yml; its data stays",)),
        (container("gone", "removed"), {}, ("no longer configured; its data stays",)),
        (
            container("web", "reloaded", "tls/tls.crt", "tls/tls.key"),
            {"web": "it expires on 2026-12-01"},
            ("certificate: it expires on 2026-12-01",),
        ),
        (container("web", "reloaded", "live/htpasswd", "tls/tls.crt"), {}, ("live/htpasswd", "certificate")),
        (container("web", "restarted", "ended with exit status 1"), {}, ("ended with exit status 1",)),
    ],
)
def test_what_only_the_program_knows_joins_the_reasons(
    entry: dict[str, Any], renewed: dict[str, str], reasons: tuple[str, ...]
) -> None:
    plan = reading(event("services", dap={"containers": [entry], "provisioning": []}), **renewed)
    assert plan.containers[0].reasons == reasons
    assert plan.certificates == [Issued(name, why) for name, why in renewed.items()]


def test_services_that_are_left_alone_are_named_once() -> None:
    site = replace(SITE, services={**SITE.services, "toolbox": service_of("toolbox", provides="jobs")})
    left = ["compose.yaml", "toolbox/compose.yaml", "web/compose.yaml", "web/config/a", "gone/compose.yaml"]
    stack = event("stack", "ok", dap={"left_paths": left, "empty_directories": []})
    secret = ["web/live/htpasswd", "database/secrets/pgpass"]
    services = event("services", "ok", dap={"containers": [], "provisioning": [], "left_paths": secret})
    assert read(Run(events=[stack, services]), site, tls()).left_alone == ["gone", "web", "database"]


STATE = {
    "postgres": [
        {
            "service": "db",
            "external": False,
            "databases": [{"name": "shop", "role": "seller", "password": "x"}],
        }
    ],
    "s3": [
        {
            "service": "store",
            "buckets": [{"name": "a", "versioning": True}, {"name": "b", "versioning": False}],
            "keys": [{"policy": "service-web", "access_key": "k", "secret_key": "x", "buckets": ["a"]}],
        }
    ],
    "other": [{"service": "panel"}],
}
TREES = {
    "alpha": HostTree(
        directories=[Directory(f"/data/{name}/data", "0700", 1) for name in ("db", "store", "panel")]
    )
}


def foreseen(empty: list[str], told: dict[str, Any]) -> Plan:
    """A plan after what a look at the data folders and the jobs found."""
    stack = {"empty_directories": [f"/data/{name}/data" for name in empty], "left_paths": []}
    job = {"containers": [], "provisioning": [], **told}
    run = Run(events=[event("stack", "ok", dap=stack), event("provision", "ok", dap=job)])
    plan = read(run, SITE, tls())
    foresee_new_servers(plan, run, SITE, TREES, STATE)
    return plan


def test_everything_is_made_in_servers_without_data() -> None:
    plan = foreseen(["db", "store", "panel"], {"asked": [], "unasked": {"panel": "does not run"}})
    assert [change.what for change in plan.provisioning] == [
        "db: database postgres closed to other roles",
        "db: database template1 closed to other roles",
        "db: role seller created",
        "db: database shop created",
        "db: database shop closed to other roles",
        "store: bucket a created",
        "store: versioning of bucket a switched on",
        "store: bucket b created",
        "store: policy service-web set",
        "store: key of service-web set",
        "store: policy service-web attached to its key",
    ]
    assert plan.unknown == ["panel: what it still needs shows when it runs (does not run)"]


def test_what_servers_with_data_need_shows_when_they_run() -> None:
    plan = foreseen([], {"asked": ["store"], "unasked": {"db": "does not run"}, "reason": "no image\nmore"})
    assert plan.provisioning == []
    assert plan.unknown == [
        "db: what it still needs shows when it runs (does not run)",
        "panel: what it still needs shows when it runs (no image more)",
    ]


def test_new_compose_files_go_to_the_host_with_the_project_in_json() -> None:
    files = [
        File("compose.yaml", b"name: dap\ninclude:\n- web/compose.yaml\n"),
        File("web/compose.yaml", b"services: {}\n"),
        File("web/config/compose.txt", b""),
        File("db/compose.yaml", b"services: {}\n"),
    ]

    def contents(tree: HostTree) -> dict[str, str]:
        return {entry["path"]: base64.b64decode(entry["content"]).decode() for entry in planned_files(tree)}

    every = contents(HostTree(files=files))
    assert json.loads(every.pop("compose.yaml")) == {"name": "dap", "include": ["web/compose.yaml"]}
    assert every == dict.fromkeys(["web/compose.yaml", "db/compose.yaml"], "services: {}\n")
    assert contents(HostTree(files=files, only=["web", "compose.yaml"])).keys() == {
        "compose.yaml",
        "web/compose.yaml",
    }


def test_plan_in_words() -> None:
    plan = Plan(
        containers=[
            ContainerChange("alpha", "web", "recreated", ("memory 2g → 3g", "config/web.conf")),
            ContainerChange("alpha", "database", "reloaded"),
        ],
        certificates=[Issued("web", "it expires on 2026-12-01")],
        provisioning=[Change("alpha", "db: role a created")],
        files=[Change("alpha", f"web/{number} written") for number in range(21)],
        unknown=["db: later"],
        left_out={"old": "switched off in platform.yml"},
        left_alone=["portal"],
        differences=[Change("alpha", "--- before\n+++ after\n")],
    )
    shown = of_plan(plan, SITE, ["disk is small", "disk is small"])
    files = [f"  web/{number} written" for number in range(20)]
    assert shown.splitlines() == [
        "24 changes would be made",
        "",
        "Services",
        "  web       recreated  memory 2g → 3g; config/web.conf",
        "  database  reloaded   reads its files again",
        "",
        "Certificates",
        "  web: issued anew, because it expires on 2026-12-01",
        "",
        "Databases, buckets and accounts",
        "  db: role a created",
        "",
        "Files",
        *files,
        "  … and 1 more, see --json",
        "",
        "Known only later",
        "  db: later",
        "",
        "Differences",
        "  --- before",
        "  +++ after",
        "",
        "Left out: old (switched off in platform.yml)",
        "Left as they are although the configuration says otherwise: portal",
        "  next: dap -e team plan",
        "warning: disk is small",
        "Data is not touched: what lies in /var/lib/dap stays as it is.",
    ]


def test_plan_without_changes_says_so() -> None:
    site = site_of(WEB)
    assert of_plan(Plan(), site).splitlines() == [
        "Nothing would change.",
        "",
        "Data is not touched: what lies in /var/lib/dap stays as it is.",
    ]
    assert of_plan(Plan(images=[Change("alpha", "image web built")]), site).startswith(
        "1 change would be made\n"
    )


def test_plan_for_several_hosts_names_them() -> None:
    beta = replace(SITE.inventory.hosts[0], name="beta")
    inventory = replace(SITE.inventory, hosts=(*SITE.inventory.hosts, beta))
    plan = Plan(containers=[ContainerChange("beta", "web", "created", ("new",))], hosts=[Change("beta", "x")])
    shown = of_plan(plan, replace(SITE, inventory=inventory))
    assert "\nServices\n  beta  web  created  new\n" in shown
    assert "\nHosts\n  beta: x\n" in shown


def test_plan_as_json_holds_every_kind() -> None:
    plan = Plan(containers=[ContainerChange("alpha", "web", "created", ("new",))])
    told = json.loads(json.dumps(plan.as_json()))
    assert told["count"] == 1
    assert told["containers"] == [
        {"host": "alpha", "service": "web", "action": "created", "reasons": ["new"]}
    ]
    assert told.keys() == {"count", *Plan.__dataclass_fields__}
