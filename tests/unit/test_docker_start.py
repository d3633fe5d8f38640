"""Starting an engine where no init system does, with stand-ins for the engine and its client."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import ansible.module_utils
import pytest

MODULE_UTILS = str(Path(__file__).resolve().parents[2] / "ansible" / "plugins" / "module_utils")


@pytest.fixture
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module under test; the engine's process files and the stand-ins are in ``tmp_path``."""
    monkeypatch.setattr(ansible.module_utils, "__path__", [*ansible.module_utils.__path__, MODULE_UTILS])
    from modules import dap_docker_start

    files = {str(tmp_path / "docker.pid"): "dockerd", str(tmp_path / "containerd.pid"): "containerd"}
    monkeypatch.setattr(dap_docker_start, "PID_FILES", files)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    yield dap_docker_start


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (folder / name).chmod(0o755)


def test_engine_runs_in_a_session_of_its_own_and_is_waited_for(starter: ModuleType, tmp_path: Path) -> None:
    program(tmp_path, "dockerd", f"sleep 0.5; echo up; touch {tmp_path}/up; exec sleep 60")
    program(tmp_path, "docker", f"test -e {tmp_path}/up && echo 27.1.1")
    log = tmp_path / "dockerd.log"

    process = starter.start(str(log))
    try:
        assert starter.wait(30, process) == ""
        assert os.getsid(process.pid) == process.pid
        assert log.read_text(encoding="utf-8") == "up\n"
    finally:
        process.kill()
        process.wait()


def test_of_two_deploys_at_once_one_starts_the_engine(starter: ModuleType, tmp_path: Path) -> None:
    program(tmp_path, "dockerd", f"echo started; sleep 0.5; touch {tmp_path}/up")
    program(tmp_path, "docker", f"test -e {tmp_path}/up && echo 27.1.1")
    log = tmp_path / "dockerd.log"

    with ThreadPoolExecutor() as deploys:
        started = [deploys.submit(starter.bring_up, 30, str(log), tmp_path) for _ in range(3)]

    assert sorted(one.result() for one in started) == [(False, ""), (False, ""), (True, "")]
    assert log.read_text(encoding="utf-8") == "started\n"


def test_engine_that_ends_at_once_is_not_waited_for_and_its_last_words_are_shown(
    starter: ModuleType, tmp_path: Path
) -> None:
    program(tmp_path, "dockerd", "echo level=info msg=serving >&2; echo failed to mount overlay >&2; exit 1")
    program(tmp_path, "docker", "exit 1")
    log = tmp_path / "dockerd.log"

    problem = starter.wait(30, starter.start(str(log)))

    assert problem == "the Docker engine ended at once (exit code 1)"
    assert starter.last_words(str(log), detached=True) == "failed to mount overlay"


def test_engine_that_never_answers_is_given_up_on(starter: ModuleType, tmp_path: Path) -> None:
    program(tmp_path, "docker", "exit 1")

    assert starter.wait(0, None) == "the Docker engine does not answer after 0 s"


def test_process_files_of_a_crash_are_removed_though_another_program_has_their_number(
    starter: ModuleType, tmp_path: Path
) -> None:
    program(tmp_path, "dockerd", "exit 0")
    (tmp_path / "docker.pid").write_text(f"{os.getpid()}\n", encoding="utf-8")
    (tmp_path / "containerd.pid").write_text("not a number", encoding="utf-8")

    process = starter.start(str(tmp_path / "dockerd.log"))

    assert isinstance(process, subprocess.Popen)
    process.wait()
    assert not (tmp_path / "docker.pid").exists()
    assert not (tmp_path / "containerd.pid").exists()


def test_engine_on_its_way_up_is_not_started_twice(starter: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "dockerd").symlink_to(Path(sys.executable).resolve())
    with subprocess.Popen([str(tmp_path / "dockerd"), "-c", "import time; time.sleep(60)"]) as running:
        try:
            (tmp_path / "docker.pid").write_text(str(running.pid), encoding="utf-8")
            # A process takes its new name a moment after it was started.
            comm, end = Path(f"/proc/{running.pid}/comm"), time.monotonic() + 10
            while comm.read_text(encoding="utf-8").strip() != "dockerd" and time.monotonic() < end:
                time.sleep(0.01)

            assert starter.process_of(str(tmp_path / "docker.pid"), "dockerd") == running.pid
            assert starter.start(str(tmp_path / "dockerd.log")) is None
        finally:
            running.kill()


def test_engine_gets_the_hosts_proxy_and_nothing_else_from_here(
    starter: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("DAP_VAULT_PASSWORD_FILE", "/root/vault")

    environment = starter.environment()

    assert environment["HTTPS_PROXY"] == "http://proxy.example:3128"
    assert "DAP_VAULT_PASSWORD_FILE" not in environment
