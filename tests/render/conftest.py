"""The shipped inventories, rendered; and the proxy's image on an engine that the product brought up."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dap.deployment.deploy import Deployment
from dap.deployment.progress import Progress
from dap.images.builds import resolve
from dap.site import load_site
from tests.rendering import Rendered, render


@pytest.fixture(scope="session", params=["local", "example"])
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """A shipped inventory, rendered for its service host."""
    return render(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="session")
def proxy_image(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The proxy's image; Docker is installed and started, and the image built, if they are missing."""
    name = f"dapr{secrets.token_hex(3)}"
    root = Path("/opt") / name
    folder = tmp_path_factory.mktemp("image")
    inventory = folder / "inventories" / name
    (inventory / "group_vars" / "all").mkdir(parents=True)
    settings = {"platform_name": name, "domain": f"{name}.localhost", "paths": {"root": str(root)}}
    (inventory / "group_vars" / "all" / "platform.yml").write_text(yaml.safe_dump(settings))
    hosts = {"service_host": {"hosts": {"localhost": {"ansible_connection": "local"}}}}
    (inventory / "hosts.yml").write_text(yaml.safe_dump(hosts))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DAP_INVENTORIES", str(inventory.parent))
            patch.setenv("DAP_SECRETS", str(folder / "secrets"))
            site = load_site(name)
            Deployment(site, Progress(), "image-build").build_images(["nginx-proxy"])
        references, _ = resolve(site.services)
        yield references["nginx-proxy"]
    finally:
        # The builds' logs are all that is there.
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def schema() -> Path:
    """JSON Schema of the Compose specification, as check-jsonschema ships it."""
    import check_jsonschema

    found = Path(check_jsonschema.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    assert found.is_file()
    return found
