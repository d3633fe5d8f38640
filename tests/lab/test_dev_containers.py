"""One user works on two machines, in containers that were made over SSH; on one of them with GPUs."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gitlab
import httpx
import pytest
import yaml

from tests.end_to_end.pipeline import EXAMPLE
from tests.integration.desks import make_key
from tests.integration.small import change_settings
from tests.lab.gpus import GPU_HOST, NAMES, SPEC, give_gpus, plug_in, take_gpus, use_gpus, write_spec
from tests.lab.jobs import ended, project
from tests.lab.laboratory import Lab
from tests.lab.machine import wait_for

# What users have on a host, which nothing but a person removes.
KINDS = ("homes", "scratch", "shared")
TRACK = """
import mlflow
mlflow.set_experiment("over-ssh")
with mlflow.start_run() as run:
    mlflow.log_metric("answer", 42)
print(mlflow.get_run(run.info.run_id).data.metrics["answer"])
"""
# What there is, as a user's script meets it: packages of Python, of R and of Debian.
SAME = """
uv pip freeze --no-cache --system
Rscript -e 'write.table(installed.packages()[, "Version"], quote = FALSE, col.names = FALSE)'
dpkg-query --show
"""
# What a container or a job has of GPUs, one after the other.
SEE = "echo $(ls /dev | grep gpu) $(env | grep -E '^(DAP_GPU_|NVIDIA_)' | sort)"
GENERATE = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
JOB = f"with a GPU:\n  tags: [gpu]\n  variables: {{GIT_STRATEGY: none}}\n  script:\n    - {SEE}\n"


@dataclass(frozen=True)
class Desk:
    """A user of the lab, and her SSH client."""

    lab: Lab
    key: Path

    def create(self, name: str, host: str, *options: str) -> str:
        """Make a container; what the program says."""
        return self.lab.must("dev", "create", *self.arguments(name, host, *options))

    def arguments(self, name: str, host: str, *options: str) -> list[str]:
        return ["ada", f"--host={host}", "--environment=python", f"--name={name}", *options]

    def refused(self, *arguments: str) -> str:
        """What the program says that refuses something."""
        done = self.lab.dap(*arguments)
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stderr

    def ssh(self, container: str, command: str, given: str = "") -> str:
        """What a command prints in a container."""
        done = self.attempt(container, command, given)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def attempt(
        self, container: str, command: str, given: str = "", key: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in a container, which may fail; with ``key`` in place of the configured one."""
        config = self.lab.folder / "users_ssh_config"
        config.write_text(self.lab.must("ssh-config", "--user", "ada"), encoding="utf-8")
        none = ["-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null"]
        only = ["-i", str(key or self.key), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        argv = ["ssh", "-F", str(config), *none, *only, container, command]
        return subprocess.run(argv, input=given, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def desk(lab: Lab) -> Iterator[Desk]:
    """A user who is in the configuration and whom no service knows yet, and a runner with a GPU."""
    file = make_key(lab.folder / "keys", "ada")
    public = file.with_suffix(".pub").read_text(encoding="utf-8").strip()
    give_gpus(lab.machine(GPU_HOST))
    runner = {"name": "gpu", "tags": ["gpu"], "hosts": [GPU_HOST], "gpus": [0]}
    before = change_settings(
        lab,
        users=[{"name": "ada", "ssh_keys": [public], "ssh_keys_from_gitlab": True}],
        runners={"image_builds": {"enabled": False}, "extra": [runner]},
        gpus={"prepare": True},
    )
    yield Desk(lab, file)
    lab.settings_file.write_text(before, encoding="utf-8")
    lab.must("deploy", "--no-verify")
    # Of what is no longer configured the container goes, and the home stays.
    take_gpus(lab.machine(GPU_HOST))
    machine = lab.machine("runner1")
    assert machine.run("docker", "ps", "--all", "--quiet", "--filter", "label=dap.dev") == ""
    assert not machine.succeeds("test", "-e", "/opt/dap/dev")
    assert machine.run("ls", "/var/lib/dap/homes/ada") == "mine\n"
    for machine in lab.runner_machines:
        machine.run("rm", "--recursive", "--force", *(f"/var/lib/dap/{kind}" for kind in KINDS))


def test_user_has_a_container_on_each_of_two_hosts(lab: Lab, desk: Desk) -> None:
    # The first one takes a deploy, as the user is new; the second is made at once.
    for host in ("runner1", "runner2"):
        assert f"on-{host} runs on {host}, port 22001, from dap/python:" in desk.create(f"on-{host}", host)
    for host in ("on-runner1", "on-runner2"):
        assert desk.ssh(host, "id -u; touch mine; stat -c %u mine").split() == ["20000", "20000"]
        assert desk.ssh(host, "python -", TRACK).splitlines()[-1] == "42.0"
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
    assert desk.ssh("on-runner2", "ls") == "mine\n"
    removed = lab.must("dev", "remove", "on-runner2", "--with-home", "--yes")
    assert removed.splitlines() == [
        "on-runner2: development container removed",
        "ada: /var/lib/dap/homes/ada removed",
        "ada: /var/lib/dap/scratch/ada removed",
    ]


def test_script_finds_the_same_in_a_container_and_in_a_pipeline(
    lab: Lab, desk: Desk, client: gitlab.Gitlab
) -> None:
    said = desk.create("in-r", "runner2", "--environment=python-r")
    (box,) = [
        one for one in json.loads(lab.must("dev", "list", "--json"))["containers"] if one["name"] == "in-r"
    ]
    assert f"In a pipeline: image: {box['image']}, which is $DAP_IMAGE_PYTHON_R\n" in said
    assert desk.ssh("in-r", "printenv DAP_IMAGE") == f"{box['image']}\n"
    example = yaml.safe_load((EXAMPLE / ".gitlab-ci.yml").read_text(encoding="utf-8"))["default"]["image"]
    made = {"script": [f"({SAME}) > found.txt"], "artifacts": {"paths": ["found.txt"]}}
    pipeline = {"told": {"image": box["image"], **made}, "as the example": {"image": example, **made}}
    layers = []
    with project(lab, client, yaml.safe_dump(pipeline)) as jobs:
        number = jobs.start()
        inside = desk.ssh("in-r", "sh", SAME)
        assert "pandas==" in inside
        assert ended(jobs, number) == "success"
        for job in jobs.of(number).values():
            assert job.artifact("found.txt").decode() == inside
            # Engines of different kinds have digests of their own for the same content.
            inspect = ("docker", "image", "inspect", box["image"])
            (known,) = json.loads(lab.machine(jobs.where(job.id)).run(*inspect))
            used = f"Using docker image {known['Id']} for {box['image']}"
            assert [line for line in jobs.trace(job.id) if used in line]
            layers.append(known["RootFS"]["Layers"])
    (known,) = json.loads(lab.machine("runner2").run("docker", "image", "inspect", box["image_id"]))
    assert layers == [known["RootFS"]["Layers"]] * 2
    lab.must("dev", "remove", "in-r", "--with-home", "--yes")


def test_key_in_gitlab_opens_a_container_at_once_for_as_long_as_it_is_there(
    lab: Lab, desk: Desk, client: gitlab.Gitlab
) -> None:
    key = make_key(lab.folder / "keys", "laptop")

    def opens() -> bool:
        done = desk.attempt("on-runner1", "id -un", key=key)
        assert done.returncode == 0 or "Permission denied (publickey)." in done.stderr
        return done.stdout == "ada\n"

    def to_be_asked() -> bool:
        # What GitLab said some seconds ago counts. Who is refused often is not let in for a while.
        return desk.ssh("on-runner1", "find /run/gitlab_keys.asked -newermt '-3 seconds'") == ""

    assert not opens()
    (account,) = client.users.list(username="ada")
    added = account.keys.create({"title": "laptop", "key": key.with_suffix(".pub").read_text()})
    wait_for(to_be_asked, 15, "GitLab is asked again")
    assert opens()
    stage = f"{lab.url('gitlab')}/-/stand-in"
    with httpx.Client(verify=lab.trust, trust_env=False) as web:
        web.get(f"{stage}/booting")
        try:
            assert web.get(f"{lab.url('gitlab')}/ada.keys").status_code == 502
            # The one that is made anew has never heard of GitLab.
            lab.must("dev", "recreate", "on-runner1", "--yes")
            assert opens()
            said = lab.dap("dev", "logs", "on-runner1").stderr
            assert "GitLab does not answer with keys (502); those that it named last count\n" in said
        finally:
            web.get(f"{stage}/ready")
    added.delete()
    wait_for(to_be_asked, 15, "GitLab is asked again")
    assert not opens()


def test_deploy_has_a_host_hand_out_its_gpus_and_keeps_its_engines_other_settings(
    lab: Lab, desk: Desk
) -> None:
    machine = lab.machine(GPU_HOST)
    assert machine.run("dpkg-query", "--show", "nvidia-container-toolkit") == "nvidia-container-toolkit\t0\n"
    assert machine.run("stat", "--format", "%a", SPEC) == "644\n"
    settings = json.loads(machine.run("cat", "/etc/docker/daemon.json"))
    assert settings == {"features": {"cdi": True}, "log-level": "warn"}
    assert json.loads(machine.run("docker", "info", "--format", "{{json .CDISpecDirs}}")) != []


@pytest.fixture(scope="module")
def with_gpus(desk: Desk) -> Desk:
    """Containers with a GPU each: one that is free, and one that is named."""
    desk.create("any", GPU_HOST, "--no-jupyter", "--gpus=1")
    desk.create("named", GPU_HOST, "--no-jupyter", "--gpu=GPU-a2")
    return desk


def test_container_sees_its_devices_and_no_others(lab: Lab, with_gpus: Desk) -> None:
    seen = {name: with_gpus.ssh(name, SEE) for name in ("any", "named")}
    assert seen == {
        "any": "dap-gpu1 DAP_GPU_1=here NVIDIA_VISIBLE_DEVICES=void\n",
        "named": "dap-gpu2 DAP_GPU_2=here NVIDIA_VISIBLE_DEVICES=void\n",
    }
    listed = json.loads(lab.must("dev", "list", "--json"))["containers"]
    assert {one["name"]: one["gpus"] for one in listed if one["host"] == GPU_HOST} == {
        "any": ["nvidia.com/gpu=GPU-a1"],
        "named": ["nvidia.com/gpu=GPU-a2"],
    }
    gpus = json.loads(lab.must("status", "--json"))["gpus"]
    owners = ("the runner gpu", "any", "named")
    assert gpus == [
        {
            **{"host": GPU_HOST, "device": f"nvidia.com/gpu=GPU-a{number}", "uuid": f"GPU-a{number}"},
            **{"promised_to": [owners[number]], "state": "ok"},
        }
        for number in NAMES
    ]
    assert with_gpus.ssh("any", "head -c 1000 /dev/dap-gpu1 | wc -c; cat /run/dap/motd").startswith(
        "1000\n\n"
    )


def test_gpu_at_work_is_told_and_keeps_what_runs_from_being_ended(lab: Lab, with_gpus: Desk) -> None:
    machine, box = lab.machine(GPU_HOST), "dap-dev-any"
    inside = ["docker", "exec", box, "sh", "-c"]

    def told() -> tuple[int | None, str]:
        every = json.loads(lab.must("dev", "list", "--json"))["containers"]
        (use,) = (one["gpu"] for one in every if one["name"] == "any")
        row = next(line for line in lab.must("dev", "list").splitlines() if line.startswith("any "))
        return use, re.split("  +", row)[10]

    def lives() -> bool:
        return "sleep 1000" in machine.run("docker", "top", box, "-eo", "pid,args")

    # As it is started with the container, but for its limits, which are of minutes.
    quick = ["--env", "DAP_IDLE_SECONDS=3", "--env", "DAP_IDLE_LOOK_SECONDS=1"]
    idle = ["docker", "exec", "--detach", *quick, box, "sh", "-c", "exec sh /etc/dap/idle.sh >/proc/1/fd/1"]
    try:
        use_gpus(machine, "hangs")
        assert told() == (None, "unknown")
        use_gpus(machine, "40")
        assert told() == (40, "40 %")
        with_gpus.ssh("any", "setsid sleep 1000 >/dev/null 2>&1 </dev/null &")
        # Neither a GPU at work nor one of which nobody can tell, as of a part of one, counts as idle.
        machine.run(*idle)
        for use in ("40", "[N/A]"):
            use_gpus(machine, use)
            machine.run(*inside, "rm --force /tmp/asked")
            wait_for(
                lambda: machine.succeeds(*inside, "test $(wc -l </tmp/asked) -ge 6"), 60, "it has looked"
            )
            assert lives()
        use_gpus(machine, "0")
        wait_for(lambda: not lives(), 60, "what was idle has ended")
        assert told() == (0, "0 %")
    finally:
        use_gpus(machine, "0")
        machine.succeeds(*inside, "pkill -f idle.sh; rm /tmp/asked")


def test_job_sees_the_devices_of_its_runner(lab: Lab, desk: Desk, client: gitlab.Gitlab) -> None:
    with project(lab, client, JOB) as jobs:
        pipeline = jobs.start()
        assert ended(jobs, pipeline) == "success"
        job = jobs.of(pipeline)["with a GPU"]
        assert jobs.where(job.id) == GPU_HOST
        assert "dap-gpu0 DAP_GPU_0=here NVIDIA_VISIBLE_DEVICES=void" in jobs.trace(job.id)


@pytest.mark.parametrize(
    ("host", "option", "told"),
    [
        (
            GPU_HOST,
            "--gpu=GPU-a2",
            "gpus = GPU-a2\n    is promised to named (dev_containers[2]) on runner2 already\n"
            "    write a different device, or gpus_shared: true at both",
        ),
        # The same device by its other name.
        (
            GPU_HOST,
            "--gpu=2",
            "gpus = 2\n    is promised to named (dev_containers[2]) on runner2 already\n"
            "    write a different device, or gpus_shared: true at both",
        ),
        (
            GPU_HOST,
            "--gpus=1",
            "gpus = 1\n    is more than the 0 that nobody else is promised, of the 3 of runner2\n"
            "    write fewer, gpus_shared: true at all who are to share, or another host",
        ),
        (
            GPU_HOST,
            "--gpu=7",
            "gpus = 7\n    is not a device of runner2\n    write one of: 0, GPU-a0, 1, GPU-a1, 2, GPU-a2;"
            f" or, where it is there, the spec anew: {GENERATE}",
        ),
        (
            "runner1",
            "--gpus=1",
            "gpus = 1\n    runner1 has Docker 20.10.24+dfsg1, and containers get devices by CDI, which that"
            " does not know\n    upgrade Docker on runner1 to 25 or newer, or name another host",
        ),
    ],
)
def test_device_that_cannot_be_had_is_refused(
    lab: Lab, with_gpus: Desk, host: str, option: str, told: str
) -> None:
    before = lab.settings_file.read_text(encoding="utf-8")
    said = with_gpus.refused("dev", "create", *with_gpus.arguments("more", host, option))
    file = lab.settings_file
    assert said == (
        f"error: 1 error in the configuration; nothing was changed:\n  {file}: dev_containers[3].{told}\n"
    )
    assert lab.settings_file.read_text(encoding="utf-8") == before


def test_gpu_that_was_taken_out_is_told_and_the_others_go_on(lab: Lab, with_gpus: Desk) -> None:
    machine = lab.machine(GPU_HOST)
    plug_in(machine, [0, 1])
    write_spec(machine)
    told = (
        f"  {lab.settings_file}: dev_containers[2].gpus = GPU-a2\n    is not a device of runner2\n"
        f"    write one of: 0, GPU-a0, 1, GPU-a1; or, where it is there, the spec anew: {GENERATE}\n"
    )
    try:
        refused = "error: preflight found 1 error; nothing was changed:\n" + told
        assert with_gpus.refused("check").partition("\n")[2] == refused
        refused = "error: 1 error in the configuration; nothing was changed:\n" + told
        assert with_gpus.refused("dev", "recreate", "named", "--yes") == refused
        lab.must("dev", "recreate", "any", "--yes")
        assert with_gpus.ssh("any", SEE) == "dap-gpu1 DAP_GPU_1=here NVIDIA_VISIBLE_DEVICES=void\n"
        assert with_gpus.ssh("named", "echo $DAP_GPU_2") == "here\n"
        gpus = json.loads(lab.must("status", "--json"))["gpus"]
        assert {one["device"]: one["state"] for one in gpus} == {
            **{"nvidia.com/gpu=GPU-a0": "ok", "nvidia.com/gpu=GPU-a1": "ok"},
            "nvidia.com/gpu=GPU-a2": "missing",
        }
    finally:
        plug_in(machine, NAMES)
        write_spec(machine)
