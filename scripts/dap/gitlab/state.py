"""What GitLab is to be like: users, a group for each project, CI variables, examples. Holds secrets."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dap import client_variables
from dap.configuration.schema import User
from dap.credentials import PIPELINES, Credentials
from dap.files import required
from dap.gitlab import runners
from dap.images import builds
from dap.images.environments import variable_of
from dap.rendering.portal import connect
from dap.servers import servers
from dap.services.manifest import Service
from dap.site import GITLAB, ProjectNames, Site

TOKEN = "api_token"  # noqa: S105  its name
# GitLab's own limits for variables: of masked ones, and of those of the instance.
_SHORTEST_MASKED, _LONGEST = 8, 10_000


def gitlab_state(site: Site, credentials: Credentials, trusted: Sequence[bytes]) -> dict[str, Any]:
    """What the job `gitlab` takes.

    Args:
        trusted: the site's own certificate authorities, PEM.
    """
    service = site.services[GITLAB]
    web = service.manifest.web[0]
    return {
        "service": service.name,
        "host": service.name,
        "port": web.port,
        "name": f"{site.web_host(web)}{site.port_suffix}",
        "token": credentials.secret(service, TOKEN).reveal(),
        "token_key": f"{service.name}.{TOKEN}",
        "admin_email": site.platform.admin_email,
        "users": [_user(site, credentials, user) for user in site.platform.users if user.gitlab_account],
        "variables": list(_of_everybody(site, credentials, trusted)),
        "groups": [_group(site, credentials, project) for project in site.projects],
        "examples": list(_examples(site, service)),
        "runners": runners.desired(site, credentials),
    }


def _user(site: Site, credentials: Credentials, user: User) -> dict[str, Any]:
    password = credentials.first_gitlab_password(user)
    return {
        "name": user.name,
        "full_name": user.full_name,
        "email": site.email_of(user),
        "admin": user.gitlab_admin,
        "password": password.reveal() if password else "",
        "keys": list(user.ssh_keys),
        "disabled": user.disabled,
    }


def _group(site: Site, credentials: Credentials, project: ProjectNames) -> dict[str, Any]:
    active = [user.name for user in site.platform.users if user.gitlab_account and not user.disabled]
    members = {name: project.role_of(name) for name in active}
    return {
        "path": project.name,
        "summary": project.summary,
        "members": {name: role for name, role in members.items() if role},
        "variables": list(_of_project(site, credentials, project)),
        "examples": project.examples,
    }


def _variable(key: str, value: str, *, secret: bool = False, file: bool = False) -> dict[str, Any]:
    masked = secret and len(value) >= _SHORTEST_MASKED
    return {"key": key, "value": value, "masked": masked, "file": file}


def _variables(values: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    return (_variable(key, value) for key, value in values.items())


def _of_everybody(site: Site, credentials: Credentials, trusted: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """What the pipelines of all projects may use: whoever has an account can read it."""
    bundle = b"".join(trusted).decode()
    if 0 < len(bundle) <= _LONGEST:
        yield _variable("DAP_CA_FILE", bundle, file=True)
    if tracking := client_variables.of_tracking(site):
        login = next(user for user in credentials.web_users() if user.name == PIPELINES)
        yield from _variables(tracking)
        yield _variable("MLFLOW_TRACKING_USERNAME", login.name)
        yield _variable("MLFLOW_TRACKING_PASSWORD", login.password.reveal(), secret=True)
    yield from _variables(client_variables.of_storage(site))
    for name, tag in builds.tags_of(site.job_environments).items():
        yield _variable(variable_of(name), tag)


def _of_project(site: Site, credentials: Credentials, project: ProjectNames) -> Iterator[dict[str, Any]]:
    """What the pipelines of one group may use: its project's own database and bucket."""
    for server in servers(site, "s3"):
        if server.service.manifest.projects:
            key = credentials.project_key(project)
            yield _variable("AWS_ACCESS_KEY_ID", key.access_key, secret=True)
            yield _variable("AWS_SECRET_ACCESS_KEY", key.secret_key.reveal(), secret=True)
            yield _variable("S3_BUCKET", project.bucket)
    for server in servers(site, "postgres"):
        if server.service.manifest.projects:
            login = credentials.project_database(project, server)
            # Not for everybody: a variable of GitLab's wins over one in a pipeline's file, where somebody may
            # have a server of a job's own in mind.
            yield from _variables(client_variables.of_database(site, server))
            yield _variable("PGDATABASE", login.name)
            yield _variable("PGUSER", login.user)
            yield _variable("PGPASSWORD", login.password.reveal(), secret=True)


def _examples(site: Site, service: Service) -> Iterator[dict[str, Any]]:
    """The projects in the service's folder, rendered."""
    if not any(project.examples for project in site.projects):
        return
    context = {
        "domain": site.platform.domain,
        "registry": site.url(next(web for web in service.manifest.web if web.registry)).partition("://")[2],
        "connect": connect(site),
    }
    for folder in sorted(path for path in (service.folder / "projects").iterdir() if path.is_dir()):
        files = [_file(folder, path, context) for path in sorted(folder.rglob("*")) if path.is_file()]
        readme = base64.b64decode(next(file["content"] for file in files if file["path"] == "README.md"))
        first = readme.decode().split("\n\n")[1]
        summary = " ".join(first.split()).partition(". ")[0].rstrip(".")
        yield {"name": folder.name, "summary": summary, "files": files}


def _file(folder: Path, path: Path, context: dict[str, Any]) -> dict[str, Any]:
    content, name = required(path), path.relative_to(folder)
    if path.suffix == ".j2":
        environment = Environment(  # noqa: S701  no HTML
            loader=FileSystemLoader(path.parent), undefined=StrictUndefined, keep_trailing_newline=True
        )
        content, name = environment.get_template(path.name).render(context).encode(), name.with_suffix("")
    return {
        "path": name.as_posix(),
        "content": base64.b64encode(content).decode(),
        "executable": bool(path.stat().st_mode & 0o100),
    }
