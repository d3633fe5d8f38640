"""Holds homes to a size by the project quotas of their file system, on hosts, with nothing but Python.

The kernel is asked itself, by ioctl and quotactl: no host needs a package for it. ext4 and XFS do the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Of linux/fs.h. What a file belongs to, and whether what is made in a folder belongs to the same.
GET_ATTRIBUTES, SET_ATTRIBUTES = 0x801C581F, 0x401C5820
ATTRIBUTES = struct.Struct("=5I8s")
INHERIT = 0x200
# Of linux/quota.h and linux/dqblk_xfs.h, for quotas of projects.
PROJECT = 2
GET_QUOTA, SET_QUOTA, GET_STATE = 0x800007, 0x800008, 0x5805
QUOTA = struct.Struct("=8QI4x")
STATE = struct.Struct("=bxH")
COUNTED, KEPT = 0x10, 0x20
HAS_LIMITS = 1
BLOCK = 1024


@dataclass(frozen=True)
class Disk:
    """The file system of a folder, which counts by project, and holds them to their limits."""

    device: str

    @classmethod
    def of(cls, folder: Path) -> Disk | None:
        """That of a folder, or of the nearest one above that there is; None where it has no such quotas."""
        while not folder.exists():
            folder = folder.parent
        number = folder.stat().st_dev
        for device in (f"/dev/block/{os.major(number)}:{os.minor(number)}", *_mounted(number)):
            with contextlib.suppress(OSError):
                if os.stat(device).st_rdev == number:
                    found = cls(device)
                    return found if found.keeps() else None
        return None

    def keeps(self) -> bool:
        """Whether projects are held to their limits, and not only counted."""
        answer = ctypes.create_string_buffer(512)
        # XFS answers to structures with the version in them only.
        answer[0] = b"\1"
        try:
            self._ask(GET_STATE, 0, answer)
        except OSError:
            return False
        flags = STATE.unpack_from(answer)[1]
        return bool(flags & COUNTED and flags & KEPT)

    def limit(self, project: int) -> int:
        """The most bytes that a project may have; 0 for no limit."""
        return self._quota(project)[0] * BLOCK

    def used(self, project: int) -> int:
        """The bytes that a project has."""
        return self._quota(project)[2]

    def set_limit(self, project: int, size: int) -> None:
        """Let a project have so many bytes; 0 for no limit."""
        blocks = size // BLOCK
        answer = ctypes.create_string_buffer(QUOTA.pack(blocks, *[0] * 7, HAS_LIMITS))
        self._ask(SET_QUOTA, project, answer)

    def _quota(self, project: int) -> tuple[int, ...]:
        answer = ctypes.create_string_buffer(QUOTA.size)
        try:
            self._ask(GET_QUOTA, project, answer)
        except OSError as error:
            # XFS, of a project that it has never heard of.
            if error.errno != errno.ENOENT:
                raise
        return QUOTA.unpack(answer.raw[: QUOTA.size])

    def _ask(self, what: int, project: int, answer: ctypes.Array[ctypes.c_char]) -> None:
        # Both numbers are signed ones for the C library.
        command = ctypes.c_int((what << 8 | PROJECT) & 0xFFFFFFFF)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.quotactl(command, self.device.encode(), ctypes.c_int(project), answer):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), self.device)


def _mounted(number: int) -> Iterator[str]:
    """What the file system of this number was mounted from."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields, _, more = line.partition(" - ")
        major, _, minor = fields.split()[2].partition(":")
        if os.makedev(int(major), int(minor)) == number:
            yield more.split()[1].encode().decode("unicode_escape")


def project_of(platform_id: str, uid: int) -> int:
    """The number of a user's home: another one than other platforms on the same file system have."""
    # Those of users have 16 bits. Engines count their own from small numbers on.
    return (zlib.crc32(platform_id.encode()) & 0x7FFF | 0x4000) << 16 | uid


def belongs(folder: Path, project: int) -> bool:
    """Whether a folder belongs to a project, with all that will be made in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        flags, _, _, found, *_ = ATTRIBUTES.unpack(
            fcntl.ioctl(descriptor, GET_ATTRIBUTES, bytes(ATTRIBUTES.size))
        )
        return bool(found == project and flags & INHERIT)
    finally:
        os.close(descriptor)


def give(folder: Path, project: int) -> None:
    """Have a folder, all that is in it and all that will be belong to a project.

    Its owner may be at work in it: no link of theirs leads out of it.
    """
    for _, _, names, inside in os.fwalk(folder, follow_symlinks=False):
        _assign(inside, project, inherit=True)
        for name in names:
            with contextlib.suppress(OSError):
                # Other kinds than files take no room; to open them may wait, or wake what they are of.
                if not stat.S_ISREG(os.stat(name, dir_fd=inside, follow_symlinks=False).st_mode):
                    continue
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=inside)
                try:
                    _assign(file, project, inherit=False)
                finally:
                    os.close(file)


def _assign(descriptor: int, project: int, *, inherit: bool) -> None:
    raw = fcntl.ioctl(descriptor, GET_ATTRIBUTES, bytes(ATTRIBUTES.size))
    flags, extent, extents, found, copied, rest = ATTRIBUTES.unpack(raw)
    wanted = flags | INHERIT if inherit else flags
    if (found, flags) != (project, wanted):
        fcntl.ioctl(
            descriptor, SET_ATTRIBUTES, ATTRIBUTES.pack(wanted, extent, extents, project, copied, rest)
        )


def keep(disk: Disk, home: Path, project: int, limit: int, *, check: bool) -> str:
    """Hold a home to a size, in bytes, 0 for any; returns what has changed, if anything."""
    before = disk.limit(project)
    ours = home.is_dir() and belongs(home, project)
    if limit == before and (ours or not limit):
        return ""
    if not check:
        # The limit says that all of it is counted; where this was ended halfway there is none.
        if limit and not (ours and before):
            give(home, project)
        disk.set_limit(project, limit)
    return f"{home} may hold {f'{readable(limit)} at most' if limit else 'as much as there is room for'}"


def readable(size: int) -> str:
    """Bytes for a person."""
    unit, name = (1024**3, "GiB") if size >= 1024**3 else (1024**2, "MiB")
    return f"{size / unit:.1f} {name}".replace(".0 ", " ")
