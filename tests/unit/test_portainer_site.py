"""Portainer in a site: off unless asked for, hardened as far as it can be, its secrets in files only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from dap.configuration.inventory import Host
from dap.credentials import Credentials
from dap.errors import ConfigurationError
from dap.provisioning import desired_state, works_after
from dap.site import Site, load_site
from tests.rendering import Rendered, render
from tests.unit.inventories import whole_message
from tests.unit.test_container_rules import completed
from tests.unit.test_container_rules import refused as refused_fragment
from tests.unit.test_manifest import GOOD, load, refused, services, write  # noqa: F401  a fixture

OFF = "off by default: whoever may log in is root on every host, because it holds their Docker sockets"
ONE_HOST = """\
service_host: {hosts: {alpha: {ansible_connection: local}}}
runner_hosts: {hosts: {alpha: {ansible_connection: local}}}
"""
THREE_HOSTS = """\
service_host: {hosts: {alpha: {ansible_host: 192.0.2.1}}}
runner_hosts: {hosts: {beta: {ansible_host: 192.0.2.2}, gamma.example.com: {}}}
"""
BOTH_ON = {"portainer": {"enabled": True}, "portainer-agent": {"enabled": True}}


@pytest.fixture
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an inventory ``team``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAP_INVENTORIES", str(tmp_path / "inventories"))
    monkeypatch.setenv("DAP_SECRETS", str(tmp_path / "stores"))
    folder = tmp_path / "inventories" / "team"
    (folder / "group_vars" / "all").mkdir(parents=True)
    return folder


def written(folder: Path, settings: dict[str, Any], hosts: str = ONE_HOST) -> Site:
    """The site of an inventory with these settings of services."""
    platform = {"domain": "dap.example.com", "services": settings}
    (folder / "group_vars" / "all" / "platform.yml").write_text(yaml.safe_dump(platform))
    (folder / "hosts.yml").write_text(hosts)
    return load_site("team")


def rendered(inventory: Path, tmp_path: Path) -> Rendered:
    written(inventory, BOTH_ON)
    target = tmp_path / "rendered"
    target.mkdir()
    return render("team", target)


def container(rendered: Rendered, service: str) -> dict[str, Any]:
    text = (rendered.folder / service / "compose.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)["services"][service]
    return found


def test_default_site_leaves_it_out_and_says_why(inventory: Path) -> None:
    site = written(inventory, {})
    reasons = {name: reason for name, (_, reason) in site.left_out.items()}
    assert "portainer" not in site.services
    assert reasons["portainer"] == OFF
    assert reasons["portainer-agent"].startswith("off by default: whoever may log in to Portainer is root")
    assert works_after(site)
    assert not works_after(written(inventory, {"gitlab": {"enabled": False}}))


def test_agent_without_the_server_is_refused(inventory: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        written(inventory, {"portainer-agent": {"enabled": True}})
    assert str(caught.value) == whole_message(
        (
            "inventories/team/group_vars/all/platform.yml: services.portainer.enabled",
            "leaves out what portainer-agent needs",
            "write services.portainer.enabled: true, or switch off portainer-agent too",
        )
    )


def test_agents_run_on_runner_hosts_only(inventory: Path) -> None:
    site = written(inventory, BOTH_ON, THREE_HOSTS)
    with_server = [host.name for host in site.inventory.hosts if "portainer" in site.services_on(host)]
    with_agent = [host.name for host in site.inventory.hosts if "portainer-agent" in site.services_on(host)]
    assert (with_server, with_agent) == (["alpha"], ["beta", "gamma.example.com"])


@pytest.mark.parametrize("service", ["portainer", "portainer-agent"])
def test_container_has_just_the_exceptions_it_names(inventory: Path, tmp_path: Path, service: str) -> None:
    box = container(rendered(inventory, tmp_path), service)
    assert box["read_only"] is True
    assert box["cap_drop"] == ["ALL"]
    assert box["security_opt"] == ["no-new-privileges:true"]
    assert not {"cap_add", "privileged", "network_mode", "pid", "ipc", "devices"} & box.keys()
    assert box["mem_limit"] > 0
    assert box["user"] == "0:0"
    sockets = [mount for mount in box["volumes"] if mount["source"].endswith("docker.sock")]
    assert sockets == [
        {
            "type": "bind",
            "source": "/var/run/docker.sock",
            "target": "/var/run/docker.sock",
            "bind": {"create_host_path": False},
        }
    ]


def test_secrets_reach_the_containers_as_files_only(inventory: Path, tmp_path: Path) -> None:
    result = rendered(inventory, tmp_path)
    password = result.store.peek("portainer.admin_password")
    shared = result.store.peek("portainer.agent_secret")
    assert password
    assert shared
    assert result.store.peek("portainer-agent.agent_secret") is None
    files = {file.path: file for file in result.tree.secret_files}
    for service in ("portainer", "portainer-agent"):
        file = files[f"{service}/secrets/agent_secret"]
        assert (file.content.decode(), file.mode, file.owner) == (shared.reveal(), "0400", 0)
        text = (result.folder / service / "compose.yaml").read_text()
        assert shared.reveal() not in text
        assert password.reveal() not in text
    # Without a newline at its end: all of the file is the password.
    assert files["portainer/secrets/admin_password"].content.decode() == password.reveal()


def test_agent_does_not_wait_for_a_server_on_another_host(inventory: Path, tmp_path: Path) -> None:
    assert "depends_on" not in container(rendered(inventory, tmp_path), "portainer-agent")


def environments(site: Site, rendered: Rendered) -> list[tuple[str, str, str]]:
    [server] = desired_state(site, Credentials(site, rendered.store))["portainer"]
    return [(entry["name"], entry["kind"], entry["url"]) for entry in server["environments"]]


def test_every_runner_host_is_an_environment(inventory: Path, tmp_path: Path) -> None:
    result = rendered(inventory, tmp_path)
    settings = BOTH_ON | {"portainer-agent": {"enabled": True, "ports": {"portainer_agent": 19001}}}
    site = written(inventory, settings, THREE_HOSTS)
    assert environments(site, result) == [
        ("local", "socket", ""),
        ("beta", "agent", "tcp://192.0.2.2:19001"),
        ("gamma.example.com", "agent", "tcp://gamma.example.com:19001"),
    ]


def test_agent_beside_the_server_is_asked_on_the_platforms_network(inventory: Path, tmp_path: Path) -> None:
    result = rendered(inventory, tmp_path)
    assert environments(result.site, result) == [
        ("local", "socket", ""),
        ("alpha", "agent", "tcp://portainer-agent:9001"),
    ]
    assert works_after(result.site)


def test_host_that_is_called_local_does_not_take_the_servers_name(inventory: Path, tmp_path: Path) -> None:
    result = rendered(inventory, tmp_path)
    hosts = (Host("local", frozenset({"service_host", "runner_hosts"}), {}),)
    object.__setattr__(result.site.inventory, "hosts", hosts)
    assert [name for name, _, _ in environments(result.site, result)] == ["local", "local (agent)"]


# --- what the model gained for it


@pytest.mark.parametrize(
    "mount",
    [
        "/var/run/docker.sock:/var/run/docker.sock",
        {"type": "bind", "source": "/run/docker.sock", "target": "/run/docker.sock"},
    ],
)
def test_docker_socket_needs_a_reason(mount: str | dict[str, str]) -> None:
    assert refused_fragment({"volumes": [mount]}) == (
        "services/app/compose.yaml.j2: mounts the Docker socket, which makes it root on its host\n"
        "  next: remove the mount, or give the reason in app/service.yml under exceptions.docker_socket"
    )
    box = completed({"volumes": [mount]}, exceptions={"docker_socket": "It lists containers"})
    assert mount in box["volumes"]


def test_other_mounts_need_none() -> None:
    assert "/srv/data:/data" in completed({"volumes": ["/srv/data:/data"]})["volumes"]


def test_shared_secret_of_an_unknown_service_is_refused(services: Path) -> None:  # noqa: F811
    write(services, GOOD + "shared_secrets: {token: mini}\n")
    assert refused(services) == whole_message(
        (
            "services/app/service.yml: shared_secrets.token = (not shown)",
            "is not a service of the platform",
            "did you mean minio?",
        )
    )


def test_shared_secret_that_the_other_service_does_not_have_is_refused(services: Path) -> None:  # noqa: F811
    write(services, GOOD + "shared_secrets: {root_pasword: minio}\n")
    assert refused(services) == whole_message(
        (
            "services/app/service.yml: shared_secrets.root_pasword = minio",
            "has no secret root_pasword",
            "did you mean root_password?",
        )
    )


def test_shared_secret_is_read_from_the_service_that_has_it(services: Path) -> None:  # noqa: F811
    write(services, GOOD + "shared_secrets: {root_password: minio}\n")
    found = load(services)
    assert found["app"].manifest.shared_secrets == {"root_password": "minio"}


def test_shared_secret_has_a_name_that_no_own_secret_has(services: Path) -> None:  # noqa: F811
    write(services, GOOD + "secrets: {root_password: 40}\nshared_secrets: {root_password: minio}\n")
    assert refused(services) == whole_message(
        (
            "services/app/service.yml: shared_secrets.root_password",
            "is the name of one of its own secrets too",
            "write another name there",
        )
    )
