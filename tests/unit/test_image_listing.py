"""What ``dap image`` shows: images on the service host, their packages, and what differs between two."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dap import summary
from dap.errors import DapError, RefusedError
from dap.images.builds import Build
from dap.images.listing import (
    Change,
    Known,
    Package,
    bill_of_materials,
    changes,
    chosen,
    known_images,
    packages_of,
)
from tests.unit.platforms import site_of
from tests.unit.plugins import FakeDocker

SITE = site_of()
BUILDS = [
    Build("debian", "dap/debian:1", "debian:13", b""),
    Build("base", "dap/base:2", "dap/debian:1", b""),
    Build("ml", "dap/ml:1", "dap/base:2", b""),
]
USED = {"dap/debian:1", "dap/base:2"}
DEBIAN = Known("debian", "dap/debian:1", "used", "debian:13", "sha256:d1", 80_000_000, "2026-11-01T00:00:00Z")
NEW = Known("base", "dap/base:2", "used", "dap/debian:1", "sha256:b2", 250_400_000, "2026-11-03T00:00:00Z")
OLD = Known("base", "dap/base:1", "older", "dap/debian:0", "sha256:b1", 240_000_000, "2026-11-02T00:00:00Z")
ML = Known("ml", "dap/ml:1", "unused", "dap/base:2")
LISTED = "deb\tgit\t1:2.47.3-0+deb13u1\tamd64\npypi\tRuamel.Yaml\t0.19\t\ncran\tDBI\t1.2\t\n"
LISTED += "npm\t@xterm/headless\t5.6.0\t\n"
PACKAGES = [
    Package("cran", "DBI", "1.2"),
    Package("deb", "git", "1:2.47.3-0+deb13u1", "amd64"),
    Package("npm", "@xterm/headless", "5.6.0"),
    Package("pypi", "Ruamel.Yaml", "0.19"),
]


def inspected(image: Known, *more_tags: str) -> dict[str, Any]:
    return {
        "Id": image.digest,
        "RepoTags": [image.tag, *more_tags],
        "Size": image.size,
        "Created": image.created,
        "Config": {"Labels": {"dap.image": image.name, "dap.upon": image.parent}},
    }


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    fake.answer("image ls *", "sha256:d1\nsha256:b1\nsha256:b2\nsha256:b2\n")
    # Another name of the same image is the registry's.
    there = [inspected(DEBIAN), inspected(OLD), inspected(NEW, "registry.example.com/dap/base:2")]
    fake.answer("image inspect *", json.dumps(there))
    return fake


def test_images_are_those_of_the_configuration_and_older_ones(docker: FakeDocker) -> None:
    assert known_images(SITE, BUILDS, USED) == [DEBIAN, NEW, OLD, ML]
    assert docker.calls == [
        "image ls --quiet --no-trunc --filter label=dap.image",
        "image inspect sha256:b1 sha256:b2 sha256:d1",
    ]


def test_engine_without_images_has_none(docker: FakeDocker) -> None:
    docker.answer("image ls *", "")
    assert [one.digest for one in known_images(SITE, BUILDS, USED)] == ["", "", ""]


def test_engine_that_does_not_answer_is_told_of(docker: FakeDocker) -> None:
    docker.answer("image ls *", error="Cannot connect to the Docker daemon\n", status=1)
    with pytest.raises(DapError) as error:
        known_images(SITE, BUILDS, USED)
    assert error.value.message == "alpha: images cannot be looked at: Cannot connect to the Docker daemon"
    assert error.value.next_step == "dap -e team status"


def test_images_are_chosen_by_name_or_tag() -> None:
    every = [DEBIAN, NEW, OLD, ML]
    assert chosen(every, "base") == [NEW, OLD]
    assert chosen(every, "dap/base:1") == [OLD]


@pytest.mark.parametrize(
    ("name", "message", "next_step"),
    [
        ("bsae", "'bsae' is no image that is built here", "did you mean base?"),
        ("ml", "ml is not built yet", "dap image build ml"),
    ],
)
def test_image_that_is_not_there_is_refused(name: str, message: str, next_step: str) -> None:
    with pytest.raises(RefusedError) as error:
        chosen([DEBIAN, NEW, OLD, ML], name)
    assert (error.value.message, error.value.next_step) == (message, next_step)


def test_packages_are_asked_of_the_image_itself_which_may_do_nothing_else(docker: FakeDocker) -> None:
    docker.answer("run *", LISTED)
    assert packages_of(SITE, NEW) == PACKAGES
    (call,) = docker.calls_of("run")
    assert call.startswith(
        "run --rm --network none --read-only --cap-drop ALL --security-opt no-new-privileges"
        " --user 65534:65534 --workdir / --entrypoint sh sha256:b2 -c"
    )


def test_bill_of_materials_names_image_and_packages() -> None:
    found = bill_of_materials(NEW, PACKAGES)
    assert found["metadata"] == {
        "component": {"type": "container", "bom-ref": "sha256:b2", "name": "dap/base", "version": "2"}
    }
    assert [one["purl"] for one in found["components"]] == [
        "pkg:cran/DBI@1.2",
        "pkg:deb/debian/git@1%3A2.47.3-0%2Bdeb13u1?arch=amd64",
        "pkg:npm/%40xterm/headless@5.6.0",
        "pkg:pypi/ruamel-yaml@0.19",
    ]
    assert found["components"][3] == {
        "type": "library",
        "bom-ref": "pkg:pypi/ruamel-yaml@0.19",
        "name": "Ruamel.Yaml",
        "version": "0.19",
        "purl": "pkg:pypi/ruamel-yaml@0.19",
    }


def test_differences_are_new_gone_and_changed_packages() -> None:
    newer = [Package("cran", "DBI", "1.2"), Package("deb", "git", "2", "amd64"), Package("deb", "jq", "1.7")]
    differing = changes(PACKAGES, newer)
    assert differing == [
        Change("deb", "git", "1:2.47.3-0+deb13u1", "2"),
        Change("deb", "jq", "", "1.7"),
        Change("npm", "@xterm/headless", "5.6.0", ""),
        Change("pypi", "Ruamel.Yaml", "0.19", ""),
    ]
    assert summary.of_image_changes(OLD, NEW, differing).splitlines() == [
        "dap/base:1 → dap/base:2: 4 packages differ",
        "",
        "KIND  PACKAGE          BEFORE              AFTER",
        "deb   git              1:2.47.3-0+deb13u1  2",
        "deb   jq               -                   1.7",
        "npm   @xterm/headless  5.6.0               -",
        "pypi  Ruamel.Yaml      0.19                -",
    ]
    assert summary.of_image_changes(OLD, NEW, []) == "dap/base:1 → dap/base:2: 0 packages differ"


def test_list_shows_what_is_there_and_what_is_not() -> None:
    assert summary.of_images([NEW, OLD, ML]).splitlines() == [
        "IMAGE       DIGEST     SIZE    BUILT       USE     UPON",
        "dap/base:2  b2         250 MB  2026-11-03  used    dap/debian:1",
        "dap/base:1  b1         240 MB  2026-11-02  older   dap/debian:0",
        "dap/ml:1    not built  -       -           unused  dap/base:2",
    ]
