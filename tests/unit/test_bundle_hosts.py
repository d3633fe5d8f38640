"""Bundles on hosts: loading images, Docker's packages without a repository, and no registry that is asked."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from module_utils.dap_apt import AptSource
from module_utils.dap_engine import EngineState, HostState, plan
from tests.unit.plugins import FakeDocker, load, run_module

repository = load("ansible.module_utils.dap_repository")
apt = load("ansible.module_utils.dap_apt")
KEYRING = (("Signed-By", "/usr/share/keyrings/debian-archive-keyring.gpg"),)
OWN = [
    apt.AptSource("own", "http://mirror.corp/debian", "bookworm", ("main",), KEYRING),
    apt.AptSource("own", "http://mirror.corp/security", "bookworm-security", ("main",), KEYRING),
    apt.AptSource("own", "http://mirror.corp/more", "stable", ("main",), ()),
]
BOOKWORM = {"ID": "debian", "VERSION_CODENAME": "bookworm"}


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """A Docker that has one image, and another one once it has loaded it."""
    fake = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    fake.answer("image ls *", "dap/minio:1\n")
    return fake


def loading(tmp_path: Path, *tags: str, check: bool = False) -> dict[str, Any]:
    return run_module(
        "dap_images",
        check=check,
        state="load",
        root=str(tmp_path / "root"),
        contexts=str(tmp_path / "root/.build"),
        archive="/archive.tar",
        archived=list(tags),
    )


def test_images_that_are_not_there_are_loaded(docker: FakeDocker, tmp_path: Path) -> None:
    (docker.folder / "listed").write_text("dap/minio:1\n", encoding="utf-8")
    docker.answer("image ls *", then=f"cat {docker.folder}/listed")
    docker.answer("load *", then=f"echo dap/base:1 >> {docker.folder}/listed")
    result = loading(tmp_path, "dap/base:1", "dap/minio:1")
    assert (result["changed"], result["changed_items"]) == (True, ["image dap/base:1 loaded from the bundle"])
    assert docker.calls_of("load") == ["load --quiet --input /archive.tar"]


def test_older_tags_of_what_was_loaded_go(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("image ls *", "dap/base:3\ndap/base:2\ndap/base:1\ndap/minio:1\n")
    (tmp_path / "listed").write_text("dap/minio:1\n", encoding="utf-8")
    docker.answer("image ls --digests *", then=f"cat {tmp_path}/listed")
    docker.answer("load *", then=f"echo dap/base:3 >> {tmp_path}/listed")
    docker.answer("image rm *")
    given = {"context": "", "base": "", "depends_on": []}
    result = run_module(
        "dap_images",
        state="load",
        root=str(tmp_path / "root"),
        contexts=str(tmp_path / "root/.build"),
        images=[
            {"name": name, "tag": f"dap/{name}:{tag}", **given} for name, tag in (("base", 3), ("minio", 1))
        ],
        archive="/archive.tar",
        archived=["dap/base:3"],
    )
    assert result["removed_tags"] == ["dap/base:1"]
    assert docker.calls_of("rm") == ["image rm dap/base:1"]


def test_nothing_is_loaded_where_all_is_there_or_in_check_mode(docker: FakeDocker, tmp_path: Path) -> None:
    assert not loading(tmp_path, "dap/minio:1")["changed"]
    assert loading(tmp_path, "dap/base:1", check=True)["changed_items"] == [
        "image dap/base:1 loaded from the bundle"
    ]
    assert docker.calls_of("load") == []


def test_check_mode_tells_what_would_be_loaded_before_docker_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(load("ansible.module_utils.dap_docker"), "search_path", lambda: str(tmp_path))
    assert loading(tmp_path, "dap/base:1", check=True)["changed_items"] == [
        "image dap/base:1 loaded from the bundle"
    ]


def test_load_that_fails_is_told_with_what_docker_said(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("load *", error="no space left on device\n", status=1)
    assert loading(tmp_path, "dap/base:1")["msg"] == (
        "docker load ended with status 1, without dap/base:1\n    no space left on device"
        f"\n  log: {tmp_path}/root/log/load.log"
    )


def test_archive_without_a_wanted_image_is_noticed(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("load *", "Loaded image: other:1\n")
    assert loading(tmp_path, "dap/base:1")["msg"] == (
        "docker load ended with status 0, without dap/base:1\n    Loaded image: other:1"
        f"\n  log: {tmp_path}/root/log/load.log"
    )


def test_registries_are_not_asked_for_what_a_bundle_has_or_has_not(
    docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.answer("*")
    docker.answer("version *", "27.1.1\n")
    preflight = load("modules.dap_preflight")

    def asked(*given: Any) -> None:
        raise AssertionError(given)

    monkeypatch.setattr(preflight, "reasons_against", asked)
    images = [{"name": name, "reference": f"{name}:1", "source": f"hub/{name}:1"} for name in ("app", "run")]
    found = run_module(
        "dap_preflight",
        root=str(tmp_path / "root"),
        data=str(tmp_path / "data"),
        project="team",
        images=images,
        bundled=["app:1"],
    )["dap"]["facts"]
    reasons = {name: image["reason"] for name, image in found["images"].items()}
    assert reasons == {"app": "", "run": "the bundle does not have it"}
    assert found["lacking"] == ["compose is missing", "buildx is missing"]
    assert found["architecture"] in ("amd64", "arm64")


@pytest.mark.parametrize(("version", "codename"), [("12", "bookworm"), ("13", "trixie")])
def test_packages_of_a_bundle_need_no_source_and_no_repository(version: str, codename: str) -> None:
    source = AptSource("/etc/apt/sources.list", "http://docker.corp/debian", codename, ("main",))
    decided = plan(
        HostState("debian", version, codename, "systemd", EngineState(), sources=(source,), bundled=True),
        "dap",
        "https://download.docker.com/linux",
    )
    assert (decided.outcome, decided.files, decided.key) == ("distribution", (), "")
    assert {"docker.io", "docker-compose", "docker-buildx"} <= {*decided.packages}
    assert {*decided.packages} <= {*repository.wanted_packages(codename)}


def test_dockers_own_engine_gets_nothing_of_a_bundle() -> None:
    engine = EngineState(
        "/usr/bin/docker", "27.1.1", "27.1.1", "2.29", "", packages={"docker-ce": "5:27.1.1"}
    )
    decided = plan(HostState("debian", "13", "trixie", "systemd", engine, bundled=True), "dap", "https://x")
    assert decided.outcome == "refuse"
    assert decided.reasons == (
        "buildx is missing",
        "the engine came from Docker's own repository, which no bundle has",
    )
    assert decided.suggestion == "install what is missing the way the engine was installed"


def sources(release: str, system: dict[str, str] = BOOKWORM, **environment: str) -> list[tuple[str, str]]:
    found = repository.sources_of(release, system, OWN, environment, Path("/"))
    return [(source.uri, source.suite) for source in found]


def test_packages_of_this_release_come_from_where_this_machine_has_them() -> None:
    assert sources("bookworm") == [
        ("http://mirror.corp/debian", "bookworm"),
        ("http://mirror.corp/security", "bookworm-security"),
    ]


def test_packages_of_another_release_come_from_the_same_mirror() -> None:
    assert sources("trixie") == [
        ("http://mirror.corp/debian", "trixie"),
        ("http://mirror.corp/debian", "trixie-updates"),
        ("http://mirror.corp/security", "trixie-security"),
    ]


def test_mirrors_of_the_configuration_come_first() -> None:
    assert sources("bookworm", DEBIAN_MIRROR="http://site/debian")[0] == ("http://site/debian", "bookworm")


def refusal(release: str, keys: str = "/", system: dict[str, str] = BOOKWORM) -> str:
    with pytest.raises(repository.RepositoryError) as refused:
        repository.sources_of(release, system, OWN, {}, Path(keys))
    return str(refused.value)


def test_release_that_is_out_of_reach_is_named() -> None:
    assert refusal("noble") == (
        "packages of noble can be had on a machine with noble only, and this one has bookworm"
    )
    assert refusal("trixie", "/none") == (
        "packages of trixie cannot be checked without /none: apt-get install debian-archive-keyring"
    )


def repository_in(folder: Path) -> dict[str, Any]:
    return run_module(
        "dap_repository", folder=str(folder / "made"), kept=str(folder / "kept"), logs=str(folder / "log")
    )


def test_repository_lists_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    # Downloads a package, and tells what is in it.
    fakes = {
        "apt-get": 'case "$*" in *simulate*) echo "Inst a (1:2 Debian:12/stable [amd64])";;'
        ' *download-only*) for word in "$@"; do case $word in Dir::Cache::archives=*)'
        ' echo deb >"${word#*=}/a_1%3a2_amd64.deb";; esac; done;; esac',
        "dpkg-deb": "printf 'Package: a\\nVersion: 1\\n'",
        "dpkg": "echo amd64",
    }
    for name, script in fakes.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    old = tmp_path / "kept/bookworm/archives/old_1_amd64.deb"
    old.parent.mkdir(parents=True)
    old.touch()
    module = load("modules.dap_repository")
    monkeypatch.setattr(module, "os_release", lambda: BOOKWORM)
    monkeypatch.setattr(module, "apt_sources", lambda: OWN)
    made = repository_in(tmp_path)["dap"]
    assert made["architecture"] == "amd64"
    assert made["releases"]["bookworm"]["files"] == ["Packages", "a_1.2_amd64.deb"]
    assert (tmp_path / "made/bookworm/Packages").read_text(encoding="utf-8") == (
        "Package: a\nVersion: 1\nFilename: ./a_1.2_amd64.deb\nSize: 4\n"
        f"SHA256: {hashlib.sha256(b'deb' + bytes([10])).hexdigest()}\n"
    )
    assert [path.name for path in old.parent.glob("*.deb")] == ["a_1%3a2_amd64.deb"]
    pins = (tmp_path / "kept/bookworm/preferences").read_text(encoding="utf-8")
    assert "Package: docker-compose docker-buildx\nPin: release n=trixie\n" in pins


def test_packages_that_cannot_be_had_are_told_with_what_apt_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "apt-get").write_text("#!/bin/sh\necho 'E: no such mirror'\nexit 100\n", encoding="utf-8")
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    module = load("modules.dap_repository")
    monkeypatch.setattr(module, "os_release", lambda: BOOKWORM)
    monkeypatch.setattr(module, "apt_sources", lambda: OWN)
    failed = repository_in(tmp_path)
    assert failed["msg"] == (
        "packages of bookworm cannot be had\n    E: no such mirror"
        f"\n  log: {tmp_path}/log/packages-bookworm-lists.log"
    )


def test_system_without_a_recipe_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load("modules.dap_repository")
    monkeypatch.setattr(module, "os_release", lambda: {"ID": "debian", "VERSION_CODENAME": "sid"})
    failed = repository_in(tmp_path)
    assert failed["msg"] == "sid is none of bookworm, trixie, jammy, noble"
