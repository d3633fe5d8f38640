"""Pushes the example pipeline into a project of its own, follows it, and looks at what it has left.

It knows a GitLab by its address and a token only, so it runs alike against a real one and against the double.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gitlab
from gitlab.v4.objects import Project

from dap.gitlab.ci import plain

EXAMPLE = Path(__file__).resolve().parents[2] / "compose" / "gitlab" / "projects" / "example-pipeline"
ENDED = ("success", "failed", "canceled", "skipped")
LIMIT_S = 600
LINES_SHOWN = 15
# Git asks this program for user name and password, which are so in no argument and no file.
_ASKPASS = '#!/bin/sh\ncase "$1" in Username*) echo oauth2;; *) echo "$END_TO_END_TOKEN";; esac\n'


class EndToEndError(Exception):
    """The pipeline did not do what it should; the text says which job, and what it said last."""


@dataclass(frozen=True)
class Outcome:
    """What a pipeline did.

    Attributes:
        jobs: state of each job, by name.
        traces: what each job has said.
        first_line_s: seconds from the end of the push to the first line of any job.
        seconds: from the end of the push to the end of the pipeline.
        summary: the artifact of the last job.
    """

    jobs: dict[str, str]
    traces: dict[str, str]
    first_line_s: float
    seconds: float
    summary: str


def connect(url: str, token: str, ca_file: Path | None = None) -> gitlab.Gitlab:
    """A client of the GitLab at ``url``.

    Args:
        token: of a user who may make projects in the group; scope ``api``.
        ca_file: certificates to trust, a PEM file; the machine's without it.
    """
    trusted = str(ca_file) if ca_file else True
    client = gitlab.Gitlab(url, private_token=token, keep_base_url=True, ssl_verify=trusted)
    client.session.trust_env = False
    client.auth()
    return client


def run(client: gitlab.Gitlab, group: str, ca_file: Path | None = None, files: Path = EXAMPLE) -> Outcome:
    """Run the pipeline in a new project of ``group``, which is removed in the end.

    Args:
        group: path of a group whose jobs get the variables of a project of the platform.
        files: what is pushed.

    Raises:
        EndToEndError: it failed, or did not end in time.
    """
    with _project(client, group) as project:
        _push(client, project, files, ca_file)
        pushed = time.monotonic()
        pipeline = _wait(lambda: next(iter(project.pipelines.list(get_all=False)), None), "a pipeline", 30)
        first_line = _first_line(project, pipeline.id, pushed)
        status = _followed(project, pipeline.id)
        seconds = time.monotonic() - pushed
        jobs = project.pipelines.get(pipeline.id).jobs.list(get_all=True)
        traces = {job.name: _trace(project, job.id) for job in jobs}
        states = {job.name: str(job.status) for job in jobs}
        if status != "success":
            bad = [name for name, state in states.items() if state != "success"]
            last = {name: "\n".join(traces[name].splitlines()[-LINES_SHOWN:]) for name in bad}
            told = "\n".join(f"{name} ({states[name]}):\n{text}" for name, text in last.items())
            raise EndToEndError(f"the pipeline ended as {status}\n{told}")
        last = next(job.id for job in jobs if job.name == "summary")
        summary = bytes(project.jobs.get(last).artifact("summary.md"))  # type: ignore[arg-type]
        return Outcome(states, traces, first_line, seconds, summary.decode())


@contextmanager
def _project(client: gitlab.Gitlab, group: str) -> Iterator[Project]:
    namespace = client.groups.get(group)
    made = client.projects.create(
        {"name": f"end-to-end-{secrets.token_hex(4)}", "namespace_id": namespace.id}
    )
    try:
        yield client.projects.get(made.id)
    finally:
        client.projects.delete(made.id)


def _push(client: gitlab.Gitlab, project: Project, files: Path, ca_file: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "work")
        shutil.copytree(files, folder)
        askpass = Path(name, "askpass")
        askpass.write_text(_ASKPASS, encoding="utf-8")
        askpass.chmod(0o700)
        environment = os.environ | {
            "GIT_ASKPASS": str(askpass),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "END_TO_END_TOKEN": client.private_token or "",
            **({"GIT_SSL_CAINFO": str(ca_file)} if ca_file else {}),
        }
        who = ("-c", "user.name=End to end", "-c", "user.email=end-to-end@example.com")
        for command in (
            ("init", "--quiet", "--initial-branch", "main"),
            ("add", "--all"),
            (*who, "commit", "--quiet", "--message", "Example pipeline"),
            ("push", "--quiet", str(project.http_url_to_repo), "main"),
        ):
            done = subprocess.run(
                ["git", *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise EndToEndError(f"git {command[0]}: {done.stderr.strip()}")


def _wait(found: Callable[[], Any], what: str, limit_s: float) -> Any:
    end = time.monotonic() + limit_s
    while not (value := found()):
        if time.monotonic() > end:
            raise EndToEndError(f"{what} did not come within {limit_s:.0f} s")
        time.sleep(0.2)
    return value


def _first_line(project: Project, pipeline: int, pushed: float) -> float:
    def said() -> bool:
        jobs = project.pipelines.get(pipeline).jobs.list(get_all=True)
        return any(_trace(project, job.id).strip() for job in jobs if job.status not in ("created", "manual"))

    _wait(said, "the first line of a job", LIMIT_S)
    return time.monotonic() - pushed


def _followed(project: Project, pipeline: int) -> str:
    def ended() -> str:
        status = str(project.pipelines.get(pipeline).status)
        return status if status in ENDED else ""

    return str(_wait(ended, "the end of the pipeline", LIMIT_S))


def _trace(project: Project, job: int) -> str:
    text = project.jobs.get(job, lazy=True).trace()
    return plain(bytes(text or b"").decode(errors="replace"))
