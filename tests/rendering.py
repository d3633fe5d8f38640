"""Renders an inventory into a folder, with real certificates, as a deploy does before it touches a host."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from dap.credentials import Credentials
from dap.hosts.facts import HostFacts
from dap.images import builds as images
from dap.rendering.render import Renderer
from dap.rendering.tree import HostTree
from dap.secrets import SecretStore
from dap.site import Site, load_site
from dap.trust import tls


@dataclass(frozen=True)
class Rendered:
    """A rendered service host.

    Attributes:
        folder: the files as they would lie on the host.
    """

    site: Site
    store: SecretStore
    renderer: Renderer
    tree: HostTree
    folder: Path


def render(inventory: str, folder: Path, facts: HostFacts | None = None) -> Rendered:
    """Render the service host of ``inventory``; secrets are made anew for it."""
    site = load_site(inventory)
    secrets = folder / "secrets"
    secrets.mkdir()
    store = SecretStore.load(secrets, inventory)
    certificates = tls.ensure(site, secrets, store)
    references, _ = images.resolve(site.services)
    renderer = Renderer(site, Credentials(site, store), references, certificates)
    services = site.services_on(site.inventory.service_host).values()
    tree = renderer.tree(services, facts or HostFacts(memory_mib=16000, cpus=4))
    return Rendered(site, store, renderer, tree, write(tree, folder / "root"))


def write(tree: HostTree, folder: Path) -> Path:
    """Write the files of ``tree``; they belong to whoever runs the test."""
    shutil.rmtree(folder, ignore_errors=True)
    for file in [*tree.files, *tree.secret_files]:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        # A container's user has to read them here, whoever runs the test.
        path.chmod(0o444)
    return folder
