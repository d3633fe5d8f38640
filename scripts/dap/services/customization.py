"""What an operator adds to a service of the product: files in the inventory's own folder for it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from dap.configuration import wording
from dap.errors import Finding
from dap.layout import compose_dir, shown
from dap.services.manifest import MANIFEST

OVERRIDE = "compose.override.yaml.j2"
SNIPPET = "nginx.conf.j2"


def findings(root: Path, services: Collection[str]) -> Iterator[Finding]:
    """What is wrong in the inventory's folder ``compose``, apart from services of its own."""
    if not root.is_dir():
        return
    product = [name for name in services if (compose_dir() / name / MANIFEST).is_file()]
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if (folder / MANIFEST).is_file():
            continue
        if folder.name not in product:
            guess = wording.closest(folder.name, product)
            advice = f"did you mean {guess}?" if guess else f"write {MANIFEST} there, or remove it"
            reason = f"is neither a service of the platform nor one of your own: it has no {MANIFEST}"
            yield Finding(shown(folder), "", "", reason, advice)
            continue
        for path in sorted(folder.iterdir()):
            if path.name not in (OVERRIDE, SNIPPET):
                reason = f"means nothing in the folder of {folder.name}, a service of the platform"
                yield Finding(shown(path), "", "", reason, f"there may be {OVERRIDE} and {SNIPPET}")
            elif not path.is_file():
                yield Finding(shown(path), "", "", "is not a file", "write it as a file, or remove it")
