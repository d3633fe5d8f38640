"""Real file systems of their own, made to be filled up."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"


@dataclass(frozen=True)
class Disk:
    """A mounted file system.

    Attributes:
        folder: where it is mounted.
    """

    folder: Path

    @property
    def filler(self) -> Path:
        return self.folder / ".filler"

    @property
    def free(self) -> int:
        """Bytes that may still be written."""
        state = os.statvfs(self.folder)
        return state.f_bavail * state.f_frsize

    @property
    def is_full(self) -> bool:
        """Whether next to nothing can be written."""
        return self.free < 64 * 1024

    def fill(self) -> None:
        """Take all the space that is left, to the last block; others may give some back at once."""
        size = self.filler.stat().st_size if self.filler.exists() else 0
        with self.filler.open("ab") as file:
            step = self.free
            while step >= 512:
                try:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
                except OSError:
                    step //= 2
            # What is left of blocks that metadata might use.
            with contextlib.suppress(OSError):
                os.posix_fallocate(file.fileno(), size, 4096)

    def make_room(self) -> None:
        """Give the space back."""
        self.filler.unlink(missing_ok=True)


@contextmanager
def mounted(image: Path, folder: Path, gib: int) -> Iterator[Disk]:
    """A file system in a sparse file, mounted as long as the block lasts."""
    with image.open("wb") as file:
        file.truncate(gib * 1024**3)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(image))
    folder.mkdir()
    try:
        _run("mount", "-o", "loop", str(image), str(folder))
        try:
            yield Disk(folder)
        finally:
            _run("umount", str(folder))
    finally:
        folder.rmdir()
        image.unlink()
