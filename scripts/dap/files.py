"""Files that are written whole or not at all, and kept from other users' eyes."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dap.errors import DapError, RefusedError

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700
PUBLIC_FILE = 0o644

_OTHERS = 0o077


def read(path: Path) -> bytes:
    """The content of a file; links are followed.

    Raises:
        OSError: it cannot be read, or is no file: a pipe would be waited for, and a device has no end.
    """
    with opened(path) as file:
        return file.read()


def required(path: Path) -> bytes:
    """The content of a file that has to be there.

    Raises:
        RefusedError: it cannot be read, or is no file.
    """
    try:
        return read(path)
    except OSError as error:
        raise unreadable(path, error) from error


def opened(path: Path) -> BinaryIO:
    """A file to be read, like `read`."""
    # Without waiting, as opening a pipe waits for its other end.
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # noqa: SIM115  whoever asked closes it
    try:
        require_file(file.fileno(), path)
    except OSError:
        file.close()
        raise
    return file


def require_file(descriptor: int, path: Path) -> None:
    """Raise `OSError` for what is open and is no file."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "Not a file", str(path))


def write_atomic(path: Path, content: bytes, mode: int) -> None:
    """Replace a file in one step: a reader, or a crash at any moment, sees the old content or the new one.

    A symbolic link stays, its target is replaced.

    Args:
        path: the file; its folder exists.
        content: all of the new content.
        mode: permission bits, whatever the umask says.

    Raises:
        DapError: the file cannot be written (disk full, no permission); the old content is still there.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".dap-{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        _write_temporary_and_replace(temporary, target, content, mode)
        _sync_folder(target.parent)
    except OSError as error:
        raise unwritable(path, path.parent, error) from error


def _write_temporary_and_replace(temporary: Path, target: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with open(descriptor, "wb") as file:
            # The lock tells `remove_leftovers` of another process that this file is being worked on.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    # Without this a power cut may undo the rename although the content is on disk.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unreadable(path: Path, error: OSError) -> RefusedError:
    """The refusal for a file that is there and cannot be read."""
    return RefusedError(
        f"{path} cannot be read: {error.strerror}",
        "run dap as the user who owns it, or correct its permissions",
    )


@contextmanager
def replaced(path: Path, mode: int = PUBLIC_FILE) -> Iterator[BinaryIO]:
    """A large file to be written, which gets its name when the block ends well; else what was there stays.

    Raises:
        DapError: it cannot be written (disk full, no permission).
    """
    temporary = path.with_name(f".dap-{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        remove_leftovers(path.parent)
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    except OSError as error:
        raise unwritable(path, path.parent, error) from error
    try:
        with open(descriptor, "w+b") as file:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield file
            os.fchmod(descriptor, mode)
            file.flush()
            os.fsync(descriptor)
            os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, path.parent, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; those of a living writer stay."""
    for temporary in folder.glob(".dap-*.tmp"):
        try:
            with temporary.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                temporary.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):
            continue
        except OSError as error:
            raise DapError(f"cannot remove {temporary}: {error.strerror}", f"rm {temporary}") from error


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A private folder below ``parent`` that lives as long as the block.

    Those of programs that were killed are removed first; what they held may be secret.

    Raises:
        DapError: it cannot be made (disk full, no permission).
    """
    try:
        with _locked(parent):
            for old in parent.glob(".dap-*.folder"):
                _remove_abandoned(old)
            folder = Path(tempfile.mkdtemp(prefix=".dap-", suffix=".folder", dir=parent))
            # Held as long as this process lives: so others know that somebody still uses the folder.
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
    except OSError as error:
        raise unwritable(parent, parent, error) from error
    try:
        yield folder
    finally:
        os.close(descriptor)
        shutil.rmtree(folder, ignore_errors=True)


def write_temporary(path: Path, content: bytes) -> None:
    """Write a new private file that need not outlive a crash, so it is not waited for until it is on disk.

    Raises:
        DapError: the file cannot be written (disk full, no permission).
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        with open(descriptor, "wb") as file:
            file.write(content)
    except OSError as error:
        raise unwritable(path, path.parent, error) from error


def unwritable(path: Path, folder: Path, error: OSError) -> DapError:
    """The failure for a file that cannot be written, and the folder where that is to be put right."""
    return DapError(
        f"cannot write {path}: {error.strerror}", f"make room or correct the permissions of {folder}"
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep others from making or removing temporary folders in ``folder``."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_abandoned(folder: Path) -> None:
    """Remove a temporary folder, unless the process that made it still lives."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
    shutil.rmtree(folder, ignore_errors=True)


def make_private_folder(folder: Path) -> None:
    """Create a folder (and its parents) that only its owner can enter; an existing one is left as it is.

    Raises:
        DapError: it cannot be created.
    """
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise DapError(
            f"cannot create the folder {folder}: {error.strerror}",
            f"correct the permissions of {folder.parent}",
        ) from error


def make_private(paths: Iterable[Path]) -> list[str]:
    """Take all rights of group and others away, where there are any.

    Returns:
        one line for each path that was changed.

    Raises:
        RefusedError: a mode is wrong and cannot be changed, because the file belongs to somebody else.
    """
    repairs = []
    for path in paths:
        try:
            found = path.stat().st_mode & 0o7777
        except FileNotFoundError:
            # Another run has just renamed its temporary file.
            continue
        if not found & _OTHERS:
            continue
        wanted = PRIVATE_FOLDER if path.is_dir() else PRIVATE_FILE
        try:
            path.chmod(wanted)
        except OSError as error:
            raise RefusedError(
                f"{path} is open to other users (mode {found:04o}) and cannot be closed: {error.strerror}",
                f"sudo chmod {wanted:o} {path}",
            ) from error
        repairs.append(f"{path}: mode {found:04o} was open to other users, now {wanted:04o}")
    return repairs
