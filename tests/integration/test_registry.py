"""Images from a registry: through the site's mirror, and never another one under the same tag."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.platform import DeployedPlatform, docker, free_ports
from tests.integration.small import change_settings, remove_own_service

DOCKERFILE = """\
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends docker-registry
ENTRYPOINT ["docker-registry", "serve", "/etc/docker/registry/config.yml"]
"""
MANIFEST = """\
title: Pulled
summary: Runs an image that a registry has
image:
  pull: team/pulled:1
user: 10951
memory: 32m
"""
FRAGMENT = """\
services:
  pulled:
    command: [sleep, infinity]
    healthcheck:
      test: [CMD, "true"]
"""
SECONDS = 30


@pytest.fixture
def registry(platform: DeployedPlatform) -> Iterator[str]:
    """A registry on this machine, empty; its name as Docker takes it."""
    name, port = f"dapt{secrets.token_hex(3)}-registry", free_ports(1)[0]
    build = ["docker", "build", "--quiet", "--build-arg", f"BASE_IMAGE={base_image()}", "-"]
    built = subprocess.run(
        build,
        input=DOCKERFILE,
        env=os.environ | {"DOCKER_BUILDKIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    image = built.stdout.strip()
    try:
        docker(
            *("run", "--detach", "--name", name, "--publish", f"127.0.0.1:{port}:5000"),
            *("--env", "REGISTRY_AUTH=none", "--tmpfs", "/var/lib/docker-registry", image),
        )
        await_answer(f"http://127.0.0.1:{port}/v2/")
        yield f"127.0.0.1:{port}"
    finally:
        docker("rm", "--force", "--volumes", name)
        docker("image", "rm", "--force", image)


def base_image() -> str:
    """The newest of the platform's own base images on the engine."""
    return docker("image", "ls", "dap/debian", "--format", "{{.Repository}}:{{.Tag}}").split()[0]


def await_answer(url: str) -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            with urllib.request.urlopen(url) as answer:  # noqa: S310  on this machine
                assert answer.status == 200
                return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline, f"{url} does not answer"
            time.sleep(0.2)


def publish(registry: str, label: str) -> str:
    """Put an image under the tag that the service wants into the registry; its digest there."""
    reference = f"{registry}/hub/team/pulled:1"
    build = ["docker", "build", "--quiet", "--tag", reference, "--label", f"edition={label}", "-"]
    done = subprocess.run(build, input=f"FROM {base_image()}", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    docker("push", "--quiet", reference)
    digests: list[str] = json.loads(docker("inspect", reference, "--format", "{{json .RepoDigests}}"))
    forget(reference)
    return next(entry.partition("@")[2] for entry in digests if entry.startswith(registry))


def forget(*references: str) -> None:
    """Remove images from the engine, so that they have to be pulled."""
    for reference in references:
        subprocess.run(["docker", "image", "rm", "--force", reference], capture_output=True, check=False)


def test_image_comes_from_the_mirror_and_stays_the_one_it_was(
    platform: DeployedPlatform, registry: str
) -> None:
    folder = platform.inventory / "compose" / "pulled"
    folder.mkdir(parents=True)
    (folder / "service.yml").write_text(MANIFEST, encoding="utf-8")
    (folder / "compose.yaml.j2").write_text(FRAGMENT, encoding="utf-8")
    before = change_settings(platform, mirrors={"registry": f"{registry}/hub"})
    try:
        first = publish(registry, "first")
        assert "image team/pulled:1 pulled" in platform.must("deploy", "--no-verify")
        assert platform.containers()["pulled"]["Config"]["Labels"]["edition"] == "first"
        recorded = json.loads((platform.secrets / "image_digests.json").read_text(encoding="utf-8"))
        assert recorded["team/pulled:1"] == first
        assert platform.deploy() == 0

        second = publish(registry, "second")
        docker("rm", "--force", f"{platform.name}-pulled")
        forget("team/pulled:1", f"{registry}/hub/team/pulled:1")
        done = platform.dap("deploy", "--no-verify")
        assert done.returncode == 1
        assert "image team/pulled:1: the registry now has another image under this tag:" in done.stderr
        assert f"{second}, and {first} was recorded when it was first pulled." in " ".join(
            done.stderr.split()
        )
    finally:
        remove_own_service(platform, "pulled")
        platform.settings_file.write_text(before, encoding="utf-8")
        platform.deploy()
        forget("team/pulled:1", f"{registry}/hub/team/pulled:1")
    assert Path(platform.root, "pulled").exists() is False
