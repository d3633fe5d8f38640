"""What a deploy notes for later runs: small files beside the secrets of an inventory."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dap.errors import RefusedError
from dap.files import PRIVATE_FILE, make_private_folder, read, write_atomic
from dap.layout import secrets_dir, shown


def recall(
    inventory: str,
    name: str,
    next_step: str = "restore it from a backup, or remove it: the next deploy notes anew what it finds",
) -> dict[str, str]:
    """The entries of the record ``name``; none where there is no such file.

    Args:
        next_step: what helps where it is damaged.

    Raises:
        RefusedError: the file cannot be read, or is no record.
    """
    file = secrets_dir() / inventory / name
    try:
        kept = json.loads(read(file))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise damaged(inventory, name, error.strerror or "unknown error", next_step) from error
    except UnicodeDecodeError as error:
        raise damaged(inventory, name, "it is not UTF-8", next_step) from error
    except RecursionError as error:
        raise damaged(inventory, name, "it is nested too deeply", next_step) from error
    except ValueError as error:
        raise damaged(inventory, name, str(error), next_step) from error
    if not isinstance(kept, dict):
        raise damaged(inventory, name, "it holds no JSON object", next_step)
    for key, value in kept.items():
        if not isinstance(value, str):
            raise damaged(inventory, name, f"{key} is no text", next_step)
    return kept


def damaged(inventory: str, name: str, reason: str, next_step: str) -> RefusedError:
    """The refusal for a record that says what no run has noted."""
    return RefusedError(f"{shown(secrets_dir() / inventory / name)} cannot be read: {reason}", next_step)


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
