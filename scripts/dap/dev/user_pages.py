"""What users see of their development containers on the platform's page, and what their SSH clients get."""

from __future__ import annotations

from typing import Any

from dap.credentials import PULL_PASSWORD, PULLER, Credentials
from dap.dev import ssh_config
from dap.dev.numbers import numbers_of
from dap.images.distribution import address_of
from dap.images.sharing import shared
from dap.layout import compose_dir
from dap.rendering.templates import render_template
from dap.rendering.tree import File
from dap.services.manifest import Service
from dap.site import Site


def files(site: Site, credentials: Credentials, proxy: Service) -> list[File]:
    """The proxy's files for each who may log in: the page, and what is appended to ``~/.ssh/config``."""
    ports = numbers_of(site).ports
    authority = ssh_config.authority_line(credentials) if site.dev_containers else ""
    images = _images(site, credentials)
    template = compose_dir() / "dev-container" / "users" / "my.html.j2"
    found = {}
    for user in credentials.web_users():
        boxes = [box for box in site.dev_containers if box.user.name == user.name]
        context = {
            "platform": {"name": site.platform.platform_name, "domain": site.platform.domain},
            "user": user.name,
            "images": images,
            "boxes": [
                {
                    "name": box.name,
                    "environment": box.environment,
                    "host": box.host.name,
                    "memory": box.settings.memory,
                    "links": site.page_links(box),
                }
                for box in boxes
            ],
        }
        found[f"my_{user.name}"] = render_template(template, context)
        found[f"ssh_config_{user.name}"] = ssh_config.blocks(site, boxes, ports, authority)
    owner = proxy.manifest.user
    return [File(f"{proxy.name}/live/{name}", text.encode(), "0400", owner) for name, text in found.items()]


def _images(site: Site, credentials: Credentials) -> dict[str, Any]:
    """What a user's own machine pulls of the platform's registry, and how; empty where nothing is shared."""
    images = shared(site)
    if not images:
        return {}
    (registry,) = site.providers("images")
    return {
        "registry": address_of(site),
        "user": PULLER,
        "password": credentials.secret(registry, PULL_PASSWORD).reveal(),
        "shared": [{"name": image.name, "source": image.source} for image in images],
    }
