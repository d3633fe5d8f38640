"""The file of a bundle: a tar archive whose last member lists all others with their checksums.

An uncompressed archive, so that any member is found and read without the others; what is worth it is
compressed by itself. One that was cut off has no last member, and so is never taken for a whole one.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, Field, ValidationError

from dap import __version__
from dap.configuration.wording import dotted
from dap.errors import RefusedError
from dap.files import opened, unreadable, unwritable

FORMAT = 1
CONTENTS = "bundle.json"
_CHUNK = 1 << 20
_BLOCK = tarfile.BLOCKSIZE
_COPY_AGAIN = "copy it over again, and compare both copies: sha256sum FILE"


def read_in_chunks(file: BinaryIO | Any) -> Iterator[bytes]:
    """What is left of a file, a mebibyte at a time."""
    while chunk := file.read(_CHUNK):
        yield chunk


class Writer:
    """Writes the members of a bundle one after the other.

    The size of what comes out of a pipe is known at its end only; the member's header is then written over.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.members: dict[str, dict[str, Any]] = {}

    def add(self, name: str | Callable[[], str], chunks: Iterable[bytes]) -> str:
        """Write a member, unless there is one of its name; returns the name.

        Args:
            name: of the member; something to ask for it when all was read, where it stands for the content.
                It has less than a hundred characters then.
        """
        start = self._file.tell()
        # A longer name takes more room, whatever the size.
        self._file.write(bytes(len(_header(name, 0)) if isinstance(name, str) else _BLOCK))
        digest, size = hashlib.sha256(), 0
        for chunk in chunks:
            self._file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
        found = name if isinstance(name, str) else name()
        if found in self.members:
            self._file.seek(start)
            self._file.truncate()
            return found
        self._file.write(bytes(-size % _BLOCK))
        end = self._file.tell()
        self._file.seek(start)
        self._file.write(_header(found, size))
        self._file.seek(end)
        self.members[found] = {"size": size, "sha256": digest.hexdigest()}
        return found

    def finish(self, contents: Mapping[str, Any]) -> None:
        """Write the list of all that is there, with what else is to be known of it."""
        listed = {"format": FORMAT, "program": __version__, **contents, "members": self.members}
        text = json.dumps(listed, indent=1).encode()
        self._file.write(_header(CONTENTS, len(text)) + text + bytes(-len(text) % _BLOCK))
        self._file.write(bytes(2 * _BLOCK))


