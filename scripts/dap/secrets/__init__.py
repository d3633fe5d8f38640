"""The generated secrets of one inventory: a type that does not show them, and the file that keeps them.

The rule of this module: a secrets file that is missing, damaged or of another platform never leads to new
passwords over existing data. So everything doubtful is refused before anything is written.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import secrets
import string
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from dap import files
from dap.errors import DapError, RefusedError
from dap.secrets import format as secrets_format
from dap.secrets import vault

FILE_NAME = "secrets.yml"
LOCK_NAME = ".lock"

_KEY_SHAPE = re.compile(r"[A-Za-z0-9_@-]+(\.[A-Za-z0-9_@-]+)+")
# Letters and digits only: safe unquoted in URLs, shells and every configuration file the platform renders.
_SAFE = string.ascii_letters + string.digits
_ACCESS_KEY = string.ascii_uppercase + string.digits


class Secret:
    """A text that shows up nowhere by accident: printed, formatted or logged it is ``***``.

    Equal secrets compare equal (in constant time) and have one hash. It cannot be pickled or written as JSON.
    """

    __slots__ = ("_value",)
    _value: str

    def __init__(self, value: str) -> None:
        object.__setattr__(self, "_value", value)

    def reveal(self) -> str:
        """The text itself, for the one place that needs it."""
        return self._value

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "***"

    def __format__(self, specification: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError("a Secret cannot be changed")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        # Keeps dataclasses.asdict and the like working: they copy, and copying must not need pickling.
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


class SecretStore:
    """The secrets file of one inventory.

    Attributes:
        path: the file.
        inventory: the inventory it belongs to.
        platform_id: a random UUID that the hosts' data carry too, see `ownership_conflict`.
        ca_fingerprint: SHA-256 of the private CA's certificate in hexadecimal; empty while there is none.
        is_new: there was no file when this run began (stays true after `save`).
        repairs: what `load` put right, one line each: files that other users could read.
    """

    def __init__(self, path: Path, inventory: str) -> None:
        """A store that has no file yet; `load` is the way to get one."""
        self.path = path
        self.inventory = inventory
        self.platform_id = str(uuid.uuid4())
        self.ca_fingerprint = ""
        self.is_new = True
        self.repairs: list[str] = []
        self._values: dict[str, Secret] = {}
        self._previous: dict[str, list[Secret]] = {}
        self._vault_id: str | None = None
        self._raw: bytes | None = None
        self._written = b""

    @classmethod
    def load(cls, directory: Path, inventory: str) -> SecretStore:
        """Read the inventory's secrets; without a file, a new store that is only in memory.

        Args:
            directory: the inventory's own folder, ``secrets/<inventory>``.
            inventory: its name; the file must bear it.

        Raises:
            RefusedError: the file is unreadable, damaged or another inventory's. Nothing was written.
        """
        store = cls(directory / FILE_NAME, inventory)
        store._raw = _read(store.path)
        if store._raw is not None:
            opened = vault.unseal(store._raw, store.path)
            document = secrets_format.parse(opened.content, store.path, inventory)
            store.is_new = False
            store.platform_id = document.platform_id
            store.ca_fingerprint = document.ca_fingerprint
            store._values = {key: Secret(value) for key, value in document.values.items()}
            store._previous = {
                key: [Secret(value) for value in values] for key, values in document.previous.items()
            }
            store._vault_id = opened.vault_id
            store._written = store._text()
        if directory.is_dir():
            files.remove_leftovers(directory)
            store.repairs = files.make_private(_private_paths(directory, store.path))
        return store

    def get(self, key: str, length: int = 40, prefix: str = "") -> Secret:
        """The secret of that name; letters and digits are generated where it is missing or blank.

        Args:
            key: dotted, ``mlflow.database_password``.
            length: of a generated value, in characters; one that is there keeps its length.
            prefix: what stands before a generated value.
        """
        return self._fill(key, length, _SAFE, prefix)

    def access_key(self, key: str) -> Secret:
        """Like `get`, for the public half of an S3 key pair: 20 capitals and digits."""
        return self._fill(key, 20, _ACCESS_KEY)

    def peek(self, key: str) -> Secret | None:
        """The secret of that name, None where it is missing or blank; nothing is generated."""
        found = self._values.get(key)
        return found if found is not None and found.reveal().strip() else None

    def all_values(self) -> dict[str, Secret]:
        """Every secret that has a value, by key, sorted."""
        found = {key: self.peek(key) for key in sorted(self._values)}
        return {key: value for key, value in found.items() if value is not None}

    def replace(self, key: str, value: Secret) -> None:
        """Give a secret another value; the one it had is kept beside it until `settle`.

        Raises:
            ValueError: no key of a secret.
        """
        if not _KEY_SHAPE.fullmatch(key):
            raise ValueError(f"not a key of a secret: {key!r}")
        found = self.peek(key)
        if found is not None and found != value:
            kept = [old for old in self._previous.get(key, []) if old not in (found, value)]
            self._previous[key] = [*kept, found]
        self._values[key] = value

    def rotate(self, key: str, length: int = 40, prefix: str = "") -> bool:
        """Replace a secret by a generated one of ``length`` characters after the ``prefix``.

        One that is missing is left for `get`, and one whose last replacement has not reached the services yet
        keeps that value: nobody has used it.

        Returns:
            whether there is a new value.
        """
        found = self.peek(key)
        if found is None or self.previous(key):
            return False
        self.replace(key, _generated(length, _SAFE, prefix))
        return True

    def previous(self, key: str) -> list[Secret]:
        """What a service may still have in place of the secret's value, the likeliest first."""
        return self._previous.get(key, [])[::-1]

    def pending(self) -> list[str]:
        """The keys of secrets whose new value may not have reached all services yet, sorted."""
        return sorted(self._previous)

    def settle(self, keys: Iterable[str]) -> None:
        """Forget what the secrets were before: all services have the new values."""
        for key in keys:
            self._previous.pop(key, None)

    def save(self) -> bool:
        """Write the file if something changed; encrypted if it was encrypted.

        Returns:
            whether it was written.

        Raises:
            DapError: it cannot be written, or somebody changed it since it was read; the old file stays.
        """
        text = self._text()
        if text == self._written:
            return False
        files.make_private_folder(self.path.parent)
        if _read(self.path) != self._raw:
            raise DapError(
                f"{self.path} was changed by somebody else since it was read; nothing was written",
                "run the same command again",
            )
        raw = vault.seal(text, self._vault_id, self.path)
        files.write_atomic(self.path, raw, files.PRIVATE_FILE)
        self._raw, self._written = raw, text
        return True

    def _fill(self, key: str, length: int, alphabet: str, prefix: str = "") -> Secret:
        if not _KEY_SHAPE.fullmatch(key):
            raise ValueError(f"not a key of a secret: {key!r}")
        found = self.peek(key)
        if found is None:
            found = _generated(length, alphabet, prefix)
            self._values[key] = found
        return found

    def _text(self) -> bytes:
        values = {key: secret.reveal() for key, secret in self._values.items()}
        previous = {key: [old.reveal() for old in kept] for key, kept in self._previous.items()}
        document = secrets_format.Document(
            self.inventory, self.platform_id, self.ca_fingerprint, values, previous
        )
        return document.text()


