"""A tree of files on a host, read and written without following a link out of it, and data folders."""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
PENDING = ".pending.json"
"""Paths of the tree that were changed since the services were last told."""


class TreeError(Exception):
    """The tree cannot be brought into the wanted state; says which path stands in the way and why."""


@dataclass(frozen=True)
class Entry:
    """A file (path inside the tree) or a data folder (absolute path) as it has to be."""

    path: str
    mode: int
    uid: int
    gid: int
    content: bytes = b""

    @classmethod
    def of(cls, given: dict[str, Any]) -> Entry:
        """Read one entry of a module's parameters: octal mode, content in base64."""
        try:
            content = base64.b64decode(given.get("content") or "", validate=True)
            return cls(given["path"], int(given["mode"], 8), given["uid"], given["gid"], content)
        except ValueError as error:
            raise TreeError(f"{given['path']}: mode must be octal and content base64: {error}") from None


@dataclass(frozen=True)
class Found:
    """A file or folder as it is. ``content`` is None for anything that is no regular file."""

    mode: int
    uid: int
    gid: int
    content: bytes | None = None

    @classmethod
    def of(cls, status: os.stat_result, content: bytes | None = None) -> Found:
        """Mode and owner out of a stat result."""
        return cls(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, content)

    def differs(self, entry: Entry) -> bool:
        """Whether owner or mode have to be set."""
        return (self.mode, self.uid, self.gid) != (entry.mode, entry.uid, entry.gid)


def checked_path(path: str) -> str:
    """Refuse a path that could leave the tree, or that names one file in two ways."""
    pure = PurePosixPath(path)
    if not pure.parts or pure.is_absolute() or ".." in pure.parts or str(pure) != path:
        raise TreeError(f"{path!r} is no plain path inside the tree")
    return path


def parents(path: str) -> list[str]:
    """The folders above a path of the tree, deepest first, without the root."""
    return [str(parent) for parent in PurePosixPath(path).parents if parent.parts]


