"""Images in a bundle: what ``docker save`` writes, taken apart, and what ``docker load`` reads, put together.

Each layer and each configuration is a member of its own, named after its content. So what images have in
common is there once, and a host that lacks one image is sent that one only.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import tarfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

from dap.bundle.archive import Bundle, Writer, read_in_chunks, write_tar

FOLDER = "images"
# What is larger is a layer, and is compressed while it is read. The rest waits until the manifest, which is
# last, says what it is.
_SMALL = 1 << 20
_QUICKLY = 1
_AS_GZIP = 31
# Layers that are compressed already, by gzip or zstd, as some engines keep them.
_COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


def plain(reference: str) -> str:
    """A reference the way engines list it: without the default registry, with ``latest`` spelled out."""
    for prefix in ("docker.io/library/", "docker.io/"):
        reference = reference.removeprefix(prefix)
    return reference if ":" in reference.rpartition("/")[2] else f"{reference}:latest"


def keep(saved: IO[bytes], writer: Writer, told: Callable[[int], None]) -> dict[str, dict[str, Any]]:
    """Write the images that ``docker save`` hands over; by reference: their members.

    Args:
        told: gets the number of bytes that were read so far, now and then.
    """
    small: dict[str, bytes] = {}
    layers: dict[str, str] = {}
    links: dict[str, str] = {}
    read = 0
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(cores) as pool, tarfile.open(fileobj=saved, mode="r|") as tar:

        def layer(content: Iterable[bytes]) -> str:
            whole = hashlib.sha256()
            pieces = _compressed(_noting(content, whole.update), pool, 2 * cores)
            return writer.add(lambda: f"{FOLDER}/{whole.hexdigest()}.layer", pieces)

        for entry in tar:
            if entry.issym():
                links[entry.name] = posixpath.normpath(posixpath.join(entry.name, "..", entry.linkname))
            elif entry.islnk():
                links[entry.name] = entry.linkname
            elif (file := tar.extractfile(entry)) and entry.size > _SMALL:
                layers[entry.name] = layer(read_in_chunks(file))
                read += entry.size
                told(read)
            elif file:
                small[entry.name] = file.read()

        def member_of(name: str) -> str:
            name = links.get(name, name)
            return layers.get(name) or layer([small[name]])

        images: dict[str, dict[str, Any]] = {}
        for image in json.loads(small["manifest.json"]):
            config = small[links.get(image["Config"], image["Config"])]
            own = {
                "config": writer.add(f"{FOLDER}/{hashlib.sha256(config).hexdigest()}.json", [config]),
                "layers": [member_of(name) for name in image["Layers"]],
            }
            images |= dict.fromkeys(image["RepoTags"] or [], own)
    return images


def _noting(chunks: Iterable[bytes], note: Callable[[bytes], None]) -> Iterator[bytes]:
    for chunk in chunks:
        note(chunk)
        yield chunk


def _compressed(chunks: Iterable[bytes], pool: ThreadPoolExecutor, ahead: int) -> Iterator[bytes]:
    """Pieces as gzip members, compressed side by side; what is compressed already stays as it is."""
    waiting: deque[Any] = deque()
    kept = None
    for chunk in chunks:
        if kept is None:
            kept = chunk.startswith(_COMPRESSED)
        if kept:
            yield chunk
            continue
        waiting.append(pool.submit(zlib.compress, chunk, _QUICKLY, _AS_GZIP))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    for future in waiting:
        yield future.result()


def write_loadable(bundle: Bundle, references: Iterable[str], path: Path) -> None:
    """Write an archive for ``docker load`` with some of a bundle's images.

    Raises:
        RefusedError: one of their members is damaged.
        DapError: it cannot be written.
    """
    manifest = []
    members: dict[str, str] = {}
    for reference in references:
        image = bundle.images[plain(reference)]
        manifest.append(
            {
                "Config": _name(image.config),
                "RepoTags": [plain(reference)],
                "Layers": [_name(layer) for layer in image.layers],
            }
        )
        members |= {_name(member): member for member in (image.config, *image.layers)}
    text = json.dumps(manifest).encode()
    files: Mapping[str, tuple[int, Iterable[bytes]]] = {
        name: (bundle.size(member), bundle.read(member)) for name, member in members.items()
    }
    write_tar(path, {**files, "manifest.json": (len(text), [text])})


def _name(member: str) -> str:
    return member.rpartition("/")[2]
