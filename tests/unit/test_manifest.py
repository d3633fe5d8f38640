"""Every wrong manifest is refused with exactly one finding, and all findings of all services come at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dap.errors import EXIT_REFUSED, ConfigurationError
from dap.layout import compose_dir
from dap.services.manifest import Service, find_folders, load_services
from tests.unit.inventories import Refusal, recorded, whole_message

GOOD = """\
title: App
summary: Does something
image: {build: "1"}
user: 10900
memory: 64m
"""
FILE = "services/app/service.yml"
# Those of the platform's services that the cases speak of.
PLATFORM = {name: compose_dir() / name for name in ("minio", "mlflow", "postgres-data", "postgres-service")}


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for services, beside which findings name their files."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "services"
    folder.mkdir()
    return folder


def write(services: Path, manifest: str = GOOD, name: str = "app") -> Path:
    """A service folder in which only the manifest may be wrong."""
    folder = services / name
    (folder / "image").mkdir(parents=True)
    (folder / "image" / "Dockerfile").write_text("FROM scratch\n")
    (folder / "compose.yaml.j2").write_text(f"services: {{{name}: {{}}}}\n")
    (folder / "service.yml").write_text(manifest)
    return folder


def load(services: Path) -> dict[str, Service]:
    return load_services(PLATFORM | find_folders([services]))


def refused(services: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(services)
    assert caught.value.exit_code == EXIT_REFUSED
    return str(caught.value)


def completed(written: str) -> str:
    """A good manifest with the written keys in place of its own."""
    if written.startswith("-"):
        return written
    keys = {line.partition(":")[0] for line in written.splitlines()}
    return "".join(line for line in GOOD.splitlines(True) if line.partition(":")[0] not in keys) + written


def _named(case: Refusal) -> str:
    return case.written.strip()[:60]


@pytest.mark.parametrize("case", recorded("manifests.txt"), ids=_named)
def test_wrong_manifest_is_refused(services: Path, case: Refusal) -> None:
    write(services, completed(case.written))
    message = refused(services)
    assert message == case.message(FILE)
    assert "hunter2" not in message


def test_least_manifest_gets_the_defaults(services: Path) -> None:
    folder = write(services)
    service = load(services)["app"]
    assert (service.name, service.folder) == ("app", folder)
    assert service.fragment == folder / "compose.yaml.j2"
    manifest = service.manifest
    assert (manifest.group, manifest.role, manifest.pids) == ("Services", "service", 256)
    assert (manifest.web, manifest.secrets, manifest.provides, manifest.projects) == ([], {}, None, False)


@pytest.mark.parametrize("memory", ["16m", "2g", "1%", "100%"])
def test_memory_is_an_amount_or_a_share(services: Path, memory: str) -> None:
    write(services, completed(f"memory: {memory}\n"))
    assert load(services)["app"].manifest.memory == memory


@pytest.mark.parametrize("missing", ["title", "summary", "image", "user", "memory"])
def test_required_key_is_named_with_an_example(services: Path, missing: str) -> None:
    example = {
        "title": "Guestbook",
        "summary": "Remembers who was here",
        "image": "{build: '1'}",
        "user": "10900",
        "memory": "512m",
    }[missing]
    write(services, "".join(line for line in GOOD.splitlines(True) if not line.startswith(missing)))
    assert refused(services) == whole_message(
        (f"{FILE}: {missing}", "is required", f"write {missing}: {example}")
    )


def test_misspelt_required_key_is_one_finding(services: Path) -> None:
    write(services, GOOD.replace("title:", "titel:"))
    assert refused(services) == whole_message(
        (f"{FILE}: titel = App", "is not a key of this file", "did you mean title?")
    )


@pytest.mark.parametrize(
    ("content", "reason", "suggestion"),
    [
        (b"", "is empty", "write at least title: Guestbook"),
        (b"title: \xff\n", "cannot be read (not UTF-8)", "make it a text file that you can read"),
        (
            b"title: x\n\tsummary: y\n",
            "is not valid YAML: line 2, column 1: a tab where spaces belong",
            "write spaces instead of the tab",
        ),
    ],
)
def test_unreadable_manifest_is_refused(services: Path, content: bytes, reason: str, suggestion: str) -> None:
    (write(services) / "service.yml").write_bytes(content)
    assert refused(services) == whole_message((FILE, reason, suggestion))


@pytest.mark.parametrize("missing", ["compose.yaml.j2", "image/Dockerfile"])
def test_missing_file_is_named(services: Path, missing: str) -> None:
    (write(services) / missing).unlink()
    assert refused(services) == whole_message(
        (
            FILE,
            f"has no {missing} beside it",
            f"write services/app/{missing}, as docs/how-to/add-a-service.md shows",
        )
    )


def test_image_that_is_not_built_here_needs_no_dockerfile(services: Path) -> None:
    folder = write(services, completed("image: {pull: 'registry.example.com/app:1'}\n"))
    (folder / "image" / "Dockerfile").unlink()
    assert load(services)["app"].manifest.image.pull == "registry.example.com/app:1"


def test_folder_name_that_no_service_can_have_is_refused(services: Path) -> None:
    write(services, name="My_App")
    assert refused(services) == whole_message(
        (
            "services/My_App/service.yml",
            "stands in the folder My_App, which is not a name of at most 40 small letters, digits and"
            " hyphens, with a letter first and no hyphen at the end",
            "rename the folder",
        )
    )


def test_errors_of_all_manifests_come_at_once(services: Path) -> None:
    write(services, completed("memory: much\nneeds: [nobody-knows-it]\n"), name="one")
    write(services, completed("needs: [on]\n"), name="two")
    write(services, completed("web: [{name: mlflow, port: 1, access: open}]\n"), name="xthree")
    assert refused(services) == whole_message(
        (
            "services/one/service.yml: memory = much",
            "is not an amount of memory (at least 16m)",
            "write a number with m or g, such as 512m or 2g",
        ),
        ("services/two/service.yml: needs[0] = on", "is not text", 'put it in quotes: "on"'),
        (
            "services/xthree/service.yml: web[0].name = mlflow",
            "is already a web name of mlflow",
            "write another name",
        ),
    )


def test_a_service_may_need_one_whose_manifest_is_wrong(services: Path) -> None:
    write(services, completed("memory: much\n"), name="one")
    write(services, completed("needs: [one]\n"), name="two")
    with pytest.raises(ConfigurationError) as caught:
        load(services)
    assert [finding.path for finding in caught.value.findings] == ["memory"]


def test_folder_of_the_inventory_replaces_one_of_the_platform(services: Path) -> None:
    folder = write(services, name="pgadmin")
    found = find_folders([compose_dir(), services])
    assert found["pgadmin"] == folder
    assert found["mlflow"] == compose_dir() / "mlflow"


def test_only_folders_with_a_manifest_are_services(services: Path) -> None:
    (services / "notes").mkdir()
    (services / "file").touch()
    assert find_folders([services, services / "not-there"]) == {}


def test_parts_that_templates_import_are_no_files_of_their_own(services: Path) -> None:
    folder = write(services)
    for file in ("config/_part.j2", "config/app.conf.j2", "config/errors/page.html", "secrets/key.j2"):
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    service = load(services)["app"]
    assert service.templates("config") == [folder / "config/app.conf.j2", folder / "config/errors/page.html"]
    assert service.templates("secrets") == [folder / "secrets/key.j2"]
