"""Git through the proxy beside Git that speaks with the server of repositories itself."""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from tests.bench.measure import Goal, Number, in_turn, seconds_of
from tests.engine import start_engine
from tests.gitlab_double.image_build import double_image
from tests.integration.platform import DeployedPlatform, free_ports

GROUP = "Git"
MIB = 1024 * 1024
SIZE = 200
BASELINE = "without the proxy"


@dataclass(frozen=True)
class Server:
    """Where Git finds repositories, and what it needs to be let in.

    Attributes:
        url: the part of their addresses that all have in common.
        settings: of Git.
    """

    url: str
    settings: dict[str, str]

    def git(self, *arguments: str | Path) -> None:
        """Run Git."""
        environment = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_COUNT": str(len(self.settings))}
        for number, (name, value) in enumerate(self.settings.items()):
            environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        done = subprocess.run(
            ["git", *map(str, arguments)], env=kept | environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def measure(platform: DeployedPlatform, rounds: int, full: bool) -> Iterator[Number]:
    """Push and clone a repository of 200 MiB, which no compression makes smaller."""
    with tempfile.TemporaryDirectory() as folder, _repositories(platform) as (ours, theirs):
        work, names = Path(folder, "work"), itertools.count()
        _make(work)

        def push(server: Server) -> float:
            address = f"{server.url}/root/bench-{next(names)}.git"
            return seconds_of(lambda: server.git("-C", work, "push", "--quiet", address, "main"))

        def clone(server: Server) -> float:
            copy = Path(folder, "copy")
            address = f"{server.url}/root/bench-0.git"
            try:
                return seconds_of(lambda: server.git("clone", "--quiet", "--bare", address, copy))
            finally:
                shutil.rmtree(copy)

        for what in (push, clone):
            values, others = in_turn(rounds, partial(what, ours), partial(what, theirs))
            yield Number(
                GROUP,
                f"{what.__name__} of {SIZE} MiB",
                "MiB/s",
                [SIZE / seconds for seconds in values],
                BASELINE,
                [SIZE / seconds for seconds in others],
                Goal("ratio", at_least=0.9),
            )


def _make(work: Path) -> None:
    """A repository with one commit of files of a MiB each, in one pack, as after a clone."""
    content = b"".join(
        b"blob\nmark :%d\ndata %d\n%s\n" % (number, MIB, os.urandom(MIB)) for number in range(1, SIZE + 1)
    )
    files = b"".join(b"M 100644 :%d data-%d.bin\n" % (number, number) for number in range(1, SIZE + 1))
    commit = b"commit refs/heads/main\ncommitter bench <bench@example.com> 1700000000 +0000\ndata 4\ndata\n"
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", work], check=True)
    subprocess.run(["git", "-C", work, "fast-import", "--quiet"], input=content + commit + files, check=True)


@contextlib.contextmanager
def _repositories(platform: DeployedPlatform) -> Iterator[tuple[Server, Server]]:
    """The platform with GitLab's stand-in, which serves repositories with Git's own server program.

    Yields:
        The way through the proxy, and the one to a port of the container.
    """
    before = platform.settings_file.read_bytes()
    override = platform.inventory / "compose" / "gitlab" / "compose.override.yaml.j2"
    (port,) = free_ports(1)
    ports = {"ports": [{"host_ip": "127.0.0.1", "published": str(port), "target": 80}]}
    with tempfile.TemporaryDirectory() as folder:
        image = double_image(start_engine(Path(folder)))
    settings = yaml.safe_load(before)
    settings["services"]["gitlab"] = {"enabled": True, "image": image}
    override.parent.mkdir(parents=True)
    try:
        override.write_text(yaml.safe_dump({"services": {"gitlab": ports}}), encoding="utf-8")
        platform.settings_file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        platform.deploy()
        stored = yaml.safe_load((platform.secrets / "secrets.yml").read_text(encoding="utf-8"))
        login = base64.b64encode(f"root:{stored['values']['gitlab.api_token']}".encode()).decode()
        header = {"http.extraHeader": f"Authorization: Basic {login}"}
        yield (
            Server(platform.url("gitlab"), header | {"http.sslCAInfo": str(platform.ca_file)}),
            Server(f"http://gitlab.{platform.domain}:{port}", header),
        )
    finally:
        platform.settings_file.write_bytes(before)
        shutil.rmtree(override.parent)
        platform.deploy()
