"""The site's proxy: who is reached through it, and how an engine is told of it, not restarted for nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins import FakeDocker, load, run_module

proxies = load("ansible.module_utils.dap_proxy")
deciding = load("ansible.module_utils.dap_engine")
probing = load("ansible.module_utils.dap_probe")
dap_docker_proxy = load("modules.dap_docker_proxy")
dap_restart = load("ansible.module_utils.dap_restart")
dap_docker_start = load("modules.dap_docker_start")
Proxy = proxies.Proxy

SITE = {"http": "http://proxy.example.com:3128", "no_proxy": ["localhost", ".example.com"]}
ENVIRONMENT = (
    "# Written by the platform dap.\n"
    "HTTP_PROXY=http://proxy.example.com:3128\n"
    "HTTPS_PROXY=http://proxy.example.com:3128\n"
    "NO_PROXY=localhost,.example.com\n"
)
BLOCK = (
    "# BEGIN dap proxy\n"
    "if [ -r /etc/docker/dap-proxy.env ]; then set -a; . /etc/docker/dap-proxy.env; set +a; fi\n"
    "# END dap proxy\n"
)


@pytest.mark.parametrize(
    ("host", "no_proxy", "around"),
    [
        ("registry.example.com", [".example.com"], True),
        ("registry.example.com", ["example.com"], True),
        ("registry.example.com", ["*.example.com"], True),
        ("example.com", ["example.com"], True),
        ("example.com", [".example.com"], False),
        ("myexample.com", ["example.com"], False),
        ("registry.example.com", ["registry.example.com:5000"], True),
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("10.1.2.3", ["10.1.2.3"], True),
        ("11.1.2.3", ["10.0.0.0/8", "rubbish/8"], False),
        ("fd00::1", ["fd00::/8"], True),
        ("anything.example.org", ["*"], True),
        ("localhost", [], True),
        ("127.0.0.2", [], True),
        ("example.org", [], False),
    ],
)
def test_what_is_reached_without_the_proxy(host: str, no_proxy: list[str], around: bool) -> None:
    assert proxies.bypasses(host, tuple(no_proxy)) is around


def test_a_proxy_for_http_alone_counts_for_https_too() -> None:
    proxy = Proxy.of(SITE)

    assert proxy.for_url("https://example.org/v2/") == proxy.for_url("http://example.org/") == SITE["http"]
    assert proxy.for_url("https://registry.example.com/v2/") == ""
    assert Proxy.of({"https": "http://p:1"}).for_url("http://example.org/") == ""


def test_an_unset_proxy_is_none() -> None:
    assert not Proxy.of({}) and not Proxy.of(None) and not Proxy.of({"http": None, "no_proxy": ["a"]})
    assert Proxy.of({"no_proxy": ["a"]}).environment() == {}


def test_the_environment_of_a_host_is_read_in_either_spelling() -> None:
    given = {"http_proxy": "http://p:1", "HTTPS_PROXY": "http://q:2", "no_proxy": "a, b,"}

    assert Proxy.from_environment(given) == Proxy("http://p:1", "http://q:2", ("a", "b"))


def contents(init: str, proxy: Any, defaults: str = "") -> dict[str, str | None]:
    return {file.path: file.content for file in proxies.wanted_files("dap", init, proxy, defaults)}


def test_systemd_reads_the_proxy_from_a_file_that_others_cannot_read() -> None:
    files = proxies.wanted_files("dap", "systemd", Proxy.of(SITE), "")

    assert [(file.path, file.content, file.mode) for file in files] == [
        ("/etc/docker/dap-proxy.env", ENVIRONMENT, 0o600),
        (
            "/etc/systemd/system/docker.service.d/dap-proxy.conf",
            "# Written by the platform dap.\n[Service]\nEnvironmentFile=-/etc/docker/dap-proxy.env\n",
            0o644,
        ),
    ]


def test_sysv_gets_a_marked_block_behind_what_is_there() -> None:
    there = "DOCKER_OPTS=--debug"

    once = contents("sysv", Proxy.of(SITE), there)["/etc/default/docker"]

    assert once == f"{there}\n{BLOCK}"
    assert contents("sysv", Proxy.of(SITE), once)["/etc/default/docker"] == once
    assert contents("sysv", Proxy(), once)["/etc/default/docker"] == f"{there}\n"


def test_without_an_init_system_the_variables_alone_are_written() -> None:
    assert contents("none", Proxy.of(SITE)) == {"/etc/docker/dap-proxy.env": ENVIRONMENT}


def test_without_a_proxy_the_platforms_files_go_and_no_others() -> None:
    assert contents("systemd", Proxy(), "DOCKER_OPTS=\n") == {
        "/etc/docker/dap-proxy.env": None,
        "/etc/systemd/system/docker.service.d/dap-proxy.conf": None,
    }


def test_a_shell_and_the_platform_read_the_same_variables(tmp_path: Path) -> None:
    odd = Proxy("http://u:a$b'c@p:1", "http://q:2", ("*", ".x y"))
    file = tmp_path / "proxy.env"
    file.write_text(contents("none", odd)["/etc/docker/dap-proxy.env"] or "", encoding="utf-8")
    script = f'set -a; . {file}; set +a; printf "%s\\n" "$HTTP_PROXY" "$HTTPS_PROXY" "$NO_PROXY"'

    said = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout

    assert said.splitlines() == ["http://u:a$b'c@p:1", "http://q:2", "*,.x y"]
    assert proxies.parse_environment(file.read_text(encoding="utf-8")) == odd.environment()


def engine(proxy: Any, running: str = "27.1.1") -> Any:
    return deciding.EngineState("/usr/bin/docker", running, "27.1.1", "2.29.1", "0.16.1", proxy=proxy)


FILES = (proxies.ProxyFile("/etc/docker/dap-proxy.env", ENVIRONMENT),)
NONE = Proxy()


@pytest.mark.parametrize(
    ("runs_with", "wanted", "files", "reason"),
    [
        (NONE, Proxy.of(SITE), FILES, "with the proxy http://proxy.example.com:3128"),
        (NONE, Proxy.of(SITE), (), "with the proxy http://proxy.example.com:3128"),
        (Proxy.of(SITE), Proxy.of(SITE), (), ""),
        (Proxy.of(SITE), Proxy.of(SITE), FILES, ""),
        (Proxy.of(SITE), NONE, (), ""),
        (Proxy.of(SITE), NONE, FILES, "without the proxy http://proxy.example.com:3128"),
        (NONE, NONE, FILES, ""),
        (NONE, NONE, (), ""),
    ],
)
def test_an_engine_is_restarted_only_for_another_proxy(
    runs_with: Any, wanted: Any, files: Any, reason: str
) -> None:
    assert deciding.proxy_restart(engine(runs_with), wanted, files) == reason
    assert deciding.proxy_restart(engine(runs_with, running=""), wanted, files) == ""


def test_a_service_more_is_no_reason_for_a_restart_but_a_network_is() -> None:
    wanted = Proxy.of(SITE)
    with_service = replace(wanted, no_proxy=(*wanted.no_proxy, "grafana"))
    with_network = replace(wanted, no_proxy=(*wanted.no_proxy, "10.0.0.0/8"))

    assert deciding.proxy_restart(engine(wanted), with_service, FILES) == ""
    assert deciding.proxy_restart(engine(wanted), with_network, FILES) != ""


def test_a_login_that_the_engine_hides_is_no_difference_and_is_not_shown() -> None:
    secret = replace(Proxy.of(SITE), http="http://u:geheim@p:1", https="http://u:geheim@p:1")
    hidden = replace(secret, http="http://xxxxx:xxxxx@p:1", https="http://xxxxx:xxxxx@p:1")

    assert deciding.proxy_restart(engine(hidden), secret, ()) == ""
    assert deciding.proxy_restart(engine(NONE), secret, ()) == "with the proxy http://p:1"


@pytest.mark.parametrize(("init", "start"), [("systemd", ""), ("sysv", ""), ("none", "detached")])
def test_the_plan_says_how_the_engine_starts_again(init: str, start: str) -> None:
    host = deciding.HostState(
        "debian", "13", "trixie", init, engine(NONE), enabled=True, proxy=Proxy.of(SITE), proxy_files=FILES
    )

    decided = deciding.plan(host, "dap", "https://download.docker.com/linux")

    assert decided.needed and not decided.installs
    assert (decided.outcome, decided.proxy_files, decided.start) == ("use", FILES, start)
    assert decided.restart == "with the proxy http://proxy.example.com:3128"


class Host:
    """A host without an init system, all of whose files are in a folder; its engine is a stand-in."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        (folder / "bin").parent.mkdir(exist_ok=True)
        self.docker = FakeDocker(folder / "bin")
        self.tell("27.1.1", "\t\t")
        monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")
        real = proxies.wanted_files

        def moved(*arguments: Any) -> list[Any]:
            return [replace(file, path=f"{folder}{file.path}") for file in real(*arguments)]

        monkeypatch.setattr(probing, "wanted_files", moved)
        monkeypatch.setattr(dap_docker_proxy, "init_system", lambda: "none")
        monkeypatch.setattr(dap_restart, "PID_FILE", f"{folder}/docker.pid")
        self.environment = folder / "etc/docker/dap-proxy.env"

    def tell(self, version: str, proxy: str) -> None:
        self.docker.answer("*")
        self.docker.answer("version *", f"{version}\n")
        self.docker.answer("info *", f"{proxy}\n")

    def run(self, proxy: dict[str, Any], **parameters: Any) -> dict[str, Any]:
        return run_module("dap_docker_proxy", platform="dap", proxy=proxy, **parameters)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


