"""Portainer on a small platform of its own, on one machine that is service host and runner host.

Its images cannot be had everywhere, so a stand-in with the same contract takes their place, by the setting
that operators have for it too.
"""

from __future__ import annotations

import datetime
import json
import secrets
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from playwright.sync_api import Browser, expect

from dap.layout import compose_dir
from tests.integration.platform import DeployedPlatform, docker, free_ports

IMAGE = Path(__file__).parent / "fixtures" / "portainer" / "image"
NEEDED = {"nginx-proxy", "portal", "toolbox"}
PORTAINER = ("portainer", "portainer-agent")


class PortainerPlatform(DeployedPlatform):
    """A platform without what Portainer does not need."""

    agent_port = 0
    first_summary = ""

    def configure(self, **portainer: Any) -> None:
        """Write the settings, with these of the two services of Portainer."""
        settings = yaml.safe_load(self.settings_file.read_text())
        others = [path.parent.name for path in compose_dir().glob("*/service.yml")]
        off = {name: {"enabled": False} for name in others if name not in {*NEEDED, *PORTAINER}}
        settings["services"] = off | portainer
        settings.pop("projects", None)
        self.settings_file.write_text(yaml.safe_dump(settings))

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of Portainer's answer, through the proxy."""
        context = ssl.create_default_context(cafile=str(self.ca_file))
        return _ask(f"{self.url('portainer')}{path}", method, body, headers, context)

    @property
    def password(self) -> str:
        """The administrator's password, as the store has it."""
        store = yaml.safe_load((self.secrets / "secrets.yml").read_text(encoding="utf-8"))
        return str(store["values"]["portainer.admin_password"])

    def log_in(self, password: str) -> tuple[int, str]:
        """Status and token."""
        status, answer = self.ask("POST", "/api/auth", {"username": "admin", "password": password})
        return status, str(answer.get("jwt", ""))

    def environments(self, password: str) -> list[tuple[str, str, int]]:
        _, token = self.log_in(password)
        status, found = self.ask("GET", "/api/endpoints", Authorization=f"Bearer {token}")
        assert status == 200
        return [(entry["Name"], entry["URL"], entry["Status"]) for entry in found]


def _ask(
    url: str, method: str, body: Any, headers: dict[str, str], context: ssl.SSLContext | None = None
) -> tuple[int, Any]:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=content, method=method, headers=headers)  # noqa: S310
    try:
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:  # noqa: S310
            status, said = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, said = error.code, error.read()
    try:
        return status, json.loads(said)
    except ValueError:
        return status, said.decode()


