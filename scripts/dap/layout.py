"""Where things lie: the repository's own folders, and the operator's inventories and secrets."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def compose_dir() -> Path:
    """The folder with one folder for each service."""
    return ROOT / "compose"


def environments_dir() -> Path:
    """The folder with one folder for each environment."""
    return ROOT / "environments"


def ansible_dir() -> Path:
    """The folder with playbooks and roles."""
    return ROOT / "ansible"


def inventories_dir() -> Path:
    """The folder with one folder for each inventory; ``DAP_INVENTORIES`` names another."""
    return _overridable("DAP_INVENTORIES", ansible_dir() / "inventories")


def secrets_dir() -> Path:
    """The folder with one private folder for each inventory; ``DAP_SECRETS`` names another."""
    return _overridable("DAP_SECRETS", ROOT / "secrets")


def inventory_dir(name: str) -> Path:
    """The folder of one inventory, whether or not it exists."""
    return inventories_dir() / name


def logs_dir(name: str) -> Path:
    """Where the full logs of runs on one inventory go.

    They lie beside the inventory's secrets because that folder is private (0700) and ignored by git:
    a log tells host names, users and paths.
    """
    return secrets_dir() / name / "logs"


def cache_dir() -> Path:
    """The folder for what was fetched once and may be gone at any time."""
    return _overridable("XDG_CACHE_HOME", Path.home() / ".cache") / "dap"


def shown(path: Path) -> str:
    """A path as the operator would open it: from the current folder or the repository, else absolute."""
    for base in (Path.cwd(), ROOT):
        if path.is_relative_to(base):
            return str(path.relative_to(base))
    return str(path)


def _overridable(variable: str, default: Path) -> Path:
    value = os.environ.get(variable)
    return Path(value).absolute() if value else default
