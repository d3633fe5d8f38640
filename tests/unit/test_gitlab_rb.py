"""What GitLab is configured with, as Ruby reads it and against the keys that its versions know."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dap.hosts.facts import HostFacts
from tests.packages import installed
from tests.rendering import Rendered, render

RECORDER = Path(__file__).parents[1] / "gitlab_double/image/gitlab_rb.rb"
KEYS = Path(__file__).parent / "recorded/gitlab_keys_19.3.0.txt"
CHANGES_OF_19_2 = Path(__file__).parent / "recorded/gitlab_keys_19.2.4.txt"
VERSIONS = {"19.3.0": [KEYS], "19.2.4": [KEYS, CHANGES_OF_19_2]}

SMALL = HostFacts(memory_mib=7900, cpus=2)
MIDDLE = HostFacts(memory_mib=15900, cpus=4)
LARGE = HostFacts(memory_mib=64000, cpus=32)

Settings = dict[str, Any]
Renderings = dict[int, Rendered]


@pytest.fixture(scope="session")
def ruby() -> Path:
    return installed("ruby", "ruby")


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Renderings:
    return {
        facts.memory_mib: render("local", tmp_path_factory.mktemp("host"), facts)
        for facts in (SMALL, MIDDLE, LARGE)
    }


class Machine:
    """A folder that stands for the container's root."""

    def __init__(self, folder: Path, ruby: Path, renderings: Renderings) -> None:
        self.folder, self.ruby, self.renderings = folder, ruby, renderings
        self.be(SMALL)

    def be(self, facts: HostFacts) -> None:
        """Have what a host of this size gets, with the paths of the container below this folder."""
        self.rendered = self.renderings[facts.memory_mib]
        text = (self.rendered.folder / "gitlab/config/gitlab.rb").read_text()
        for path in ("/run/secrets", "/run/trust", "/etc/gitlab"):
            (self.folder / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            text = text.replace(f"'{path}", f"'{self.folder}{path}")
        for source, target in {"secrets": "run/secrets", "trust": "run/trust"}.items():
            link = self.folder / target
            link.unlink(missing_ok=True)
            link.symlink_to(self.rendered.folder / "gitlab" / source)
        self.file = self.folder / "gitlab.rb"
        self.file.write_text(text)

    def evaluate(self, version: str = "19.3.0") -> subprocess.CompletedProcess[str]:
        command = [str(self.ruby), str(RECORDER), str(self.file), *map(str, VERSIONS[version])]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def settings(self) -> Settings:
        done = self.evaluate()
        assert done.returncode == 0, done.stderr
        settings: Settings = json.loads(done.stdout)
        return settings

    @property
    def trusted(self) -> dict[str, str]:
        """The trusted certificates in GitLab's own folder."""
        folder = self.folder / "etc/gitlab/trusted-certs"
        return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.fixture
def machine(ruby: Path, tmp_path: Path, rendered: Renderings) -> Machine:
    return Machine(tmp_path, ruby, rendered)


@pytest.mark.parametrize("facts", [SMALL, MIDDLE, LARGE], ids=["small", "middle", "large"])
def test_configuration_is_ruby_without_a_warning(machine: Machine, facts: HostFacts) -> None:
    machine.be(facts)
    done = subprocess.run([machine.ruby, "-wc", machine.file], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Syntax OK\n", "")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("facts", [SMALL, MIDDLE, LARGE], ids=["small", "middle", "large"])
def test_gitlab_knows_every_key_that_is_set(machine: Machine, facts: HostFacts, version: str) -> None:
    machine.be(facts)
    done = machine.evaluate(version)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)) > 8


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mattermost['enable'] = false", "Removed configurations found in gitlab.rb: mattermost"),
        ("gitlab_rail['time_zone'] = 'UTC'", "gitlab_rail is no setting of GitLab"),
        ("gitlab_rails['timezone'] = 'UTC'", "GitLab does not know gitlab_rails.timezone"),
        (
            "gitlab_rails['object_store']['objects']['lsf']['bucket'] = 'x'",
            "GitLab does not know gitlab_rails.object_store.objects.lsf.bucket",
        ),
        ("registry['nginx']['listen_prot'] = 80", "GitLab does not know registry.nginx.listen_prot"),
    ],
)
def test_key_that_gitlab_does_not_know_is_noticed(machine: Machine, line: str, message: str) -> None:
    machine.file.write_text(f"{machine.file.read_text()}\n{line}\n")
    done = machine.evaluate()
    assert (done.returncode, done.stderr) == (1, f"gitlab.rb: {message}\n")


