"""The environments' images that users pull from the platform's registry, on machines of their own."""

from __future__ import annotations

from dap.images.builds import tags_of
from dap.images.distribution import PASSWORD, USER, HandedImage, address_of, path_of
from dap.site import Site
from dap.verify import Place

_SECONDS = 5
# An image of one machine type, as an engine pushes it.
KINDS = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"


def shared(site: Site) -> list[HandedImage]:
    """The images that users may pull; none where the platform does not share them."""
    registry = address_of(site)
    tags = tags_of(site.shared_environments)
    return [HandedImage(name, tag, f"{registry}/{path_of(tag)}") for name, tag in tags.items()]


def lacking(place: Place) -> list[HandedImage]:
    """Those that the registry does not have, or of which that is not known: it may not run yet."""
    wanted = shared(place.site)
    if not wanted:
        return []
    import httpx

    (service,) = place.site.providers("images")
    login = (USER, place.credentials.secret(service, PASSWORD).reveal())
    try:
        with place.client() as client:
            return [
                image
                for image in wanted
                if client.head(
                    manifest_of(image), auth=login, headers={"Accept": KINDS}, timeout=_SECONDS
                ).status_code
                != 200
            ]
    except httpx.HTTPError:
        return wanted


def manifest_of(image: HandedImage) -> str:
    """Where a registry tells of an image."""
    registry, _, path = image.source.partition("/")
    repository, _, tag = path.rpartition(":")
    return f"https://{registry}/v2/{repository}/manifests/{tag}"
