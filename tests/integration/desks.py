"""A platform with development containers, and the SSH client of the people who work in them."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from dap.layout import compose_dir
from tests.integration.platform import BIN, DeployedPlatform, docker, free_ports
from tests.integration.small import SERVICES, change_settings

ALICE, BOB = "alice-python", "bob-python"


def make_key(folder: Path, name: str) -> Path:
    """A new SSH key without a passphrase."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(file)], check=True)
    return file


@contextlib.contextmanager
def running(argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A client in the background, whose input stays open."""
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


@dataclass
class Desks(DeployedPlatform):
    """A platform on one machine, with a container each for two people."""

    keys: dict[str, Path] = field(default_factory=dict)

    @property
    def ssh_config(self) -> Path:
        return self.folder / "ssh_config"

    def write_inventory(self) -> None:
        """Write an inventory with what people work with, and nothing else."""
        super().write_inventory()
        others = {path.parent.name for path in compose_dir().glob("*/service.yml")} - SERVICES - {"mlflow"}
        self.keys = {name: make_key(self.folder / "keys", name) for name in ("alice", "bob", "carol")}
        first, second = free_ports(2)
        change_settings(
            self,
            services={name: {"enabled": False} for name in sorted(others)},
            users=[
                {"name": name, "ssh_keys": [key.with_suffix(".pub").read_text().strip()]}
                for name, key in self.keys.items()
            ],
            projects=[{"name": "demo", "members": {"alice": "developer", "carol": "developer"}}],
            dev_containers=[
                {"user": "alice", "environment": "python", "port": first, "memory": "768m", "shm": "256m"},
                {"user": "bob", "environment": "python", "port": second, "memory": "256m", "pids": 100},
            ],
        )

    def configure_client(self) -> None:
        """Do as a user is told: put what the program prints into the client's configuration, as it is."""
        self.ssh_config.write_text(self.must("ssh-config"), encoding="utf-8")

    def client(self, user: str, program: str = "ssh", *options: str) -> list[str]:
        """A client of OpenSSH's with a user's key, and with nothing that this machine's own files say."""
        none = ["-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null"]
        key = ["-i", str(self.keys[user]), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        return [program, "-F", str(self.ssh_config), *none, *key, *options]

    def try_ssh(
        self, user: str, container: str, command: str, *options: str, given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container over SSH."""
        argv = [*self.client(user, "ssh", *options), container, command]
        return subprocess.run(argv, input=given, capture_output=True, text=True, timeout=120, check=False)

    def ssh(self, command: str, *options: str, given: str = "", user: str = "alice") -> str:
        """The output of a command in the user's own container, which must succeed."""
        container = {"alice": ALICE, "bob": BOB}[user]
        done = self.try_ssh(user, container, command, *options, given=given)
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def first_prompt(self, user: str, container: str) -> float:
        """Create a container; the seconds until its user has run a first command in it."""
        create = ["create", user, "--environment=python", f"--name={container}", "--memory=128m"]
        program = [str(BIN / "dap"), "dev", *create]
        begin = time.monotonic()
        with subprocess.Popen(program, env=self.environment, stdout=subprocess.PIPE, text=True) as told:
            assert told.stdout
            # Whoever connects now does not wait for the page, which comes after.
            assert any(line.startswith(f"{container} runs on ") for line in told.stdout)
            done = self.try_ssh(user, container, "true")
            took = time.monotonic() - begin
            assert done.returncode == 0, done.stderr
            told.stdout.read()
        assert told.returncode == 0
        return took

    def bare(self, container: str) -> float:
        """The seconds that the engine takes for a container of the same image, and no more."""
        image = docker("inspect", "--format", "{{.Config.Image}}", f"{self.name}-dev-{container}").strip()
        begin = time.monotonic()
        docker("run", "--detach", "--name", f"{self.name}-bare", image, "sleep", "60")
        took = time.monotonic() - begin
        docker("rm", "--force", f"{self.name}-bare")
        return took

    def used_mib(self, names: Sequence[str]) -> list[float]:
        """The memory that containers take at present."""
        boxes = [f"{self.name}-dev-{name}" for name in names]
        lines = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", *boxes).splitlines()
        return [float(found[1]) for line in lines if (found := re.match(r"([\d.]+)MiB /", line))]

    @contextlib.contextmanager
    def more_of_carols(self, count: int) -> Iterator[list[str]]:
        """Names of containers that the next deploy makes; they are gone after."""
        names = [f"many-{number}" for number in range(count)]
        before = self.settings_file.read_text(encoding="utf-8")
        written = yaml.safe_load(before)
        written["dev_containers"] += [
            {"user": "carol", "environment": "python", "name": name, "port": port, "memory": "128m"}
            for name, port in zip(names, free_ports(count), strict=True)
        ]
        self.settings_file.write_text(yaml.safe_dump(written), encoding="utf-8")
        yield names
        self.settings_file.write_text(before, encoding="utf-8")
        docker("rm", "--force", *(f"{self.name}-dev-{name}" for name in names))
        self.must("deploy", "--no-verify")
        assert not [*(self.root / "dev").glob("many-*")]

    def change_container(self, index: int, **settings: object) -> None:
        """Change what is written of a development container."""
        written = yaml.safe_load(self.settings_file.read_text(encoding="utf-8"))
        written["dev_containers"][index] |= settings
        self.settings_file.write_text(yaml.safe_dump(written), encoding="utf-8")
