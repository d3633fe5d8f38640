"""The image that stands in for ``gitlab/gitlab-ce``, built where it is missing."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

FIXTURE = Path(__file__).parent / "fixtures" / "gitlab" / "image"
KEYS = Path(__file__).parents[1] / "unit" / "recorded" / "gitlab_keys_19.3.0.txt"


def stand_in(base: str) -> str:
    """The reference of the image.

    Args:
        base: the platform's own base image, which has to be on the engine.
    """
    files = [*sorted(FIXTURE.iterdir()), KEYS]
    digest = hashlib.sha256(base.encode() + b"".join(path.read_bytes() for path in files)).hexdigest()
    reference = f"dapt/gitlab-ce:{digest[:12]}"
    there = subprocess.run(["docker", "image", "inspect", reference], capture_output=True, check=False)
    if there.returncode == 0:
        return reference
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder) / "context"
        shutil.copytree(FIXTURE, context)
        shutil.copy(KEYS, context / "keys.txt")
        done = subprocess.run(
            ["docker", "build", "--tag", reference, "--build-arg", f"BASE_IMAGE={base}", str(context)],
            env=os.environ | {"DOCKER_BUILDKIT": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return reference
