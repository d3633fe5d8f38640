"""``dap bundle``: all that machines without any network need, as one file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click

bundle_option = click.option(
    "--bundle",
    "bundle_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Take images and packages from this bundle, and none from a network.",
)


@click.group()
def bundle() -> None:
    """All that machines without any network need for a deploy, as one file."""


@bundle.command("create")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--release",
    "releases",
    multiple=True,
    type=click.Choice(["bookworm", "trixie", "jammy", "noble"]),
    help="Debian or Ubuntu release of the hosts, whose packages are taken along; repeatable. Without it, that"
    " of this machine.",
)
@click.pass_obj
def bundle_create(inventory: str, file: Path, releases: Sequence[str]) -> None:
    """Write FILE with all that the inventory's hosts need: images, Docker's packages, the program's own.

    Images are built and pulled on this machine, for its architecture. `dap deploy --bundle FILE` uses it.
    """
    from dap.bundle.create import Creation
    from dap.deployment.progress import Progress
    from dap.hosts import ansible
    from dap.site import load_site

    ansible.load()
    started = time.monotonic()
    creation = Creation(load_site(inventory, reconsider=True), file.absolute(), releases, Progress())
    made = creation.run()
    for service, reason in creation.left_out.items():
        click.secho("warning: ", fg="yellow", nl=False, err=True)
        click.echo(f"{service} is not in the bundle: {reason}", err=True)
    click.echo(
        f"{file}: {made.path.stat().st_size / 1e9:.2f} GB in {time.monotonic() - started:.0f} s,"
        f" {len(made.images)} images, packages of {', '.join(made.packages)} for {made.architecture}\n"
        f"Next, where the hosts are: dap -e {inventory} deploy --bundle {file.name}"
    )
