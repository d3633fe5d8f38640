"""The images of the runner and of its helper, built where they are missing."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

CONTEXT = Path(__file__).parent / "image"
FROM_ENVIRONMENT = ("GOPROXY", "GOSUMDB", "GOFLAGS")
TARGETS = ("runner", "helper")


def runner_images(base: str) -> dict[str, str]:
    """The references of the two images, by the name of their stage.

    Args:
        base: the platform's own base image, which has to be on the engine.
    """
    content = b"".join(path.read_bytes() for path in sorted(CONTEXT.rglob("*")) if path.is_file())
    digest = hashlib.sha256(base.encode() + content).hexdigest()[:12]
    references = {target: f"dapt/gitlab-{target}:19.4.0-{digest}" for target in TARGETS}
    for target, reference in references.items():
        there = subprocess.run(["docker", "image", "inspect", reference], capture_output=True, check=False)
        if there.returncode:
            _build(target, reference, base)
    return references


def _build(target: str, reference: str, base: str) -> None:
    bundle = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    arguments = ["--build-arg", f"BASE_IMAGE={base}", "--secret", f"id=ca,src={bundle}"]
    for name in FROM_ENVIRONMENT:
        if name in os.environ:
            arguments += ["--build-arg", name]
    done = subprocess.run(
        [
            *("docker", "build", "--tag", reference, "--target", target, "--network", "host"),
            *(*arguments, str(CONTEXT)),
        ],
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
