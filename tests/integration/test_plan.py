"""What `dap plan` says is what `dap deploy` does: for each kind of change, and with nothing else restarted.

The tests share one platform and follow each other as an operator's changes do. Every plan has to name exactly
what changed since the deploy before it, so each also proves that nothing was left over.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg import sql

from tests.integration.platform import DeployedPlatform, docker, free_ports

FIXTURE = Path(__file__).parent / "fixtures" / "board"
OFF = {"enabled": False}
KINDS = ("images", "provisioning", "hosts", "files")


@pytest.fixture(scope="module")
def small(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedPlatform]:
    """An inventory with few services, one of them the operator's own; deployed by the first test."""
    deployed = DeployedPlatform(tmp_path_factory.mktemp("plan"))
    deployed.write_inventory()
    own_service(deployed, "board")
    configure(deployed, projects=[{"name": "demo"}], services={"mlflow": OFF, "pgadmin": OFF})
    try:
        yield deployed
    finally:
        deployed.remove()


def own_service(platform: DeployedPlatform, name: str, **keys: Any) -> Path:
    """Add an operator's own service; its folder. ``keys`` go over those of the manifest."""
    folder = platform.inventory / "compose" / name
    shutil.copytree(FIXTURE, folder)
    manifest = folder / "service.yml"
    document = yaml.safe_load(manifest.read_text(encoding="utf-8")) | keys
    manifest.write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


def configure(platform: DeployedPlatform, **settings: Any) -> None:
    """Set top-level settings; ``services`` is merged with what is there, by service."""
    file = platform.settings_file
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    for name, own in settings.pop("services", {}).items():
        document["services"][name] = document["services"].get(name, {}) | own
    file.write_text(yaml.safe_dump(document | settings), encoding="utf-8")


def plan(platform: DeployedPlatform, *options: str) -> dict[str, Any]:
    """What `dap plan` says; its exit code is right, and it changed nothing."""
    before = platform.starts()
    done = platform.dap("plan", "--json", *options)
    assert done.returncode in (0, 3), done.stderr
    planned: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (3 if planned["count"] else 0)
    assert platform.starts() == before
    return planned


def actions(told: dict[str, Any]) -> dict[str, str]:
    """What happens to containers, by service."""
    return {change["service"]: change["action"] for change in told["containers"]}


def reasons(told: dict[str, Any]) -> dict[str, list[str]]:
    """Why it happens, by service."""
    return {change["service"]: change["reasons"] for change in told["containers"]}


def provisioning(told: dict[str, Any]) -> set[str]:
    """What changes in databases and object storage."""
    return {change["what"] for change in told["provisioning"]}


def everything(told: dict[str, Any]) -> dict[str, Any]:
    """All that a plan and a deploy have to agree on."""
    # How long a build takes, and the number of a new CA, show only then.
    vague = re.compile(r" in \d+ s$|-[0-9a-f]{16}(?=\.crt$)")
    words = {kind: sorted(vague.sub("", one["what"]) for one in told[kind]) for kind in KINDS}
    return words | {"containers": actions(told), "certificates": told["certificates"]}


def carry_out(platform: DeployedPlatform, *options: str) -> dict[str, Any]:
    """Plan, then deploy, and compare; the plan."""
    planned = plan(platform, *options)
    before = platform.starts()
    done = json.loads(platform.must("deploy", "--no-verify", "--json", *options))
    assert everything(done) == everything(planned)
    after = platform.starts()
    touched = {name for name, action in actions(planned).items() if action != "reloaded"}
    assert {name: after.get(name) for name in before.keys() - touched} == {
        name: before[name] for name in before.keys() - touched
    }
    assert {name for name in after if after[name] != before.get(name)} == touched & after.keys()
    return planned


def test_first_deploy(small: DeployedPlatform) -> None:
    planned = carry_out(small)
    services = {"board", "minio", "nginx-proxy", "portal", "postgres-data", "postgres-service"}
    assert actions(planned) == dict.fromkeys(services, "created")
    assert {certificate["reason"] for certificate in planned["certificates"]} == {"there was none"}
    assert "postgres-data: database demo created" in provisioning(planned)
    assert planned["unknown"] == []


