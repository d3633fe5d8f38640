"""Check of the registry that hands the platform's images on to other hosts, and to users."""

from __future__ import annotations

from collections.abc import Iterator

from dap.credentials import PULL_PASSWORD, PULLER
from dap.images.distribution import PASSWORD, USER
from dap.images.sharing import KINDS, manifest_of, shared
from dap.services.manifest import Service
from dap.verify import Place, check, expect


@check
def registry(place: Place, service: Service) -> Iterator[str]:
    """The platform's own login is accepted, nobody else gets an image, and users' login gets no more."""
    url = f"{place.site.url(service.manifest.web[0])}/v2/"
    password = place.credentials.secret(service, PASSWORD).reveal()
    with place.client() as client:
        stranger = client.get(url)
        expect(stranger.status_code == 401, f"{url} answered a stranger with {stranger.status_code}, not 401")
        yield "closed to strangers"
        own = client.get(url, auth=(USER, password))
        expect(own.status_code == 200, f"{url} answered the platform's login with {own.status_code}, not 200")
        yield "login accepted"
        images = shared(place.site)
        if not images:
            return
        pull = (PULLER, place.credentials.secret(service, PULL_PASSWORD).reveal())
        for image in images:
            manifest = manifest_of(image)
            there = client.head(manifest, auth=pull, headers={"Accept": KINDS})
            expect(
                there.status_code == 200,
                f"{manifest} answered the login that may only pull with {there.status_code}, not 200",
            )
        yield f"{len(images)} images for users"
        uploads = f"{url}dap/verify/blobs/uploads/"
        refused = client.post(uploads, auth=pull)
        expect(
            refused.status_code == 403,
            f"{uploads} answered the login that may only pull with {refused.status_code}, not 403",
        )
    yield "which they cannot push"
