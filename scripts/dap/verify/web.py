"""Checks of the proxy and of pages behind it."""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Iterator

from dap.services.manifest import Service
from dap.verify import Place, check, expect

PORTAL_TRIES = 3
PORTAL_KEEPS_S = 5.5


@check
def tls_names(place: Place, service: Service) -> Iterator[str]:
    """Every name shows a certificate that is trusted and covers it, with TLS 1.2 or newer."""
    port = place.site.platform.ports.https
    versions = set()
    for host in place.site.tls_names(service):
        context = ssl.create_default_context()
        context.load_verify_locations(place.ca_file)
        with (
            socket.create_connection((host, port), timeout=10) as raw,
            context.wrap_socket(raw, server_hostname=host) as connection,
        ):
            version = connection.version() or ""
            expect(version in ("TLSv1.2", "TLSv1.3"), f"{host}: speaks {version}")
            versions.add(version)
    yield f"{len(place.site.tls_names(service))} names, {', '.join(sorted(versions))}"


@check
def redirect(place: Place, _service: Service) -> Iterator[str]:
    """Plain HTTP leads to HTTPS, and hands out the CA's certificate."""
    platform = place.site.platform
    plain = f"http://{platform.domain}:{platform.ports.http}"
    with place.client() as client:
        answer = client.get(plain + "/x?y=1")
        wanted = f"https://{platform.domain}{place.site.port_suffix}/x?y=1"
        expect(
            (answer.status_code, answer.headers.get("location")) == (308, wanted),
            f"{plain}/x?y=1 answered {answer.status_code} {answer.headers.get('location')}",
        )
        yield "HTTP leads to HTTPS"


@check
def unknown_host(place: Place, _service: Service) -> Iterator[str]:
    """A name that is not the platform's gets a page that says so."""
    platform = place.site.platform
    with place.client() as client:
        answer = client.get(
            f"https://{platform.domain}{place.site.port_suffix}/",
            headers={"Host": f"nobody.{platform.domain}"},
        )
    expect(answer.status_code == 404, f"answered {answer.status_code}, not 404")
    yield "answered 404"


@check
def login_wall(place: Place, _service: Service) -> Iterator[str]:
    """Names behind the platform's login refuse strangers and wrong passwords, and let users in."""
    walled = [vhost for vhost in place.site.vhosts if vhost.web.access == "login"]
    for vhost in walled:
        url = place.site.url(vhost.web) + "/"
        with place.client() as client, place.client(login=True) as user:
            stranger = client.get(url).status_code
            expect(stranger == 401, f"{url} answered a stranger with {stranger}, not 401")
            wrong = client.get(url, auth=("admin", "wrong")).status_code
            expect(wrong == 401, f"{url} answered a wrong password with {wrong}, not 401")
            known = user.get(url, follow_redirects=True).status_code
            expect(known == 200, f"{url} answered a user with {known}, not 200")
            for path in vhost.web.private_paths:
                private = user.get(url.rstrip("/") + path).status_code
                expect(private == 403, f"{url}{path} answered {private}, not 403")
    yield f"{len(walled)} names"


@check
def portal(place: Place, service: Service) -> Iterator[str]:
    """The portal's page comes, and says that the services are well."""
    url = place.site.url(service.manifest.web[0])
    with place.client() as client:
        page = client.get(url + "/")
        expect(page.status_code == 200, f"{url}/ answered {page.status_code}")
        expect(place.site.platform.domain in page.text, f"{url}/ does not name the platform")
        for attempt in range(PORTAL_TRIES):
            # What has just started may be slower than the portal is patient, and it keeps what it has heard.
            time.sleep(PORTAL_KEEPS_S if attempt else 0)
            states = client.get(url + "/health.json").json()["services"]
            bad = [f"{name} is {one['state']}" for name, one in states.items() if one["state"] != "healthy"]
            if not bad:
                break
    expect(not bad, ", ".join(bad))
    yield f"{len(states)} services healthy"


@check
def pgadmin_login(place: Place, service: Service) -> Iterator[str]:
    """The administrator can log in to pgAdmin and finds the servers there."""
    url = place.site.url(service.manifest.web[0])
    secret = place.credentials.secret(service, "admin_password")
    with place.client() as client:
        page = client.get(url + "/login", follow_redirects=True)
        token = re.search(r'"csrfToken": ?"([^"]+)"|name="csrf_token"[^>]+value="([^"]+)"', page.text)
        expect(token, f"{url}/login has no CSRF token (status {page.status_code})")
        assert token  # noqa: S101  for the type checker
        form = {
            "email": place.site.platform.admin_email,
            "password": secret.reveal(),
            "csrf_token": token.group(1) or token.group(2),
            "internal_button": "Login",
        }
        answer = client.post(
            url + "/authenticate/login", data=form, headers={"Referer": url + "/login"}, follow_redirects=True
        )
        expect(
            answer.status_code == 200 and answer.url.path.startswith("/browser"),
            f"login ended at {answer.url.path} with {answer.status_code}",
        )
    yield "logged in"
