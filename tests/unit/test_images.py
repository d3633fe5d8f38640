"""An image's tag says what is in it: the same files give the same tag, and any change another one."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from dap.images import builds as images
from dap.images.builds import BASE, DEBIAN_TAG, Pull, build_of, context_of, pulls, resolve
from tests.unit.platforms import service_of, tree_of

FILES = {"Dockerfile": "FROM scratch\n", "app/main.py": "print()\n", "run.sh": "#!/bin/sh\n"}


def tag(*sources: Path, upon: str = "dap/base:1", version: str = "1") -> str:
    """The tag of an image of a folder, and of further ones below ``more``."""
    prefixes = ["", *(f"more{number}" for number in range(len(sources) - 1))]
    return build_of("app", version, zip(prefixes, sources, strict=True), upon).tag


def entries(context: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(context)) as tar:
        return {entry.name: entry for entry in tar}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tree_of(tmp_path / "image", FILES)


def test_same_files_in_another_checkout_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    # Written in another order, at another time, under another umask.
    other = tree_of(tmp_path / "other", dict(reversed(FILES.items())))
    for path in other.rglob("*"):
        os.utime(path, (0, 0))
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert context_of([("", folder)]) == context_of([("", other)])
    assert tag(folder) == tag(other)


def test_context_tells_nothing_of_the_machine(folder: Path) -> None:
    found = entries(context_of([("", folder)]))
    assert list(found) == ["Dockerfile", "app/main.py", "run.sh"]
    for entry in found.values():
        assert (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) == (0, 0, "", "", 0)
        assert entry.mode == 0o644


def test_tag_has_name_and_version(folder: Path) -> None:
    name, _, rest = tag(folder, version="9.18").partition(":")
    version, _, digest = rest.partition("-")
    assert (name, version) == ("dap/app", "9.18")
    assert len(digest) == 12
    assert int(digest, 16)


def change_a_byte(folder: Path) -> None:
    (folder / "app" / "main.py").write_text("print(1)\n")


def add_a_file(folder: Path) -> None:
    (folder / "app" / "empty").touch()


def remove_a_file(folder: Path) -> None:
    (folder / "run.sh").unlink()


def rename_a_file(folder: Path) -> None:
    (folder / "run.sh").rename(folder / "start.sh")


def make_a_file_executable(folder: Path) -> None:
    (folder / "run.sh").chmod(0o755)


@pytest.mark.parametrize(
    "change", [change_a_byte, add_a_file, remove_a_file, rename_a_file, make_a_file_executable]
)
@pytest.mark.parametrize("included", [False, True])
def test_any_change_of_the_files_changes_the_tag(
    folder: Path, tmp_path: Path, change: object, included: bool
) -> None:
    sources = [tree_of(tmp_path / "own", {"Dockerfile": ""}), folder] if included else [folder]
    before = tag(*sources)
    assert callable(change)
    change(folder)
    assert tag(*sources) != before


def test_base_and_version_change_the_tag(folder: Path) -> None:
    assert tag(folder, upon="dap/base:1") != tag(folder, upon="dap/base:2")
    assert tag(folder, version="1") != tag(folder, version="2")


def test_included_folder_stands_below_its_name(folder: Path, tmp_path: Path) -> None:
    jobs = tree_of(tmp_path / "jobs", {"__init__.py": ""})
    assert "jobs/__init__.py" in entries(context_of([("", folder), ("jobs", jobs)]))
    assert tag(folder, jobs) != tag(folder)


@pytest.mark.parametrize(
    "file", ["app/__pycache__/main.cpython-311.pyc", ".mypy_cache/x", ".ruff_cache/x", "app/.DS_Store"]
)
def test_caches_are_left_out(folder: Path, file: str) -> None:
    before = context_of([("", folder)])
    tree_of(folder, {file: "cache"})
    assert context_of([("", folder)]) == before


def test_resolve_builds_the_base_first_and_all_upon_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "compose_dir", lambda: tmp_path)
    for name in (BASE, "web", "db"):
        tree_of(tmp_path / name / "image", {"Dockerfile": name})
    services = {
        "web": service_of("web", tmp_path),
        "replica": service_of("replica", tmp_path, image={"same_as": "db"}),
        "db": service_of("db", tmp_path, image={"build": "17"}),
        "foreign": service_of("foreign", tmp_path, image={"pull": "registry.example.com/app:1"}),
    }
    references, builds = resolve(services)
    assert [build.name for build in builds] == [BASE, "db", "web"]
    assert [build.upon for build in builds] == [DEBIAN_TAG, builds[0].tag, builds[0].tag]
    assert references == {
        "web": builds[2].tag,
        "replica": builds[1].tag,
        "db": builds[1].tag,
        "foreign": "registry.example.com/app:1",
    }


def test_changed_base_changes_every_tag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "compose_dir", lambda: tmp_path)
    for name in (BASE, "web"):
        tree_of(tmp_path / name / "image", {"Dockerfile": name})
    services = {"web": service_of("web", tmp_path)}
    before, _ = resolve(services)
    tree_of(tmp_path / BASE / "image", {"Dockerfile": "another"})
    after, _ = resolve(services)
    assert before["web"] != after["web"]


def test_included_folders_are_those_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "compose_dir", lambda: tmp_path)
    monkeypatch.setattr(images, "ROOT", tmp_path)
    tree_of(tmp_path, {"debian/image/Dockerfile": "", "app/image/Dockerfile": "", "lib/jobs/run.py": "1"})
    image = {"build": "1", "include": {"jobs": "lib/jobs"}}
    _, builds = resolve({"app": service_of("app", tmp_path, image=image)})
    assert list(entries(builds[1].context)) == ["Dockerfile", "jobs/run.py"]


def test_image_of_the_operators_choice_is_not_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "compose_dir", lambda: tmp_path)
    for name in (BASE, "web", "db"):
        tree_of(tmp_path / name / "image", {"Dockerfile": name})
    services = {
        "web": service_of("web", tmp_path),
        "db": service_of("db", tmp_path),
        "replica": service_of("replica", tmp_path, image={"same_as": "db"}),
    }
    references, builds = resolve(services, {"web": "example.com/web:2", "db": "example.com/db:2"})
    # The replica still runs the one that is built.
    assert [build.name for build in builds] == [BASE, "db"]
    assert references == {"web": "example.com/web:2", "db": "example.com/db:2", "replica": builds[1].tag}


@pytest.mark.parametrize(
    ("reference", "source"),
    [
        ("gitlab/gitlab-ce:19.4.1-ce.0", "mirror.example.com/hub/gitlab/gitlab-ce:19.4.1-ce.0"),
        ("debian:trixie", "mirror.example.com/hub/library/debian:trixie"),
        ("registry.example.com/team/app:1", "registry.example.com/team/app:1"),
        ("localhost/app:1", "localhost/app:1"),
        ("registry:5000/app:1", "registry:5000/app:1"),
    ],
)
def test_mirror_has_the_images_of_docker_hub(reference: str, source: str) -> None:
    assert pulls({"app": reference}, [], "mirror.example.com/hub") == [Pull(("app",), reference, source)]
    assert pulls({"app": reference}, [], None) == [Pull(("app",), reference, reference)]


def test_image_that_two_services_run_is_pulled_once() -> None:
    assert pulls({"b": "x:1", "a": "x:1", "c": "y:1"}, [], None) == [
        Pull(("a", "b"), "x:1", "x:1"),
        Pull(("c",), "y:1", "y:1"),
    ]


def test_nothing_is_built_where_all_images_are_pulled(tmp_path: Path) -> None:
    foreign = service_of("foreign", tmp_path, image={"pull": "registry.example.com/app:1"})
    assert resolve({"foreign": foreign}) == ({"foreign": "registry.example.com/app:1"}, [])
