"""The double's image, built where it is missing."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
KEYS = HERE.parent / "unit" / "recorded" / "gitlab_keys_19.3.0.txt"
FROM_ENVIRONMENT = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")


def double_image(base: str, ca_bundle: Path | None = None) -> str:
    """The reference of the image.

    Args:
        base: the platform's own base image, which has to be on the engine.
        ca_bundle: the authorities to trust while packages are fetched; the machine's where none is given.
    """
    files = [
        path for folder in ("image", "server", "contract") for path in sorted((HERE / folder).rglob("*"))
    ]
    content = b"".join(
        path.read_bytes() for path in [*files, KEYS] if path.is_file() and "__pycache__" not in path.parts
    )
    reference = f"dapt/gitlab-ce:{hashlib.sha256(base.encode() + content).hexdigest()[:12]}"
    there = subprocess.run(["docker", "image", "inspect", reference], capture_output=True, check=False)
    if there.returncode == 0:
        return reference
    with tempfile.TemporaryDirectory() as folder:
        context = make_context(Path(folder) / "context")
        bundle = ca_bundle or Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
        arguments = ["--build-arg", f"BASE_IMAGE={base}", "--secret", f"id=ca,src={bundle}"]
        for name in FROM_ENVIRONMENT:
            if name in os.environ:
                arguments += ["--build-arg", name]
        done = subprocess.run(
            ["docker", "build", "--tag", reference, "--network", "host", *arguments, str(context)],
            env=os.environ | {"DOCKER_BUILDKIT": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return reference


def make_context(context: Path) -> Path:
    """Everything that the image is built of, in one folder."""
    shutil.copytree(HERE / "image", context)
    for name in ("server", "contract"):
        shutil.copytree(HERE / name, context / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(KEYS, context / "keys.txt")
    return context