def certificate() -> bytes:
    """Key and self-signed certificate in one PEM file, for the stand-in of the agent."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "agent")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return plain + made.public_bytes(pem)


@pytest.fixture(scope="module")
def platform(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PortainerPlatform]:
    """First deployed as it is by default, without Portainer, and then with it."""
    folder = tmp_path_factory.mktemp("portainer")
    deployed = PortainerPlatform(folder, name=f"dapp{secrets.token_hex(3)}")
    image = f"{deployed.name}/portainer-stand-in:1"
    deployed.write_inventory()
    hosts = {"hosts": {"localhost": {"ansible_connection": "local"}}}
    (deployed.inventory / "hosts.yml").write_text(
        yaml.safe_dump({"service_host": hosts, "runner_hosts": hosts})
    )
    try:
        deployed.configure()
        deployed.first_summary = deployed.must("deploy", "--no-verify")
        context = folder / "image"
        shutil.copytree(IMAGE, context)
        (context / "stand_in.pem").write_bytes(certificate())
        # The portal's image has Python and nothing else of its own.
        base = deployed.containers()["portal"]["Config"]["Image"]
        docker("build", "--quiet", "--build-arg", f"BASE_IMAGE={base}", "--tag", image, str(context))
        [deployed.agent_port] = free_ports(1)
        agent = {"enabled": True, "image": image, "ports": {"portainer_agent": deployed.agent_port}}
        deployed.configure(portainer={"enabled": True, "image": image}, **{"portainer-agent": agent})
        deployed.must("deploy")
        yield deployed
    finally:
        deployed.remove()
        subprocess.run(["docker", "image", "rm", "--force", image], capture_output=True, check=False)


def test_default_deployment_has_none_and_says_why(platform: PortainerPlatform) -> None:
    left_out = [line for line in platform.first_summary.splitlines() if line.startswith("Left out:")]
    assert (
        "Left out:      portainer (off by default: whoever may log in is root on every host, because it holds"
        " their Docker sockets)"
    ) in left_out
    assert any(line.startswith("Left out:      portainer-agent (off by default: ") for line in left_out)


def test_second_deploy_changes_nothing(platform: PortainerPlatform) -> None:
    assert platform.deploy() == 0


def test_generated_password_opens_every_host_of_the_platform(platform: PortainerPlatform) -> None:
    user, password = platform.login("Portainer")
    assert user == "admin"
    assert platform.environments(password) == [
        ("local", "unix:///var/run/docker.sock", 1),
        ("localhost", "tcp://portainer-agent:9001", 1),
    ]


def test_nobody_can_take_over_the_first_setup(platform: PortainerPlatform) -> None:
    stranger = {"Username": "admin", "Password": "first-come-first-served"}
    for path in ("/api/users/admin/init", "/api/restore"):
        assert platform.ask("POST", path, stranger)[0] == 403
    networks = platform.containers()["portainer"]["NetworkSettings"]["Networks"]
    [address] = [network["IPAddress"] for network in networks.values()]
    status, answer = _ask(f"http://{address}:9000/api/users/admin/init", "POST", stranger, {})
    assert (status, answer["details"]) == (409, "An administrator user already exists")


def test_page_lets_its_administrator_in(platform: PortainerPlatform, browser: Browser) -> None:
    page = browser.new_context(ignore_https_errors=True).new_page()
    page.goto(platform.url("portainer"))
    page.locator("#username").fill("admin")
    page.locator("#password").fill("not-the-password")
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_text("Invalid credentials")).to_be_visible()
    page.locator("#password").fill(platform.password)
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_text("localhost", exact=True)).to_be_visible()


def test_agent_obeys_only_who_knows_the_secret(platform: PortainerPlatform) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    agent = f"https://127.0.0.1:{platform.agent_port}"
    assert _ask(f"{agent}/ping", "GET", None, {}, context)[0] == 204
    assert _ask(f"{agent}/info", "GET", None, {"X-PortainerAgent-Signature": "guessed"}, context)[0] == 403


def test_secrets_are_in_their_files_only(platform: PortainerPlatform) -> None:
    store = yaml.safe_load((platform.secrets / "secrets.yml").read_text(encoding="utf-8"))["values"]
    values = [store["portainer.admin_password"], store["portainer.agent_secret"]]
    boxes = platform.containers()
    processes = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True)
    places = {"processes": processes.stdout}
    for name in PORTAINER:
        container = f"{platform.name}-{name}"
        logs = subprocess.run(["docker", "logs", container], capture_output=True, text=True, check=True)
        places[f"inspect of {name}"] = json.dumps(boxes[name])
        places[f"log of {name}"] = logs.stdout + logs.stderr
    for log in (platform.secrets / "logs").glob("*.log"):
        places[log.name] = log.read_text()
    assert [place for place, text in places.items() if any(value in text for value in values)] == []
    for name in PORTAINER:
        kept = (platform.root / name / "secrets" / "agent_secret").read_text()
        assert kept == store["portainer.agent_secret"]


def test_containers_are_as_closed_as_they_can_be(platform: PortainerPlatform) -> None:
    boxes = platform.containers()
    for name in PORTAINER:
        settings = boxes[name]["HostConfig"]
        assert settings["ReadonlyRootfs"] is True
        assert (settings["CapDrop"], settings["CapAdd"]) == (["ALL"], None)
        assert settings["SecurityOpt"] == ["no-new-privileges:true"]
        assert settings["Privileged"] is False
        assert boxes[name]["State"]["Health"]["Status"] == "healthy"
    assert boxes["portainer"]["HostConfig"]["PortBindings"] in ({}, None)
    assert boxes["portainer-agent"]["HostConfig"]["PortBindings"] == {
        "9001/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(platform.agent_port)}]
    }


def test_rotated_password_takes_the_place_of_the_old_one(platform: PortainerPlatform) -> None:
    old = platform.password
    before = platform.containers()["portainer"]["Id"]
    platform.must("rotate", "portainer.admin_password", "--no-verify")
    new = platform.password
    assert new != old
    assert platform.log_in(old)[0] == 422
    assert len(platform.environments(new)) == 2
    assert platform.containers()["portainer"]["Id"] == before


def test_environment_that_went_missing_comes_back(platform: PortainerPlatform) -> None:
    _, token = platform.log_in(platform.password)
    assert platform.ask("DELETE", "/api/endpoints/2", Authorization=f"Bearer {token}")[0] == 204
    assert [name for name, _, _ in platform.environments(platform.password)] == ["local"]
    said = platform.must("deploy", "--no-verify")
    assert said.startswith("1 change\n  localhost: portainer: environment localhost added\n")
    assert [name for name, _, _ in platform.environments(platform.password)] == ["local", "localhost"]
