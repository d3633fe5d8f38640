"""``dap dev``: the containers that users work in, and what their SSH clients are told."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from dap.errors import RefusedError

if TYPE_CHECKING:
    from dap.dev.containers import DevContainer
    from dap.site import Site


@click.group()
def dev() -> None:
    """The containers that users work in."""


@dev.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def dev_list(inventory: str, as_json: bool) -> None:
    """List the development containers, and how they are."""
    from datetime import UTC, datetime

    from dap import summary
    from dap.dev import working
    from dap.site import load_site

    found, unreached = working.listed(load_site(inventory))
    if as_json:
        told = [{"host": host, "reason": reason} for host, reason in unreached.items()]
        containers = [one.as_json() for one in found]
        click.echo(json.dumps({"containers": containers, "unreached": told}, indent=2))
    else:
        click.echo(_typed(summary.of_dev_containers(found, unreached, inventory, datetime.now(UTC))))
    if unreached:
        sys.exit(1)


@dev.command("create")
@click.argument("user")
@click.option("--environment", required=True, metavar="NAME", help="Environment whose image it runs.")
@click.option("--host", metavar="NAME", help="Runner host; needed where there are several.")
@click.option("--name", metavar="NAME", help="What it is called; USER-ENVIRONMENT without it.")
@click.option("--memory", metavar="AMOUNT", help="Most memory, such as 16g.")
@click.option("--cpus", type=float, metavar="NUMBER", help="Most processors.")
@click.option("--shm", metavar="AMOUNT", help="Most memory that its processes may share.")
@click.option("--gpus", type=int, metavar="NUMBER", help="How many GPUs of the host it has.")
@click.option("--gpu", multiple=True, metavar="DEVICE", help="One that it has, by index, UUID or CDI name.")
@click.option("--gpus-shared", is_flag=True, help="Share them with others that share them, too.")
@click.option("--port", type=int, metavar="NUMBER", help="Port of its SSH server on the host.")
@click.option("--idle-stop", metavar="TIME", help="How long it may be idle before its processes are ended.")
@click.option("--jupyter/--no-jupyter", default=None, help="Whether it has a page with JupyterLab.")
@click.option("--code-server/--no-code-server", default=None, help="Whether VS Code is on its page.")
@click.pass_obj
def dev_create(inventory: str, /, gpu: tuple[str, ...], gpus_shared: bool, **given: Any) -> None:
    """Write a container for USER into the configuration, and make it.

    Comments in the file stay. What the host lacks, such as the image, a deploy brings first.
    """
    from dap.cli import deploy
    from dap.dev import numbers, working
    from dap.gpus.claims import without_gpu
    from dap.images.builds import tags_of
    from dap.images.environments import variable_of
    from dap.layout import shown
    from dap.site import load_site

    site = load_site(inventory)
    if gpu and given["gpus"]:
        raise RefusedError("--gpus says how many, and --gpu which", "give one of them")
    given |= {"gpus": list(gpu) or given["gpus"], "gpus_shared": gpus_shared or None}
    now, box, made = working.create(site, {key: value for key, value in given.items() if value is not None})
    click.echo(f"Added {box.name} to {shown(site.inventory.platform_file)}.")
    if made is None:
        click.get_current_context().invoke(
            deploy, dry_run=False, diff=False, only=(), prove=False, as_json=False
        )
    port = made.port if made else numbers.numbers_of(now).ports[box.name]
    image = made.image if made else tags_of(now.environments)[box.environment]
    click.echo(f"{box.name} runs on {box.host.name}, port {port}, from {image}")
    if box.environment in now.job_environments:
        click.echo(f"In a pipeline: image: {image}, which is ${variable_of(box.environment)}")
    click.echo(_typed(f"For {box.user.name}: dap -e {inventory} ssh-config --user {box.user.name}"))
    for told in without_gpu(now, box.name) if made else ():
        click.echo(f"warning: {told}", err=True)
    if not now.has_page(box):
        return
    if made is not None:
        # Whoever uses SSH has not waited for it.
        (proxy,) = now.providers("proxy")
        click.get_current_context().invoke(deploy, only=(proxy.name,), prove=False)
    for title, address in now.page_links(box).items():
        click.echo(f"{title}, with {box.user.name}'s platform login: {address}")


@dev.command("start")
@click.argument("name")
@click.pass_obj
def dev_start(inventory: str, name: str) -> None:
    """Start the container NAME again."""
    from dap.dev import working

    site, box = _found(inventory, name)
    working.start(site, box)
    click.echo(f"{name} runs.")


@dev.command("stop")
@click.argument("name")
@click.pass_obj
def dev_stop(inventory: str, name: str) -> None:
    """Stop the container NAME; no deploy starts it again."""
    from dap.dev import working

    site, box = _found(inventory, name)
    working.stop(site, box)
    click.echo(_typed(f"{name} is stopped. To start it again: dap -e {inventory} dev start {name}"))


@dev.command("recreate")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def dev_recreate(inventory: str, name: str, yes: bool) -> None:
    """Replace the container NAME by one with the image and settings of now."""
    from dap.dev import working

    site, box = _found(inventory, name)
    lost = "processes, connections, and what is in /tmp; home and /scratch stay"
    if not yes:
        click.echo(f"This ends what runs in {name}. Lost are {lost}.", err=True)
        _confirm(name, f"dap -e {inventory} dev recreate {name}, or with --yes where nobody can type")
    working.recreate(site, box)
    click.echo(f"{name} is made anew. Lost were {lost}.")


@dev.command("remove")
@click.argument("name")
@click.option("--with-home", is_flag=True, help="Also remove the user's home and scratch on that host.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def dev_remove(inventory: str, name: str, with_home: bool, yes: bool) -> None:
    """Take the container NAME out of the configuration, and remove it; the home stays."""
    from dap.dev import working

    site, box = _found(inventory, name)
    if with_home and not yes:
        click.echo(
            f"This removes ALL FILES of {box.user.name} in home and scratch on {box.host.name}."
            " There is no way back.",
            err=True,
        )
        _confirm(name, f"dap -e {inventory} dev remove {name} --with-home, or with --yes")
    for what in working.remove(site, box, with_home=with_home):
        click.echo(what)
    if not with_home:
        home = site.platform.paths.data / "homes" / box.user.name
        click.echo(f"The home stays: {home} on {box.host.name}")


@dev.command("logs")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on as new lines come.")
@click.option("-n", "--lines", default=100, show_default=True, help="Number of lines from the end.")
@click.pass_obj
def dev_logs(inventory: str, name: str, follow: bool, lines: int) -> None:
    """Show the log of the container NAME: who logged in, and who was refused."""
    from dap.dev import working

    site, box = _found(inventory, name)
    argv = working.logs_argv(site, box, follow=follow, lines=lines)
    os.execvp(argv[0], argv)  # noqa: S606  our own argv, no shell


@dev.command("shell")
@click.argument("name")
@click.pass_obj
def dev_shell(inventory: str, name: str) -> None:
    """Open a shell in the container NAME, as its user."""
    from dap.dev import working

    site, box = _found(inventory, name)
    argv = working.shell_argv(site, box)
    os.execvp(argv[0], argv)  # noqa: S606  our own argv, no shell


@click.command("ssh-config")
@click.option("--user", metavar="NAME", help="Only the containers of this user.")
@click.option("--known-hosts", "only_known", is_flag=True, help="Print the line for known_hosts instead.")
@click.pass_obj
def ssh_config(inventory: str, user: str | None, only_known: bool) -> None:
    """Print what a user appends to ~/.ssh/config to reach the containers by name."""
    from dap.credentials import Credentials
    from dap.dev import numbers, ssh_config
    from dap.layout import secrets_dir
    from dap.secrets import SecretStore
    from dap.site import load_site

    site = load_site(inventory)
    boxes = [box for box in site.dev_containers if user in (None, box.user.name)]
    if not boxes:
        whose = f"{user} has" if user else "there is"
        raise RefusedError(f"{whose} no development container", f"dap -e {inventory} dev create --help")
    store = SecretStore.load(secrets_dir() / inventory, inventory)
    authority = ssh_config.authority_line(Credentials(site, store, generate=False))
    if only_known:
        click.echo(ssh_config.known_hosts(site, boxes, authority), nl=False)
    else:
        ports = numbers.numbers_of(site).ports
        click.echo(ssh_config.blocks(site, boxes, ports, authority), nl=False)


def _found(inventory: str, name: str) -> tuple[Site, DevContainer]:
    from dap.dev import working
    from dap.site import load_site

    site = load_site(inventory)
    return site, working.find(site, name)


def _confirm(name: str, again: str) -> None:
    try:
        typed = click.prompt(
            f"Type the container's name ({name}) to confirm", default="", show_default=False, err=True
        )
    except click.Abort:
        typed = ""
    if typed != name:
        raise RefusedError("not confirmed; nothing was changed", again)


def _typed(text: str) -> str:
    from dap.cli import as_typed

    return as_typed(text)
