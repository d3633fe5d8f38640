"""A running gitlab-runner with a network for its jobs, on this machine's engine."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

SOCKET = Path("/var/run/docker.sock")
USER = 1000
HOME = "/tmp"  # noqa: S108  the container's own
LIMIT_S = 60
MANAGED = "com.gitlab.gitlab-runner.managed=true"


def docker(*arguments: str, check: bool = True) -> str:
    """Standard output of a docker command."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


class JobsNetwork:
    """A network with an address of this machine, under which containers reach a server here."""

    def __init__(self, name: str) -> None:
        self.name = name
        docker("network", "create", name)

    @property
    def gateway(self) -> str:
        return docker("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", self.name)

    def remove(self) -> None:
        docker("network", "rm", self.name)


class RealRunner:
    """A runner in a container: an ordinary user who may use the engine's socket.

    Args:
        folder: for its configuration.
        configuration: the content of `config.toml`.
    """

    def __init__(self, folder: Path, name: str, image: str, network: str, configuration: str) -> None:
        self.name, self.folder = name, folder
        folder.mkdir(parents=True)
        self.configure(configuration)
        docker(
            *("run", "--detach", "--name", name, "--network", network),
            *("--user", f"{USER}:{USER}", "--group-add", str(SOCKET.stat().st_gid)),
            *("--read-only", "--tmpfs", f"{HOME}:mode=1777", "--env", f"HOME={HOME}"),
            *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--volume", f"{SOCKET}:{SOCKET}", "--volume", f"{folder}:/etc/gitlab-runner"),
            *(image, "run", "--config", "/etc/gitlab-runner/config.toml", "--working-directory", HOME),
        )

    def configure(self, configuration: str) -> None:
        """Write its configuration, which it reads again by itself."""
        fresh = self.folder / "config.toml.new"
        fresh.write_text(configuration, encoding="utf-8")
        fresh.chmod(0o600)
        for path in (self.folder, fresh):
            os.chown(path, USER, USER)
        fresh.replace(self.folder / "config.toml")

    @property
    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def stop(self, seconds: int) -> int:
        """Ask it to end; its exit status."""
        docker("stop", "--timeout", str(seconds), self.name)
        return int(docker("inspect", "--format", "{{.State.ExitCode}}", self.name))

    def remove(self, volume: str) -> None:
        """Leave nothing behind: neither the runner nor what its jobs have left."""
        docker("rm", "--force", self.name, check=False)
        filters = ("--filter", f"label={MANAGED}", "--filter", f"label={self.name}")
        for _ in range(3):
            if left := docker("ps", "--all", "--quiet", *filters).split():
                docker("rm", "--force", "--volumes", *left, check=False)
        volumes = docker("volume", "ls", "--quiet", *filters).split()
        docker("volume", "rm", "--force", volume, *volumes, check=False)


def wait_for(condition: object, what: str, limit_s: float = LIMIT_S) -> None:
    """Wait until a function returns something true."""
    assert callable(condition)
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.1)
