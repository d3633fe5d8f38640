"""Bad input and bad hosts, met with the real program: the whole message, exit code 2, and nothing touched."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from dap.site import load_site
from dap.trust import pem
from dap.trust.certificates import ensure_ca, ensure_leaf
from tests.integration.platform import BIN, DeployedPlatform, docker, free_ports

STRICT_HOST = Path(__file__).parent / "fixtures" / "strict-host"
OFF = {name: {"enabled": False} for name in ("gitlab", "mlflow", "pgadmin")}
CLOSED = "127.0.0.1:9"


@dataclass
class Scratch(DeployedPlatform):
    """An inventory that is never deployed."""

    def write(self, hosts: dict[str, Any] | None = None, **settings: Any) -> None:
        """Write the inventory, with other hosts or settings than those that would do."""
        if not self.inventory.is_dir():
            self.write_inventory()
        written = yaml.safe_load(self.settings_file.read_text(encoding="utf-8"))
        self.settings_file.write_text(yaml.safe_dump({**written, "services": OFF, **settings}), "utf-8")
        if hosts:
            (self.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")

    def add_service(self, name: str, image: dict[str, str], dockerfile: str = "") -> None:
        """Write a service of the operator's own."""
        folder = self.inventory / "compose" / name
        (folder / "image").mkdir(parents=True)
        least = {"title": name, "summary": "Has no image", "image": image, "user": 10950, "memory": "64m"}
        (folder / "service.yml").write_text(yaml.safe_dump(least), encoding="utf-8")
        (folder / "compose.yaml.j2").write_text(f"services: {{{name}: {{}}}}\n", encoding="utf-8")
        (folder / "image" / "Dockerfile").write_text(dockerfile, encoding="utf-8")

    def refused(self, *arguments: str) -> str:
        """What a refusal says. It ends with 2, and leaves nothing behind but its log."""
        before = self.traces()
        done = self.dap(*arguments, timeout=120)
        assert (done.returncode, done.stdout) == (2, ""), done.stdout + done.stderr
        assert self.traces() == before
        return done.stderr.partition("error: ")[2]

    def traces(self) -> dict[str, bytes]:
        """What stands in the secrets folder, besides logs, and whether the host has any of its folders."""
        files = [path for path in self.secrets.rglob("*") if path.is_file() and path.suffix != ".log"]
        here = {str(path): path.read_bytes() for path in files if path.name != ".lock"}
        return here | {str(path): b"" for path in (self.root, self.data) if path.exists()}


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path)


@pytest.fixture(scope="module")
def builds(
    platform: DeployedPlatform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Scratch, subprocess.Popen[str]]]:
    """Two images that cannot be built, tried while the other tests run: a failed network is tried again."""
    scratch = Scratch(tmp_path_factory.mktemp("builds"))
    scratch.write()
    broken = "ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\nRUN echo one line && frobnicate --now\n"
    scratch.add_service("broken", {"build": "1"}, broken)
    scratch.add_service("lonely", {"build": "1"}, f"FROM {CLOSED}/team/base:1\n")
    argv = [str(BIN / "dap"), "image", "build", "broken", "lonely"]
    with subprocess.Popen(argv, env=scratch.environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield scratch, process
        finally:
            process.kill()
    shutil.rmtree(scratch.root, ignore_errors=True)


# --- hosts ---


@pytest.fixture(scope="module")
def strict_host(
    builds: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, Any]]]:
    """A container with an SSH server whose users may not become root; its name, and how to reach it."""
    folder = tmp_path_factory.mktemp("strict")
    name = f"dapstrict{os.getpid()}"
    base = docker("images", "--format", "{{.Repository}}:{{.Tag}}", "dap/debian").split()[0]
    docker("build", "--quiet", "--build-arg", f"BASE_IMAGE={base}", "--tag", name, str(STRICT_HOST))
    try:
        key, known = folder / "key", folder / "known_hosts"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        public = key.with_suffix(".pub").read_text(encoding="utf-8").strip()
        docker(
            "run", "--detach", "--name", name, "--publish", "127.0.0.1::22", "--env", f"KEY={public}", name
        )
        port = int(docker("port", name, "22").splitlines()[0].rpartition(":")[2])
        known.write_text(host_key(port), encoding="utf-8")
        yield (
            name,
            {
                "ansible_host": "127.0.0.1",
                "ansible_port": port,
                "ansible_user": "visitor",
                "ansible_ssh_private_key_file": str(key),
                "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}",
            },
        )
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=False, capture_output=True)
        docker("rmi", name)


def host_key(port: int) -> str:
    """The key of an SSH server, as soon as it answers."""
    argv = ["ssh-keyscan", "-T", "2", "-t", "ed25519", "-p", str(port), "127.0.0.1"]
    for _ in range(50):
        if found := subprocess.run(argv, capture_output=True, text=True, check=False).stdout:
            return found
    raise AssertionError("the SSH server does not answer")


def changes(container: str) -> set[str]:
    """What was written in a container, besides what its own daemons note while it runs."""
    return {line for line in docker("diff", container).splitlines() if not line[2:].startswith("/run")}


