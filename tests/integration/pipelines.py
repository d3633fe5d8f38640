"""A platform with GitLab's double and the real runner, and what tests do with its pipelines."""

from __future__ import annotations

from typing import Any

import gitlab
import yaml
from gitlab.v4.objects import Project

from tests.gitlab_runner.container import wait_for
from tests.integration.platform import DeployedPlatform, docker

NOT_NEEDED = ("mlflow", "pgadmin", "portal", "postgres-data", "postgres-service")
# A group with example projects.
TEAM = {"name": "team", "examples": True}


class RunnerPlatform(DeployedPlatform):
    """A platform with GitLab, a runner, and little else.

    Attributes:
        images: those that cannot be had here, by what they stand for.
    """

    images: dict[str, str]

    @property
    def image(self) -> str:
        """The image of jobs that name none; it wants `entrypoint: ['']`."""
        return self.images["gitlab"]

    def configure(self, **runner: Any) -> None:
        settings = yaml.safe_load(self.settings_file.read_text(encoding="utf-8"))
        off = {name: {"enabled": False} for name in NOT_NEEDED}
        more = {"image": self.images["runner"], "images": {"helper": self.images["helper"]}, **runner}
        services = {**off, "gitlab": {"image": self.image}, "gitlab-runner": more}
        limits = {"image": self.image, "memory": "200m", "jobs": 3, "image_builds": {"memory": "600m"}}
        settings |= {"projects": [TEAM], "environments": [], "services": services, "runners": limits}
        self.settings_file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        here = {"hosts": {"localhost": {"ansible_connection": "local"}}}
        hosts = {"service_host": here, "runner_hosts": here}
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")

    def api(self) -> gitlab.Gitlab:
        """GitLab's API, as the platform itself uses it."""
        store = yaml.safe_load((self.secrets / "secrets.yml").read_text(encoding="utf-8"))
        token = store["values"]["gitlab.api_token"]
        client = gitlab.Gitlab(
            self.url("gitlab"), private_token=token, ssl_verify=str(self.ca_file), keep_base_url=True
        )
        client.session.trust_env = False
        client.auth()
        return client

    def new_project(self, name: str) -> Project:
        """Make a project in GitLab."""
        api = self.api()
        return api.projects.get(api.projects.create({"name": name, "initialize_with_readme": True}).id)

    def runners(self) -> dict[str, Any]:
        return {one.description: one for one in self.api().runners_all.list(get_all=True)}


def push(project: Project, text: str) -> int:
    """Commit a configuration; the number of its pipeline."""
    there = {one["path"] for one in project.repository_tree(get_all=True)}
    action = {"action": "update" if ".gitlab-ci.yml" in there else "create"}
    action |= {"file_path": ".gitlab-ci.yml", "content": text}
    project.commits.create({"branch": "main", "commit_message": "CI", "actions": [action]})
    return int(project.pipelines.list(get_all=True)[0].id)


def traces(project: Project, pipeline: int) -> dict[str, tuple[str, str]]:
    """State and trace of each job of a pipeline that has ended."""
    over = ("success", "failed", "canceled")
    wait_for(lambda: project.pipelines.get(pipeline).status in over, "the pipeline ends", 120)
    jobs = project.pipelines.get(pipeline).jobs.list(get_all=True)
    return {one.name: (one.status, project.jobs.get(one.id).trace().decode()) for one in jobs}


def volumes_of(platform: RunnerPlatform) -> list[str]:
    """The volumes of the platform's jobs, by the addresses of those."""
    managed = "label=com.gitlab.gitlab-runner.managed=true"
    names = docker("volume", "ls", "--quiet", "--filter", managed).split()
    address = '{{index .Labels "com.gitlab.gitlab-runner.job.url"}}'
    found = docker("volume", "inspect", "--format", address, *names).split() if names else []
    return [one for one in found if one.startswith(platform.url("gitlab"))]
