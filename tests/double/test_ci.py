"""The verbs of runners and pipelines, on GitLab's double."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import gitlab
import httpx
import pytest
from gitlab.v4.objects import Project

from dap.errors import DapError
from dap.gitlab import ci
from dap.gitlab.api import GitlabApi
from dap.site import Site
from tests.gitlab_double.fake_runner import FakeRunner
from tests.gitlab_double.local import LIMIT_S, LocalDouble, wait_until
from tests.unit.platforms import site_of


class LocalApi(GitlabApi):
    """GitLab's API on the double's local port."""

    def __init__(self, double: LocalDouble) -> None:
        self._inventory, self.url = "team", double.url
        headers = {"PRIVATE-TOKEN": double.token()}
        self._client = httpx.Client(headers=headers, trust_env=False, timeout=LIMIT_S)


@pytest.fixture
def api(double: LocalDouble) -> Iterator[LocalApi]:
    with LocalApi(double) as made:
        assert isinstance(made, LocalApi)
        yield made


@pytest.fixture
def site() -> Site:
    return site_of()


@pytest.fixture
def own(double: LocalDouble, root: gitlab.Gitlab, site: Site) -> Iterator[FakeRunner]:
    """A runner of the platform's on the host alpha, which GitLab has heard from, and one of somebody."""
    name = f"{site.platform.platform_name}/alpha/docker"
    body = {"runner_type": "instance_type", "description": name, "tag_list": ["docker"]}
    made = root.http_post("/user/runners", post_data=body)
    root.http_post("/user/runners", post_data={"runner_type": "instance_type", "description": "other"})
    assert isinstance(made, dict)
    runner = FakeRunner(double.url, made["token"])
    assert runner.request().status_code == 204
    yield runner
    runner.close()


def push(project: Project, text: str) -> None:
    about = {"branch": "main", "commit_message": "CI [skip ci]"}
    project.files.create({"file_path": ".gitlab-ci.yml", "content": text, **about})


def test_only_the_platforms_runners_are_listed(site: Site, api: LocalApi, own: FakeRunner) -> None:
    (runner,) = ci.known_runners(site, api)
    assert (runner.name, runner.host, runner.state, runner.jobs) == ("alpha/docker", "alpha", "online", 0)
    assert (runner.tags, runner.version) == (("docker",), "19.4.0")


def test_runners_are_meant_by_name_or_by_host(site: Site, api: LocalApi, own: FakeRunner) -> None:
    known = ci.known_runners(site, api)
    assert ci.chosen(site, known, ["alpha", "alpha/docker"]) == known
    with pytest.raises(DapError) as error:
        ci.chosen(site, known, ["alpha/doker"])
    assert error.value.message == f"'alpha/doker' is no runner of inventory {site.inventory.name}"
    assert error.value.next_step == "did you mean alpha/docker?"


def test_paused_runner_takes_jobs_again_when_resumed(site: Site, api: LocalApi, own: FakeRunner) -> None:
    known = ci.known_runners(site, api)
    ci.pause(api, known, True)
    assert [one.state for one in ci.known_runners(site, api)] == ["paused"]
    ci.pause(api, known, False)
    assert [one.state for one in ci.known_runners(site, api)] == ["online"]


def test_draining_waits_for_jobs(site: Site, api: LocalApi, own: FakeRunner, project: Project) -> None:
    push(project, "a: {script: x}")
    project.pipelines.create({"ref": "main"})
    job = own.take()
    known = ci.known_runners(site, api)
    told: list[str] = []
    with pytest.raises(DapError) as error:
        ci.drain(api, known, 0, told.append)
    assert error.value.message == "after 0 s there are still jobs running (alpha/docker: 1)"
    waiting = threading.Thread(target=ci.drain, args=(api, known, LIMIT_S, told.append))
    waiting.start()
    wait_until(lambda: told, "it waits")
    own.end(job)
    waiting.join(LIMIT_S)
    assert (waiting.is_alive(), told[0]) == (False, "jobs running: alpha/docker: 1")
    assert [one.state for one in ci.known_runners(site, api)] == ["paused"]


def test_removed_runner_is_gone(site: Site, api: LocalApi, own: FakeRunner) -> None:
    ci.remove(api, ci.known_runners(site, api))
    assert ci.known_runners(site, api) == []
    assert own.request().status_code == 403


@pytest.mark.parametrize("state", ["success", "failed"])
def test_pipeline_is_followed_to_its_end(
    api: LocalApi, own: FakeRunner, project: Project, state: str
) -> None:
    push(project, "a: {script: x}")
    started = ci.start(api, "team/data", "")
    lines: list[str] = []
    following = threading.Thread(target=lambda: lines.extend(ci.follow(api, started)))
    following.start()
    job = own.take()
    own.trace(job, "2026-11-22T00:38:45.936971Z 00O \x1b[0;mhello\nhalf a ")
    own.trace(job, "line\n", first=len("2026-11-22T00:38:45.936971Z 00O \x1b[0;mhello\nhalf a "))
    own.end(job, state)
    following.join(LIMIT_S)
    assert lines == ["a | hello", "a | half a line", state]


def test_project_that_is_not_there_is_refused(api: LocalApi) -> None:
    with pytest.raises(DapError) as error:
        ci.start(api, "team/nothing", "")
    assert error.value.message == (
        f'GET {api.url}/api/v4/projects/team%2Fnothing answered 404: {{"message":"404 Project Not Found"}}'
    )
