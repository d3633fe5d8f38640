"""What tests with containers start from, by the product: a running engine and the platform's base image."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from dap.images import builds as images
from dap.layout import compose_dir
from dap.services.manifest import find_folders, load_services
from tests.conftest import engine_answers
from tests.integration.platform import DeployedPlatform
from tests.side_by_side import give_way


def start_engine(folder: Path) -> str:
    """Start an engine if none runs, and build the base image if it is missing; the image's tag."""
    _, builds = images.resolve(load_services(find_folders([compose_dir()])))
    base = builds[0].tag
    if not engine_answers() or not _has(base):
        starter = DeployedPlatform(folder)
        starter.write_inventory()
        try:
            starter.must("image", "build", "nginx-proxy")
        finally:
            shutil.rmtree(starter.root, ignore_errors=True)
    give_way()
    return base


def _has(image: str) -> bool:
    found = subprocess.run(["docker", "image", "inspect", image], capture_output=True, check=False)
    return found.returncode == 0
