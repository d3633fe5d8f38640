"""Building the images that a host lacks, with recorded output of Docker and stand-ins for the builds."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins import FakeDocker, load, run_module

building = load("ansible.module_utils.dap_build")
bootstrapping = load("ansible.module_utils.dap_bootstrap")
apt = load("ansible.module_utils.dap_apt")
pulling = load("ansible.module_utils.dap_pull")
dap_images = load("modules.dap_images")

BASE = "debian:trixie-slim"
PRESENT = f"dap/minio:2-bb\ndap/minio:2-aa\n{BASE}\n<none>:<none>\n"
MINIO = {"name": "minio", "tag": "dap/minio:2-bb", "context": "minio.tar", "base": BASE}
MLFLOW = {"name": "mlflow", "tag": "dap/mlflow:3-aa", "context": "mlflow.tar", "base": BASE}


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """A Docker that has the base and MinIO's image, and whose builds succeed."""
    fake = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    fake.answer("image ls *", PRESENT)
    fake.answer("build *", "#1 DONE\n", then=f"cat >> {fake.folder}/contexts")
    fake.answer("image ls * --filter *")
    return fake


def images(tmp_path: Path, *wanted: dict[str, Any], **parameters: Any) -> dict[str, Any]:
    contexts = tmp_path / "root/.build"
    if parameters.get("state") == "build":
        contexts.mkdir(parents=True, exist_ok=True)
        for image in wanted:
            (contexts / image["context"]).write_text(f"context of {image['name']}\n", encoding="utf-8")
    given = {"root": str(tmp_path / "root"), "contexts": str(contexts), "images": list(wanted)}
    return run_module("dap_images", **{**given, **parameters})


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def test_one_call_tells_which_images_are_missing(docker: FakeDocker, tmp_path: Path) -> None:
    other = {**MLFLOW, "name": "portal", "tag": "dap/portal:1", "context": "portal.tar", "base": "alpine:3"}

    result = images(tmp_path, MINIO, MLFLOW, other)

    assert not result["changed"]
    assert result["missing"] == ["mlflow", "portal"]
    assert result["missing_contexts"] == ["mlflow.tar", "portal.tar"]
    assert result["missing_bases"] == ["alpine:3"]
    assert docker.calls == [f"image ls --digests --format {pulling.LISTED}"]


def test_the_base_of_images_that_are_there_is_not_missed(docker: FakeDocker, tmp_path: Path) -> None:
    assert images(tmp_path, {**MINIO, "base": "alpine:3"})["missing_bases"] == []


def test_an_image_of_the_same_deploy_is_no_missing_base(docker: FakeDocker, tmp_path: Path) -> None:
    child = {**MLFLOW, "name": "child", "tag": "dap/child:1", "base": MLFLOW["tag"], "depends_on": ["mlflow"]}

    assert images(tmp_path, MLFLOW, child)["missing_bases"] == []


@pytest.mark.parametrize(
    ("tag", "listed"),
    [
        ("debian:trixie-slim", "debian:trixie-slim"),
        ("docker.io/library/debian:trixie-slim", "debian:trixie-slim"),
        ("docker.io/grafana/grafana:12", "grafana/grafana:12"),
        ("debian", "debian:latest"),
        ("registry.example.org:5000/team/app", "registry.example.org:5000/team/app:latest"),
    ],
)
def test_a_tag_is_compared_the_way_the_engine_lists_it(tag: str, listed: str) -> None:
    assert building.normal_tag(tag) == listed


def test_missing_images_are_built_from_their_contexts(docker: FakeDocker, tmp_path: Path) -> None:
    result = images(tmp_path, MINIO, MLFLOW, state="build")

    (call,) = docker.calls_of("build")
    assert call.startswith(
        f"build --progress plain --tag dap/mlflow:3-aa --label dap.image=mlflow --build-arg BASE_IMAGE={BASE}"
        f" --label dap.upon={BASE} --label org.opencontainers.image.title=dap/mlflow"
    )
    assert "id=pypi" not in call
    assert call.endswith(" -")
    assert (docker.folder / "contexts").read_text(encoding="utf-8") == "context of mlflow\n"
    assert result["changed"] and result["missing"] == ["mlflow"]
    assert [item["name"] for item in result["built"]] == ["mlflow"]
    log = tmp_path / "root/log/build-mlflow.log"
    assert (log.read_text(encoding="utf-8"), log.stat().st_mode & 0o777) == ("#1 DONE\n", 0o600)
    assert not (tmp_path / "root/log/progress").exists()


