"""The double's image, built where it is missing."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tests.image_build import build, digest_of, is_built

HERE = Path(__file__).parent
KEYS = HERE.parent / "unit" / "recorded" / "gitlab_keys_19.3.0.txt"
FROM_ENVIRONMENT = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")


def double_image(base: str, ca_bundle: Path | None = None) -> str:
    """The reference of the image.

    Args:
        base: the platform's own base image, which has to be on the engine.
        ca_bundle: the authorities to trust while packages are fetched; the machine's where none is given.
    """
    folders = [HERE / folder for folder in ("image", "server", "contract")]
    files = [path for folder in folders for path in sorted(folder.rglob("*"))]
    reference = "dapt/gitlab-ce:" + digest_of(
        base, [path for path in [*files, KEYS] if "__pycache__" not in path.parts]
    )
    if not is_built(reference):
        with tempfile.TemporaryDirectory() as folder:
            context = make_context(Path(folder) / "context")
            build(reference, context, base, variables=FROM_ENVIRONMENT, ca_bundle=ca_bundle)
    return reference


def make_context(context: Path) -> Path:
    """Everything that the image is built of, in one folder."""
    shutil.copytree(HERE / "image", context)
    for name in ("server", "contract"):
        shutil.copytree(HERE / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(KEYS, context / "keys.txt")
    return context
