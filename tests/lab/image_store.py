"""Images of this machine's engine put into the stores of others, without copying what they consist of.

Layers are never written to, so an engine whose store lies on the same file system can have them as hard
links: a second instead of a minute for an image that would be saved, loaded and hashed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.lab.machine import docker

_DRIVER = "overlay2"
_DIGEST = "sha256:"


def link_images(references: Iterable[str], target: Path) -> None:
    """Let an engine that has not been started yet find images when it is.

    Args:
        references: of images that this machine's engine has, with their tags.
        target: the engine's own folder (`/var/lib/docker` to itself), on the file system of this one's.
    """
    driver, folder = docker("info", "--format", "{{.Driver}} {{.DockerRootDir}}").split()
    assert driver == _DRIVER, f"the lab needs an engine that stores images as {_DRIVER}; this one: {driver}"
    source = Path(folder)
    names: dict[str, dict[str, str]] = {}
    for reference in references:
        image = docker("image", "inspect", "--format", "{{.Id}}", reference).strip()
        names.setdefault(reference.rpartition(":")[0], {})[reference] = image
        config = _image(source, target, "imagedb/content/sha256", image)
        layers = json.loads(config.read_bytes())["rootfs"]["diff_ids"]
        for chain in _chain(layers):
            _link_layer(source, target, chain)
    store = target / "image" / _DRIVER / "repositories.json"
    store.write_text(json.dumps({"Repositories": names}), encoding="utf-8")
    store.chmod(0o600)


def _image(source: Path, target: Path, kind: str, digest: str) -> Path:
    """Copy a part of an image's description; where it is then."""
    part = Path("image", _DRIVER, kind, digest.removeprefix(_DIGEST))
    (target / part.parent).mkdir(mode=0o700, parents=True, exist_ok=True)
    if (source / part).is_dir():
        shutil.copytree(source / part, target / part)
    else:
        shutil.copy2(source / part, target / part)
    return target / part


def _chain(layers: Sequence[str]) -> Iterator[str]:
    """What each layer is called together with those below it (OCI image specification, ChainID)."""
    chain = ""
    for layer in layers:
        chain = f"{_DIGEST}{hashlib.sha256(f'{chain} {layer}'.encode()).hexdigest()}" if chain else layer
        yield chain


def _link_layer(source: Path, target: Path, chain: str) -> None:
    described = Path("image", _DRIVER, "layerdb", "sha256", chain.removeprefix(_DIGEST))
    if (target / described).exists():
        return
    layer = (_image(source, target, "layerdb/sha256", chain) / "cache-id").read_text(encoding="ascii")
    folder = target / _DRIVER
    (folder / "l").mkdir(mode=0o710, parents=True, exist_ok=True)
    link = ["cp", "--archive", "--link", str(source / _DRIVER / layer), str(folder)]
    subprocess.run(link, check=True)
    short = (folder / layer / "link").read_text(encoding="ascii")
    (folder / "l" / short).symlink_to(Path("..", layer, "diff"))
