"""What a deploy takes from a bundle: what hosts lack and no more, and what it says of what is missing."""

from __future__ import annotations

import gzip
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from dap import __version__
from dap.bundle.archive import Bundle
from dap.bundle.supply import Supply, find_lacking, stage, supplies_of
from dap.configuration.inventory import Host
from dap.deployment.preflight import left_out
from dap.errors import Problems, RefusedError
from dap.hosts.facts import HostFacts
from dap.images.builds import Build, Images, Pull
from dap.images.distribution import Distribution
from tests.unit.bundles import BASE, MLFLOW, PACKAGES, bundle, made
from tests.unit.platforms import LOCAL, service_of, site_of

FAR = Host("far", frozenset({"runner_hosts"}), {})
BUILDS = [Build("base", "dap/base:1", "", b""), Build("mlflow", "dap/mlflow:1", "dap/base:1", b"")]
PULLS = [Pull(("run",), "vendor/run:1", "")]
SITE = site_of(
    service_of("mlflow"), service_of("run", role="both", image={"pull": "vendor/run:1"}), hosts=(LOCAL, FAR)
)
DISTRIBUTION = Distribution(SITE, Images({"mlflow": "dap/mlflow:1", "run": "vendor/run:1"}, BUILDS, PULLS))
THERE = HostFacts(16000, 4, release="trixie", architecture="amd64")
BARE = replace(
    THERE,
    missing_tags=frozenset({"dap/base:1", "dap/mlflow:1"}),
    absent_images=frozenset({"run"}),
    lacking=("engine is missing",),
)
IMAGES = {"dap/base:1": [BASE], "dap/mlflow:1": [BASE, MLFLOW], "vendor/run:1": [b"run"]}


def problems_of(folder: Path, facts: HostFacts, **given: object) -> list[str]:
    problems = Problems()
    find_lacking(bundle(folder, **given), DISTRIBUTION, {"alpha": facts}, problems)
    return problems.entries


def test_bare_host_gets_images_and_packages(tmp_path: Path) -> None:
    found = bundle(tmp_path, images=IMAGES)
    assert supplies_of(found, DISTRIBUTION, {"alpha": BARE, "far": replace(BARE, lacking=())}) == {
        "alpha": Supply(("dap/base:1", "dap/mlflow:1", "vendor/run:1"), "trixie"),
        "far": Supply(("vendor/run:1",)),
    }


def test_host_that_lacks_nothing_gets_nothing(tmp_path: Path) -> None:
    assert supplies_of(bundle(tmp_path), DISTRIBUTION, {"alpha": THERE}) == {}


def test_host_that_lacks_one_image_gets_that_one(tmp_path: Path) -> None:
    facts = replace(THERE, missing_tags=frozenset({"dap/mlflow:1"}))
    assert supplies_of(bundle(tmp_path), DISTRIBUTION, {"alpha": facts}) == {
        "alpha": Supply(("dap/mlflow:1",))
    }


def test_hosts_that_lack_the_same_share_a_file() -> None:
    one, other = Supply(("a:1", "b:1")), Supply(("a:1",), "trixie")
    assert one.images_archive == Supply(("a:1", "b:1"), "bookworm").images_archive != other.images_archive
    assert (one.packages_archive, other.packages_archive) == ("", "packages-trixie.tar")


def test_files_for_hosts_hold_the_images_and_a_repository(tmp_path: Path) -> None:
    supply = Supply(("dap/mlflow:1",), "trixie")
    stage(bundle(tmp_path), [supply, supply], SITE, tmp_path)
    with tarfile.open(tmp_path / supply.packages_archive) as tar:
        content = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    assert content.pop("sources.list") == b"deb [trusted=yes] file:/opt/dap/.build/packages ./\n"
    assert b'Dir::Etc::sourcelist "/opt/dap/.build/packages/sources.list";\n' in content.pop("apt.conf")
    assert content == {name.rpartition("/")[2]: text for name, text in PACKAGES.items()}
    with tarfile.open(tmp_path / supply.images_archive) as tar:
        sizes = {entry.name: entry.size for entry in tar}
    assert len(sizes) == 4 and len(gzip.compress(BASE)) < len(BASE)


def test_damaged_member_is_noticed_before_anything_is_sent(tmp_path: Path) -> None:
    path = made(tmp_path / "team.bundle")
    path.write_bytes(path.read_bytes().replace(b"!<arch>", b"!<atch>"))
    with pytest.raises(RefusedError) as refused:
        stage(Bundle.in_file(path), [Supply((), "trixie")], SITE, tmp_path)
    assert str(refused.value) == (
        f"{path} is damaged: packages/trixie/docker.io.deb has another checksum than when it was made"
        "\n  next: copy it over again, and compare both copies: sha256sum FILE"
    )


def test_nothing_is_wrong_with_a_bundle_that_has_all(tmp_path: Path) -> None:
    assert problems_of(tmp_path, BARE, images=IMAGES) == []


def test_what_a_bundle_lacks_does_not_matter_where_it_is_there(tmp_path: Path) -> None:
    assert problems_of(tmp_path, replace(THERE, release="bookworm"), images={"other:1": [b""]}) == []


def test_image_of_another_version_is_named_with_the_one_that_is_there(tmp_path: Path) -> None:
    wanted = replace(THERE, missing_tags=frozenset({"dap/mlflow:1"}))
    assert problems_of(tmp_path, wanted, images={"dap/mlflow:0": [MLFLOW]}) == [
        f"{tmp_path}/team.bundle: images = dap/mlflow:1\n"
        "    is not in this bundle, and alpha does not have it; it has dap/mlflow:0, which"
        f" dap {__version__} has built from other files\n"
        "    make the bundle anew: dap -e team bundle create team.bundle"
    ]


def test_image_that_is_missing_altogether_is_named(tmp_path: Path) -> None:
    wanted = replace(THERE, missing_tags=frozenset({"dap/mlflow:1"}))
    assert problems_of(tmp_path, wanted, images={"dap/base:1": [BASE]}) == [
        f"{tmp_path}/team.bundle: images = dap/mlflow:1\n"
        "    is not in this bundle, and alpha does not have it\n"
        "    make the bundle anew: dap -e team bundle create team.bundle"
    ]


def test_packages_of_another_release_are_named_with_what_the_host_lacks(tmp_path: Path) -> None:
    facts = replace(THERE, release="bookworm", lacking=("engine is missing", "compose is missing"))
    assert problems_of(tmp_path, facts) == [
        f"{tmp_path}/team.bundle: packages = trixie\n"
        "    alpha needs packages of bookworm: engine is missing, compose is missing\n"
        "    make the bundle anew: dap -e team bundle create team.bundle --release bookworm"
    ]


def test_bundle_for_another_architecture_is_named_once(tmp_path: Path) -> None:
    assert problems_of(tmp_path, replace(BARE, architecture="arm64")) == [
        f"{tmp_path}/team.bundle: architecture = amd64\n"
        "    alpha has another architecture: arm64\n"
        "    make a bundle on a machine with arm64"
    ]


def test_image_from_a_registry_that_the_bundle_lacks_is_named() -> None:
    problems = Problems()
    facts = replace(BARE, images={"run": "the bundle does not have it"})
    assert left_out(DISTRIBUTION, {"alpha": facts, "far": facts}, problems, bundled=True) == {}
    assert problems.entries[0] == (
        "inventories/team/group_vars/all/platform.yml: services.run = vendor/run:1\n"
        "    is an image that alpha neither has nor can get: the bundle does not have it\n"
        "    load it there (docker load), make the bundle anew, or write services.run.enabled: auto"
    )
