"""Docker trusts a platform's authorities for its registries, and for no other any longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins import run_module
from tests.unit.test_trust import FIRST, SECOND

REGISTRY = "gitlab-registry.dap.example.com"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host's folders; the tool that builds the bundle is missing there."""
    monkeypatch.setattr("modules.dap_trust.search_path", lambda: str(tmp_path / "none"))
    return tmp_path


def trust(host: Path, registries: list[str], certificates: list[str], **parameters: Any) -> dict[str, Any]:
    return run_module(
        "dap_trust",
        name="dap",
        certificates=certificates,
        registries=registries,
        registry_folder=str(host / "certs.d"),
        folder=str(host / "local"),
        store=str(host / "store"),
        **parameters,
    )


def files(host: Path) -> dict[str, list[str]]:
    """What Docker finds for each registry."""
    folder = host / "certs.d"
    every = sorted(folder.iterdir()) if folder.is_dir() else []
    return {entry.name: sorted(path.read_text() for path in entry.iterdir()) for entry in every}


def test_registry_gets_every_authority_in_a_file_that_docker_reads(host: Path) -> None:
    result = trust(host, [REGISTRY, "other.example.com:8443"], [FIRST, SECOND])
    assert result["changed"]
    assert f"Docker trusts the authorities for {REGISTRY}" in result["changed_items"]
    both = sorted([FIRST, SECOND])
    assert files(host) == {REGISTRY: both, "other.example.com:8443": both}
    (path, _) = (host / "certs.d" / REGISTRY).iterdir()
    assert path.suffix == ".crt"
    assert path.stat().st_mode & 0o777 == 0o644
    assert not trust(host, [REGISTRY, "other.example.com:8443"], [FIRST, SECOND])["changed"]


def test_check_mode_says_so_and_writes_nothing(host: Path) -> None:
    assert trust(host, [REGISTRY], [FIRST], check=True)["changed"]
    assert files(host) == {}


def test_new_authority_takes_the_place_of_the_old_one(host: Path) -> None:
    trust(host, [REGISTRY], [FIRST])
    trust(host, [REGISTRY], [SECOND])
    assert files(host) == {REGISTRY: [SECOND]}


def test_registry_that_the_platform_no_longer_has_is_forgotten(host: Path) -> None:
    trust(host, [REGISTRY], [FIRST])
    result = trust(host, [], [FIRST])
    assert result["changed_items"] == [f"Docker no longer trusts the authorities for {REGISTRY}"]
    assert not (host / "certs.d").exists()


def test_files_of_others_stay(host: Path) -> None:
    trust(host, [REGISTRY], [FIRST])
    own = host / "certs.d" / REGISTRY / "client.cert"
    own.write_text("an administrator's")
    lab = host / "certs.d" / "lab.example.com" / "dap-lab-0123456789abcdef.crt"
    lab.parent.mkdir()
    lab.write_text(SECOND)
    trust(host, [], [])
    assert files(host) == {REGISTRY: ["an administrator's"], "lab.example.com": [SECOND]}
