"""What the provisioning jobs have to bring about: databases, roles, buckets, keys, accounts.

The jobs themselves (`dap.jobs`) run in the toolbox container, inside the platform's network.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dap.credentials import BucketKey, Credentials, DatabaseLogin
from dap.gitlab.state import gitlab_state
from dap.servers import Server, servers
from dap.site import GITLAB, Site

_PORTAINER, _AGENT = "portainer", "portainer-agent"


def desired_state(
    site: Site, credentials: Credentials, trusted: Sequence[bytes] = (), *, with_previous: bool = False
) -> dict[str, Any]:
    """The state to reach, as `dap.jobs` reads it. Holds secrets.

    Args:
        trusted: the site's own certificate authorities, PEM.
        with_previous: also what administrators' passwords were, where a rotation is not finished.
    """
    state = {
        "postgres": [_postgres(site, credentials, server) for server in servers(site, "postgres")],
        "s3": [_s3(site, credentials, server) for server in servers(site, "s3")],
        "portainer": [_portainer(site, credentials)] if _PORTAINER in site.services else [],
        "gitlab": [gitlab_state(site, credentials, trusted)] if GITLAB in site.services else [],
    }
    if with_previous:
        for server in servers(site, "postgres"):
            found = next(entry for entry in state["postgres"] if entry["service"] == server.name)
            found["previous"] = credentials.previous_admin_passwords(server)
        for entry in state["portainer"]:
            entry["previous"] = credentials.previous(site.services[_PORTAINER], "admin_password")
    return state


def works_after(site: Site) -> bool:
    """Whether there are jobs that need all services running."""
    return _PORTAINER in site.services or GITLAB in site.services


def _postgres(site: Site, credentials: Credentials, server: Server) -> dict[str, Any]:
    logins: list[DatabaseLogin] = [
        login
        for service in site.services.values()
        for login in credentials.databases(service).values()
        if login.server.name == server.name
    ]
    if server.service.manifest.projects:
        logins += [credentials.project_database(project, server) for project in site.projects]
    with_people = server.service.manifest.projects
    people = [user for user in site.platform.users if with_people and site.projects_of(user)]
    return {
        "service": server.name,
        "people": [
            {
                "role": user.name,
                "password": credentials.person_database(user).reveal(),
                "projects": [project.database for project in site.projects_of(user)],
            }
            for user in people
        ],
        "gone": [*credentials.taken_back("database")] if with_people else [],
        "host": server.host,
        "port": server.port,
        "verify": server.tls,
        "external": server.external is not None,
        "user": server.user,
        "password": credentials.admin_password(server).reveal(),
        "databases": [
            {"name": login.name, "role": login.user, "password": login.password.reveal()} for login in logins
        ],
    }


def _s3(site: Site, credentials: Credentials, server: Server) -> dict[str, Any]:
    buckets = [bucket for service in site.services.values() for bucket in service.manifest.buckets]
    state = [{"name": bucket.name, "versioning": bucket.versioning} for bucket in buckets]
    gone: list[dict[str, str]] = []
    keys: list[BucketKey] = [
        key for service in site.services.values() if (key := credentials.bucket_key(service))
    ]
    if server.service.manifest.projects:
        state += [{"name": project.bucket, "versioning": False} for project in site.projects]
        keys += [credentials.project_key(project) for project in site.projects]
        if server.own_keys:
            keys += [credentials.person_key(user) for user in site.platform.users if site.projects_of(user)]
            gone = [
                {"access_key": value.reveal(), "policy": f"user-{name}"}
                for name, value in credentials.taken_back("s3_access_key").items()
            ]
    root_user = server.user if server.external else credentials.secret(server.service, "root_user").reveal()
    return {
        "service": server.name,
        "endpoint": f"{server.host}:{server.port}",
        "secure": server.tls,
        "external": server.external is not None,
        "region": server.region,
        "user": root_user,
        "password": credentials.admin_password(server).reveal(),
        "buckets": state,
        "gone": gone,
        "keys": [
            {
                "access_key": key.access_key,
                "secret_key": key.secret_key.reveal(),
                "policy": key.policy,
                "buckets": list(key.buckets),
            }
            for key in (keys if server.own_keys else [])
        ],
    }


def _portainer(site: Site, credentials: Credentials) -> dict[str, Any]:
    service = site.services[_PORTAINER]
    return {
        "service": service.name,
        "host": service.name,
        "port": service.manifest.web[0].port,
        "user": "admin",
        "password": credentials.secret(service, "admin_password").reveal(),
        "environments": [{"name": "local", "kind": "socket", "url": ""}, *_agents(site)],
    }


def _agents(site: Site) -> list[dict[str, str]]:
    """Portainer's environments on the hosts that run its agent, under the names that hosts.yml gives them."""
    found = []
    for host in site.inventory.hosts:
        if _AGENT in site.services_on(host):
            agent = site.services[_AGENT]
            port = agent.manifest.ports[0]
            # On its own host it asks the container: the published port may be on loopback only.
            here = host.name == site.inventory.service_host.name
            address = f"{_AGENT}:{port.container}"
            if not here:
                target = host.variables.get("ansible_host", host.name)
                address = f"{target}:{site.published_port(agent, port)}"
            name = host.name if host.name != "local" else "local (agent)"
            found.append({"name": name, "kind": "agent", "url": f"tcp://{address}"})
    return found
