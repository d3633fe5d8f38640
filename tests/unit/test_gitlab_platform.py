"""What the platform makes of GitLab's manifest: limits, names for Docker, and what the proxy refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from dap.hosts.facts import HostFacts
from dap.services import container
from dap.services.manifest import Service
from tests.rendering import Rendered, render
from tests.unit.platforms import service_of, site_of

GIB = 1024**3


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    return render("local", tmp_path_factory.mktemp("local"), HostFacts(memory_mib=7900, cpus=2))


def proxy(rendered: Rendered, host: str) -> str:
    """The server block of a name."""
    configuration = (rendered.folder / "nginx-proxy/config/nginx.conf").read_text()
    (block,) = [part for part in configuration.split("    server {\n") if f"server_name {host};" in part]
    return block


@pytest.mark.parametrize(
    ("memory_mib", "limit"), [(4000, 4 * GIB), (7900, 4 * GIB), (16000, 6400 * 1024**2), (64000, 25 * GIB)]
)
def test_share_of_the_memory_is_never_less_than_the_service_needs(memory_mib: int, limit: int) -> None:
    service = service_of("gitlab", memory="40%", minimum_memory="4g")
    assert container.memory_limit(site_of(service), service, HostFacts(memory_mib, 2)) == limit


def test_configured_memory_is_taken_as_it_is() -> None:
    service = service_of("gitlab", memory="40%", minimum_memory="4g")
    site = site_of(service, services={"gitlab": {"memory": "3g"}})
    assert container.memory_limit(site, service, HostFacts(64000, 2)) == 3 * GIB


def registry(name: str = "registry") -> Service:
    page = {"port": 80, "access": "own"}
    pages = [{"name": name, "registry": True, **page}, {"name": "pages", **page}]
    return service_of("forge", web=pages)


def test_registries_are_named_as_docker_names_them() -> None:
    assert site_of(registry()).registries == ["registry.dap.example.com"]
    assert site_of(registry(), ports={"https": 8443}).registries == ["registry.dap.example.com:8443"]
    assert site_of(service_of("plain")).registries == []


def test_gitlabs_own_registry_is_one(rendered: Rendered) -> None:
    assert rendered.site.registries == ["gitlab-registry.dap.localhost"]


def refused(block: str, path: str) -> bool:
    """Whether a server block answers a path with 403."""
    rules: list[str] = re.findall(r"location ~ (\S+) \{\s+return 403;", block)
    assert rules
    return any(re.search(rule, path) for rule in rules)


@pytest.mark.parametrize(
    "path", ["/users", "/users/", "/users.json", "/users.", "/users/sign_up", "/users/sign_up.html"]
)
def test_proxy_refuses_signing_up(rendered: Rendered, path: str) -> None:
    assert refused(proxy(rendered, "gitlab.dap.localhost"), path)


@pytest.mark.parametrize(
    "path", ["/users/sign_in", "/users/password/new", "/users/ada/groups", "/usersguide", "/team/users"]
)
def test_proxy_lets_other_pages_pass(rendered: Rendered, path: str) -> None:
    assert not refused(proxy(rendered, "gitlab.dap.localhost"), path)


@pytest.mark.parametrize("name", ["gitlab", "gitlab-registry"])
def test_proxy_passes_git_and_images_of_any_size_on_at_once(rendered: Rendered, name: str) -> None:
    block = proxy(rendered, f"{name}.dap.localhost")
    assert "client_max_body_size 0;" in block
    assert "proxy_request_buffering off;" in block
    assert "http2 off;" in block
    assert "proxy_set_header X-Forwarded-Ssl on;" in block
    assert "http2 on;" in proxy(rendered, "dap.localhost")


def test_healthcheck_gives_the_first_start_twenty_minutes(rendered: Rendered) -> None:
    service = yaml.safe_load((rendered.folder / "gitlab/compose.yaml").read_text())["services"]["gitlab"]
    assert service["healthcheck"]["start_period"] == "1200s"
    script = service["healthcheck"]["test"][2].removeprefix("/etc/dap/")
    assert Path(rendered.folder / "gitlab/config" / script).is_file()
    marker = service["environment"]["GITLAB_POST_RECONFIGURE_SCRIPT"].removeprefix("touch ")
    assert marker in (rendered.folder / "gitlab/config" / script).read_text()


def test_no_secret_is_in_the_environment(rendered: Rendered) -> None:
    text = (rendered.folder / "gitlab/compose.yaml").read_text()
    values = [secret.reveal() for secret in rendered.store.all_values().values()]
    assert len(values) > 8
    assert [value for value in values if value in text] == []
