"""Bundles of a few bytes, with images as ``docker save`` hands them over."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dap.bundle.archive import Bundle, Writer
from dap.bundle.saved import keep

PACKAGES = {"packages/trixie/Packages": b"Package: docker.io\n", "packages/trixie/docker.io.deb": b"!<arch>"}
BASE = b"base" * 300_000
MLFLOW = b"mlflow"


def layer_of(content: bytes) -> str:
    """The name of the member with a layer."""
    return f"images/{hashlib.sha256(content).hexdigest()}.layer"


def saved(images: Mapping[str, list[bytes]]) -> io.BytesIO:
    """What an engine 20.10 writes for images with these layers; one that is there already is a link."""
    stream, manifest, there = io.BytesIO(), [], dict[bytes, str]()
    with tarfile.open(fileobj=stream, mode="w") as tar:

        def add(name: str, content: bytes) -> None:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))

        for number, (reference, layers) in enumerate(images.items()):
            names = []
            for place, content in enumerate(layers):
                names.append(f"{number}{place}/layer.tar")
                add(f"{number}{place}/VERSION", b"1.0")
                if content in there:
                    entry = tarfile.TarInfo(names[-1])
                    entry.type, entry.linkname = tarfile.SYMTYPE, f"../{there[content]}"
                    tar.addfile(entry)
                else:
                    there[content] = names[-1]
                    add(names[-1], content)
            add(f"{number}.json", json.dumps({"of": reference}).encode())
            manifest.append({"Config": f"{number}.json", "RepoTags": [reference], "Layers": names})
        add("manifest.json", json.dumps(manifest).encode())
    stream.seek(0)
    return stream


def made(
    path: Path,
    images: Mapping[str, list[bytes]] | None = None,
    members: Mapping[str, bytes] = PACKAGES,
    **contents: Any,
) -> Path:
    """A bundle in a file."""
    wanted = {"dap/base:1": [BASE], "dap/mlflow:1": [BASE, MLFLOW]} if images is None else images
    with path.open("w+b") as file:
        writer = Writer(file)
        for name, content in members.items():
            writer.add(name, [content])
        kept = keep(saved(wanted), writer, lambda count: None)
        about = {"created": "2026-11-22", "architecture": "amd64", "packages": {"trixie": ["docker.io"]}}
        writer.finish({**about, "images": kept, **contents})
    return path


def bundle(folder: Path, **given: Any) -> Bundle:
    """One that is open."""
    return Bundle.in_file(made(folder / "team.bundle", **given))
