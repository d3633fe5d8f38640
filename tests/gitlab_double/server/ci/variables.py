"""The variables of pipelines and jobs, in GitLab's order: what comes later wins."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..records import Job, Namespace, Pipeline, Project, ProtectedBranch, User, Variable
from ..site import REVISION, VERSION

if TYPE_CHECKING:
    from ..double import Double

_NAME = re.compile(r"\$\$|\$\{(\w+)\}|\$(\w+)|%(\w+)%")
SLUG = 63


@dataclass(frozen=True)
class JobVariable:
    """As a runner reads it."""

    key: str
    value: str
    public: bool = False
    masked: bool = False
    file: bool = False
    raw: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def public(values: Mapping[str, str]) -> list[JobVariable]:
    return [JobVariable(key, value, public=True) for key, value in values.items()]


def slug(text: str) -> str:
    return re.sub(r"[^0-9a-z]", "-", text.lower())[:SLUG].strip("-")


def is_protected(double: Double, project: Project, ref: str, tag: bool) -> bool:
    """Whether the variables and runners for protected branches are given to a ref."""
    rules = double.store.find(ProtectedBranch, project_id=project.id)
    return not tag and any(fnmatch.fnmatchcase(ref, one.name) for one in rules)


def of_instance(double: Double) -> dict[str, str]:
    site = double.site
    address = urlsplit(site.external_url)
    return {
        "CI": "true",
        "GITLAB_CI": "true",
        "CI_SERVER": "yes",
        "CI_SERVER_NAME": "GitLab",
        "CI_SERVER_URL": site.external_url,
        "CI_SERVER_HOST": address.hostname or "",
        "CI_SERVER_FQDN": address.netloc,
        "CI_SERVER_PORT": str(address.port or (443 if address.scheme == "https" else 80)),
        "CI_SERVER_PROTOCOL": address.scheme,
        "CI_SERVER_SHELL_SSH_HOST": address.hostname or "",
        "CI_SERVER_SHELL_SSH_PORT": str(site.ssh_port),
        "CI_SERVER_VERSION": VERSION,
        "CI_SERVER_VERSION_MAJOR": VERSION.split(".")[0],
        "CI_SERVER_VERSION_MINOR": VERSION.split(".")[1],
        "CI_SERVER_VERSION_PATCH": VERSION.split(".")[2],
        "CI_SERVER_REVISION": REVISION,
        "CI_API_V4_URL": f"{site.external_url}/api/v4",
        "CI_API_GRAPHQL_URL": f"{site.external_url}/api/graphql",
        "CI_TEMPLATE_REGISTRY_HOST": "registry.gitlab.com",
        "GITLAB_FEATURES": "",
    }


def of_project(double: Double, project: Project) -> dict[str, str]:
    namespace = double.store.must(Namespace, project.namespace_id)
    site = double.site
    return {
        "CI_PROJECT_ID": str(project.id),
        "CI_PROJECT_NAME": project.path,
        "CI_PROJECT_TITLE": project.name,
        "CI_PROJECT_DESCRIPTION": project.description or "",
        "CI_PROJECT_PATH": project.full_path,
        "CI_PROJECT_PATH_SLUG": slug(project.full_path),
        "CI_PROJECT_NAMESPACE": namespace.full_path,
        "CI_PROJECT_NAMESPACE_ID": str(namespace.id),
        "CI_PROJECT_ROOT_NAMESPACE": namespace.full_path.split("/")[0],
        "CI_PROJECT_URL": f"{site.external_url}/{project.full_path}",
        "CI_PROJECT_VISIBILITY": project.visibility,
        "CI_PROJECT_CLASSIFICATION_LABEL": "",
        "CI_DEFAULT_BRANCH": project.default_branch or "main",
        "CI_CONFIG_PATH": project.more.get("ci_config_path") or ".gitlab-ci.yml",
        "CI_REGISTRY": site.registry_address,
        "CI_REGISTRY_IMAGE": f"{site.registry_address}/{project.full_path.lower()}",
    }


def of_pipeline(double: Double, project: Project, pipeline: Pipeline) -> dict[str, str]:
    """What is known before there is a job, and so may stand in rules."""
    commit = double.repositories.commit(project.id, pipeline.sha)
    found = {
        "CI_PIPELINE_SOURCE": pipeline.source,
        "CI_PIPELINE_CREATED_AT": pipeline.created_at,
        "CI_COMMIT_SHA": pipeline.sha,
        "CI_COMMIT_SHORT_SHA": pipeline.sha[:8],
        "CI_COMMIT_BEFORE_SHA": pipeline.before_sha,
        "CI_COMMIT_REF_NAME": pipeline.ref,
        "CI_COMMIT_REF_SLUG": slug(pipeline.ref),
        "CI_COMMIT_REF_PROTECTED": str(is_protected(double, project, pipeline.ref, pipeline.tag)).lower(),
        "CI_COMMIT_TAG" if pipeline.tag else "CI_COMMIT_BRANCH": pipeline.ref,
    }
    if commit:
        found |= {
            "CI_COMMIT_MESSAGE": commit.message,
            "CI_COMMIT_TITLE": commit.title,
            "CI_COMMIT_DESCRIPTION": commit.message.partition("\n")[2].strip(),
            "CI_COMMIT_AUTHOR": f"{commit.author[0]} <{commit.author[1]}>",
            "CI_COMMIT_TIMESTAMP": commit.author[2],
        }
    if pipeline.id:
        found |= {
            "CI_PIPELINE_ID": str(pipeline.id),
            "CI_PIPELINE_IID": str(pipeline.iid),
            "CI_PIPELINE_URL": f"{double.site.external_url}/{project.full_path}/-/pipelines/{pipeline.id}",
        }
    return found


def of_user(double: Double, user: User) -> dict[str, str]:
    return {
        "GITLAB_USER_ID": str(user.id),
        "GITLAB_USER_EMAIL": user.email,
        "GITLAB_USER_LOGIN": user.username,
        "GITLAB_USER_NAME": user.name,
    }


def kept(double: Double, project: Project, ref: str, tag: bool) -> list[JobVariable]:
    """Of the instance, the groups from the outermost in, and the project."""
    places = [("project", project.id)]
    above: int | None = project.namespace_id
    while above is not None:
        places.append(("group", above))
        above = double.store.must(Namespace, above).parent_id
    protected = is_protected(double, project, ref, tag)
    found = []
    for owner, number in [("instance", 0), *reversed(places)]:
        for one in double.store.find(Variable, owner=owner, owner_id=number):
            # A job without an environment has what is meant for all of them.
            if one.environment_scope == "*" and (protected or not one.protected):
                found.append(
                    JobVariable(
                        one.key,
                        one.value,
                        masked=one.masked,
                        file=one.variable_type == "file",
                        raw=one.raw,
                    )
                )
    return found


def given(pipeline: Pipeline) -> list[JobVariable]:
    """By who started the pipeline."""
    return [
        JobVariable(one["key"], one["value"], file=one.get("variable_type") == "file")
        for one in pipeline.variables
    ]


def written(values: Mapping[str, Mapping[str, Any]]) -> list[JobVariable]:
    """In the configuration; these may be seen by anybody."""
    return [
        JobVariable(key, one["value"], public=True, raw=not one.get("expand", True))
        for key, one in values.items()
    ]


def of_job(double: Double, project: Project, pipeline: Pipeline, job: Job, user: User) -> list[JobVariable]:
    """All that a runner is told, in the order in which later ones win."""
    spec, site = job.spec, double.site
    secret = JobVariable("CI_JOB_TOKEN", job.token, masked=True)
    registry = {"CI_REGISTRY_USER": "gitlab-ci-token"}
    predefined = {
        "CI_JOB_ID": str(job.id),
        "CI_JOB_URL": f"{site.external_url}/{project.full_path}/-/jobs/{job.id}",
        "CI_JOB_NAME": job.name,
        "CI_JOB_NAME_SLUG": slug(job.name),
        "CI_JOB_STAGE": job.stage,
        "CI_JOB_STARTED_AT": job.started_at or "",
        "CI_JOB_TIMEOUT": str(spec.get("timeout") or project.more.get("build_timeout", 3600)),
        "CI_NODE_TOTAL": "1",
    }
    if job.played:
        predefined["CI_JOB_MANUAL"] = "true"
    if spec.get("image"):
        predefined["CI_JOB_IMAGE"] = spec["image"]["name"]
    return [
        *public(predefined),
        secret,
        JobVariable("CI_BUILD_TOKEN", job.token, masked=True),
        *public(registry),
        JobVariable("CI_REGISTRY_PASSWORD", job.token, masked=True),
        JobVariable(
            "CI_REPOSITORY_URL",
            with_login(f"{site.external_url}/{project.full_path}.git", "gitlab-ci-token", job.token),
        ),
        JobVariable("CI_DEPENDENCY_PROXY_USER", "gitlab-ci-token", public=True),
        JobVariable("CI_DEPENDENCY_PROXY_PASSWORD", job.token, masked=True),
        *public(of_instance(double)),
        *public(of_project(double, project)),
        *public(of_pipeline(double, project, pipeline)),
        *public(of_user(double, user)),
        *written({key: {"value": value} for key, value in pipeline.workflow_variables.items()}),
        *written(spec["variables"]),
        *kept(double, project, pipeline.ref, pipeline.tag),
        *given(pipeline),
        *[JobVariable(one["key"], str(one["value"])) for one in spec.get("given", [])],
    ]


def with_login(url: str, name: str, password: str) -> str:
    address = urlsplit(url)
    return address._replace(netloc=f"{name}:{password}@{address.netloc}").geturl()


def as_mapping(variables: Iterable[JobVariable]) -> dict[str, str]:
    """Name to value; the last one of a name counts."""
    return {one.key: one.value for one in variables}


def expanded(text: str, values: Mapping[str, str]) -> str:
    """With the references in it replaced, once; ``$$`` is a dollar."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2] or found[3]
        return values.get(name, "") if name else "$"

    return _NAME.sub(value, text)
