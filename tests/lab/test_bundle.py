"""A machine that nothing outside can be reached from, installed from one file."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dap.layout import compose_dir
from tests.engine import start_engine
from tests.integration.platform import ROOT
from tests.integration.small import SERVICES
from tests.lab.laboratory import Lab
from tests.lab.machine import docker

# Says why an address cannot be reached.
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"
# Both database servers run the same.
IMAGES = {f"dap/{name}" for name in (SERVICES | {"debian"}) - {"postgres-data"}}
OF_APT = "find /etc/apt -type f -exec sha256sum {} + | sort"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A service host in a network of its own, without a package that anybody has left there."""
    every = {path.parent.name for path in compose_dir().glob("*/service.yml")}
    start_engine(tmp_path_factory.mktemp("engine"))
    lab = Lab(tmp_path_factory.mktemp("alone"), runners=0, left_out=sorted(every - SERVICES), internal=True)
    try:
        lab.start()
        lab.write_inventory()
        lab.service.run(
            "sh", "-c", "rm -rf /var/cache/apt/archives /var/lib/apt/lists; mkdir /var/lib/apt/lists"
        )
        yield lab
    finally:
        lab.remove()


@pytest.fixture(scope="module")
def bundle(alone: Lab) -> Path:
    """All that the machine needs, made here."""
    path = alone.folder / "team.bundle"
    said = alone.must("bundle", "create", str(path), "--release", "trixie")
    assert re.fullmatch(
        rf"{path}: \d\.\d\d GB in \d+ s, \d+ images, packages of trixie for (amd64|arm64)\n"
        rf"Next, where the hosts are: dap -e {alone.name} deploy --bundle team.bundle\n",
        said,
    )
    return path


def test_machine_has_no_way_out(alone: Lab) -> None:
    assert alone.service.run("ip", "route", "show", "default") == ""
    # An address of this machine in another network: it would be reached by the default route.
    outside = json.loads(docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]["Gateway"]
    with socket.create_server((outside, 0)) as server:
        port = server.getsockname()[1]
        socket.create_connection((outside, port), 5).close()
        with pytest.raises(AssertionError, match="Network is unreachable"):
            alone.service.run("python3", "-c", CONNECT, outside, str(port))


def test_bundle_is_all_that_a_machine_needs(alone: Lab, bundle: Path) -> None:
    before = alone.service.run("sh", "-c", OF_APT)
    planned = alone.dap("plan", "--bundle", str(bundle))
    assert planned.returncode == 3, planned.stderr
    assert "installs docker.io" in planned.stdout
    assert planned.stdout.count(" loaded from the bundle\n") == len(IMAGES)
    assert " built" not in planned.stdout and "open to other users" not in planned.stderr
    # As a deploy leaves it that was killed.
    alone.service.run("mkdir", "-p", "/opt/dap/.build/packages/lists")
    alone.must("deploy", "--bundle", str(bundle))
    assert alone.service.run("sh", "-c", OF_APT) == before
    assert not alone.service.succeeds("test", "-e", "/opt/dap/.build")
    images = alone.service.run("docker", "image", "ls", "--format", "{{.Repository}}").split()
    assert {*images} == IMAGES
    again = alone.must("deploy", "--no-verify", "--bundle", str(bundle))
    assert again.startswith("0 changes\n")


def test_program_itself_comes_from_the_bundle(alone: Lab, bundle: Path) -> None:
    machine = alone.service
    listed = subprocess.run(
        ["git", "ls-files", "-z", "pyproject.toml", "requirements.lock", "README.md", "LICENSE", "scripts"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    packed = subprocess.run(
        ["tar", "--create", "--null", "--files-from=-", "--transform=s,^,/root/dap/,"],
        cwd=ROOT,
        input=listed,
        capture_output=True,
        check=True,
    ).stdout
    docker("cp", "-", f"{machine.container}:/", stdin=packed)
    docker("cp", str(bundle), f"{machine.container}:/root/team.bundle")
    machine.run("env", "BUNDLE=/root/team.bundle", "/root/dap/scripts/bootstrap", "run")
    assert machine.run("/root/dap/.venv/bin/dap", "--version").startswith("dap, version ")