def test_addresses_are_the_proxys_and_tls_ends_there(machine: Machine) -> None:
    settings = machine.settings()
    assert settings["external_url"] == "https://gitlab.dap.localhost"
    assert settings["registry_external_url"] == "https://gitlab-registry.dap.localhost"
    assert settings["letsencrypt"] == {"enable": False}
    assert settings["gitlab_rails"]["gitlab_shell_ssh_port"] == 2222
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Ssl": "on"}
    for part in ("gitlab_rails", "registry"):
        nginx = settings[part]["nginx"]
        assert (nginx["listen_port"], nginx["listen_https"]) == (80, False)
        assert nginx["proxy_set_headers"] == headers


def test_every_type_of_object_has_a_bucket_that_the_manifest_asks_for(machine: Machine) -> None:
    settings = machine.settings()
    objects = settings["gitlab_rails"]["object_store"]["objects"]
    used = {entry["bucket"] for entry in objects.values()} | {
        settings["registry"]["storage"]["s3_v2"]["bucket"]
    }
    manifest = machine.rendered.site.services["gitlab"].manifest
    assert used == {bucket.name for bucket in manifest.buckets}
    assert len(used) == len(objects) + 1
    keys = KEYS.read_text()
    known = {word.split(".")[2] for word in keys.split() if word.startswith("object_store.objects.")}
    assert set(objects) == known


def test_logins_come_from_the_secret_files_and_stand_in_no_open_one(machine: Machine) -> None:
    settings = machine.settings()
    credentials = machine.rendered.renderer.credentials
    service = machine.rendered.site.services["gitlab"]
    key = credentials.bucket_key(service)
    assert key
    password = credentials.secret(service, "root_password").reveal()
    assert len(password) >= 20
    assert settings["gitlab_rails"]["initial_root_password"] == password
    connection = settings["gitlab_rails"]["object_store"]["connection"]
    storage = settings["registry"]["storage"]["s3_v2"]
    secret = key.secret_key.reveal()
    assert (connection["aws_access_key_id"], connection["aws_secret_access_key"]) == (key.access_key, secret)
    assert (storage["accesskey"], storage["secretkey"]) == (key.access_key, secret)
    texts = [file.content.decode() for file in machine.rendered.tree.files if file.path.startswith("gitlab/")]
    assert not [text for text in texts if password in text or secret in text]


@pytest.mark.parametrize(
    ("facts", "workers", "concurrency", "buffers"),
    [(SMALL, 0, 10, "256MB"), (MIDDLE, 2, 20, "384MB"), (LARGE, 8, 20, "1600MB")],
    ids=["small", "middle", "large"],
)
def test_size_follows_the_host(
    machine: Machine, facts: HostFacts, workers: int, concurrency: int, buffers: str
) -> None:
    machine.be(facts)
    settings = machine.settings()
    assert settings["puma"]["worker_processes"] == workers
    assert settings["sidekiq"]["concurrency"] == concurrency
    assert settings["postgresql"]["shared_buffers"] == buffers
    assert ("MALLOC_CONF" in settings["gitlab_rails"].get("env", {})) == (facts is SMALL)


def test_authorities_are_copied_to_where_gitlab_writes_beside_them(machine: Machine) -> None:
    machine.settings()
    (authority,) = (machine.rendered.folder / "gitlab/trust").iterdir()
    assert machine.trusted == {"dap-0.crt": authority.read_text()}
    copy = machine.folder / "etc/gitlab/trusted-certs/dap-0.crt"
    assert copy.stat().st_mode & 0o777 == 0o644
    before = copy.stat().st_mtime_ns
    stranger = copy.with_name("site.crt")
    stranger.write_text("an administrator's own")
    copy.with_name("dap-7.crt").write_text("one that the platform no longer names")
    machine.settings()
    assert set(machine.trusted) == {"dap-0.crt", "site.crt"}
    assert copy.stat().st_mtime_ns == before
    copy.write_text("that of another platform")
    machine.settings()
    assert machine.trusted["dap-0.crt"] == authority.read_text()
