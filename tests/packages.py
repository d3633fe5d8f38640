"""Tools of the distribution that tests run, installed if they are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

LISTS_SECONDS = 120


def installed(command: str, package: str) -> Path:
    """The path of ``command``, from the Debian package ``package`` if there is none."""
    if shutil.which(command) is None:
        apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        prefix = [] if os.geteuid() == 0 else ["sudo", "-n", "-E"]
        for _ in range(LISTS_SECONDS):
            update = [*prefix, *apt, "update", "-qq"]
            done = subprocess.run(update, check=False, env=environment, capture_output=True, text=True)
            # apt waits for whoever installs packages, and not for whoever reads their lists.
            if "Could not get lock" not in done.stderr:
                break
            time.sleep(1)
        subprocess.run(
            [*prefix, *apt, "install", "-y", "-qq", "--no-install-recommends", package],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
        )
    found = shutil.which(command)
    assert found, f"{package} brings no {command}"
    return Path(found)
