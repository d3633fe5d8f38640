"""Environments: found by their folders, chosen by the configuration, built where services run them."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dap.errors import Finding
from dap.images import environments
from dap.images.builds import Build, Images, resolve, tags_of
from dap.images.environments import (
    Environment,
    EnvironmentManifest,
    find_environments,
    load_environments,
)
from dap.layout import environments_dir
from tests.unit.platforms import environment_of, service_of, site_of, tree_of

RUNNER = service_of("runner", role="runner", environments=True, image={"pull": "vendor/run:1"})
SUMMARY = "summary: For tests\n"
UPON_BASE = f"{SUMMARY}parent: base\n"
BASE_FILES = {"base/environment.yml": SUMMARY, "base/Dockerfile": "FROM x\n"}


def loaded(
    folder: Path, files: Mapping[str, str], reserved: tuple[str, ...] = ()
) -> tuple[dict[str, Environment], list[Finding]]:
    """The environments of a folder with these files, and what is wrong with them."""
    return load_environments(find_environments([tree_of(folder, files)]), reserved)


def test_every_folder_with_a_manifest_is_one_and_those_of_the_inventory_win(tmp_path: Path) -> None:
    product = {"python/environment.yml": "", "deep/environment.yml": "", "notes/README.md": ""}
    tree_of(tmp_path / "product", product)
    tree_of(tmp_path / "inventory", {"deep/environment.yml": "", "bare/Dockerfile": ""})
    roots = [tmp_path / "product", tmp_path / "inventory", tmp_path / "absent"]
    assert find_environments(roots) == {
        "bare": tmp_path / "inventory/bare",
        "deep": tmp_path / "inventory/deep",
        "python": tmp_path / "product/python",
    }


def test_the_recipe_of_all_is_none_but_an_operators_folder_may_be_called_so(tmp_path: Path) -> None:
    own = tree_of(tmp_path, {"recipe/environment.yml": SUMMARY})
    assert (environments_dir() / "recipe/Dockerfile").is_file()
    assert "recipe" not in find_environments([environments_dir()])
    assert find_environments([environments_dir(), own])["recipe"] == own / "recipe"


def test_configuration_chooses() -> None:
    every = {
        name: environment_of(name, size=size)
        for name, size in {"own": "small", "usual": "medium", "ml": "large", "image-builder": "small"}.items()
    }

    def chosen(names: list[str] | None, with_builder: bool = False) -> set[str]:
        return {*environments.chosen(every, names, with_builder=with_builder)}

    assert chosen(None) == {"own", "usual"}
    assert chosen(["ml"]) == {"ml"}
    assert chosen([]) == set()
    # Where images are built, what builds them is no choice.
    assert chosen(["own"], with_builder=True) == {"own", "image-builder"}
    assert chosen(None, with_builder=True) == {"own", "usual", "image-builder"}
    assert chosen(["image-builder"]) == {"image-builder"}


def test_what_the_configuration_names_must_be_there() -> None:
    assert list(environments.unknown(["own", "pyhton"], ["own", "python"], "platform.yml")) == [
        Finding("platform.yml", "environments[1]", "pyhton", "is not an environment", "did you mean python?")
    ]
    assert environments.variable_of("python-r") == "DAP_IMAGE_PYTHON_R"


@pytest.mark.parametrize(
    ("files", "finding"),
    [
        (
            {"No/environment.yml": UPON_BASE},
            (
                "No",
                "",
                "",
                "is not a name of at most 40 small letters, digits and hyphens, with a letter first and no"
                " hyphen at the end",
                "rename the folder",
            ),
        ),
        (
            {"mlflow/environment.yml": UPON_BASE},
            (
                "mlflow",
                "",
                "",
                "is the name of a service, whose image would be called the same",
                "rename the folder",
            ),
        ),
        (
            {"deep/Dockerfile": "FROM x\n"},
            (
                "deep",
                "",
                "",
                "has no environment.yml",
                "write deep/environment.yml with a line such as summary: Python with spaCy",
            ),
        ),
        (
            {"deep/environment.yml": SUMMARY},
            (
                "deep/environment.yml",
                "parent",
                "",
                "is required without a Dockerfile",
                "write parent: base, or add a Dockerfile",
            ),
        ),
        (
            {"deep/environment.yml": f"{SUMMARY}parent: bse\n"},
            ("deep/environment.yml", "parent", "bse", "is not an environment", "did you mean base?"),
        ),
        (
            {"deep/environment.yml": f"{UPON_BASE}sise: large\n"},
            ("deep/environment.yml", "sise", "large", "is not a key of this file", "did you mean size?"),
        ),
        (
            {"deep/environment.yml": f"{UPON_BASE}size: huge\n"},
            (
                "deep/environment.yml",
                "size",
                "huge",
                "is not one of: large, medium, small",
                "write large, medium or small",
            ),
        ),
        (
            {"deep/environment.yml": "parent: base\n"},
            ("deep/environment.yml", "summary", "", "is required", "write summary: Python with spaCy"),
        ),
        (
            {"deep/environment.yml": f"{UPON_BASE}variants: {{cuda: {{summary: Faster}}}}\n"},
            (
                "deep/environment.yml",
                "variants.cuda",
                "{summary: …}",
                "has no folder",
                "put a folder cuda beside environment.yml with its packages.txt or requirements.txt",
            ),
        ),
        (
            {
                "one/environment.yml": f"{SUMMARY}parent: two\n",
                "two/environment.yml": f"{SUMMARY}parent: one\n",
            },
            (
                "one/environment.yml",
                "parent",
                "two",
                "goes round in a circle: one upon two upon one",
                "remove one of them",
            ),
        ),
    ],
)
def test_wrong_environments_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], finding: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert loaded(tmp_path, {**BASE_FILES, **files}, ("mlflow",)) == ({}, [Finding(*finding)])


def contents(build: Build) -> dict[str, str]:
    """The files of a build context."""
    with tarfile.open(fileobj=io.BytesIO(build.context)) as tar:
        return {one.name: (tar.extractfile(one) or io.BytesIO()).read().decode() for one in tar}


def test_lists_alone_make_an_environment(tmp_path: Path) -> None:
    files = {**BASE_FILES, "own/environment.yml": UPON_BASE, "own/packages.txt": "cowsay\n"}
    every, _ = loaded(tmp_path, files)
    _, builds = resolve({}, environments={"own": every["own"]})
    assert [build.name for build in builds] == ["debian", "base", "own"]
    assert [build.upon for build in builds[1:]] == [builds[0].tag, builds[1].tag]
    own = contents(builds[2])
    recipe = environments_dir() / "recipe"
    assert own["Dockerfile"] == (recipe / "Dockerfile").read_text("utf-8")
    assert own["packages.txt"] == "cowsay\n"
    assert {*own} == {"environment.yml", *(path.name for path in recipe.iterdir())}
    # One with a Dockerfile has its own files only.
    assert {*contents(builds[1])} == {"environment.yml", "Dockerfile"}


def test_changed_parent_changes_what_is_upon_it(tmp_path: Path) -> None:
    files = {**BASE_FILES, "own/environment.yml": UPON_BASE}
    before = tags_of(loaded(tmp_path, files)[0])
    after = tags_of(loaded(tmp_path, {**files, "base/Dockerfile": "FROM y\n"})[0])
    assert {*before} == {*after} == {"base", "own"}
    assert not {*before.values()} & {*after.values()}


VARIANTS = "variants: {fast: {summary: Faster, gpu: true}, small: {summary: Smaller}}\n"
VARIED_FILES = {
    **BASE_FILES,
    "own/environment.yml": f"{UPON_BASE}{VARIANTS}",
    "own/packages.txt": "cowsay\n",
    "own/setup.sh": "true\n",
    "own/fast/packages.txt": "fortune\n",
    "own/small/requirements.txt": "moo==1\n",
    "upon/environment.yml": f"{SUMMARY}parent: own\n",
}


def test_variant_has_its_own_lists_and_all_else_of_its_environment(tmp_path: Path) -> None:
    found = {}
    for variant in ("", "fast", "small"):
        roots = find_environments([tree_of(tmp_path, VARIED_FILES)])
        every, wrong = load_environments(roots, (), {"own": variant} if variant else {})
        assert wrong == []
        assert every["own"].gpu is (variant == "fast")
        _, builds = resolve({}, environments={"upon": every["upon"]})
        assert [build.name for build in builds] == ["debian", "base", "own", "upon"]
        found[variant] = builds
        suite = f"trixie-{variant}" if variant else "trixie"
        assert re.fullmatch(rf"dap/own:{suite}-[0-9a-f]{{12}}", builds[2].tag)
    # What they are built upon is the same, what is built upon them is not.
    assert len({builds[1].tag for builds in found.values()}) == 1
    assert len({builds[3].tag for builds in found.values()}) == 3
    lists = {name: contents(builds[2]) for name, builds in found.items()}
    assert [lists[name]["packages.txt"] for name in lists] == ["cowsay\n", "fortune\n", "cowsay\n"]
    assert lists["small"]["requirements.txt"] == "moo==1\n"
    assert {*lists[""]} == {*lists["fast"]} == {*lists["small"]}
    assert {one["setup.sh"] for one in lists.values()} == {"true\n"}
    # What one of them changes changes no other.
    (tmp_path / "own" / "fast" / "packages.txt").write_text("sl\n", encoding="utf-8")
    again, _ = load_environments(find_environments([tmp_path]), ())
    assert tags_of({"own": again["own"]})["own"] == found[""][2].tag


def test_variants_that_the_configuration_names_must_be_there(tmp_path: Path) -> None:
    every, _ = loaded(tmp_path, VARIED_FILES)
    wanted = {"own": "fats", "upon": "fast", "onw": "fast"}
    assert [*environments.unknown_variants(wanted, every, every, "platform.yml")] == [
        Finding(
            *("platform.yml", "environment_variants.own", "fats", "is not a variant of own"),
            "did you mean fast?",
        ),
        Finding(
            *("platform.yml", "environment_variants.upon", "fast", "is not a variant of upon"),
            "remove it",
        ),
        Finding(
            *("platform.yml", "environment_variants.onw", "fast"),
            *("is for something that is not an environment", "did you mean own?"),
        ),
    ]
    # Where something else is wrong, there are none to compare with.
    assert [*environments.unknown_variants({"own": "fast"}, {}, every, "platform.yml")] == []


def test_pytorch_for_gpus_is_locked_and_upon_the_same_python() -> None:
    folders = find_environments([environments_dir()])
    usual, _ = load_environments(folders, ())
    cuda, _ = load_environments(folders, (), {"ml": "cuda"})
    of_cpus, of_gpus = (resolve({}, environments={"ml": one["ml"]})[1] for one in (usual, cuda))
    assert [build.tag for build in of_cpus[:-1]] == [build.tag for build in of_gpus[:-1]]
    assert (usual["ml"].gpu, cuda["ml"].gpu) == (False, True)
    packages = {name: contents(builds[-1]) for name, builds in (("cpus", of_cpus), ("gpus", of_gpus))}
    assert "python3-torch" in packages["cpus"]["packages.txt"]
    assert "==" not in packages["cpus"]["requirements.txt"]
    assert "python3-torch" not in packages["gpus"]["packages.txt"]
    lock = packages["gpus"]["requirements.txt"]
    entries = re.findall(
        r"^([a-z0-9-]+)==(\S+)[^\\]*\\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", lock, re.M
    )
    assert len(entries) == len(re.findall("^[a-z]", lock, re.M))
    locked = {name: version for name, version, _ in entries}
    assert {"torch", "triton", "nvidia-cudnn-cu13"} <= {*locked}
    # What the parent has stays as it is there.
    parent = (environments_dir() / "python" / "requirements.txt").read_text("utf-8")
    there = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", parent, re.M))
    assert {name: there[name] for name in locked.keys() & there.keys()} == {
        name: version for name, version in locked.items() if name in there
    }


def test_environments_are_built_where_a_service_runs_them(tmp_path: Path) -> None:
    every, _ = loaded(tmp_path, {**BASE_FILES, "own/environment.yml": UPON_BASE})
    folders = {"own": every["own"]}
    assert replace(site_of(service_of("app")), chosen_environments=folders).environments == {}
    site = replace(site_of(RUNNER), chosen_environments=folders)
    references, builds = resolve(site.services, environments=site.environments)
    found = Images(references | {"app": ""}, builds, [], frozenset({"own"}), frozenset({"own"}))
    assert found.of({"runner": RUNNER}).builds == builds
    # What it is built upon is built, and runs nowhere.
    assert [build.name for build in found.of({"runner": RUNNER}).run] == ["own"]
    assert found.of({"app": service_of("app", image={"pull": "vendor/app:1"})}).builds == []


def test_environments_of_the_product_are_in_order() -> None:
    every, wrong = load_environments(find_environments([environments_dir()]), ())
    assert wrong == []
    parents = {name: one.parent.name if one.parent else "" for name, one in every.items()}
    upon_python = {"ml": "python", "python-r": "python"}
    assert parents == {"base": "", "code-server": "", "image-builder": "", "python": "base", **upon_python}
    assert {*environments.chosen(every, None, with_builder=False)} == {"base", "python", "python-r"}
    # Own ones that say nothing of it, and are built upon none of these, may have it.
    assert [name for name, one in every.items() if not one.has_jupyter] == ["base", "code-server"]


def test_page_explains_every_key() -> None:
    page = (environments_dir().parent / "docs/how-to/use-environments.md").read_text("utf-8")
    table = page.partition("| Key |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == [*EnvironmentManifest.model_fields]
