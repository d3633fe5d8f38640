"""What the jobs of a runner may do: few things, and those that build images some more.

A build wants a root of its own for each of its steps. It makes one in a user namespace, which takes two more
capabilities, and a list of system calls that allows such namespaces and mounts in them.
"""

from __future__ import annotations

import json
from typing import Any

from dap.images.builds import DEBIAN_TAG, tags_of
from dap.images.environments import BUILDER
from dap.services.manifest import Service
from dap.site import GITLAB, Site

SECCOMP = "image-builds.seccomp.json"
CA_IN_JOBS = "/etc/dap/ca-certificates.crt"
"""Not the place where distributions have theirs: a job must be able to install and update that."""
_TRUST = f"/etc/ssl/certs/ca-certificates.crt:{CA_IN_JOBS}:ro"
# Where builds take the images from that Dockerfiles begin with.
_REGISTRIES = "registries.conf:/etc/containers/registries.conf:ro"
# Without it they would lie in the container's own layers, on which no others can be stacked.
_LAYERS = "/var/lib/containers"
# What images need that install packages or give files to a user of theirs.
_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID")
_CAPABILITIES_OF_BUILDS = ("SETFCAP", "SYS_CHROOT")
# Whose image jobs run in that name none.
_ENVIRONMENT = "python-r"


def of(site: Site, service: Service, *, builds: bool) -> dict[str, Any]:
    """What the configuration of a runner says of its jobs.

    Args:
        service: the one that runs jobs.
        builds: whether they build images.
    """
    settings = site.platform.runners
    images = tags_of(site.job_environments)
    if builds:
        # The engine takes the list itself, not a file's name. Its profile of AppArmor forbids all mounts.
        profile = json.loads((service.folder / SECCOMP).read_text(encoding="utf-8"))
        return {
            "image": images[BUILDER],
            "allowed_images": [images[BUILDER]],
            "pull_policy": ["if-not-present"],
            "capabilities": sorted([*_CAPABILITIES, *_CAPABILITIES_OF_BUILDS]),
            "security": [f"seccomp={json.dumps(profile, separators=(',', ':'))}", "apparmor=unconfined"],
            "volumes": [
                _TRUST,
                f"{site.platform.paths.root}/{service.name}/config/{_REGISTRIES}",
                _LAYERS,
            ],
        }
    allowed = list(settings.allowed_images)
    if allowed:
        allowed += [*images.values(), *_registries(site)]
    return {
        "image": settings.image or images.get(_ENVIRONMENT, DEBIAN_TAG),
        "allowed_images": allowed,
        "pull_policy": list(settings.pull_policy),
        "capabilities": list(_CAPABILITIES),
        "security": [],
        "volumes": [_TRUST],
    }


def _registries(site: Site) -> list[str]:
    """Patterns of the images that pipelines have built and pushed."""
    if GITLAB not in site.services or not site.platform.runners.image_builds.enabled:
        return []
    webs = [web for web in site.services[GITLAB].manifest.web if web.registry]
    return [f"{site.url(web).partition('://')[2]}/**" for web in webs]
