"""``dap image``: the images that are built here, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dap.images.listing import Known
    from dap.site import Site

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def image() -> None:
    """The images that are built here: of services and of environments.

    An IMAGE is such a name, and means the one that the configuration asks for, or a tag that `dap image list`
    shows.
    """


@image.command("list")
@json_option
@click.pass_obj
def image_list(inventory: str, as_json: bool) -> None:
    """Show the images on the service host, with size, age, and what each is built upon."""
    from dap import summary

    _, images = _known(inventory)
    if as_json:
        click.echo(json.dumps([one.as_json() for one in images], indent=2))
    else:
        click.echo(summary.of_images(images))


@image.command("build")
@click.argument("names", nargs=-1, metavar="[IMAGE]...")
@click.pass_obj
def image_build(inventory: str, names: Sequence[str]) -> None:
    """Build each IMAGE that is missing, and its parents, without deploying; all in use by default."""
    from dap.deployment.deploy import Deployment
    from dap.deployment.progress import Progress
    from dap.hosts import ansible as hosts
    from dap.site import load_site

    hosts.load()
    outcome = Deployment(load_site(inventory), Progress(), "image-build", None).build_images(names)
    click.echo("\n".join(what for _, what in outcome.changes) or "All images are there.")


@image.command("sbom")
@click.argument("name", metavar="IMAGE")
@click.pass_obj
def image_sbom(inventory: str, name: str) -> None:
    """Print all packages in IMAGE, of Debian, Python and R, as a bill of materials (CycloneDX JSON)."""
    from dap.images import listing

    site, images = _known(inventory)
    one = listing.chosen(images, name)[0]
    click.echo(json.dumps(listing.bill_of_materials(one, listing.packages_of(site, one)), indent=2))


@image.command("diff")
@click.argument("name", metavar="IMAGE")
@click.argument("other", required=False, metavar="[NEWER]")
@json_option
@click.pass_obj
def image_diff(inventory: str, name: str, other: str | None, as_json: bool) -> None:
    """Show which packages differ between IMAGE and a NEWER one.

    With one name these are the build before and the one that the configuration asks for.
    """
    from dap import summary
    from dap.errors import RefusedError
    from dap.images import listing

    site, images = _known(inventory)
    found = listing.chosen(images, name)
    if other:
        before, after = found[0], listing.chosen(images, other)[0]
    elif len(found) > 1:
        after, before = found[:2]
    else:
        raise RefusedError(
            f"{site.inventory.service_host.name} has one build of {name}, and none to compare it with",
            f"name two of: dap -e {inventory} image list",
        )
    differing = listing.changes(listing.packages_of(site, before), listing.packages_of(site, after))
    if as_json:
        told = {"before": before.as_json(), "after": after.as_json()}
        click.echo(json.dumps({**told, "changes": [one.as_json() for one in differing]}, indent=2))
    else:
        click.echo(summary.of_image_changes(before, after, differing))


def _known(inventory: str) -> tuple[Site, list[Known]]:
    from dap.images.listing import known_images
    from dap.images.making import images_of
    from dap.site import load_site

    site = load_site(inventory)
    used = {build.tag for build in images_of(site).builds}
    return site, known_images(site, images_of(site, every_environment=True).builds, used)
