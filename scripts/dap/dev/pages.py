"""The pages of development containers: what the proxy and the containers know each other by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dap.credentials import Credentials, stable_bcrypt
from dap.dev.containers import DevContainer, page_of
from dap.dev.numbers import numbers_of
from dap.rendering.tree import File
from dap.services import container
from dap.services.manifest import Service
from dap.site import Site
from dap.trust.page import PageKey

PORT = 8888


def page_key_of(site: Site, credentials: Credentials, box: DevContainer) -> PageKey:
    """What the page of a container shows who it is with, and what opens it."""
    return PageKey(credentials.stored(page_of(box.name)), site.page_host(box))


def context(site: Site, credentials: Credentials) -> dict[str, Any]:
    """What the proxy's secret templates see of all pages."""
    ports = numbers_of(site).pages
    return {
        "pages": [
            {
                "name": box.name,
                "host": site.page_host(box),
                "user": box.user.name,
                "upstream": _upstream(site, box, ports),
                "token": page_key_of(site, credentials, box).token.reveal(),
            }
            for box in site.dev_containers
            if site.has_page(box)
        ]
    }


def _upstream(site: Site, box: DevContainer, ports: Mapping[str, int]) -> str:
    """Where the proxy reaches a page: in the network that both are in, or on the container's host."""
    if box.name in ports:
        return f"{box.host.variables.get('ansible_host', box.host.name)}:{ports[box.name]}"
    return f"{container.dev_network(site.platform.platform_name)}-{box.name}:{PORT}"


def files(site: Site, credentials: Credentials, proxy: Service) -> list[File]:
    """The proxy's further files: whom it lets in to each page, and which containers it believes."""
    boxes = [box for box in site.dev_containers if site.has_page(box)]
    names = {box.user.name for box in boxes}
    found = {
        f"htpasswd_{user.name}": f"{user.name}:{stable_bcrypt(user.password.reveal(), user.name)}\n".encode()
        for user in credentials.web_users()
        if user.name in names
    }
    if boxes:
        found["pages.crt"] = b"".join(page_key_of(site, credentials, box).certificate for box in boxes)
    owner = proxy.manifest.user
    return [File(f"{proxy.name}/live/{name}", content, "0400", owner) for name, content in found.items()]
