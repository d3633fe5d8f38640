"""The file of a bundle: what is written is read again, and whatever is wrong with it is noticed and named."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from dap import __version__
from dap.bundle.archive import CONTENTS, Bundle
from dap.bundle.saved import plain, write_loadable
from dap.errors import RefusedError
from tests.unit.bundles import BASE, MLFLOW, PACKAGES, bundle, layer_of, made

AGAIN = "\n  next: copy it over again, and compare both copies: sha256sum FILE"
NAME_ONE = "\n  next: name a file that `dap bundle create` has made"


def refusal(path: Path) -> str:
    with pytest.raises(RefusedError) as refused:
        Bundle.in_file(path)
    return str(refused.value)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    found = bundle(tmp_path)
    assert (found.program, found.created, found.architecture) == (__version__, "2026-11-22", "amd64")
    assert found.packages == {"trixie": ("docker.io",)}
    assert {name: b"".join(found.read(name)) for name in found.below("packages/trixie")} == PACKAGES


def test_any_tar_program_reads_it(tmp_path: Path) -> None:
    with tarfile.open(made(tmp_path / "team.bundle")) as tar:
        names = tar.getnames()
        assert names[-1] == CONTENTS
        file = tar.extractfile(names[0])
        assert file and file.read() == PACKAGES[names[0]]


def test_what_images_have_in_common_is_there_once(tmp_path: Path) -> None:
    found = bundle(tmp_path)
    assert found.images["dap/base:1"].layers == (layer_of(BASE),)
    assert found.images["dap/mlflow:1"].layers == (layer_of(BASE), layer_of(MLFLOW))
    assert sorted(name for name in found.below("images") if name.endswith(".layer")) == sorted(
        [layer_of(BASE), layer_of(MLFLOW)]
    )
    assert gzip.decompress(b"".join(found.read(layer_of(BASE)))) == BASE


def test_layer_that_an_engine_has_compressed_is_not_compressed_again(tmp_path: Path) -> None:
    packed = gzip.compress(b"layer")
    found = bundle(tmp_path, images={"dap/base:1": [packed]})
    assert b"".join(found.read(layer_of(packed))) == packed


def test_archive_for_the_engine_holds_what_was_asked_for(tmp_path: Path) -> None:
    found = bundle(tmp_path)
    write_loadable(found, ["docker.io/dap/base:1"], tmp_path / "images.tar")
    with tarfile.open(tmp_path / "images.tar") as tar:
        content = {name: (tar.extractfile(name) or io.BytesIO()).read() for name in tar.getnames()}
    (image,) = json.loads(content.pop("manifest.json"))
    assert image["RepoTags"] == ["dap/base:1"]
    assert json.loads(content[image["Config"]]) == {"of": "dap/base:1"}
    assert [gzip.decompress(content[name]) for name in image["Layers"]] == [BASE]
    assert {image["Config"], *image["Layers"]} == content.keys()


@pytest.mark.parametrize(
    ("reference", "listed"),
    [
        ("dap/base:1", "dap/base:1"),
        ("docker.io/library/debian", "debian:latest"),
        ("docker.io/grafana/grafana:12", "grafana/grafana:12"),
        ("hub.example.com:5000/app", "hub.example.com:5000/app:latest"),
    ],
)
def test_reference_is_known_as_engines_list_it(reference: str, listed: str) -> None:
    assert plain(reference) == listed


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none"
    assert refusal(path) == f"there is no file {path}{NAME_ONE}"


@pytest.mark.parametrize("content", [b"", b"no archive at all" * 100])
def test_file_that_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    assert refusal(path) == f"{path} is no bundle: it is no tar archive{NAME_ONE}"


def test_archive_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(__file__, "test.py")
    assert refusal(path) == f"{path} is no bundle, or was cut off: it has no bundle.json{NAME_ONE}"


def test_half_a_file_is_damaged(tmp_path: Path) -> None:
    path = made(tmp_path / "team.bundle")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"!<arch>") + 3])
    assert refusal(path) == f"{path} is damaged: it ends in the middle{AGAIN}"


def test_file_that_was_cut_off_between_members_is_no_whole_one(tmp_path: Path) -> None:
    path = made(tmp_path / "team.bundle")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"packages/trixie/docker.io.deb")])
    assert refusal(path) == f"{path} is no bundle, or was cut off: it has no bundle.json{NAME_ONE}"


def test_list_that_cannot_be_read_is_damaged(tmp_path: Path) -> None:
    path = made(tmp_path / "team.bundle")
    path.write_bytes(path.read_bytes().replace(b'"program": ', b'"program"; '))
    assert refusal(path) == f"{path} is damaged: bundle.json is no JSON{AGAIN}"


def test_bundle_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "team.bundle", format=2)
    assert refusal(path) == (
        f"{path}: bundle.json says format 2, and this version of dap ({__version__}) reads format 1"
        "\n  next: use the version of dap that made it, or make it anew with this one"
    )


@pytest.mark.parametrize(
    ("size", "found"), [(b'"size": 8', "has 7 bytes and not 8"), (b'"size": 6', "has 7 bytes and not 6")]
)
def test_member_of_another_size_is_named(tmp_path: Path, size: bytes, found: str) -> None:
    path = made(tmp_path / "team.bundle")
    path.write_bytes(path.read_bytes().replace(b'"size": 7', size))
    assert refusal(path) == f"{path} is damaged: packages/trixie/docker.io.deb {found}{AGAIN}"


def test_member_that_is_gone_is_named(tmp_path: Path) -> None:
    path = made(tmp_path / "team.bundle")
    content = path.read_bytes()
    listed = content.rindex(b'"packages/trixie/docker.io.deb"')
    path.write_bytes(content[:listed] + content[listed:].replace(b"docker.io.deb", b"docker.ix.deb", 1))
    assert refusal(path) == f"{path} is damaged: packages/trixie/docker.ix.deb is missing{AGAIN}"


def test_member_with_another_content_is_named_when_it_is_read(tmp_path: Path) -> None:
    path = made(tmp_path / "team.bundle")
    path.write_bytes(path.read_bytes().replace(b"!<arch>", b"!<atch>"))
    found = Bundle.in_file(path)
    with pytest.raises(RefusedError) as refused:
        list(found.read("packages/trixie/docker.io.deb"))
    assert str(refused.value) == (
        f"{path} is damaged: packages/trixie/docker.io.deb has another checksum than when it was made{AGAIN}"
    )
