"""Secrets that others could read, or that cannot be read, as the operator of ``dap check`` meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.inventories import InventoryFolder
from tests.unit.test_cli import dap, deployed, folder, preflight_says

__all__ = ["folder"]


@pytest.fixture
def secrets_file(folder: InventoryFolder) -> Path:
    """The secrets of a platform that was deployed once."""
    deployed(folder)
    return folder.root / "secrets" / "site" / "secrets.yml"


def test_secrets_that_others_could_read_are_closed_and_it_is_said(
    folder: InventoryFolder,
    secrets_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secrets_file.chmod(0o644)
    preflight_says(folder, monkeypatch)
    result = dap("check")
    assert result.exit_code == 0
    warning = f"warning: {secrets_file}: mode 0644 was open to other users, now 0600\n"
    assert result.stderr.endswith(warning)
    assert secrets_file.stat().st_mode & 0o777 == 0o600
    assert warning not in dap("check").stderr


def test_secrets_that_are_cut_off_are_refused_and_left_as_they_are(secrets_file: Path) -> None:
    text = secrets_file.read_text(encoding="utf-8")
    cut = text[: text.rindex("...")]
    secrets_file.write_text(cut, encoding="utf-8")
    result = dap("check")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: {secrets_file} is cut off: its last line is not '...'\n"
        "  next: restore the file from a backup\n"
    )
    assert secrets_file.read_text(encoding="utf-8") == cut
