"""How tests build an image of their own, upon the platform's base image."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path


def digest_of(base: str, files: Iterable[Path]) -> str:
    """What tells an image from one that is built of other files."""
    content = b"".join(path.read_bytes() for path in files if path.is_file())
    return hashlib.sha256(base.encode() + content).hexdigest()[:12]


def is_built(reference: str) -> bool:
    """Whether the engine has an image."""
    found = subprocess.run(["docker", "image", "inspect", reference], capture_output=True, check=False)
    return found.returncode == 0


def build(
    reference: str,
    context: Path,
    base: str,
    *,
    variables: Sequence[str] = (),
    target: str = "",
    ca_bundle: Path | None = None,
) -> None:
    """Build an image; fails the test with all that was said.

    Args:
        base: the platform's own base image, which has to be on the engine.
        variables: of the environment, which say where packages come from; those that are set are passed on.
        target: the stage; the last one where none is named.
        ca_bundle: the authorities to trust while packages are fetched; the machine's where none is given.
    """
    bundle = ca_bundle or Path(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"))
    arguments = ["--build-arg", f"BASE_IMAGE={base}", "--secret", f"id=ca,src={bundle}"]
    for name in variables:
        arguments += ["--build-arg", name] if name in os.environ else []
    arguments += ["--target", target] if target else []
    done = subprocess.run(
        ["docker", "build", "--tag", reference, "--network", "host", *arguments, str(context)],
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
