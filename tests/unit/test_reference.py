"""What is generated from the schema is up to date, complete and true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dap import layout, reference
from dap.configuration.inventory import load_inventory
from dap.configuration.schema import Platform

SERVICES = (
    "gitlab",
    "gitlab-runner",
    "mlflow",
    "minio",
    "nginx-proxy",
    "pgadmin",
    "portal",
    "postgres-data",
    "postgres-service",
)


def uncommented(text: str) -> dict[str, Any]:
    """The example with everything in force that is commented out."""
    lines = [line for line in text.splitlines() if not line.startswith(("##", "# yaml-"))]
    loaded: dict[str, Any] = yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines))
    return loaded


def keys_of(schema: dict[str, Any], whole: dict[str, Any], above: str = "") -> Iterator[str]:
    """All keys below a part of a JSON Schema, dotted."""
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    for name, inner in schema.get("properties", {}).items():
        yield f"{above}{name}"
        yield from keys_of(inner, whole, f"{above}{name}.")
    if "items" in schema:
        yield from keys_of(schema["items"], whole, f"{above[:-1]}[].")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from keys_of(
            schema["additionalProperties"],
            whole,
            f"{above}{'<host>' if above == 'runners.hosts.' else '<service>'}.",
        )


def test_generated_files_are_up_to_date() -> None:
    assert reference.stale_files(layout.ROOT) == []


def test_check_names_files_that_are_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(layout, "ROOT", tmp_path)
    assert reference.main(["--check"]) == 1
    assert not list(tmp_path.iterdir())
    assert "docs/reference/configuration.md is out of date" in capsys.readouterr().out
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    (tmp_path / "docs/reference/configuration.md").write_text("changed by hand")
    assert reference.main(["--check"]) == 1


@pytest.mark.parametrize("name", ["local", "example"])
def test_shipped_inventories_load(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAP_INVENTORIES", raising=False)
    inventory = load_inventory(name, SERVICES)
    if name == "local":
        assert inventory.platform.domain == "dap.localhost"
        assert str(inventory.platform.listen_address) == "127.0.0.1"
        assert inventory.service_host.is_local
        assert [project.name for project in inventory.platform.projects] == ["demo"]
    else:
        assert len(inventory.hosts) == 3
        assert len(inventory.runner_hosts) == 2


def test_example_has_every_key_and_what_is_commented_out_is_valid() -> None:
    example = uncommented(reference.commented_example())
    example["tls"]["mode"] = "files"
    platform = Platform.model_validate(example)
    schema = json.loads(reference.json_schema())
    there = {
        *Platform.model_fields,
        *(
            f"{section}.{key}"
            for section in ("paths", "ports", "tls", "trust", "homes", "deploy", "gpus", "proxy", "mirrors")
            for key in example[section]
        ),
        *(f"{section}[].{key}" for section in ("users", "projects") for key in example[section][0]),
        *(f"services.<service>.{key}" for key in example["services"]["mlflow"]),
        *(f"dev_containers[].{key}" for key in example["dev_containers"][0]),
        *(f"runners.{key}" for key in example["runners"]),
        *(f"runners.image_builds.{key}" for key in example["runners"]["image_builds"]),
        *(f"runners.hosts.<host>.{key}" for key in example["runners"]["hosts"]["alpha"]),
        *(f"runners.extra[].{key}" for key in example["runners"]["extra"][0]),
    }
    assert example["services"]["mlflow"]["external"].keys() == {"url", "user"}
    assert there == set(keys_of(schema, schema))
    assert platform.model_fields_set == set(Platform.model_fields)


def test_example_shows_the_defaults() -> None:
    example = uncommented(reference.commented_example())
    defaults = Platform(domain=example["domain"]).model_dump(mode="json")
    for key in ("platform_name", "listen_address", "admin_email", "paths", "ports", "deploy", "time_zone"):
        assert example[key] == defaults[key]
    assert example["tls"]["mode"] == defaults["tls"]["mode"]
    assert example["tls"]["leaf_days"] == defaults["tls"]["leaf_days"]


def test_example_in_force_is_the_domain_only() -> None:
    assert yaml.safe_load(reference.commented_example()) == {"domain": "dap.example.com"}


def test_example_lines_are_short() -> None:
    assert max(map(len, reference.commented_example().splitlines())) <= 100


def test_json_schema_refuses_unknown_keys_everywhere() -> None:
    schema = json.loads(reference.json_schema())
    objects = [schema, *schema["$defs"].values()]
    assert [part["additionalProperties"] for part in objects] == [False] * len(objects)


def test_every_key_is_on_the_page_with_description_and_example() -> None:
    page = reference.configuration_page()
    schema = json.loads(reference.json_schema())
    rows = {line.split("`")[1]: line.split(" | ") for line in page.splitlines() if line.startswith("| `")}
    for key in keys_of(schema, schema):
        assert all(cell.strip(" |") for cell in rows[key][3:4]), key
    leaves = [row for row in rows.values() if len(row) == 5 and not row[3].startswith("See ")]
    assert all(row[4].strip(" |") for row in leaves)