class Tree:
    """The folder, reached through descriptors so that no symbolic link ever leads out of it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def folder(self, path: str, create: bool = False) -> Iterator[tuple[int, str]]:
        """Open the folder that holds a path; yields its descriptor and the last part of the path.

        Raises:
            FileNotFoundError: the folder is not there.
            TreeError: a part of the path is a link or a file.
        """
        *folders, name = PurePosixPath(path).parts
        if create:
            make_folders(self.root)
        here = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for depth, part in enumerate(folders, start=1):
                if create:
                    self._make_folder(part, here)
                try:
                    below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                except NotADirectoryError:
                    where = self.root.joinpath(*folders[:depth])
                    raise TreeError(f"{where} is in the way: it is no folder") from None
                os.close(here)
                here = below
            yield here, name
        finally:
            os.close(here)

    @staticmethod
    def _make_folder(name: str, parent: int) -> None:
        """Make a folder that everyone may enter, whatever the umask says; leave an existing one as it is."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
            os.chmod(name, 0o755, dir_fd=parent)  # noqa: S103 - services of other uids read below it

    def find(self, path: str) -> Found | None:
        """What is at a path now; None for nothing. A link counts as something that is no file."""
        try:
            with self.folder(path) as (folder, name):
                status = os.lstat(name, dir_fd=folder)
                if stat.S_ISDIR(status.st_mode):
                    raise TreeError(f"{self.root / path} is in the way: it is a folder")
                if not stat.S_ISREG(status.st_mode):
                    return Found.of(status)
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
                with os.fdopen(descriptor, "rb") as file:
                    return Found.of(os.fstat(descriptor), file.read())
        except FileNotFoundError:
            return None

    def write(self, entry: Entry, incoming: str) -> None:
        """Write a file in the folder ``incoming``, with owner and mode, then move it into its place.

        Raises:
            TreeError: it cannot be written, for example because the disk is full; the old one is still there.
        """
        try:
            self._write(entry, incoming)
        except OSError as error:
            hint = f": make room on the file system of {self.root}" if error.errno in NO_SPACE else ""
            raise TreeError(f"cannot write {self.root / entry.path}: {error.strerror}{hint}") from error

    def _write(self, entry: Entry, incoming: str) -> None:
        with (
            self.folder(f"{incoming}/new", create=True) as (staging, new),
            self.folder(entry.path, create=True) as (target, name),
        ):
            os.fchmod(staging, 0o700)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new, dir_fd=staging)
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=staging)
            with os.fdopen(descriptor, "wb") as file:
                file.write(entry.content)
                file.flush()
                os.fchown(descriptor, entry.uid, entry.gid)
                os.fchmod(descriptor, entry.mode)
                os.fsync(descriptor)
            os.rename(new, name, src_dir_fd=staging, dst_dir_fd=target)

    def adjust(self, entry: Entry) -> None:
        """Set owner and mode of a file that is otherwise right, in place: a container may have it mounted."""
        with self.folder(entry.path) as (folder, name):
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                os.fchown(descriptor, entry.uid, entry.gid)
                os.fchmod(descriptor, entry.mode)
            finally:
                os.close(descriptor)

    def remove(self, path: str, needed: set[str]) -> None:
        """Remove a file, and the folders above it that are empty then and that no other file needs.

        A needed folder stays even when it is empty for a moment: a container that has it mounted would
        go on looking at the removed one.
        """
        with contextlib.suppress(FileNotFoundError), self.folder(path) as (folder, name):
            os.unlink(name, dir_fd=folder)
        for parent in parents(path):
            if parent in needed:
                return
            try:
                with self.folder(parent) as (folder, name):
                    os.rmdir(name, dir_fd=folder)
            except FileNotFoundError:
                continue
            except OSError:  # not empty
                return

    def owned(self, record: str) -> set[str]:
        """The paths in a record; one that cannot be read (cut off, written by hand) owns nothing."""
        found = self.find(record)
        try:
            return {checked_path(path) for path in json.loads((found and found.content) or b"[]")}
        except (ValueError, TypeError, TreeError):
            return set()

    def others(self, record: str) -> set[str]:
        """What the other records of the same tree own."""
        names = {path.name for path in self.root.glob(".*-files.json")} - {record}
        return {path for name in names for path in self.owned(name)}

    def write_record(self, record: str, paths: Iterable[str], incoming: str) -> None:
        """Write a record."""
        content = json.dumps(sorted(paths), indent=0).encode() + b"\n"
        self.write(Entry(record, 0o600, os.geteuid(), os.getegid(), content), incoming)


def make_folders(path: Path) -> None:
    """Make a folder and the ones above it, so that everyone may enter them whatever the umask says."""
    for folder in [*reversed(path.parents), path]:
        if not folder.exists():
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)


def open_directory(path: Path) -> int:
    """Open a data folder, following only links that a service cannot have made.

    Data folders belong to the services, so a link in one could point anywhere; the operator's own links
    (the data folder on another disk) belong to root.
    """
    for part in [*reversed(path.parents), path]:
        status = part.lstat()
        if stat.S_ISLNK(status.st_mode) and status.st_uid not in (0, os.geteuid()):
            raise TreeError(f"{part} is a link that belongs to uid {status.st_uid}: not followed")
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except NotADirectoryError:
        raise TreeError(f"{path} is in the way: a data folder belongs there") from None


def find_directory(path: Path) -> Found | None:
    """Owner and mode of a data folder; None if there is none."""
    try:
        descriptor = open_directory(path)
    except FileNotFoundError:
        return None
    try:
        return Found.of(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def make_directory(entry: Entry) -> None:
    """Make a data folder and the ones above it, and set its owner and mode, not those of what is in it."""
    path = Path(entry.path)
    make_folders(path)
    descriptor = open_directory(path)
    try:
        os.fchown(descriptor, entry.uid, entry.gid)
        os.fchmod(descriptor, entry.mode)
    finally:
        os.close(descriptor)
