"""One user works on two machines, in containers that were made over SSH."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.desks import make_key
from tests.integration.small import change_settings
from tests.lab.laboratory import Lab

# What users have on a host, which nothing but a person removes.
KINDS = ("homes", "scratch", "shared")
TRACK = """
import mlflow
mlflow.set_experiment("over-ssh")
with mlflow.start_run() as run:
    mlflow.log_metric("answer", 42)
print(mlflow.get_run(run.info.run_id).data.metrics["answer"])
"""


@pytest.fixture
def key(lab: Lab) -> Iterator[Path]:
    """The key of a user who is in the configuration, and whom no service knows yet."""
    file = make_key(lab.folder / "keys", "ada")
    public = file.with_suffix(".pub").read_text(encoding="utf-8").strip()
    before = change_settings(lab, users=[{"name": "ada", "ssh_keys": [public]}])
    yield file
    lab.settings_file.write_text(before, encoding="utf-8")
    lab.must("deploy", "--no-verify")
    # Of what is no longer configured the container goes, and the home stays.
    runner = lab.machine("runner1")
    assert runner.run("docker", "ps", "--all", "--quiet", "--filter", "label=dap.dev") == ""
    assert not runner.succeeds("test", "-e", "/opt/dap/dev")
    assert runner.run("ls", "/var/lib/dap/homes/ada") == "mine\n"
    for machine in lab.runner_machines:
        machine.run("rm", "--recursive", "--force", *(f"/var/lib/dap/{kind}" for kind in KINDS))


def test_user_has_a_container_on_each_of_two_hosts(lab: Lab, key: Path) -> None:
    # The first one takes a deploy, as the user is new; the second is made at once.
    for host in ("runner1", "runner2"):
        told = lab.must("dev", "create", "ada", f"--host={host}", "--environment=python", f"--name=on-{host}")
        assert f"on-{host} runs on {host}, port 22001, from dap/python:" in told
    config = lab.folder / "users_ssh_config"
    config.write_text(lab.must("ssh-config", "--user", "ada"), encoding="utf-8")
    none = ["-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null"]
    client = ["ssh", "-F", str(config), *none, "-i", str(key), "-o", "BatchMode=yes"]

    def ssh(host: str, command: str, given: str = "") -> str:
        argv = [*client, f"on-{host}", command]
        done = subprocess.run(argv, input=given, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    for host in ("runner1", "runner2"):
        assert ssh(host, "id -u; touch mine; stat -c %u mine").split() == ["20000", "20000"]
        assert ssh(host, "python -", TRACK).splitlines()[-1] == "42.0"
    # Their pages are on hosts of their own, and the proxy's way there is as safe as that to itself.
    logins = json.loads(lab.must("credentials", "--user", "ada", "--json"))
    (password,) = (one["secret"] for one in logins if one["what"] == "Platform login")
    with httpx.Client(verify=lab.trust, auth=("ada", password), timeout=120) as visitor:
        for host in ("runner1", "runner2"):
            name = f"on-{host}.{lab.domain}"
            # This machine knows the names of the services only.
            answer = visitor.get(
                f"{lab.url()}/api/status", headers={"Host": name}, extensions={"sni_hostname": name}
            )
            assert answer.json()["kernels"] == 0
    lab.must("dev", "recreate", "on-runner2", "--yes")
    assert ssh("runner2", "ls") == "mine\n"
    removed = lab.must("dev", "remove", "on-runner2", "--with-home", "--yes")
    assert removed.splitlines() == [
        "on-runner2: development container removed",
        "ada: /var/lib/dap/homes/ada removed",
        "ada: /var/lib/dap/scratch/ada removed",
    ]