def test_passwords_reach_a_build_by_its_environment_and_nobody_else(
    docker: FakeDocker, tmp_path: Path
) -> None:
    index = "https://reader:geheim@pypi.example.org/simple"
    docker.answer(
        "build *", f"#5 looking at {index}\n", then=f"cp {docker.folder}/environment {docker.folder}/got"
    )
    given = {"PIP_INDEX_URL": index, "GOSUMDB": "off", "UV_DEFAULT_INDEX": ""}

    result = images(tmp_path, MLFLOW, state="build", build_environment=given)

    (call,) = docker.calls_of("build")
    assert " --build-arg GOSUMDB --build-arg PIP_INDEX_URL " in call and "UV_DEFAULT_INDEX" not in call
    # For steps of which the history of the image tells.
    assert " --secret id=pypi,env=PIP_INDEX_URL " in call
    assert f"PIP_INDEX_URL={index}" in (docker.folder / "got").read_text(encoding="utf-8").splitlines()
    assert "geheim" not in str(result) and "geheim" not in str(docker.calls)
    assert "PIP_INDEX_URL holds a password" in str(result["warnings"])


def test_passwords_in_a_build_log_are_not_repeated_in_the_error(docker: FakeDocker, tmp_path: Path) -> None:
    index = "https://reader:geheim@pypi.example.org/simple"
    docker.answer("build *", f"no such package at {index}, password geheim\n", status=1)

    result = images(tmp_path, MLFLOW, state="build", build_environment={"PIP_INDEX_URL": index, "X": "off"})

    assert "no such package" in result["msg"] and "geheim" not in str(result)


