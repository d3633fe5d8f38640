"""Development containers beside bare containers of the same image, and beside a plain OpenSSH server."""

from __future__ import annotations

import getpass
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import Goal, Number, in_turn, seconds_of
from tests.integration.desks import ALICE, Desks, make_key
from tests.integration.platform import DeployedPlatform, free_ports, from_nothing
from tests.lab.machine import wait_for
from tests.packages import installed

GROUP = "Development containers"
ROUNDS, MANY = 10, 20
MIB, MIB_FULL = 200, 1000


@dataclass(frozen=True)
class Place:
    """Where files go and come from.

    Attributes:
        client: the start of the command of each program.
        host: its name for the client.
        folder: in which files are put there.
    """

    client: dict[str, list[str]]
    host: str
    folder: str

    def sftp(self, source: str, target: str) -> None:
        """Copy by SFTP; either is of this place, which begins with a colon."""
        argv = [*self.client["scp"], "-q", self._at(source), self._at(target)]
        subprocess.run(argv, check=True, capture_output=True)

    def rsync(self, source: str, target: str) -> None:
        """Copy all of a file by rsync, whatever is there already."""
        shell = ["--rsh", " ".join(self.client["ssh"])]
        argv = ["rsync", "--whole-file", "--ignore-times", *shell, self._at(source), self._at(target)]
        subprocess.run(argv, check=True, capture_output=True)

    def _at(self, path: str) -> str:
        return f"{self.host}:{self.folder}/{path[1:]}" if path.startswith(":") else path


def measure(platform: DeployedPlatform, rounds: int, full: bool) -> Iterator[Number]:
    """How soon containers are there, what they take, and how fast files go to them and come from them."""
    desks = Desks(platform.folder / "desks")
    desks.write_inventory()
    with from_nothing(desks):
        desks.configure_client()
        yield from _first_prompt(desks)
        yield from _many(desks)
        yield from _files(desks, rounds, MIB_FULL if full else MIB)


def _first_prompt(desks: Desks) -> Iterator[Number]:
    def made() -> float:
        desks.must("dev", "remove", "carols")
        return desks.first_prompt("carol", "carols")

    # SSH knows its name and its key from the first one on; the port stays.
    desks.must("dev", "create", "carol", "--environment=python", "--name=carols", "--memory=128m")
    desks.configure_client()
    values, others = in_turn(ROUNDS, made, lambda: desks.bare("carols"))
    name = "from dap dev create to the first command over SSH"
    yield Number(GROUP, name, "s", values, goal=Goal("value", at_most=3))
    goal = Goal("difference", at_most=1.5)
    yield Number(GROUP, f"{name}, and", "s", values, "docker run of the image", others, goal)
    desks.must("dev", "remove", "carols", "--with-home", "--yes")


def _many(desks: Desks) -> Iterator[Number]:
    with desks.more_of_carols(MANY) as names:
        took = seconds_of(lambda: desks.must("deploy", "--no-verify"))
        desks.configure_client()
        with ThreadPoolExecutor(4) as pool:
            assert not any(pool.map(lambda name: desks.try_ssh("carol", name, "true").returncode, names))
        used = desks.used_mib(names)
    yield Number(GROUP, f"deploy of {MANY} new ones", "s", [took], goal=Goal("value", at_most=20))
    yield Number(GROUP, "memory of one at rest, SSH only", "MiB", used, goal=Goal("value", at_most=40))


def _files(desks: Desks, rounds: int, mib: int) -> Iterator[Number]:
    installed("rsync", "rsync")
    given, back = desks.folder / "given", desks.folder / "back"
    with given.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(1024**2))
    ours = Place({name: desks.client("alice", name) for name in ("scp", "ssh")}, ALICE, "/scratch")
    with plain_server(desks.folder / "plain") as theirs:
        for way in ("sftp", "rsync"):
            for name, source, target in (("to", str(given), ":file"), ("from", ":file", str(back))):

                def speed(place: Place, way: str = way, source: str = source, target: str = target) -> float:
                    return mib / seconds_of(lambda: getattr(place, way)(source, target))

                values, others = in_turn(rounds, lambda: speed(ours), lambda: speed(theirs))
                if name == "from":
                    assert back.read_bytes() == given.read_bytes()
                goal, baseline = Goal("ratio", at_least=0.9), "plain OpenSSH on the host"
                yield Number(GROUP, f"{way} {name} it, {mib} MiB", "MiB/s", values, baseline, others, goal)


@contextmanager
def plain_server(folder: Path) -> Iterator[Place]:
    """An OpenSSH server of this machine as the distribution sets it up, for whoever measures."""
    sshd = installed("sshd", "openssh-server")
    key, host_key = make_key(folder, "key"), make_key(folder, "host_key")
    (port,) = free_ports(1)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (folder / "files").mkdir()
    options = {
        "HostKey": host_key,
        "AuthorizedKeysFile": key.with_suffix(".pub"),
        "ListenAddress": f"127.0.0.1:{port}",
        # The folders above are open to others, as those of all temporary files are.
        "StrictModes": "no",
        "PidFile": "none",
        "Subsystem": "sftp internal-sftp",
        "UsePAM": "no",
    }
    told = [f"-o{name}={value}" for name, value in options.items()]
    known = folder / "known_hosts"
    known.write_text(f"[127.0.0.1]:{port} {host_key.with_suffix('.pub').read_text()}", encoding="ascii")
    settings = [f"-oUserKnownHostsFile={known}", f"-oIdentityFile={key}", "-oIdentitiesOnly=yes"]
    client = ["-F", "none", f"-oPort={port}", "-oBatchMode=yes", *settings]
    place = Place(
        {name: [name, *client] for name in ("scp", "ssh")},
        f"{getpass.getuser()}@127.0.0.1",
        str(folder / "files"),
    )
    with subprocess.Popen([sshd, "-D", "-e", "-f", "none", *told], stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: _answers([*place.client["ssh"], place.host, "true"]), 10, "the server answers")
            yield place
        finally:
            server.terminate()


def _answers(command: list[str]) -> bool:
    done = subprocess.run(command, capture_output=True, check=False)
    time.sleep(0.1)
    return done.returncode == 0