@pytest.fixture
def start_engine(tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts a process that looks like an engine, and names it in the engine's process file."""
    (tmp_path / "dockerd").symlink_to(Path(sys.executable).resolve())
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        argv = [str(tmp_path / "dockerd"), "-c", "import time; time.sleep(60)"]
        process = subprocess.Popen(argv)
        started.append(process)
        # A process takes its new name a moment after it was started.
        comm, end = Path(f"/proc/{process.pid}/comm"), time.monotonic() + 10
        while comm.read_text(encoding="utf-8").strip() != "dockerd" and time.monotonic() < end:
            time.sleep(0.01)
        (tmp_path / "docker.pid").write_text(str(process.pid), encoding="utf-8")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_running_engine_is_stopped_to_start_with_the_proxy(
    host: Host, start_engine: Callable[[], subprocess.Popen[bytes]]
) -> None:
    process = start_engine()

    result = host.run(SITE)

    assert result["changed"] and result["changed_items"] == [
        f"{host.environment} written",
        "Docker restarted with the proxy http://proxy.example.com:3128",
    ]
    assert host.environment.read_text(encoding="utf-8") == ENVIRONMENT
    assert host.environment.stat().st_mode & 0o777 == 0o600
    assert process.wait(10) == -15


def test_an_engine_that_knows_the_proxy_is_left_alone(
    host: Host, start_engine: Callable[[], subprocess.Popen[bytes]]
) -> None:
    process = start_engine()
    host.tell("27.1.1", f"{SITE['http']}\t{SITE['http']}\tlocalhost,.example.com")

    first, second = host.run(SITE), host.run(SITE)

    assert first["changed_items"] == [f"{host.environment} written"]
    assert not second["changed"] and second["changed_items"] == []
    assert process.poll() is None


def test_check_mode_tells_what_would_happen_and_does_nothing(
    host: Host, start_engine: Callable[[], subprocess.Popen[bytes]]
) -> None:
    process = start_engine()

    result = host.run(SITE, check=True)

    assert result["changed_items"][-1] == "Docker restarted with the proxy http://proxy.example.com:3128"
    assert not host.environment.exists() and process.poll() is None


def test_a_proxy_that_goes_away_takes_its_file_with_it(
    host: Host, start_engine: Callable[[], subprocess.Popen[bytes]]
) -> None:
    host.run(SITE, restart=False)
    host.tell("27.1.1", f"{SITE['http']}\t{SITE['http']}\tlocalhost,.example.com")
    process = start_engine()

    result = host.run({})

    assert result["changed_items"] == [
        f"{host.environment} removed",
        "Docker restarted without the proxy http://proxy.example.com:3128",
    ]
    assert not host.environment.exists() and process.wait(10) == -15
    assert not host.run({})["changed"]


def test_a_destroy_takes_the_file_and_leaves_the_engine_running(
    host: Host, start_engine: Callable[[], subprocess.Popen[bytes]]
) -> None:
    host.run(SITE, restart=False)
    process = start_engine()

    assert host.run({}, restart=False)["changed_items"] == [f"{host.environment} removed"]
    assert process.poll() is None


def test_an_engine_of_which_no_process_is_known_is_not_guessed_at(host: Host) -> None:
    assert host.run(SITE)["msg"] == (
        f"the Docker engine cannot be told of the proxy: {host.folder}/docker.pid does not tell which process"
        " the engine is: stop it, then deploy again"
    )


def test_an_engine_that_is_started_here_gets_the_proxy_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dap_docker_start, "PROXY_FILES", tmp_path / "*-proxy.env")
    monkeypatch.setenv("http_proxy", "http://of-the-host:1")
    (tmp_path / "dap-proxy.env").write_text(ENVIRONMENT, encoding="utf-8")

    environment = dap_docker_start.environment()

    assert environment["HTTPS_PROXY"] == SITE["http"] and "http_proxy" not in environment
    (tmp_path / "dap-proxy.env").unlink()
    assert dap_docker_start.environment()["http_proxy"] == "http://of-the-host:1"
