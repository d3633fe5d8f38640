"""Every rendered Compose file keeps the container rules, whatever the services, settings and sizes of hosts.

The checker (`tests.container_rules`) shares nothing with the code that applies the rules; manifests and
settings are read here as plain YAML.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dap.credentials import Credentials
from dap.hosts.facts import HostFacts
from dap.images import builds as images
from dap.layout import compose_dir, inventories_dir
from dap.rendering.render import Renderer
from dap.secrets import SecretStore
from dap.site import load_site
from dap.trust import tls
from tests.container_rules import broken

SERVICES = sorted(path.parent.name for path in compose_dir().glob("*/service.yml"))
SIZES = {
    "small": HostFacts(memory_mib=2048, cpus=1),
    "usual": HostFacts(memory_mib=16000, cpus=4),
    "large": HostFacts(memory_mib=1024 * 1024, cpus=256),
}
ONE_HOST = {"service_host": {"hosts": {"localhost": {"ansible_connection": "local"}}}}
THREE_HOSTS = {
    "service_host": {"hosts": {"main": {"ansible_host": "192.0.2.10"}}},
    "runner_hosts": {"hosts": {"one": {"ansible_host": "192.0.2.11"}, "two": {"ansible_host": "192.0.2.12"}}},
}
EVERYTHING = {
    "domain": "dap.example.com",
    "listen_address": "192.0.2.10",
    "projects": [{"name": "demo"}],
    "services": {name: {"enabled": True} for name in SERVICES},
}
LIMITS = {
    **EVERYTHING,
    "platform_name": "lab",
    "paths": {"root": "/srv/lab/root", "data": "/srv/lab/data"},
    "ports": {"http": 8080, "https": 8443, "postgres": 15432},
    "services": {
        name: {"enabled": True, "memory": "300m", "cpus": 0.5, "pids": 99, "environment": {"A": "b"}}
        for name in SERVICES
    },
    "extra_hosts": {"git.example.com": "192.0.2.20"},
    "proxy": {"https": "http://proxy.example.com:3128"},
}
INVENTORIES: dict[str, tuple[dict[str, Any], dict[str, Any]] | None] = {
    "local": None,
    "example": None,
    "everything": (EVERYTHING, ONE_HOST),
    "everything-on-three-hosts": (EVERYTHING, THREE_HOSTS),
    "other-limits": (LIMITS, ONE_HOST),
}


@dataclass(frozen=True)
class Rendering:
    """What the hosts of an inventory get.

    Attributes:
        files: host and service to the content of its Compose file.
        settings: the operator's, as written.
    """

    files: dict[tuple[str, str], dict[str, Any]]
    settings: dict[str, Any]

    def services(self) -> Iterator[tuple[tuple[str, str], dict[str, Any], dict[str, Any]]]:
        """Every service of every host: where it is, its part of the Compose file, its manifest."""
        for (host, name), document in self.files.items():
            yield (host, name), document["services"][name], manifest_of(name)


def manifest_of(name: str) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load((compose_dir() / name / "service.yml").read_text("utf-8"))
    return manifest


def rendering_of(inventory: str, size: str, folder: Path) -> Rendering:
    """Render an inventory for all its hosts."""
    written = INVENTORIES[inventory]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAP_SECRETS", str(folder / "secrets"))
        if written:
            patch.setenv("DAP_INVENTORIES", str(folder))
            settings, hosts = written
            (folder / inventory / "group_vars" / "all").mkdir(parents=True)
            (folder / inventory / "hosts.yml").write_text(yaml.safe_dump(hosts), "utf-8")
            file = folder / inventory / "group_vars" / "all" / "platform.yml"
            file.write_text(yaml.safe_dump(settings), "utf-8")
        else:
            file = inventories_dir() / inventory / "group_vars" / "all" / "platform.yml"
        site = load_site(inventory, reconsider=True)
        secrets = folder / "secrets" / inventory
        secrets.mkdir(parents=True)
        store = SecretStore.load(secrets, inventory)
        references, _ = images.resolve(site.services)
        renderer = Renderer(site, Credentials(site, store), references, tls.ensure(site, secrets, store))
        files = {}
        for host in site.inventory.hosts:
            tree = renderer.tree(site.services_on(host).values(), SIZES[size], host=host)
            contents = {file.path: file.content for file in tree.files}
            for name in tree.services:
                files[host.name, name] = yaml.safe_load(contents[f"{name}/compose.yaml"])
    return Rendering(files, yaml.safe_load(file.read_text("utf-8")))


@pytest.fixture(scope="module", params=[(name, size) for name in INVENTORIES for size in SIZES], ids="-".join)
def rendering(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendering:
    """An inventory, rendered for hosts of one size."""
    inventory, size = request.param
    return rendering_of(inventory, size, tmp_path_factory.mktemp("rules"))


def expected_ports(name: str, manifest: dict[str, Any], settings: dict[str, Any]) -> set[tuple[str, int]]:
    """Address and number of every port that the manifest declares, where the settings put it."""
    usual = {"http": 80, "https": 443, "postgres": 5432, "ssh": 2222} | settings.get("ports", {})
    address = settings.get("listen_address", "0.0.0.0")  # noqa: S104 - compared, not bound
    own = settings.get("services", {}).get(name, {}).get("ports", {})
    return {
        (address, own.get(port["name"]) or usual.get(port["name"]) or port["container"])
        for port in manifest.get("ports", [])
    }


def test_every_service_keeps_every_rule_or_its_manifest_says_why_not(rendering: Rendering) -> None:
    data = rendering.settings.get("paths", {}).get("data", "/var/lib/dap")
    found = {}
    for place, service, manifest in rendering.services():
        known = {
            "x-name": place[1],
            "x-data": data,
            "x-ports": expected_ports(place[1], manifest, rendering.settings),
            "x-job": manifest.get("provides") == "jobs",
        }
        if faults := broken({**service, **known}, manifest.get("exceptions", {})):
            found[place] = faults
    assert found == {}


def test_a_compose_file_holds_one_service_and_users_see_those_with_public_names_only(
    rendering: Rendering,
) -> None:
    network = rendering.settings.get("platform_name", "dap")
    assert len(rendering.files) >= 7
    alone = len({host for host, _ in rendering.files}) == 1
    for place, document in rendering.files.items():
        assert set(document) <= {"services", "networks", "secrets"}, place
        assert list(document["services"]) == [place[1]]
        with_jobs = (place[0], "gitlab-runner") in rendering.files
        jobs = {"jobs": {"name": f"{network}-jobs"}} if with_jobs else {}
        # Development containers are on runner hosts, and on a machine that is alone.
        dev = {"dev": {"name": f"{network}-dev"}} if alone else {}
        assert document["networks"] == {"default": {"name": network}, **jobs, **dev}, place
        public = place[1] in ("nginx-proxy", "postgres-data")
        found = document["services"][place[1]]["networks"]
        in_jobs = with_jobs and (public or place[1] == "gitlab-runner")
        assert list(found) == ["default", *["jobs"] * in_jobs, *["dev"] * (alone and public)], place
        # Inside it has no other names than outside.
        for other in ("jobs", "dev"):
            assert place[1] not in found.get(other, {}).get("aliases", [])


def test_a_service_is_given_its_own_secret_files_only(rendering: Rendering) -> None:
    for place, document in rendering.files.items():
        for name, secret in document.get("secrets", {}).items():
            assert name.startswith(f"{place[1]}_"), place
            assert list(secret) == ["file"] and secret["file"].startswith("./secrets/"), place


def test_limits_are_the_operators_where_there_are_any(tmp_path: Path) -> None:
    rendering = rendering_of("other-limits", "usual", tmp_path)
    limits = {
        (service["mem_limit"], service["pids_limit"], service["cpus"])
        for _, service, _ in rendering.services()
    }
    assert limits == {(300 * 1024 * 1024, 99, 0.5)}


def test_every_service_of_the_product_is_looked_at(tmp_path: Path) -> None:
    rendering = rendering_of("everything-on-three-hosts", "usual", tmp_path)
    assert {name for _, name in rendering.files} == set(SERVICES)
    assert {host for host, _ in rendering.files} == {"main", "one", "two"}