def test_nothing_to_do(small: DeployedPlatform) -> None:
    configure(small, deploy={"wait_seconds": 290})
    planned = plan(small)
    assert planned["count"] == 0
    assert everything(planned) == {kind: [] for kind in KINDS} | {"containers": {}, "certificates": []}
    text = small.must("plan")
    assert text.startswith("Nothing would change.\n")
    assert f"Data is not touched: what lies in {small.data} stays as it is." in text


def test_user_project_limits_environment_and_override_added(small: DeployedPlatform) -> None:
    configure(
        small,
        users=[{"name": "ada"}],
        projects=[{"name": "demo"}, {"name": "weather"}],
        services={
            "portal": {"memory": "160m"},
            "minio": {"cpus": 1},
            "board": {"environment": {"MOOD": "calm"}},
        },
    )
    override = small.inventory / "compose" / "postgres-data" / "compose.override.yaml.j2"
    override.parent.mkdir()
    override.write_text("services: {postgres-data: {shm_size: 80m}}\n", encoding="utf-8")
    planned = carry_out(small)
    changed = ["portal", "minio", "board", "postgres-data"]
    assert actions(planned) == dict.fromkeys(changed, "recreated") | {"nginx-proxy": "reloaded"}
    told = reasons(planned)
    assert any(reason.endswith("→ 160m") for reason in told["portal"])
    assert (told["minio"], told["board"]) == (["CPUs no limit → 1"], ["environment +MOOD"])
    assert told["postgres-data"] == ["shm size"]
    assert provisioning(planned) == {
        "postgres-data: role weather created",
        "postgres-data: database weather created",
        "postgres-data: database weather closed to other roles",
        "minio: bucket weather created",
        "minio: policy project-weather set",
        "minio: key of project-weather set",
        "minio: policy project-weather attached to its key",
    }


def test_project_removed_and_service_switched_off(small: DeployedPlatform) -> None:
    configure(small, projects=[{"name": "demo"}], services={"portal": OFF})
    planned = carry_out(small)
    assert actions(planned) == {"portal": "removed", "nginx-proxy": "recreated"}
    assert reasons(planned)["portal"] == ["switched off in platform.yml; its data stays"]
    assert provisioning(planned) == set()
    admin, password = small.login("PostgreSQL administrator (data sets)")
    with small.postgres("weather", admin, password) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_service_switched_on_and_own_service_added(small: DeployedPlatform) -> None:
    configure(small, services={"portal": {"enabled": True}})
    own_service(
        small,
        "second",
        image={"same_as": "board"},
        web=[],
        databases=[{"server": "postgres-service", "name": "second"}],
        buckets=[{"name": "second-files", "versioning": True}],
        needs=["postgres-service"],
    )
    planned = carry_out(small)
    assert actions(planned) == {"portal": "created", "second": "created", "nginx-proxy": "recreated"}
    assert {
        "postgres-service: database second created",
        "minio: bucket second-files created",
    } <= provisioning(planned)


def test_configuration_file_and_image_of_an_own_service_and_lifetime_of_certificates(
    small: DeployedPlatform,
) -> None:
    folder = small.inventory / "compose"
    (folder / "second" / "config" / "notice.txt").write_text("Closed\n", encoding="utf-8")
    (folder / "board" / "image" / "colour.txt").write_text(f"{small.name}\n", encoding="utf-8")
    manifest = folder / "second" / "service.yml"
    document = yaml.safe_load(manifest.read_text(encoding="utf-8"))
    document["databases"].append({"server": "postgres-service", "name": "archive"})
    document["buckets"].append({"name": "second-archive"})
    manifest.write_text(yaml.safe_dump(document), encoding="utf-8")
    configure(small, tls={"leaf_days": 30})
    planned = carry_out(small)
    of_leaf = dict.fromkeys(["nginx-proxy", "postgres-data"], "reloaded")
    assert actions(planned) == {"board": "recreated", "second": "recreated"} | of_leaf
    told = reasons(planned)
    reason = "its lifetime is now 30 days"
    assert planned["certificates"] == [{"service": service, "reason": reason} for service in of_leaf]
    assert told["nginx-proxy"] == [f"certificate: {reason}"]
    assert [why.partition(" ")[0] for why in told["board"]] == ["image"]
    assert [why.partition(" ")[0] for why in told["second"]] == [
        "image",
        "config/notice.txt",
        "secrets/pgpass",
    ]
    assert {"postgres-service: role archive created", "minio: bucket second-archive created"} <= provisioning(
        planned
    )
    assert [change["what"] for change in planned["images"]] == ["image board built"]