def test_hosts_that_cannot_be_worked_on_are_all_told_at_once(
    scratch: Scratch, strict_host: tuple[str, dict[str, Any]]
) -> None:
    container, reach = strict_host
    (free,) = free_ports(1)
    others = {
        "closed": {**reach, "ansible_port": free},
        "nameless": {"ansible_host": "nowhere.invalid"},
        "stranger": {**reach, "ansible_user": "stranger"},
    }
    groups = {"service_host": {"hosts": {"nosudo": reach}}, "runner_hosts": {"hosts": others}}
    scratch.write(groups, listen_address="0.0.0.0")  # noqa: S104 - nothing is started
    before = changes(container)
    told = scratch.refused("deploy")
    hosts_file = scratch.inventory / "hosts.yml"
    port, key = reach["ansible_port"], reach["ansible_ssh_private_key_file"]
    options = f"-i {key} {reach['ansible_ssh_common_args']}"
    assert told == (
        "preflight found 4 errors; nothing was changed:\n"
        f"  closed: connection = visitor@127.0.0.1, port {free}\n"
        f"    cannot be reached: ssh says 'connect to host 127.0.0.1 port {free}: Connection refused'\n"
        f"    start its ssh server, or correct ansible_host or ansible_port below closed in {hosts_file};"
        f" try it with: ssh -p {free} {options} visitor@127.0.0.1\n"
        "  nameless: connection = nowhere.invalid, port 22\n"
        "    cannot be reached: ssh says"
        " 'Could not resolve hostname nowhere.invalid: Name or service not known'\n"
        f"    write ansible_host: <address> below nameless in {hosts_file}, or correct the name;"
        " try it with: ssh nowhere.invalid\n"
        f"  stranger: connection = stranger@127.0.0.1, port {port}\n"
        "    cannot be reached: ssh says 'stranger@127.0.0.1: Permission denied (publickey).'\n"
        "    put your public key on it (ssh-copy-id), or correct ansible_user or"
        f" ansible_ssh_private_key_file below stranger in {hosts_file};"
        f" try it with: ssh -p {port} {options} stranger@127.0.0.1\n"
        f"  nosudo: sudo = visitor@127.0.0.1, port {port}\n"
        "    this user may not become root there, or only with a password\n"
        "    allow it without one in /etc/sudoers.d/, or connect as root (ansible_user: root below nosudo in"
        f" {hosts_file}), or write ansible_become_password there, encrypted with ansible-vault;"
        f" try it with: ssh -p {port} {options} visitor@127.0.0.1 sudo -n true\n"
    )
    assert changes(container) == before


