"""GitLab's place on the platform, with a double in place of GitLab's own image."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from dap.layout import compose_dir
from dap.services.manifest import find_folders, load_services
from tests.engine import start_engine
from tests.gitlab_double.image_build import double_image
from tests.integration.killing import container_events, kill_deploy
from tests.integration.platform import DeployedPlatform, docker

NOT_NEEDED = ("mlflow", "pgadmin", "postgres-data", "postgres-service")
LARGE = 110 * 1024 * 1024
LIMIT_S = 60
CONFIGURED = "/tmp/dap-configured"  # noqa: S108  in the container


ADA = {
    "name": "ada",
    "full_name": "Ada Lovelace",
    "email": "ada@example.com",
    "gitlab_admin": True,
    "ssh_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0kXfeuQUGrVxPzNYTMXCr1zvqYzyOn1D5C5zXk1a2b ada"],
}


class GitlabPlatform(DeployedPlatform):
    """A platform with little beside GitLab."""

    def set_gitlab(self, **settings: Any) -> None:
        """Change what the operator says of GitLab."""
        written = yaml.safe_load(self.settings_file.read_text(encoding="utf-8"))
        off = {name: {"enabled": False} for name in NOT_NEEDED}
        projects = [{"name": "demo", "members": {"*": "developer"}, "examples": True}]
        written |= {"projects": projects, "services": {**off, "gitlab": settings}}
        written.setdefault("users", [ADA])
        self.settings_file.write_text(yaml.safe_dump(written), encoding="utf-8")

    @property
    def container(self) -> dict[str, Any]:
        return self.containers()["gitlab"]

    @property
    def log(self) -> str:
        return docker("logs", f"{self.name}-gitlab")

    def execute(self, *command: str) -> str:
        """The output of a command in GitLab's container."""
        return docker("exec", f"{self.name}-gitlab", *command)

    def health(self) -> str:
        """What the healthcheck complains about; nothing when all is well."""
        check = self.container["Config"]["Healthcheck"]["Test"][1:]
        done = subprocess.run(
            ["docker", "exec", f"{self.name}-gitlab", *check], capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == (done.stderr == "")
        return done.stderr.strip()

    def connect(self, service: str = "gitlab") -> http.client.HTTPSConnection:
        address = urlsplit(self.url(service))
        context = ssl.create_default_context(cafile=str(self.ca_file))
        return http.client.HTTPSConnection(address.netloc, context=context, timeout=LIMIT_S)

    def ask(
        self, method: str, path: str, service: str = "gitlab", token: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        connection = self.connect(service)
        connection.request(method, path, headers={"PRIVATE-TOKEN": token} if token else {})
        answer = connection.getresponse()
        found = answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
        connection.close()
        return found

    @property
    def token(self) -> str:
        """What the platform uses GitLab's API with."""
        stored = yaml.safe_load((self.secrets / "secrets.yml").read_text(encoding="utf-8"))
        return str(stored["values"]["gitlab.api_token"])

    def api(self, path: str) -> Any:
        """What GitLab answers to the platform's token."""
        status, _, content = self.ask("GET", f"/api/v4{path}", token=self.token)
        assert status == 200, content
        return json.loads(content)

    def seen(self, path: str = "/-/stand-in/seen") -> dict[str, Any]:
        """What the double says of this request and of others before."""
        said: dict[str, Any] = json.loads(self.ask("GET", path)[2])
        return said


@pytest.fixture(scope="module")
def gitlab(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitlabPlatform]:
    deployed = GitlabPlatform(tmp_path_factory.mktemp("gitlab"))
    deployed.write_inventory()
    deployed.set_gitlab(enabled=False)
    base = start_engine(tmp_path_factory.mktemp("engine"))
    deployed.set_gitlab(enabled=True, image=double_image(base))
    try:
        deployed.must("deploy", "--no-verify")
        yield deployed
    finally:
        deployed.remove()


@pytest.fixture(autouse=True)
def kept_to_the_contract(gitlab: GitlabPlatform) -> Iterator[None]:
    """What GitLab's descriptions do not allow fails the test that did it."""
    yield
    if "gitlab" in gitlab.containers():
        assert json.loads(gitlab.ask("DELETE", "/-/stand-in/violations")[2]) == []


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {LIMIT_S} s: {what}"
        time.sleep(0.2)


# --- the container ---------------------------------------------------------------------------------------


def test_container_has_the_rights_that_the_manifest_declares_and_no_others(gitlab: GitlabPlatform) -> None:
    container = gitlab.container
    host = container["HostConfig"]
    assert container["Config"]["User"] == "0:0"
    assert (host["Privileged"], host["CapDrop"]) == (False, ["ALL"])
    assert sorted(name.removeprefix("CAP_") for name in host["CapAdd"]) == [
        *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"),
        *("KILL", "NET_BIND_SERVICE", "SETGID", "SETUID", "SYS_CHROOT"),
    ]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert not host["ReadonlyRootfs"]
    exceptions = load_services(find_folders([compose_dir()]))["gitlab"].manifest.exceptions
    assert set(exceptions) == {"user", "read_only", "cap_add"}


def test_container_is_limited_and_given_time(gitlab: GitlabPlatform) -> None:
    container = gitlab.container
    host, check = container["HostConfig"], container["Config"]["Healthcheck"]
    assert host["Memory"] == host["MemorySwap"] >= 4 * 1024**3
    assert (host["ShmSize"], host["PidsLimit"]) == (256 * 1024**2, 4096)
    assert container["Config"]["StopTimeout"] == 120
    assert check["StartPeriod"] == 1200 * 10**9
    assert check["Test"][1:3] == ["bash", "/etc/dap/ready.sh"]
    assert "noexec" not in gitlab.execute("grep", " /tmp ", "/proc/mounts")


def test_configuration_is_accepted_and_healthy_means_ready(gitlab: GitlabPlatform) -> None:
    assert gitlab.log.count("gitlab Reconfigured!") == 1
    settings = json.loads(gitlab.execute("cat", "/var/opt/gitlab/configuration.json"))
    assert settings["external_url"] == gitlab.url("gitlab")
    assert settings["registry_external_url"] == gitlab.url("gitlab-registry")
    assert settings["gitlab_rails"]["gitlab_shell_ssh_port"] == gitlab.ports["ssh"]
    assert gitlab.container["State"]["Health"]["Status"] == "healthy"
    assert gitlab.ask("GET", "/api/v4/version")[0] == 401


@pytest.mark.parametrize(
    ("stage", "complaint"),
    [
        ("booting", "/-/readiness answered 503"),
        ("loading", "/api/v4/version answered 502, not 401"),
        ("ready", ""),
    ],
)
def test_healthcheck_waits_for_readiness_and_the_api(
    gitlab: GitlabPlatform, stage: str, complaint: str
) -> None:
    try:
        gitlab.seen(f"/-/stand-in/{stage}")
        assert gitlab.health() == complaint
    finally:
        gitlab.seen("/-/stand-in/ready")


def test_healthcheck_waits_for_the_configuration_of_this_start(gitlab: GitlabPlatform) -> None:
    gitlab.execute("mv", CONFIGURED, f"{CONFIGURED}.aside")
    try:
        assert gitlab.health() == "GitLab is still being configured"
    finally:
        gitlab.execute("mv", f"{CONFIGURED}.aside", CONFIGURED)


def test_data_has_the_owners_and_modes_that_gitlab_wants(
    gitlab: GitlabPlatform,
) -> None:
    folder = gitlab.data / "gitlab"
    found = {path.name: path.stat() for path in folder.iterdir()}
    assert {name: (oct(one.st_mode & 0o7777), one.st_uid) for name, one in found.items()} == {
        "config": ("0o775", 0),
        "data": ("0o755", 0),
        "logs": ("0o755", 0),
    }
    repositories = (folder / "data" / "git-data").stat()
    assert (repositories.st_uid, stat.S_IMODE(repositories.st_mode)) == (998, 0o2770)
    for name in ("ready.sh", "gitlab.rb"):
        with pytest.raises(AssertionError, match="Read-only file system"):
            gitlab.execute("touch", f"/etc/dap/{name}")


def test_sites_authorities_are_trusted(gitlab: GitlabPlatform) -> None:
    certificate = gitlab.ca_file.read_text()
    kept = [path.read_text() for path in (gitlab.data / "gitlab/config/trusted-certs").glob("dap-*.crt")]
    assert certificate.strip() in [text.strip() for text in kept]
    assert len(gitlab.execute("ls", "/opt/gitlab/embedded/ssl/certs").split()) == len(kept)


def test_object_storage_works_with_the_configured_login_in_every_bucket(gitlab: GitlabPlatform) -> None:
    manifest = load_services(find_folders([compose_dir()]))["gitlab"].manifest
    used = json.loads((gitlab.data / "gitlab/data/buckets.json").read_text())
    assert used == sorted(bucket.name for bucket in manifest.buckets)


def test_second_deploy_changes_nothing(gitlab: GitlabPlatform) -> None:
    assert gitlab.deploy() == 0


def test_gitlab_is_set_up_without_a_hand(gitlab: GitlabPlatform) -> None:
    settings = gitlab.api("/application/settings")
    assert (settings["signup_enabled"], settings["restricted_visibility_levels"]) == (False, ["public"])
    (ada,) = gitlab.api("/users?username=ada")
    assert (ada["name"], ada["email"], ada["is_admin"]) == ("Ada Lovelace", "ada@example.com", True)
    assert [key["key"] for key in gitlab.api(f"/users/{ada['id']}/keys")] == ADA["ssh_keys"]
    members = {one["username"]: one["access_level"] for one in gitlab.api("/groups/demo/members")}
    assert members == {"root": 50, "ada": 30}
    variables = {one["key"]: one for one in gitlab.api("/admin/ci/variables")}
    assert variables["DAP_CA_FILE"]["value"].strip() == gitlab.ca_file.read_text().strip()
    assert variables["AWS_ENDPOINT_URL"]["value"] == gitlab.url("s3")
    own = {one["key"]: one for one in gitlab.api("/groups/demo/variables")}
    access_key, secret_key = gitlab.login("Project demo: bucket")
    assert (own["AWS_ACCESS_KEY_ID"]["value"], own["AWS_ACCESS_KEY_ID"]["masked"]) == (access_key, True)
    assert (own["AWS_SECRET_ACCESS_KEY"]["value"], own["AWS_SECRET_ACCESS_KEY"]["masked"]) == (
        secret_key,
        True,
    )
    example = compose_dir() / "gitlab/projects/example-pipeline/.gitlab-ci.yml"
    path = "/projects/demo%2Fexample-pipeline/repository/files/.gitlab-ci.yml/raw?ref=main"
    assert gitlab.ask("GET", f"/api/v4{path}", token=gitlab.token)[2] == example.read_bytes()
    user, password = gitlab.login("GitLab, first password")
    assert (user, len(password)) == ("ada", 24)


def test_setting_up_outlives_a_kill_a_gitlab_that_is_away_and_a_revoked_token(
    gitlab: GitlabPlatform,
) -> None:
    written = yaml.safe_load(gitlab.settings_file.read_text(encoding="utf-8"))
    written["users"] = [ADA, {"name": "bob"}]
    gitlab.settings_file.write_text(yaml.safe_dump(written), encoding="utf-8")
    old = gitlab.token
    assert re.fullmatch(r"glpat-[A-Za-z0-9]{30}", old)
    assert gitlab.ask("DELETE", "/api/v4/personal_access_tokens/self", token=old)[0] == 204

    def later_jobs_run(events: list[str]) -> bool:
        return sum(event.startswith(f"start {gitlab.name}-toolbox") for event in events) == 2

    def come_back() -> None:
        wait_for(lambda: later_jobs_run(events), "the job asks GitLab")
        gitlab.seen("/-/stand-in/ready")

    events: list[str] = []
    try:
        gitlab.seen("/-/stand-in/loading")
        kill_deploy(gitlab, lambda seen: later_jobs_run(seen.containers))
        # Who is away for long is unhealthy, and the next deploy would say so.
        gitlab.seen("/-/stand-in/ready")
        wait_for(
            lambda: gitlab.container["State"]["Health"]["Status"] == "healthy", "GitLab is healthy again"
        )
        gitlab.seen("/-/stand-in/loading")
        with container_events(gitlab, events), ThreadPoolExecutor() as pool:
            back = pool.submit(come_back)
            deployed = json.loads(gitlab.must("deploy", "--no-verify", "--json"))
            back.result()
    finally:
        gitlab.seen("/-/stand-in/ready")
    assert deployed["rotated"] == ["gitlab.api_token"]
    assert [change["what"] for change in deployed["provisioning"]] == [
        "gitlab: api_token set",
        "gitlab: user bob added",
        "gitlab: group demo: bob is developer",
    ]
    assert [one["username"] for one in gitlab.api("/users?username=bob")] == ["bob"]
    assert gitlab.token != old
    # In the container there is no file with it.
    assert gitlab.execute("ls", "/run/secrets").split() == ["root_password", "s3_credentials"]


def test_api_token_gets_a_new_value_in_the_running_gitlab(gitlab: GitlabPlatform) -> None:
    old, runs = gitlab.token, gitlab.starts()
    told = json.loads(gitlab.must("rotate", "gitlab.api_token", "--no-verify", "--json"))
    assert told["rotated"] == ["gitlab.api_token"]
    assert [change["what"] for change in told["provisioning"]] == ["gitlab: api_token set"]
    assert gitlab.ask("GET", "/api/v4/user", token=old)[0] == 401
    assert (gitlab.api("/user")["username"], gitlab.starts()) == ("root", runs)


def test_state_outlives_the_container(gitlab: GitlabPlatform) -> None:
    before = gitlab.execute("cat", "/etc/gitlab/ssh_host_ed25519_key.pub")
    docker("restart", f"{gitlab.name}-gitlab")
    # It answers before it is configured anew, as the services of an earlier start run on.
    wait_for(lambda: gitlab.log.count("gitlab Reconfigured!") == 2, "GitLab is configured once more")
    wait_for(lambda: gitlab.container["State"]["Health"]["Status"] == "healthy", "GitLab is healthy again")
    assert gitlab.execute("cat", "/etc/gitlab/ssh_host_ed25519_key.pub") == before


# --- what users reach ------------------------------------------------------------------------------------


def test_verify_and_portal_find_gitlab_well(gitlab: GitlabPlatform) -> None:
    results = json.loads(gitlab.must("verify", "--json"))["checks"]
    own = {entry["check"]: entry for entry in results if entry["service"] == "gitlab"}
    assert {name: entry["ok"] for name, entry in own.items()} == {
        "gitlab": True,
        "gitlab setup": True,
        "gitlab registry": True,
        "gitlab ssh": True,
    }
    assert own["gitlab ssh"]["detail"].startswith("SSH-2.0-OpenSSH")
    assert [entry for entry in results if not entry["ok"]] == []
    user, password = gitlab.login("GitLab administrator")
    assert (user, len(password)) == ("root", 40)


def test_gitlab_sees_the_address_that_users_type(gitlab: GitlabPlatform) -> None:
    headers = gitlab.seen()["headers"]
    address = urlsplit(gitlab.url("gitlab")).netloc
    assert headers["host"] == headers["x-forwarded-host"] == address
    assert headers["x-forwarded-proto"] == "https"
    assert headers["x-forwarded-ssl"] == "on"
    assert re.fullmatch(r"[0-9.]+", headers["x-forwarded-for"])


@pytest.mark.parametrize(
    "path",
    [
        *("/users", "/users/", "/users.json", "/users.", "//users", "/%75sers", "/x/../users", "/users?a=b"),
        *("/users/sign_up", "/users/sign_up.html", "/users/sign_up/"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nobody_signs_up(gitlab: GitlabPlatform, method: str, path: str) -> None:
    before = gitlab.seen()["sign_ups"]
    assert gitlab.ask(method, path)[0] == 403
    assert gitlab.seen()["sign_ups"] == before


def test_other_pages_of_users_pass(gitlab: GitlabPlatform) -> None:
    assert gitlab.ask("GET", "/users/sign_in")[0] == 200
    assert gitlab.ask("GET", "/users/ada/groups")[0] == 404
    assert gitlab.ask("GET", "/usersguide")[0] == 404
    # Without the proxy, sign-up would be open.
    assert gitlab.execute("curl", "-s", "-X", "POST", "http://127.0.0.1/users") == "signed up"


def test_websocket_passes(gitlab: GitlabPlatform) -> None:
    address = urlsplit(gitlab.url("gitlab"))
    context = ssl.create_default_context(cafile=str(gitlab.ca_file))
    raw = socket.create_connection((address.hostname, address.port), timeout=LIMIT_S)
    with context.wrap_socket(raw, server_hostname=address.hostname) as connection:
        lines = [
            "GET /-/cable HTTP/1.1",
            f"Host: {address.netloc}",
            f"Origin: {gitlab.url('gitlab')}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version: 13",
        ]
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        received = connection.makefile("rb").read()
    head, _, frame = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    # The answer to this key in RFC 6455, section 1.3.
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    headers = json.loads(frame[4:])
    assert (headers["x-forwarded-proto"], headers["origin"]) == ("https", gitlab.url("gitlab"))


def test_upload_is_passed_on_while_it_comes_in(gitlab: GitlabPlatform) -> None:
    connection, part = gitlab.connect(), 4 * 1024 * 1024
    connection.putrequest("POST", "/-/stand-in/upload")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    connection.send(b"%x\r\n%s\r\n" % (part, os.urandom(part)))
    wait_for(lambda: gitlab.seen()["received"] == part, "the first part arrives")
    connection.send(b"%x\r\n%s\r\n0\r\n\r\n" % (part, os.urandom(part)))
    assert json.loads(connection.getresponse().read())["received"] == 2 * part


def test_git_is_spoken_to_in_the_protocol_that_it_can_push_with(gitlab: GitlabPlatform) -> None:
    found = {}
    for name in ("gitlab", "gitlab-registry", ""):
        address = urlsplit(gitlab.url(name))
        context = ssl.create_default_context(cafile=str(gitlab.ca_file))
        context.set_alpn_protocols(["h2", "http/1.1"])
        raw = socket.create_connection((address.hostname, address.port), timeout=LIMIT_S)
        with context.wrap_socket(raw, server_hostname=address.hostname) as connection:
            found[name] = connection.selected_alpn_protocol()
    assert found == {"gitlab": "http/1.1", "gitlab-registry": "http/1.1", "": "h2"}


def git(*arguments: str | Path, folder: Path, **environment: str) -> str:
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_TERMINAL_PROMPT": "0", **environment}
    done = subprocess.run(
        ["git", "-c", "user.name=ada", "-c", "user.email=ada@example.com", *map(str, arguments)],
        cwd=folder,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def https(gitlab: GitlabPlatform, project: str, folder: Path) -> tuple[str, dict[str, str]]:
    """The address of a project of the administrator's, and the environment by which Git may use it."""
    _, password = gitlab.login("GitLab administrator")
    askpass = folder / "askpass"
    askpass.write_text(f"#!/bin/sh\necho {password}\n")
    askpass.chmod(0o700)
    url = gitlab.url("gitlab").replace("https://", "https://root@") + f"/root/{project}.git"
    return url, {"GIT_ASKPASS": str(askpass), "GIT_SSL_CAINFO": str(gitlab.ca_file)}


def test_large_push_and_clone_over_https(gitlab: GitlabPlatform, tmp_path: Path) -> None:
    url, user = https(gitlab, "data", tmp_path)
    here, there = tmp_path / "here", tmp_path / "there"
    git("init", "--quiet", "--initial-branch=main", here, folder=tmp_path)
    for name, value in {"core.compression": "0", "core.bigFileThreshold": "1m"}.items():
        git("config", name, value, folder=here)
    content = os.urandom(LARGE)
    (here / "data.bin").write_bytes(content)
    git("add", "data.bin", folder=here)
    git("commit", "--quiet", "--message=data", folder=here)
    git("push", "--quiet", url, "main", folder=here, **user)
    git("clone", "--quiet", "--branch=main", url, there, folder=tmp_path, **user)
    assert (there / "data.bin").read_bytes() == content
    with pytest.raises(AssertionError, match=r"Authentication failed|could not read"):
        git("ls-remote", url, folder=tmp_path, **user | {"GIT_ASKPASS": "/bin/true"})


def test_git_over_ssh_on_the_published_port(gitlab: GitlabPlatform, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    repository = "/var/opt/gitlab/git-data/ssh.git"
    gitlab.execute("sh", "-c", f"echo '{public}' > /var/opt/gitlab/.ssh/authorized_keys")
    as_git = ("setpriv", "--reuid=git", "--regid=git", "--clear-groups")
    gitlab.execute(*as_git, "git", "init", "--quiet", "--bare", repository)
    options = f"-i {key} -o IdentitiesOnly=yes -o UserKnownHostsFile={tmp_path}/known"
    command = f"ssh {options} -o StrictHostKeyChecking=accept-new"
    host = urlsplit(gitlab.url("gitlab")).hostname
    url = f"ssh://git@{host}:{gitlab.ports['ssh']}{repository}"
    work = tmp_path / "work"
    git("init", "--quiet", "--initial-branch=main", work, folder=tmp_path)
    git("commit", "--quiet", "--allow-empty", "--message=first", folder=work)
    git("push", "--quiet", url, "main", folder=work, GIT_SSH_COMMAND=command)
    assert "refs/heads/main" in git("ls-remote", url, folder=work, GIT_SSH_COMMAND=command)


def test_docker_trusts_the_registry_and_gitlab_which_it_is_sent_to(gitlab: GitlabPlatform) -> None:
    registry = urlsplit(gitlab.url("gitlab-registry")).netloc
    (file,) = (Path("/etc/docker/certs.d") / registry).iterdir()
    assert file.read_text().strip() == gitlab.ca_file.read_text().strip()
    done = subprocess.run(
        ["docker", "pull", f"{registry}/team/image:1"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    # A stranger gets no token for it. What matters is that nothing was said of a certificate.
    assert "x509" not in done.stderr
    assert "access forbidden" in done.stderr


def test_image_is_pushed_and_pulled_by_who_may(gitlab: GitlabPlatform, tmp_path: Path) -> None:
    project = tmp_path / "project"
    git("init", "--quiet", "--initial-branch=main", project, folder=tmp_path)
    git("commit", "--quiet", "--allow-empty", "--message=first", folder=project)
    url, user = https(gitlab, "images", tmp_path)
    git("push", "--quiet", url, "main", folder=project, **user)
    registry = urlsplit(gitlab.url("gitlab-registry")).netloc
    image = f"{registry}/root/images/small:1"
    (tmp_path / "content").write_bytes(os.urandom(1024))
    subprocess.run(["tar", "-C", tmp_path, "-cf", tmp_path / "small.tar", "content"], check=True)
    docker("import", str(tmp_path / "small.tar"), image)
    config = ("--config", str(tmp_path / "docker"))
    _, password = gitlab.login("GitLab administrator")
    login = ["docker", *config, "login", "--username", "root", "--password-stdin", registry]
    try:
        subprocess.run(login, input=password, text=True, capture_output=True, check=True)
        pushed = docker("images", "--no-trunc", "--quiet", image)
        docker(*config, "push", "--quiet", image)
        docker("image", "rm", image)
        docker(*config, "pull", "--quiet", image)
        assert docker("images", "--no-trunc", "--quiet", image) == pushed
        with pytest.raises(AssertionError, match="access forbidden"):
            docker("pull", f"{registry}/root/images/small:1")
    finally:
        docker("image", "rm", "--force", image)


# --- without the image; these come last, since the container goes ----------------------------------------

NOWHERE = "127.0.0.1:9/nobody/gitlab-ce:1"
REASON = f"its image {NOWHERE} cannot be had: 127.0.0.1:9 cannot be reached: connection refused"


def test_image_that_cannot_be_had_leaves_out_what_is_set_to_auto(gitlab: GitlabPlatform) -> None:
    gitlab.set_gitlab(enabled="auto", image=NOWHERE)
    told = gitlab.must("deploy", "--no-verify")
    assert f"Left out:      gitlab ({REASON})" in told.splitlines()
    assert "gitlab" not in gitlab.containers()
    assert (gitlab.data / "gitlab/data/git-data").is_dir()
    assert f"Left out: gitlab ({REASON})" in gitlab.must("status").splitlines()
    status = json.loads(gitlab.must("status", "--json"))
    assert {"service": "gitlab", "reason": REASON} in status["left_out"]
    assert f"<strong>GitLab</strong> {REASON}</li>" in gitlab.ask("GET", "/", "")[2].decode()
    assert not (Path("/etc/docker/certs.d") / urlsplit(gitlab.url("gitlab-registry")).netloc).exists()


def test_image_that_cannot_be_had_refuses_what_must_run(gitlab: GitlabPlatform) -> None:
    gitlab.set_gitlab(enabled=True, image=NOWHERE)
    before = set(gitlab.containers())
    done = gitlab.dap("deploy")
    assert done.returncode == 2
    assert done.stderr.partition("error: ")[2] == (
        "preflight found 1 error; nothing was changed:\n"
        f"  {gitlab.settings_file}: services.gitlab = {NOWHERE}\n"
        "    is an image that localhost neither has nor can pull:"
        " 127.0.0.1:9 cannot be reached: connection refused\n"
        "    load it there (docker load), set mirrors.registry or proxy,"
        " or write services.gitlab.enabled: auto\n"
    )
    assert set(gitlab.containers()) == before