def test_containers_stopped_and_removed_by_hand_and_a_role_that_drifted(small: DeployedPlatform) -> None:
    """A server that is stopped can be asked what it needs only when it runs."""
    admin, password = small.login("PostgreSQL administrator (data sets)")
    with small.postgres("demo", admin, password) as connection:
        connection.execute(sql.SQL("ALTER ROLE demo CREATEDB PASSWORD 'drifted'"))
    docker("stop", "--time", "1", f"{small.name}-board")
    docker("stop", "--time", "5", f"{small.name}-minio")
    docker("rm", "--force", f"{small.name}-portal")
    planned = carry_out(small)
    assert actions(planned) == {"board": "restarted", "minio": "restarted", "portal": "created"}
    told = reasons(planned)
    assert told["board"][0].startswith("ended with exit status")
    assert told["portal"] == ["its container is missing"]
    assert provisioning(planned) == {"postgres-data: role demo repaired"}
    assert planned["unknown"] == ["minio: what it still needs shows when it runs (does not run)"]


def test_only_some_services(small: DeployedPlatform) -> None:
    configure(
        small,
        services={"board": {"environment": {"MOOD": "merry"}}, "portal": {"memory": "176m"}},
        projects=[{"name": "demo"}, {"name": "ocean"}],
        users=[{"name": "ada"}, {"name": "grace"}],
    )
    planned = carry_out(small, "--only", "board")
    assert actions(planned) == {"board": "recreated"}
    assert provisioning(planned) == set()
    # Of the proxy, only a file with secrets differs.
    assert sorted(planned["left_alone"]) == ["nginx-proxy", "portal"]
    own_service(small, "third", image={"same_as": "board"}, web=[], needs=["second"])
    assert actions(carry_out(small, "--only", "third")) == {"third": "created"}
    rest = plan(small)
    assert actions(rest) == {"nginx-proxy": "reloaded", "portal": "recreated"}
    assert "minio: bucket ocean created" in provisioning(rest)


def test_services_that_cannot_be_deployed_alone_are_refused(small: DeployedPlatform) -> None:
    done = small.dap("deploy", "--only", "bord")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'bord' is no service of inventory" in done.stderr
    assert "next: did you mean board?" in done.stderr
    docker("stop", "--time", "1", f"{small.name}-second")
    done = small.dap("deploy", "--only", "third")
    assert done.returncode == 2
    assert "third needs second, which does not run" in done.stderr
    assert "deploy --only second --only third" in done.stderr


def test_own_services_removed_and_time_zone_changed(small: DeployedPlatform) -> None:
    for name in ("second", "third"):
        shutil.rmtree(small.inventory / "compose" / name)
    configure(small, time_zone="Europe/Berlin")
    planned = carry_out(small)
    every = ["board", "minio", "nginx-proxy", "portal", "postgres-data", "postgres-service"]
    assert actions(planned) == {
        **dict.fromkeys(every, "recreated"),
        "second": "removed",
        "third": "removed",
    }
    assert "environment TZ" in reasons(planned)["board"]


def test_port_and_domain_changed(small: DeployedPlatform) -> None:
    small.ports["https"] = free_ports(1)[0]
    configure(small, ports=small.ports, domain=f"new.{small.domain}")
    planned = carry_out(small)
    assert {"nginx-proxy", "portal", "postgres-data"} <= actions(planned).keys()
    # They have no name or address that others know.
    assert not {"board", "postgres-service"} & actions(planned).keys()
    assert all(one["reason"].startswith("its names changed: ") for one in planned["certificates"])
    assert plan(small)["count"] == 0
