"""Check of the registry that hands the platform's images on to other hosts."""

from __future__ import annotations

from collections.abc import Iterator

from dap.images.distribution import PASSWORD, USER
from dap.services.manifest import Service
from dap.verify import Place, check, expect


@check
def registry(place: Place, service: Service) -> Iterator[str]:
    """The platform's own login is accepted, and nobody else gets an image."""
    url = f"{place.site.url(service.manifest.web[0])}/v2/"
    password = place.credentials.secret(service, PASSWORD).reveal()
    with place.client() as client:
        stranger = client.get(url)
        expect(stranger.status_code == 401, f"{url} answered a stranger with {stranger.status_code}, not 401")
        yield "closed to strangers"
        own = client.get(url, auth=(USER, password))
        expect(own.status_code == 200, f"{url} answered the platform's login with {own.status_code}, not 200")
    yield "login accepted"
