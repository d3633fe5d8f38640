"""A small platform, whose deploys are quick, and an operator's own tiny service on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from dap.layout import compose_dir
from tests.integration.platform import DeployedPlatform, docker

SERVICES = {"minio", "nginx-proxy", "portal", "postgres-data", "postgres-service", "toolbox"}

MANIFEST = """\
title: Own
summary: The smallest service
image:
  build: "1"
user: 10950
memory: 32m
"""
FRAGMENT = """\
services:
  {name}:
    healthcheck:
      test: [CMD, sh, -c, {health}]
"""
DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${{BASE_IMAGE}}
RUN {build}
USER 10950:10950
CMD ["sh", "-c", "{run}"]
"""


def change_settings(platform: DeployedPlatform, **settings: Any) -> str:
    """Replace settings of the top level; the text of the file as it was before."""
    before = platform.settings_file.read_text(encoding="utf-8")
    changed = yaml.safe_load(before) | settings
    platform.settings_file.write_text(yaml.safe_dump(changed), encoding="utf-8")
    return before


def write_small_inventory(platform: DeployedPlatform) -> None:
    """Write an inventory with databases, object storage, proxy and start page, and nothing else."""
    platform.write_inventory()
    others = {path.parent.name for path in compose_dir().glob("*/service.yml")} - SERVICES
    change_settings(
        platform,
        services={name: {"enabled": False} for name in sorted(others)},
        projects=[{"name": "demo"}],
    )


def write_own_service(
    platform: DeployedPlatform,
    name: str,
    *,
    build: str = "true",
    run: str = "exec sleep infinity",
    health: str = "true",
    more: str = "",
) -> Path:
    """Write an operator's own service; returns its folder.

    Args:
        build: what a step of its image build runs.
        run: what the container runs, a line of shell.
        health: what its healthcheck runs, a line of shell.
        more: further lines of the manifest.
    """
    folder = platform.inventory / "compose" / name
    (folder / "image").mkdir(parents=True)
    (folder / "service.yml").write_text(MANIFEST + more, encoding="utf-8")
    (folder / "compose.yaml.j2").write_text(
        FRAGMENT.format(name=name, health=json.dumps(health)), encoding="utf-8"
    )
    (folder / "image" / "Dockerfile").write_text(DOCKERFILE.format(build=build, run=run), encoding="utf-8")
    return folder


def remove_own_service(platform: DeployedPlatform, name: str) -> None:
    """Remove its folder, container and built images; the next deploy does the rest."""
    shutil.rmtree(platform.inventory / "compose" / name, ignore_errors=True)
    container = f"name=^/{platform.name}-{name}$"
    for box in docker("ps", "--all", "--quiet", "--filter", container).split():
        docker("rm", "--force", box)
    for image in {*docker("image", "ls", "--quiet", "--filter", f"label=dap.image={name}").split()}:
        docker("image", "rm", "--force", image)
