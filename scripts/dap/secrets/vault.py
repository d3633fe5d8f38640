"""Files that the operator encrypted with ansible-vault: opened for reading, sealed again when written.

The password comes from where Ansible itself takes it: the environment variable names a file that holds it, or
an executable that prints it.
"""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dap.errors import RefusedError

PASSWORD_VARIABLE = "ANSIBLE_VAULT_PASSWORD_FILE"  # noqa: S105  (the name of a variable, no password)

_HEADER = b"$ANSIBLE_VAULT;"
_DEFAULT_ID = "default"


@dataclass(frozen=True)
class Opened:
    """The plain content of a file.

    Attributes:
        content: the content, decrypted where it was encrypted.
        vault_id: the label it was encrypted with; None when it was plain.
    """

    content: bytes = field(repr=False)
    vault_id: str | None


def vault_id_of(raw: bytes) -> str | None:
    """The label a file was encrypted with (``default`` without one), None for a plain file."""
    if not raw.startswith(_HEADER):
        return None
    parts = raw.splitlines()[0].decode("utf-8", "replace").split(";")
    return parts[3].strip() if len(parts) > 3 else _DEFAULT_ID


def unseal(raw: bytes, path: Path) -> Opened:
    """Decrypt the bytes of a file where they are encrypted; plain ones pass.

    Args:
        raw: what stands in the file.
        path: the file, for the messages.

    Raises:
        RefusedError: no password, a wrong one, or a damaged file.
    """
    vault_id = vault_id_of(raw)
    if vault_id is None:
        return Opened(raw, None)
    ansible_vault = _library()
    secret = _password(path)
    errors: Any = importlib.import_module("ansible.errors")
    try:
        content = ansible_vault.VaultLib([(vault_id, secret)]).decrypt(raw)
    except ansible_vault.AnsibleVaultFormatError as error:
        raise _damaged(path) from error
    except errors.AnsibleError as error:
        # The library checks a signature made with the password, so it cannot tell these two apart.
        raise RefusedError(
            f"{path} cannot be decrypted: the ansible-vault password is wrong, or the file is damaged",
            f"check the password that {PASSWORD_VARIABLE} gives, or restore the file from a backup",
        ) from error
    except ValueError as error:
        raise _damaged(path) from error
    return Opened(bytes(content), vault_id)


def seal(content: bytes, vault_id: str | None, path: Path) -> bytes:
    """Encrypt content for a file that was encrypted before; with `vault_id` None it stays plain.

    Raises:
        RefusedError: no password is given.
    """
    if vault_id is None:
        return content
    sealed: bytes = _library().VaultLib().encrypt(content, secret=_password(path), vault_id=vault_id)
    return bytes(sealed)


def _damaged(path: Path) -> RefusedError:
    return RefusedError(
        f"{path} starts like a file of ansible-vault, but the rest is damaged",
        "restore the file from a backup",
    )


def _library() -> Any:
    # Imported on demand: it costs 0.4 s, and most sites do not encrypt their files.
    return importlib.import_module("ansible.parsing.vault")


def _password(path: Path) -> Any:
    source = os.environ.get(PASSWORD_VARIABLE, "")
    if not source:
        raise RefusedError(
            f"{path} is encrypted with ansible-vault and no password is given",
            f"set {PASSWORD_VARIABLE} to the file that holds the password, or to a program that prints it",
        )
    errors: Any = importlib.import_module("ansible.errors")
    loader: Any = importlib.import_module("ansible.parsing.dataloader")
    try:
        secret = _library().get_file_vault_secret(
            filename=source, vault_id=_DEFAULT_ID, loader=loader.DataLoader()
        )
        secret.load()
    except errors.AnsibleError as error:
        raise RefusedError(
            f"no ansible-vault password for {path}: {error.message}",
            f"set {PASSWORD_VARIABLE} to the file that holds the password, or to a program that prints it",
        ) from error
    return secret
