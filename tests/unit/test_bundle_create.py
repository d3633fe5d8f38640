"""Making a bundle: what is left out or refused, and that there is never half a file."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dap.bundle import create, wheels
from dap.cli import main
from dap.deployment.progress import Progress
from dap.errors import DapError, RefusedError
from dap.hosts import ansible as hosts
from dap.layout import ROOT
from dap.site import Site
from tests.unit.bundles import made, saved
from tests.unit.platforms import executable, service_of, site_of

RUN = service_of("run", image={"pull": "vendor/run:1"})
FACTS = {
    **{"memory_mib": 16000, "cpus": 4, "epoch": 0.0, "platform_id": None, "has_data": False},
    **{"ready": [], "missing_tags": [], "building": False},
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine on which packages can be had, and an engine that has images."""
    monkeypatch.setenv("DAP_SECRETS", str(tmp_path / "secrets"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(wheels, "download", lambda *given: [])
    return tmp_path


def creation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, site: Site, reasons: dict[str, str] | None = None
) -> tuple[create.Creation, list[str]]:
    """A run on that machine, and the playbooks that it plays."""
    played = []

    def play(playbook: str, inventory: Any, variables: dict[str, Any], **options: Any) -> hosts.Run:
        played.append(playbook)
        assert [host.name for host in inventory.hosts] == ["localhost"]
        if playbook == "preflight":
            images = {
                name: {"present": False, "known": False, "available": False, "reason": reason}
                for name, reason in (reasons or {}).items()
            }
            return hosts.Run(results={("Look", "localhost"): {"facts": FACTS | {"images": images}}})
        if playbook == "bundle":
            packages = Path(variables["packages"], "trixie")
            packages.mkdir(parents=True)
            (packages / "Packages").write_text("Package: docker.io\n")
            made = {"trixie": {"files": ["Packages"], "names": ["docker.io"]}}
            return hosts.Run(results={("Fetch", "localhost"): {"architecture": "amd64", "releases": made}})
        return hosts.Run()

    monkeypatch.setattr(hosts, "play", play)
    return create.Creation(site, folder / "team.bundle", [], Progress()), played


def engine(folder: Path, *references: str) -> None:
    """A ``docker save`` of these images."""
    (folder / "saved").write_bytes(saved({name: [name.encode()] for name in references}).read())
    executable(folder / "bin" / "docker", f"#!/bin/sh\necho $* >{folder}/asked\ncat {folder}/saved\n")


def references(folder: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> list[str]:
    from dap.images.making import images_of

    every = images_of(site)
    return [*(build.tag for build in every.builds), *(pull.reference for pull in every.pulls)]


def platform(folder: Path, *services: Any, **settings: Any) -> Site:
    image = folder / "services" / "app" / "image"
    image.mkdir(parents=True, exist_ok=True)
    (image / "Dockerfile").write_text("FROM scratch\n")
    return site_of(service_of("app", folder / "services"), *services, **settings)


def test_bundle_holds_all_images_and_packages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = platform(folder, RUN)
    wanted = references(folder, monkeypatch, site)
    engine(folder, *wanted)
    run, played = creation(folder, monkeypatch, site)
    made = run.run()
    assert played == ["preflight", "images", "bundle"]
    assert (folder / "asked").read_text().split() == ["save", *wanted]
    assert [*made.images] == wanted and "vendor/run:1" in wanted
    assert made.packages == {"trixie": ("docker.io",)}
    assert made.below("packages/trixie") == ["packages/trixie/Packages"]
    assert {path.name for path in folder.iterdir()} == {
        "asked",
        "bin",
        "saved",
        "secrets",
        "services",
        "team.bundle",
    }


def test_service_that_may_be_left_out_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = platform(folder, RUN, services={"run": {"enabled": "auto"}})
    engine(folder, *references(folder, monkeypatch, platform(folder)))
    run, _ = creation(folder, monkeypatch, site, {"run": "hub.example.com does not answer"})
    assert "vendor/run:1" not in run.run().images
    assert run.left_out == {"run": "its image vendor/run:1 cannot be had: hub.example.com does not answer"}


@pytest.mark.parametrize(
    ("image", "reasons", "reason"),
    [
        ("vendor/run:1", {"run": "hub.example.com does not answer"}, "hub.example.com does not answer"),
        (
            "vendor/run@sha256:" + "a" * 64,
            {},
            "what is named by its digest loses that name in a file; name it by a tag",
        ),
    ],
)
def test_image_that_cannot_be_had_is_refused_before_anything_is_built(
    folder: Path, monkeypatch: pytest.MonkeyPatch, image: str, reasons: dict[str, str], reason: str
) -> None:
    site = platform(folder, service_of("run", image={"pull": image}))
    run, played = creation(folder, monkeypatch, site, reasons)
    with pytest.raises(RefusedError) as refused:
        run.run()
    assert str(refused.value) == (
        "preflight found 1 error; nothing was changed:\n"
        f"  inventories/team/group_vars/all/platform.yml: services.run = {image}\n"
        f"    cannot be put into a bundle: {reason}\n"
        "    correct that, or write services.run.enabled: false"
    )
    assert played == ["preflight"]


@pytest.mark.parametrize("answer", ["echo permission denied >&2; exit 1", "head -c 700 {folder}/saved"])
def test_engine_that_writes_half_of_it_leaves_the_file_as_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    site = platform(folder)
    wanted = references(folder, monkeypatch, site)
    engine(folder, *wanted)
    executable(folder / "bin" / "docker", f"#!/bin/sh\n{answer.format(folder=folder)}\n")
    before = made(folder / "team.bundle").read_bytes()
    run, _ = creation(folder, monkeypatch, site)
    with pytest.raises(DapError) as failed:
        run.run()
    said = "permission denied" if "denied" in answer else f"it ended without {', '.join(wanted)}"
    assert str(failed.value) == (
        f"docker save cannot write the images: {said}"
        "\n  next: run dap as root, or as a user who may talk to the Docker engine"
        f"\n  log:  {run.log}"
    )
    assert (folder / "team.bundle").read_bytes() == before
    assert list(folder.glob(".dap-*")) == []


def test_what_a_killed_run_has_left_goes_with_the_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = folder / ".dap-team.bundle.0123456789ab.tmp"
    left.write_bytes(b"half")
    site = platform(folder)
    engine(folder, *references(folder, monkeypatch, site))
    creation(folder, monkeypatch, site)[0].run()
    assert not left.exists()


def test_folder_that_is_not_there_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, played = creation(folder, monkeypatch, platform(folder))
    run.path = folder / "none" / "team.bundle"
    with pytest.raises(DapError) as failed:
        run.run()
    assert str(failed.value) == (
        f"cannot write {run.path}: No such file or directory\n"
        f"  next: make room or correct the permissions of {run.path.parent}"
    )
    assert played == []


def test_locked_entries_have_their_hashes_and_no_conditions() -> None:
    entries = wheels._locked(["cffi", "click"])
    assert re.findall(r"^(\S+)==\S+ \\$", entries, re.M) == ["cffi", "click"]
    assert entries.count("--hash=sha256:") > 2
    assert not entries.endswith("\\\n")


def test_every_package_of_the_lock_is_an_entry() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    names = re.findall(r"^([\w.-]+)==", lock, re.M)
    assert wheels._locked(names).count("--hash=") == lock.count("--hash=")


def test_program_that_cannot_be_had_says_which_setting_may_help(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(DapError) as failed:
        wheels._run(["sh", "-c", "echo first >&2; echo no route to pypi >&2; exit 1"], {}, log)
    assert str(failed.value) == (
        "the program's own packages cannot be had: no route to pypi\n"
        "  next: set mirrors.pypi or proxy in platform.yml (docs/how-to/use-mirrors-and-a-proxy.md)\n"
        f"  log:  {log}"
    )
    assert log.read_text() == "first\nno route to pypi\n"


def test_bundle_that_is_none_is_refused_before_any_host_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "load", lambda: None)
    result = CliRunner().invoke(main, ["deploy", "--bundle", str(tmp_path / "none")])
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: there is no file {tmp_path}/none\n  next: name a file that `dap bundle create` has made\n",
    )
