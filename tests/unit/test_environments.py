"""Environments: found by their folders, chosen by the configuration, built where services run them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dap.errors import Finding
from dap.images import environments
from dap.images.builds import Images, resolve
from dap.layout import environments_dir
from dap.site import Site
from tests.unit.platforms import service_of, site_of, tree_of

RUNNER = service_of("runner", role="runner", environments=True, image={"pull": "vendor/run:1"})
FOLDERS = {"analysis": Path("environments/analysis"), "own": Path("inventory/own")}


def test_every_folder_with_a_dockerfile_is_one_and_those_of_the_inventory_win(tmp_path: Path) -> None:
    tree_of(tmp_path / "product", {"analysis/Dockerfile": "", "deep/Dockerfile": "", "notes/README.md": ""})
    tree_of(tmp_path / "inventory", {"deep/Dockerfile": ""})
    roots = [tmp_path / "product", tmp_path / "inventory", tmp_path / "absent"]
    assert environments.find_environments(roots) == {
        "analysis": tmp_path / "product/analysis",
        "deep": tmp_path / "inventory/deep",
    }


def test_configuration_chooses() -> None:
    def chosen(names: list[str] | None, with_builder: bool = False) -> set[str]:
        folders = {**FOLDERS, "image-builder": Path("environments/image-builder")}
        return {*environments.chosen(folders, names, with_builder=with_builder)}

    assert chosen(None) == {*FOLDERS}
    assert chosen(["own"]) == {"own"}
    assert chosen([]) == set()
    # Where images are built, what builds them is no choice.
    assert chosen(["own"], with_builder=True) == {"own", "image-builder"}
    assert chosen(None, with_builder=True) == {*FOLDERS, "image-builder"}
    assert chosen(["image-builder"]) == {"image-builder"}


def test_wrong_names_are_found() -> None:
    folders = {**FOLDERS, "No": Path("inventory/No"), "mlflow": Path("inventory/mlflow")}
    found = list(environments.findings(folders, ["own", "anlysis"], {"mlflow"}, "platform.yml"))
    assert found == [
        Finding(
            "inventory/No",
            "",
            "",
            "is not a name of at most 40 small letters, digits and hyphens, with a letter first and no hyphen"
            " at the end",
            "rename the folder",
        ),
        Finding(
            "inventory/mlflow",
            "",
            "",
            "is the name of a service, whose image would be called the same",
            "rename the folder",
        ),
        Finding(
            "platform.yml", "environments[1]", "anlysis", "is not an environment", "did you mean analysis?"
        ),
    ]
    assert environments.variable_of("r-and-python") == "DAP_IMAGE_R_AND_PYTHON"


def with_environments(site: Site, folders: dict[str, Path]) -> Site:
    return Site(site.inventory, site.services, chosen_environments=folders)


def test_environments_are_built_where_a_service_runs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree_of(tmp_path, {"deep/Dockerfile": "FROM x"})
    folders = {"deep": tmp_path / "deep"}
    assert with_environments(site_of(service_of("app")), folders).environments == {}
    site = with_environments(site_of(RUNNER), folders)
    references, builds = resolve(site.services, environments=site.environments)
    assert [build.name for build in builds] == ["base", "deep"]
    assert builds[1].tag.startswith("dap/deep:trixie-")
    every = Images(references | {"app": ""}, builds, [], frozenset({"deep"}))
    assert every.of({"runner": RUNNER}).builds == builds
    assert every.of({"app": service_of("app", image={"pull": "vendor/app:1"})}).builds == []


def test_environments_of_the_product_are_found() -> None:
    assert list(environments.find_environments([environments_dir()])) == ["analysis", "image-builder"]
