"""Runners and pipelines in GitLab, as an operator works with them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import quote

from dap.configuration import wording
from dap.errors import DapError, RefusedError
from dap.gitlab.api import GitlabApi
from dap.gitlab.runners import prefix
from dap.site import Site

_PAUSE_S = 1.0
_OVER = ("success", "failed", "canceled", "skipped", "manual")
_ENDED = ("success", "failed", "canceled")
# What a runner writes for GitLab's pages: times, colours, where sections begin and end.
_MARKS = re.compile(
    r"^\S+Z \d\d[OE][ +]|\x1b\[[0-9;]*[mK]|section_(?:start|end):\d+:[\w.-]+(?:\[[^\]]*\])?\r?", re.M
)


@dataclass(frozen=True)
class KnownRunner:
    """One of the platform's runners as GitLab has it.

    Attributes:
        name: ``<host>/<runner>``.
        state: what GitLab says of its contact, or ``paused``.
        jobs: how many it is running.
    """

    name: str
    number: int
    state: str
    jobs: int
    tags: tuple[str, ...]
    version: str

    @property
    def host(self) -> str:
        """The host that it is on."""
        return self.name.partition("/")[0]

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def known_runners(site: Site, api: GitlabApi) -> list[KnownRunner]:
    """The platform's runners, by name."""
    found = []
    for entry in api.every("/runners/all", type="instance_type"):
        if entry["description"].startswith(prefix(site)):
            details = api.call("GET", f"/runners/{entry['id']}")
            found.append(
                KnownRunner(
                    entry["description"].removeprefix(prefix(site)),
                    entry["id"],
                    "paused" if entry["paused"] else str(entry["status"]),
                    len(running_jobs(api, entry["id"])),
                    tuple(details["tag_list"]),
                    str(details.get("version") or ""),
                )
            )
    return sorted(found, key=lambda runner: runner.name)


def running_jobs(api: GitlabApi, number: int) -> list[dict[str, Any]]:
    """The jobs that a runner is running."""
    return list(api.every(f"/runners/{number}/jobs", status="running"))


def chosen(site: Site, known: Sequence[KnownRunner], names: Iterable[str]) -> list[KnownRunner]:
    """The runners that are meant: ``<host>/<runner>``, or all of a host.

    Raises:
        RefusedError: there is none of that name.
    """
    found: dict[str, KnownRunner] = {}
    for name in names:
        meant = [runner for runner in known if name in (runner.name, runner.host)]
        if not meant:
            every = [runner.name for runner in known]
            raise RefusedError(
                f"{name!r} is no runner of inventory {site.inventory.name}",
                wording.one_of(name, every) if every else f"dap -e {site.inventory.name} deploy",
            )
        found |= {runner.name: runner for runner in meant}
    return list(found.values())


def pause(api: GitlabApi, runners: Iterable[KnownRunner], paused: bool) -> None:
    """Let runners take no new jobs, or again."""
    for runner in runners:
        api.call("PUT", f"/runners/{runner.number}", json={"paused": paused})


def drain(
    api: GitlabApi, runners: Sequence[KnownRunner], limit_s: float, tell: Callable[[str], None]
) -> None:
    """Pause runners and wait until they have no jobs.

    Raises:
        DapError: they still have some after the time that they were given.
    """
    pause(api, runners, True)
    deadline = time.monotonic() + limit_s
    while busy := {one.name: len(jobs) for one in runners if (jobs := running_jobs(api, one.number))}:
        text = ", ".join(f"{name}: {count}" for name, count in busy.items())
        if time.monotonic() >= deadline:
            raise DapError(
                f"after {limit_s:.0f} s there are still jobs running ({text})",
                "wait on: the runners stay paused and take no new jobs; or cancel the jobs in GitLab",
            )
        tell(f"jobs running: {text}")
        time.sleep(_PAUSE_S)


def remove(api: GitlabApi, runners: Iterable[KnownRunner]) -> None:
    """Remove runners from GitLab."""
    for runner in runners:
        api.call("DELETE", f"/runners/{runner.number}")


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that was started.

    Attributes:
        jobs: address of its jobs, its own and those of its project.
    """

    url: str
    path: str
    project_path: str


def start(api: GitlabApi, project: str, ref: str) -> Pipeline:
    """Start a pipeline of a project; on its default branch without a ``ref``.

    Raises:
        DapError: there is no such project, or its configuration leaves nothing to run.
    """
    place = f"/projects/{quote(project, safe='')}"
    there = api.call("GET", place)
    made = api.call("POST", f"{place}/pipeline", json={"ref": ref or there["default_branch"]})
    return Pipeline(made["web_url"], f"{place}/pipelines/{made['id']}", place)


def follow(api: GitlabApi, pipeline: Pipeline) -> Iterator[str]:
    """What the jobs say, line by line, until all have ended; the last line is the pipeline's state."""
    said: dict[int, int] = {}
    while True:
        state = str(api.call("GET", pipeline.path)["status"])
        for job in sorted(api.every(f"{pipeline.path}/jobs"), key=lambda job: int(job["id"])):
            if job["status"] not in ("created", "pending", "manual", "skipped"):
                yield from _news(api, pipeline, job, said)
        if state in _OVER:
            yield state
            return
        time.sleep(_PAUSE_S)


def plain(trace: str) -> str:
    """What a job has said, without what a runner writes for GitLab's pages."""
    return _MARKS.sub("", trace)


def _news(api: GitlabApi, pipeline: Pipeline, job: dict[str, Any], said: dict[int, int]) -> Iterator[str]:
    """The lines of a job that were not told yet; of one that runs only those that are complete."""
    text = plain(api.text(f"{pipeline.project_path}/jobs/{job['id']}/trace"))
    lines = text.splitlines()
    if job["status"] not in _ENDED and not text.endswith("\n"):
        lines = lines[:-1]
    for line in lines[said.get(job["id"], 0) :]:
        if line.strip():
            yield f"{job['name']} | {line}"
    said[job["id"]] = len(lines)
