"""What tests of several modules begin with."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the inventory `team` is to be written, which the program then finds."""
    monkeypatch.setenv("DAP_INVENTORIES", str(tmp_path / "inventories"))
    monkeypatch.setenv("DAP_SECRETS", str(tmp_path / "secrets"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "inventories" / "team"
