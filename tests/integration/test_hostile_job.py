"""A job that tries for what is not its project's: the engine, the host, the runner, other jobs."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path
from typing import Any

import pytest
import yaml
from gitlab.v4.objects import Project, ProjectPipeline

from dap.gitlab.ci import plain
from tests.gitlab_runner.container import wait_for
from tests.integration.pipelines import RunnerPlatform, traces
from tests.integration.test_containers import listeners

PROGRAM = Path(__file__).parent / "fixtures" / "hostile_job.py"


def places(platform: RunnerPlatform) -> dict[str, str]:
    """Address and TCP port of whatever listens in the platform's containers, with the service's name."""
    found: dict[str, str] = {}
    for name, box in platform.containers().items():
        if pid := box["State"]["Pid"]:
            ports = {port for _, port in listeners(Path(f"/proc/{pid}"))}
            for network in box["NetworkSettings"]["Networks"].values():
                found |= {f"{network['IPAddress']}:{port}": f"{name}:{port}" for port in ports}
    return found


def begin(project: Project, job: dict[str, Any], files: dict[str, str] | None = None) -> ProjectPipeline:
    """Commit a pipeline of one job, with files that it uses."""
    texts = (files or {}) | {".gitlab-ci.yml": yaml.safe_dump({"job": job})}
    actions = [{"action": "create", "file_path": path, "content": text} for path, text in texts.items()]
    project.commits.create({"branch": "main", "commit_message": "CI", "actions": actions})
    return project.pipelines.list(get_all=True)[0]


@pytest.fixture(scope="module")
def got(runner_platform: RunnerPlatform) -> dict[str, Any]:
    """What it got, while another project's job with a secret ran beside it."""
    platform, secret = runner_platform, secrets.token_hex(16)
    listening = places(platform)
    victim, attacker = platform.new_project("victim"), platform.new_project("attacker")
    image = {"name": platform.image, "entrypoint": [""]}
    script = ["echo $HELD > /tmp/held", "echo it is held", "sleep 600"]
    holding = begin(victim, {"image": image, "variables": {"HELD": secret}, "script": script})
    job = victim.jobs.get(holding.jobs.list(get_all=True)[0].id)
    wait_for(lambda: "it is held" in victim.jobs.get(job.id).trace().decode(), "the other job runs")
    # Backwards, or it would find what it is told to look for.
    variables = {"PLACES": ",".join(listening), "LOOKED_FOR": secret[::-1]}
    tries = {"image": image, "variables": variables, "script": ["python3 job.py"]}
    try:
        trying = begin(attacker, tries, {"job.py": PROGRAM.read_text(encoding="utf-8")})
        state, trace = traces(attacker, trying.id)["job"]
        assert victim.jobs.get(job.id).status == "running"
    finally:
        job.cancel()
    assert state == "success", trace
    (line,) = re.findall(r"^got (\{.*\})$", plain(trace), re.M)
    found: dict[str, Any] = json.loads(line)
    found["ports of containers"] = sorted(
        {listening[place] for place in found.pop("ports of containers", [])}
    )
    return found


def test_job_gets_nothing_but_the_ports_that_everybody_may_reach(
    runner_platform: RunnerPlatform, got: dict[str, Any]
) -> None:
    ports = runner_platform.ports
    # Besides the pages, what says that the proxy is well.
    assert got == {
        "ports of containers": sorted(f"nginx-proxy:{port}" for port in (ports["http"], ports["https"], 8081))
    }
