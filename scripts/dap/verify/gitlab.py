"""Checks of GitLab as a stranger sees it: pages, API, registry and SSH, and that nobody signs up alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dap.gitlab.state import TOKEN
from dap.services.manifest import Service
from dap.verify import CheckError, Place, check, expect

if TYPE_CHECKING:
    import httpx

_LIMIT_S = 20


def _get(client: httpx.Client, url: str) -> httpx.Response:
    return client.get(url, timeout=_LIMIT_S)


@check
def gitlab(place: Place, service: Service) -> Iterator[str]:
    """The sign-in page comes, the API wants a token, and nobody can make an account for themselves."""
    url = place.site.url(service.manifest.web[0])
    with place.client() as client:
        page = _get(client, f"{url}/users/sign_in")
        expect(page.status_code == 200, f"{url}/users/sign_in answered {page.status_code}, not 200")
        yield "sign-in page"
        version = _get(client, f"{url}/api/v4/version")
        expect(version.status_code == 401, f"{url}/api/v4/version answered {version.status_code}, not 401")
        yield "API wants a token"
        for path in service.manifest.web[0].closed_paths:
            answer = client.post(f"{url}{path}", timeout=_LIMIT_S)
            expect(answer.status_code == 403, f"{url}{path} answered {answer.status_code}, not 403")
    yield "sign-up closed"


@check
def gitlab_setup(place: Place, service: Service) -> Iterator[str]:
    """GitLab is set up: the platform's token works, sign-up is off, users and groups are there."""
    url = f"{place.site.url(service.manifest.web[0])}/api/v4"
    token = place.credentials.secret(service, TOKEN).reveal()
    with place.client() as client:
        client.headers["PRIVATE-TOKEN"] = token
        settings = _get(client, f"{url}/application/settings")
        expect(
            settings.status_code == 200,
            f"{url}/application/settings answered {settings.status_code} to the platform's token, not 200",
        )
        yield "token works"
        expect(settings.json()["signup_enabled"] is False, "its settings say that sign-up is open")
        yield "sign-up off"
        users = [user for user in place.site.platform.users if user.gitlab_account and not user.disabled]
        for user in users:
            found = _get(client, f"{url}/users?username={user.name}")
            expect(found.status_code == 200 and found.json(), f"there is no user {user.name}")
        for project in place.site.projects:
            answer = _get(client, f"{url}/groups/{project.name}?with_projects=false")
            expect(answer.status_code == 200, f"group {project.name}: answered {answer.status_code}, not 200")
    yield f"users: {len(users)}"
    yield f"groups: {len(place.site.projects)}"


@check
def gitlab_registry(place: Place, service: Service) -> Iterator[str]:
    """The container registry answers under its own name and sends strangers to GitLab for a token."""
    url = next(place.site.url(web) for web in service.manifest.web if web.registry)
    with place.client() as client:
        answer = _get(client, f"{url}/v2/")
    expect(answer.status_code == 401, f"{url}/v2/ answered {answer.status_code}, not 401")
    challenge = answer.headers.get("www-authenticate", "")
    realm = f'realm="{place.site.url(service.manifest.web[0])}/jwt/auth"'
    expect(challenge.startswith("Bearer ") and realm in challenge, f"{url}/v2/ asks for {challenge!r}")
    yield "wants a token of GitLab's"


@check
def gitlab_ssh(place: Place, service: Service) -> Iterator[str]:
    """An SSH server answers on the port for Git."""
    host = place.site.web_host(service.manifest.web[0])
    port = place.site.published_port(service, service.manifest.ports[0])
    try:
        with socket.create_connection((host, port), timeout=_LIMIT_S) as connection:
            banner = connection.makefile("rb").readline(256)
    except OSError as error:
        raise CheckError(f"{host}:{port}: {error}") from error
    expect(banner.startswith(b"SSH-2.0-"), f"{host}:{port} greets with {banner!r}, which is not SSH")
    yield banner.decode(errors="replace").strip()