def test_taken_port_says_by_which_process(platform: DeployedPlatform, scratch: Scratch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        scratch.write()
        scratch.write(ports={**scratch.ports, "https": port})
        here = Path("/proc/self/comm").read_text(encoding="utf-8").strip()
        assert scratch.refused("check") == (
            "preflight found 1 error; nothing was changed:\n"
            f"  localhost: port {port} = in use by {here} (pid {os.getpid()})\n"
            f"    nginx-proxy is to be published there (127.0.0.1:{port})\n"
            "    stop that program, or choose another port or listen address in the configuration\n"
        )


def test_name_and_data_of_another_platform_are_left_alone(platform: DeployedPlatform, tmp_path: Path) -> None:
    same_name = Scratch(tmp_path / "name", name=platform.name)
    elsewhere = f"elsewhere{os.getpid()}"
    paths = {"root": f"/opt/{elsewhere}", "data": f"/var/lib/{elsewhere}"}
    same_name.write(paths=paths)
    before = platform.starts()
    done = same_name.dap("deploy")
    assert (done.returncode, done.stderr.partition("error: ")[2]) == (
        2,
        "preflight found 1 error; nothing was changed:\n"
        f"  localhost: platform_name = {platform.name}\n"
        f"    a platform of this name runs from {platform.root}, and {paths['data']} holds nothing of it\n"
        "    write another platform_name, or the paths that it was deployed with\n",
    )
    same_data = Scratch(tmp_path / "data")
    same_data.write(paths={**paths, "data": str(platform.data)})
    identity = (platform.data / ".platform-id").read_text(encoding="utf-8").strip()
    assert same_data.refused("deploy") == (
        "preflight found 1 error; nothing was changed:\n"
        f"  localhost: {platform.data} holds the data of platform {identity}, but the secrets file"
        f" {same_data.secrets}/secrets.yml is missing\n"
        f"    restore {same_data.secrets} from a backup; to give the data up, remove {platform.data} on"
        " localhost\n"
    )
    assert platform.starts() == before
    assert not Path(paths["root"]).exists()


# --- what is wrong here is found before any host is asked ---


def test_expired_authority_is_refused_with_the_way_to_a_new_one(scratch: Scratch) -> None:
    scratch.write()
    authority = ensure_ca(scratch.secrets, scratch.name, "", datetime.now(UTC) - timedelta(days=40 * 365))
    assert scratch.refused("check") == (
        f"{scratch.secrets}/ca.crt expired on {authority.not_after:%Y-%m-%d},"
        " and with it all certificates of the platform\n"
        "  next: make a new CA, which every user has to trust anew: remove ca.crt and ca.key in"
        f" {scratch.secrets}, write ca_fingerprint: '' in {scratch.secrets}/secrets.yml, and deploy\n"
    )


def test_own_certificate_is_refused_with_all_that_is_wrong_with_it(
    scratch: Scratch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is for another name, has expired, comes without its chain, and with the key of another one."""
    made, then = tmp_path / "made", datetime.now(UTC) - timedelta(days=200)
    authority = ensure_ca(made, "Another", "", then)
    leaf = ensure_leaf(authority, made, "site", dns_names=["other.example.com"], lifetime_days=90, now=then)
    scratch.write(tls={"mode": "files", "certificate": "site.pem", "key": "site.key"})
    certificate, key = scratch.inventory / "site.pem", scratch.inventory / "site.key"
    certificate.write_bytes(leaf.certificate_pem.removesuffix(authority.certificate_pem))
    shutil.copy(made / "ca.key", key)
    told = scratch.refused("check")
    monkeypatch.setenv("DAP_INVENTORIES", str(scratch.inventory.parent))
    names = ", ".join(load_site(scratch.name).names)
    issuer = pem.common_name(authority.certificate.subject)
    here = f"  {scratch.settings_file}: tls.certificate = '{certificate}'\n"
    assert told == (
        "4 errors in the configuration; nothing was changed:\n"
        f"{here}    certificate 1 (other.example.com) expired on {leaf.not_after:%Y-%m-%d}\n    renew it\n"
        f"{here}    the certificate does not cover {names}; it is for other.example.com\n"
        "    order one with these alternative names, or with a wildcard\n"
        f"{here}    the chain is incomplete: {issuer} is neither in the file nor a CA that this machine"
        " knows\n"
        f"    add the certificate of {issuer} at the end of the file\n"
        f"  {scratch.settings_file}: tls.key = '{key}'\n"
        "    the key does not belong to the certificate\n"
        "    name the key that the certificate was made for\n"
    )


def test_secrets_that_cannot_be_read_are_refused(scratch: Scratch) -> None:
    scratch.write()
    file = scratch.secrets / "secrets.yml"
    file.mkdir(parents=True)
    assert scratch.refused("check") == (
        f"{file} cannot be read: Is a directory\n"
        "  next: run dap as the user who owns it, or correct its permissions\n"
    )


def test_encrypted_secrets_without_a_password_are_refused(scratch: Scratch, tmp_path: Path) -> None:
    scratch.write()
    file = scratch.secrets / "secrets.yml"
    file.parent.mkdir(parents=True, mode=0o700)
    file.write_text("inventory: team\n", encoding="utf-8")
    password = tmp_path / "password"
    password.write_text("correct horse\n", encoding="utf-8")
    argv = [str(BIN / "ansible-vault"), "encrypt", "--vault-password-file", str(password), str(file)]
    subprocess.run(argv, check=True, capture_output=True)
    assert scratch.refused("deploy") == (
        f"{file} is encrypted with ansible-vault and no password is given\n"
        "  next: set ANSIBLE_VAULT_PASSWORD_FILE to the file that holds the password, or to a program that"
        " prints it\n"
    )


# --- images ---


def test_image_that_cannot_be_pulled_names_it_and_the_settings(
    platform: DeployedPlatform, scratch: Scratch
) -> None:
    scratch.write(mirrors={"registry": CLOSED})
    scratch.add_service("lonely", {"pull": "team/tool:1"})
    assert scratch.refused("check") == (
        "preflight found 1 error; nothing was changed:\n"
        f"  {scratch.settings_file}: services.lonely = team/tool:1\n"
        f"    is an image that localhost neither has nor can pull: {CLOSED} cannot be reached: connection"
        " refused\n"
        "    load it there (docker load), set mirrors.registry or proxy, or write"
        " services.lonely.enabled: auto\n"
    )


def test_failed_builds_show_their_last_lines_and_the_log(
    builds: tuple[Scratch, subprocess.Popen[str]],
) -> None:
    scratch, process = builds
    _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    (log,) = (scratch.secrets / "logs").glob("*-image-build.log")
    logs = scratch.root / "log"
    lines = r"((?:    .*\n)+)"
    told = re.fullmatch(
        r"localhost: 2 images could not be built:\n"
        rf"broken: docker build ended with status 1\n{lines}  log: {logs}/build-broken.log\n"
        rf"lonely: docker build ended with status 1\n{lines}"
        r"  if this host reaches the internet only through a proxy or a mirror, set proxy or mirrors in"
        r" platform\.yml \(docs/how-to/use-mirrors-and-a-proxy\.md\)\n"
        rf"  log: {logs}/build-lonely.log\n"
        r"  next: correct this, then run the same command again\n"
        rf"  log:  {log}\n",
        said.partition("error: ")[2],
    )
    assert told, said
    assert "/bin/sh: 1: frobnicate: not found\n" in told[1]
    assert f"{CLOSED}/team/base:1" in told[2]
    assert "connection refused" in told[2]
    assert "frobnicate" in (logs / "build-broken.log").read_text(encoding="utf-8")
