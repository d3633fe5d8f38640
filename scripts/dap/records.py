"""What a deploy notes for later runs: small files beside the secrets of an inventory."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dap.files import PRIVATE_FILE, make_private_folder, write_atomic
from dap.layout import secrets_dir


def recall(inventory: str, name: str) -> dict[str, str]:
    """The entries of the record ``name``; none where there is no such file, or it cannot be read."""
    try:
        kept = json.loads((secrets_dir() / inventory / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in kept.items()} if isinstance(kept, dict) else {}


def remember(inventory: str, name: str, entries: Mapping[str, str]) -> None:
    """Keep ``entries`` as the record ``name``, in place of what it had.

    Raises:
        DapError: the file cannot be written.
    """
    if recall(inventory, name) == dict(entries):
        return
    folder = secrets_dir() / inventory
    make_private_folder(folder)
    write_atomic(folder / name, json.dumps(dict(sorted(entries.items())), indent=1).encode(), PRIVATE_FILE)
