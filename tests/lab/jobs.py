"""Jobs that last until a test lets them end, and the runners that they are on."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import gitlab
from gitlab.v4.objects import Project, ProjectJob

from dap.gitlab.ci import plain
from tests.lab.laboratory import Lab
from tests.lab.machine import Machine, wait_for

# One says a line every half second, so that GitLab hears of it as often as it wants to.
PIPELINE = """
default: {image: $DAP_IMAGE_PYTHON_R}
variables: {GIT_STRATEGY: none}
.lasting:
  script:
    - n=0
    - until test -e /tmp/go; do n=$((n + 1)); echo "line $n"; sleep 0.5; done
    - echo "$CI_RUNNER_DESCRIPTION" > where.txt
lost:
  extends: .lasting
  allow_failure: true
tried again:
  extends: .lasting
  retry: {max: 1, when: stuck_or_timeout_failure}
outlives:
  extends: .lasting
  when: manual
  allow_failure: false
  artifacts: {paths: [where.txt]}
"""
LABEL = "label=dap.jobs=dap"
LIMIT_S = 120


class Jobs:
    """A project whose jobs last."""

    def __init__(self, lab: Lab, client: gitlab.Gitlab, project: Project) -> None:
        self.lab, self.client, self.project = lab, client, project

    def start(self) -> int:
        """Start a pipeline; its number."""
        return int(self.project.pipelines.create({"ref": "main"}).id)

    def of(self, pipeline: int) -> dict[str, ProjectJob]:
        """The jobs of a pipeline by name; of those that were tried again the last."""
        found = self.project.pipelines.get(pipeline).jobs.list(get_all=True)
        return {one.name: self.project.jobs.get(one.id) for one in sorted(found, key=lambda one: one.id)}

    def state(self, pipeline: int) -> str:
        return str(self.project.pipelines.get(pipeline).status)

    def trace(self, job: int) -> list[str]:
        """What a job has said, line by line."""
        return plain(bytes(self.project.jobs.get(job).trace() or b"").decode()).splitlines()

    def runs(self, job: int) -> bool:
        """Whether a job's script runs, not just its preparation."""
        return "line 1" in self.trace(job)

    def counted(self, job: int) -> list[int]:
        """The numbers of the lines that a job's script has said."""
        return [int(found[1]) for line in self.trace(job) if (found := re.fullmatch(r"line (\d+)", line))]

    def take_on(self, *machines: Machine) -> None:
        """Let just these machines take jobs."""
        for runner in self.client.runners_all.list(get_all=True):
            wanted = any(f"/{machine.name}/" in runner.description for machine in machines)
            if runner.paused == wanted:
                self.client.http_put(f"/runners/{runner.id}", post_data={"paused": not wanted})

    def where(self, job: int) -> str:
        """The machine that a job is or was on."""
        runner = self.project.jobs.get(job).runner
        return str(runner["description"]).split("/")[1] if runner else ""


def containers(machine: Machine) -> list[str]:
    """The containers of jobs on a machine, whatever their state."""
    return machine.run("docker", "ps", "--all", "--quiet", "--filter", LABEL).split()


def let_go(machine: Machine) -> None:
    """Let the jobs on a machine end."""
    for container in machine.run("docker", "ps", "--quiet", "--filter", LABEL).split():
        machine.succeeds("docker", "exec", container, "touch", "/tmp/go")  # noqa: S108  in the container


@contextmanager
def project(lab: Lab, client: gitlab.Gitlab, pipeline: str = PIPELINE) -> Iterator[Jobs]:
    """A project in a group whose jobs know the platform's image."""
    group = client.groups.get("demo")
    made = client.projects.create(
        {"name": f"trouble-{secrets.token_hex(3)}", "namespace_id": group.id, "initialize_with_readme": True}
    )
    jobs = Jobs(lab, client, client.projects.get(made.id))
    action = {"action": "create", "file_path": ".gitlab-ci.yml", "content": pipeline}
    jobs.project.commits.create({"branch": "main", "commit_message": "CI [skip ci]", "actions": [action]})
    try:
        yield jobs
    finally:
        jobs.take_on(*lab.runner_machines)
        client.projects.delete(made.id)


def ended(jobs: Jobs, pipeline: int) -> str:
    """How a pipeline has ended, as soon as it has."""

    def over() -> bool:
        for machine in jobs.lab.runner_machines:
            let_go(machine)
        return jobs.state(pipeline) in ("success", "failed", "canceled")

    wait_for(over, LIMIT_S, "the pipeline ends")
    return jobs.state(pipeline)