def _generated(length: int, alphabet: str, prefix: str) -> Secret:
    return Secret(prefix + "".join(secrets.choice(alphabet) for _ in range(length)))


def ownership_conflict(
    store: SecretStore, host: str, data: str, marker: str | None, has_data: bool
) -> RefusedError | None:
    """Whether the data on a host belong to these secrets; asked before anything is written, there or here.

    A host gets its marker (``<data>/.platform-id``) at its first deploy, before any service makes data.

    Args:
        store: the inventory's secrets.
        host: the host's name, for the message.
        data: the host's data folder.
        marker: what stands in the marker file; None without one.
        has_data: whether the data folder holds anything besides the marker.

    Returns:
        the refusal to raise, None when all is well.
    """
    folder = store.path.parent
    give_up = f"to give the data up, remove {data} on {host}"
    if marker is None:
        if not has_data:
            return None
        return RefusedError(
            f"{host}: {data} holds data of unknown origin (there is no {data}/.platform-id)",
            f"move {data} on {host} away, or set another data folder in platform.yml",
        )
    found = marker.strip()
    if found == store.platform_id:
        return None
    if not secrets_format.is_uuid(found):
        return RefusedError(
            f"{host}: {data}/.platform-id is damaged",
            f"if the data belong to this platform, write {store.platform_id} into it; {give_up}"
            if not store.is_new
            else f"restore {folder} from a backup; {give_up}",
        )
    if store.is_new:
        return RefusedError(
            f"{host}: {data} holds the data of platform {found}, but the secrets file {store.path} is "
            "missing",
            f"restore {folder} from a backup; {give_up}",
        )
    return RefusedError(
        f"{host}: {data} holds the data of platform {found}, but {store.path} is of platform "
        f"{store.platform_id}",
        f"restore the {folder} that belongs to these data from a backup, or take {host} out of the "
        f"inventory; {give_up}",
    )


@contextmanager
def store_lock(directory: Path, wait: float = 2.0) -> Iterator[None]:
    """Keep other runs of dap off this inventory for as long as the block lasts.

    The kernel gives the lock back when the process ends, however it ends.

    Args:
        directory: the inventory's own folder, ``secrets/<inventory>``; created if missing.
        wait: seconds to wait for another run that is about to end.

    Raises:
        RefusedError: another run holds it.
        DapError: the lock file cannot be made.
    """
    files.make_private_folder(directory)
    path = directory / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, files.PRIVATE_FILE)
    except OSError as error:
        raise _no_lock(path, error) from error
    try:
        try:
            files.require_file(descriptor, path)
        except OSError as error:
            raise _no_lock(path, error) from error
        _lock(descriptor, directory, wait)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _no_lock(path: Path, error: OSError) -> DapError:
    return DapError(
        f"cannot write {path}: {error.strerror}",
        f"correct the permissions of {path.parent}; what is no file there may be removed",
    )


def _lock(descriptor: int, directory: Path, wait: float) -> None:
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() < end:
                time.sleep(0.05)
                continue
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            raise RefusedError(
                f"another dap run works on the inventory '{directory.name}' (process {holder or 'unknown'})",
                "wait until it has ended" + (f", or look at it: ps -fp {holder}" if holder else ""),
            ) from error


def _read(path: Path) -> bytes | None:
    """The content of the file, None where there is none."""
    try:
        return files.read(path)
    except FileNotFoundError as error:
        # A link to a place that is not mounted is no reason to make new secrets.
        for link in (path.parent, path):
            if link.is_symlink() and not link.exists():
                raise RefusedError(
                    f"{link} is a link to {os.readlink(link)}, which does not exist",
                    "mount or restore that place",
                ) from error
        return None
    except OSError as error:
        raise files.unreadable(path, error) from error


def _private_paths(directory: Path, path: Path) -> list[Path]:
    """The folder and everything in it but certificates; a link is followed only for the secrets file."""
    inside = [
        item for item in sorted(directory.rglob("*")) if item.suffix != ".crt" and not item.is_symlink()
    ]
    linked = [path] if path.is_symlink() else []
    return [directory, *linked, *inside]