def test_a_failed_build_shows_the_end_of_its_log_and_the_others_are_built(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answer("*dap/mlflow*", "".join(f"line {number}\n" for number in range(1, 41)), status=1)
    other = {**MLFLOW, "name": "portal", "tag": "dap/portal:1", "context": "portal.tar"}

    result = images(tmp_path, MLFLOW, other, state="build")

    lines = result["msg"].splitlines()
    assert result["failed"] and [item["name"] for item in result["built"]] == ["portal"]
    assert lines[:2] == ["1 image could not be built:", "mlflow: docker build ended with status 1"]
    assert lines[2:-1] == [f"    line {number}" for number in range(16, 41)]
    assert lines[-1] == f"  log: {tmp_path}/root/log/build-mlflow.log"


NAME_SERVER_SILENT = "lookup modules.example.org on 10.0.0.53:53: read udp 172.17.0.3:47159: i/o timeout"


def test_a_build_is_tried_again_when_the_network_failed(
    docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load("modules.dap_images"), "RETRY_PAUSES", (0, 0))
    fails_once = (
        f"test -e {tmp_path}/tried && exit 0; touch {tmp_path}/tried; echo '{NAME_SERVER_SILENT}'; exit 1"
    )
    docker.answer("build *", then=fails_once)

    result = images(tmp_path, MLFLOW, state="build")

    assert [item["name"] for item in result["built"]] == ["mlflow"]
    assert len(docker.calls_of("build")) == 2


def test_a_network_that_stays_away_fails_the_build_in_the_end(
    docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load("modules.dap_images"), "RETRY_PAUSES", (0, 0))
    docker.answer("build *", NAME_SERVER_SILENT, status=1)

    result = images(tmp_path, MLFLOW, state="build")

    assert "i/o timeout" in result["msg"]
    assert len(docker.calls_of("build")) == 3


def test_a_build_that_is_wrong_in_itself_is_not_tried_again(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("build *", "ERROR: no matching distribution found for mlflow==99\n", status=1)

    images(tmp_path, MLFLOW, state="build")

    assert len(docker.calls_of("build")) == 1


def test_a_build_that_never_ends_is_ended(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("build *", then="exec sleep 60")

    result = images(tmp_path, MLFLOW, state="build", build_timeout=1)

    assert "mlflow: docker did not end within 1 s" in result["msg"]


def test_check_mode_tells_what_would_be_built_and_builds_nothing(docker: FakeDocker, tmp_path: Path) -> None:
    result = images(tmp_path, MINIO, MLFLOW, state="build", check=True)

    assert result["changed"] and result["missing"] == ["mlflow"]
    assert not docker.calls_of("build")
    assert not images(tmp_path, MINIO, state="build", check=True)["changed"]


def test_check_mode_works_before_docker_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load("ansible.module_utils.dap_docker"), "search_path", lambda: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert images(tmp_path, MINIO, check=True)["missing"] == ["minio"]
    assert images(tmp_path, MINIO, state="build", check=True)["changed"]
    assert images(tmp_path, MINIO)["msg"] == "Docker is not installed"


def test_the_newest_tags_of_a_built_image_are_kept_and_older_ones_go(
    docker: FakeDocker, tmp_path: Path
) -> None:
    tags = ["dap/mlflow:3-aa", "dap/mlflow:2-new", "dap/mlflow:2-old", "dap/mlflow:1-used", "mine/mlflow:1"]
    docker.answer("image ls * --filter label=dap.image=mlflow", "\n".join([*tags, "<none>:<none>"]))
    docker.answer("image rm *")
    docker.answer("image rm dap/mlflow:1-used", error="conflict: container 1 is using it\n", status=1)

    result = images(tmp_path, MLFLOW, state="build")

    assert result["removed_tags"] == ["dap/mlflow:2-old"]
    assert docker.calls_of("rm") == ["image rm dap/mlflow:2-old", "image rm dap/mlflow:1-used"]


def bases(tmp_path: Path, state: str, **parameters: Any) -> dict[str, Any]:
    suites = [{"tag": "base:trixie", "suite": "trixie"}]
    wanted = {**MLFLOW, "base": "base:trixie"}
    return images(tmp_path, wanted, state=state, base_images=suites, **parameters)


def test_a_base_is_fetched_where_a_registry_has_it(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("pull *", "base:trixie\n")

    result = bases(tmp_path, "pull")

    assert result["changed"] and result["bootstrap"] == []
    assert docker.calls_of("pull") == ["pull --quiet base:trixie"]


def test_a_base_that_no_registry_has_is_to_be_made(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("pull *", error="Error response from daemon: no such host\n", status=1)

    result = bases(tmp_path, "pull")

    assert not result["changed"] and result["bootstrap"] == ["base:trixie"]


def test_a_base_that_can_be_neither_fetched_nor_made_is_an_error(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("pull *", error="Error response from daemon: no such host\n", status=1)

    result = images(tmp_path, {**MLFLOW, "base": "alpine:3"}, state="pull")

    assert result["msg"] == (
        "alpine:3 is not there and cannot be fetched: Error response from daemon: no such host"
    )


def test_a_base_is_made_from_packages_and_imported_when_it_is_complete(
    docker: FakeDocker, tmp_path: Path
) -> None:
    program(
        docker.folder, "mmdebstrap", f'echo "$@" > {docker.folder}/made; cp "$6" {docker.folder}; : > "$5"'
    )
    docker.answer("import *", "sha256:0\n")

    result = bases(tmp_path, "build")

    build = tmp_path / "root/.build"
    assert [item["name"] for item in result["built"]] == ["mlflow"]
    assert (docker.folder / "made").read_text(encoding="utf-8").strip() == (
        f"--variant=minbase --include=ca-certificates,tzdata --format=tar trixie {build}/trixie.tar "
        f"{build}/trixie.list"
    )
    assert " trixie main" in (docker.folder / "trixie.list").read_text(encoding="utf-8")
    (call,) = docker.calls_of("import")
    assert call.endswith(f"{build}/trixie.tar base:trixie")
    assert not (build / "trixie.tar").exists()


def test_a_base_that_was_cut_off_is_never_tagged(docker: FakeDocker, tmp_path: Path) -> None:
    program(docker.folder, "mmdebstrap", ': > "$5"; echo E: no mirror; exit 25')

    result = bases(tmp_path, "build")

    assert result["msg"].startswith(
        "the base image base:trixie cannot be made: mmdebstrap ended with status 25"
    )
    assert "    E: no mirror\n" in result["msg"] and "bootstrap-trixie.log" in result["msg"]
    assert not docker.calls_of("import") and not docker.calls_of("build")


DEBIAN = {"ID": "debian", "VERSION_CODENAME": "bookworm"}
OWN_MIRROR = """\
deb [arch=amd64] https://mirror.example.org/debian/ bookworm main contrib
deb https://mirror.example.org/debian bookworm-updates main
deb https://mirror.example.org/debian-security bookworm-security main
"""


@pytest.mark.parametrize(
    ("os_release", "sources", "expected"),
    [
        (
            DEBIAN,
            OWN_MIRROR,
            ("https://mirror.example.org/debian", "https://mirror.example.org/debian-security"),
        ),
        (DEBIAN, OWN_MIRROR.splitlines()[0], ("https://mirror.example.org/debian", "")),
        (DEBIAN, "", (bootstrapping.DEBIAN_MIRROR, bootstrapping.DEBIAN_SECURITY_MIRROR)),
        (
            DEBIAN,
            "deb mirror+file:/etc/apt/mirrors/debian.list bookworm main",
            (bootstrapping.DEBIAN_MIRROR, bootstrapping.DEBIAN_SECURITY_MIRROR),
        ),
        (
            {"ID": "ubuntu", "VERSION_CODENAME": "noble"},
            "deb http://archive.ubuntu.com/ubuntu noble main",
            (bootstrapping.DEBIAN_MIRROR, bootstrapping.DEBIAN_SECURITY_MIRROR),
        ),
    ],
)
def test_a_base_is_made_from_the_mirrors_of_the_host(
    os_release: dict[str, str], sources: str, expected: tuple[str, str]
) -> None:
    mirrors = bootstrapping.host_mirrors(os_release, apt.parse_sources({"/etc/apt/sources.list": sources}))

    assert (mirrors.main, mirrors.security) == expected


def test_the_sources_of_a_base_name_its_release_and_no_mirror_that_is_not_there() -> None:
    assert bootstrapping.Mirrors("http://m/debian", "").sources("trixie") == (
        "deb http://m/debian trixie main\ndeb http://m/debian trixie-updates main\n"
    )
    assert "deb http://s trixie-security main\n" in bootstrapping.Mirrors("http://m", "http://s").sources(
        "trixie"
    )


class Workshop:
    """Stands in for the builds; notes their order and how many ran side by side."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.order: list[str] = []
        self.running = 0
        self.most = 0
        self.lock = threading.Lock()
        self.together = threading.Event()

    def build(self, image: Any) -> None:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            if self.running > 1:
                self.together.set()
        self.together.wait(timeout=0.2)
        with self.lock:
            self.running -= 1
            self.order.append(image.name)
        if image.name == self.failing:
            raise building.BuildError("out of disk")

    def run(self, dependencies: Mapping[str, tuple[str, ...]], parallel: int = 2) -> dict[str, str]:
        made = [
            building.Image(name, f"{name}:1", f"{name}.tar", BASE, depends_on)
            for name, depends_on in dependencies.items()
        ]
        outcomes = building.build_all(made, self.build, parallel, lambda running, ended: None)
        return {outcome.name: outcome.error for outcome in outcomes}


def test_images_are_built_after_those_that_they_depend_on() -> None:
    workshop = Workshop()

    outcomes = workshop.run({"c": ("b",), "b": ("a", "there already"), "a": ()})

    assert workshop.order == ["a", "b", "c"] and set(outcomes.values()) == {""}


@pytest.mark.parametrize(("parallel", "most"), [(0, 1), (1, 1), (2, 2)])
def test_as_many_builds_run_side_by_side_as_allowed(parallel: int, most: int) -> None:
    workshop = Workshop()

    workshop.run({name: () for name in "abcde"}, parallel)

    assert workshop.most == most and sorted(workshop.order) == list("abcde")


def test_a_failure_stops_only_what_depends_on_it() -> None:
    workshop = Workshop(failing="a")

    outcomes = workshop.run({"a": (), "b": ("a",), "c": ("b",), "d": ()})

    assert outcomes == {
        "a": "out of disk",
        "b": "not built, because a failed",
        "c": "not built, because b failed",
        "d": "",
    }
    assert sorted(workshop.order) == ["a", "d"]


def test_a_circle_of_dependencies_ends_with_an_error() -> None:
    assert Workshop().run({"a": ("b",), "b": ("a",), "c": ()}) == {
        "c": "",
        "a": "depends on itself",
        "b": "depends on itself",
    }


def test_progress_names_what_is_being_built(docker: FakeDocker, tmp_path: Path) -> None:
    progress, seen = tmp_path / "root/log/progress", docker.folder / "seen"
    docker.answer(
        "build *", then=f"for i in $(seq 100); do cp {progress} {seen} 2>/dev/null && break; sleep 0.1; done"
    )

    images(tmp_path, MLFLOW, state="build")

    assert seen.read_text(encoding="utf-8").startswith("building images, 0 of 1 done: mlflow 00:0")