def _header(name: str, size: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, 0o644, int(time.time())
    # This format knows of files above eight gigabytes.
    return entry.tobuf(tarfile.GNU_FORMAT)


class _Member(BaseModel):
    size: int = Field(ge=0)
    sha256: str


class _Image(BaseModel):
    config: str
    layers: list[str]


class _Contents(BaseModel):
    """What the list of a bundle says besides its format."""

    program: str
    created: str
    architecture: str
    images: dict[str, _Image]
    packages: dict[str, list[str]]
    members: dict[str, _Member]


@dataclass(frozen=True)
class BundledImage:
    """An image in a bundle, by the members that it is made of."""

    config: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Bundle:
    """A bundle that is there and whole, as far as that can be told without reading all of it.

    Attributes:
        program: version of the program that made it.
        created: when, as people write it.
        architecture: that its images and packages are for, as Debian calls it.
        images: by reference.
        packages: names of the packages that were asked for, by release.
    """

    path: Path
    program: str
    created: str
    architecture: str
    images: Mapping[str, BundledImage]
    packages: Mapping[str, tuple[str, ...]]
    members: Mapping[str, Mapping[str, Any]] = field(repr=False)
    places: Mapping[str, int] = field(repr=False)

    @classmethod
    def in_file(cls, path: Path) -> Bundle:
        """Read what a bundle holds.

        Raises:
            RefusedError: there is no such file, it is no bundle, was cut off, or is of another format.
        """
        places, contents = _read(path)
        if contents.get("format") != FORMAT:
            raise RefusedError(
                f"{path}: {CONTENTS} says format {contents.get('format')}, and this version of dap"
                f" ({__version__}) reads format {FORMAT}",
                "use the version of dap that made it, or make it anew with this one",
            )
        listed = _listed(path, contents)
        for name, member in listed.members.items():
            size = places.get(name, (0, -1))[1]
            if size != member.size:
                found = "is missing" if size < 0 else f"has {size} bytes and not {member.size}"
                raise RefusedError(f"{path} is damaged: {name} {found}", _COPY_AGAIN)
        return cls(
            path,
            listed.program,
            listed.created,
            listed.architecture,
            {
                reference: BundledImage(image.config, tuple(image.layers))
                for reference, image in listed.images.items()
            },
            {release: tuple(names) for release, names in listed.packages.items()},
            {name: {"size": member.size, "sha256": member.sha256} for name, member in listed.members.items()},
            {name: place for name, (place, _) in places.items()},
        )

    def below(self, folder: str) -> list[str]:
        """The members of a folder."""
        return [name for name in self.members if name.startswith(f"{folder}/")]

    def size(self, name: str) -> int:
        """The bytes of a member."""
        return int(self.members[name]["size"])

    def read(self, name: str) -> Iterator[bytes]:
        """A member, piece by piece.

        Raises:
            RefusedError: at its end, if it is not what the list says.
        """
        left, digest = self.size(name), hashlib.sha256()
        try:
            with opened(self.path) as file:
                file.seek(self.places[name])
                while left and (chunk := file.read(min(_CHUNK, left))):
                    digest.update(chunk)
                    left -= len(chunk)
                    yield chunk
        except OSError as error:
            raise unreadable(self.path, error) from error
        if digest.hexdigest() != self.members[name]["sha256"]:
            raise RefusedError(
                f"{self.path} is damaged: {name} has another checksum than when it was made", _COPY_AGAIN
            )


def _read(path: Path) -> tuple[dict[str, tuple[int, int]], dict[str, Any]]:
    """Where each member lies and how long it is, and what the list says.

    Raises:
        RefusedError: the file is not there, is no bundle, or not a whole one.
    """
    advice = "name a file that `dap bundle create` has made"
    try:
        with opened(path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            entries = tar.getmembers()
            listed = next((entry for entry in entries if entry.name == CONTENTS and entry.isreg()), None)
            text = tar.extractfile(listed) if listed else None
            contents = json.load(text) if text else None
    except FileNotFoundError:
        raise RefusedError(f"there is no file {path}", advice) from None
    except OSError as error:
        raise unreadable(path, error) from error
    except tarfile.ReadError as error:
        if "unexpected end" in str(error):
            raise RefusedError(f"{path} is damaged: it ends in the middle", _COPY_AGAIN) from None
        raise RefusedError(f"{path} is no bundle: it is no tar archive", advice) from None
    except (ValueError, RecursionError):
        # Brackets without end are no JSON either.
        raise RefusedError(f"{path} is damaged: {CONTENTS} is no JSON", _COPY_AGAIN) from None
    if not isinstance(contents, dict):
        raise RefusedError(f"{path} is no bundle, or was cut off: it has no {CONTENTS}", advice)
    return {entry.name: (entry.offset_data, entry.size) for entry in entries}, contents


def _listed(path: Path, contents: Mapping[str, Any]) -> _Contents:
    """The list, with all that a bundle needs.

    Raises:
        RefusedError: something is missing there, or is of another kind.
    """
    try:
        listed = _Contents.model_validate(contents, strict=True)
    except ValidationError as error:
        place = dotted(error.errors(include_url=False)[0]["loc"])
        raise RefusedError(
            f"{path} is damaged: {CONTENTS} does not say what it should at {place}", _COPY_AGAIN
        ) from None
    for reference, image in listed.images.items():
        for name in (image.config, *image.layers):
            if name not in listed.members:
                raise RefusedError(f"{path} is damaged: {name} of {reference} is not listed", _COPY_AGAIN)
    return listed


def write_tar(path: Path, files: Mapping[str, tuple[int, Iterable[bytes]]]) -> None:
    """Write a tar archive for a host.

    Args:
        files: by name: size and content.

    Raises:
        DapError: it cannot be written (disk full).
    """
    try:
        with path.open("wb") as file:
            for name, (size, chunks) in files.items():
                file.write(_header(name, size))
                # To the end, which is where a checksum is compared.
                for chunk in chunks:
                    file.write(chunk)
                file.write(bytes(-size % _BLOCK))
            file.write(bytes(2 * _BLOCK))
    except OSError as error:
        raise unwritable(path, path.parent, error) from error
