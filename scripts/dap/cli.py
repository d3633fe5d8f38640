"""The command line: ``dap``. Verbs decide nothing; they call the modules that do, and print.

Modules are imported by the verb that needs them, so that ``dap --help`` answers at once.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dap import __version__
from dap.errors import DapError, RefusedError
from dap.layout import shown

if TYPE_CHECKING:
    from dap.deploy import Deployment
    from dap.verify import Place, Result


def as_typed(text: str) -> str:
    """``text`` with commands as they work in this shell: ``dap`` is on the path only in an active .venv."""
    own = Path(sys.argv[0])
    if own.name != "dap" or shutil.which("dap") == str(own.absolute()):
        return text
    verbs = "|".join(["-e", *main.commands])
    return re.sub(rf"\bdap (?=({verbs})\b)", f"{shown(own.absolute())} ", text)


class _Program(click.Group):
    """Catches the program's own errors once, and lists verbs in the order of use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DapError as error:
            click.secho("error: ", fg="red", bold=True, nl=False, err=True)
            click.echo(as_typed(str(error)), err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-e",
    "--inventory",
    default="local",
    envvar="DAP_INVENTORY",
    show_default=True,
    metavar="NAME",
    help="Inventory to work on.",
)
@click.version_option(__version__, prog_name="dap")
@click.pass_context
def main(ctx: click.Context, inventory: str) -> None:
    """Turns a team's own Linux machines into a place to do data analysis and machine learning.

    Exit codes: 0 done, 1 failed, 2 refused (bad configuration or usage; nothing was touched).
    """
    ctx.obj = inventory


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@main.command()
@click.argument("name")
@click.option("--domain", required=True, metavar="DOMAIN", help="Domain of the platform's names.")
@click.option("--service-host", required=True, metavar="HOST", help="Machine that runs the services.")
@click.option(
    "--runner-host", "runner_hosts", multiple=True, metavar="HOST", help="Runner machine; repeatable."
)
def init(name: str, domain: str, service_host: str, runner_hosts: Sequence[str]) -> None:
    """Create the inventory NAME with every setting explained."""
    from dap.scaffold import create_inventory

    folder = create_inventory(name, domain, service_host, runner_hosts)
    click.echo(f"Created {folder}. Next:\n  edit {folder}/group_vars/all/platform.yml\n  dap -e {name} check")


@main.command()
@json_option
@click.pass_obj
def check(inventory: str, as_json: bool) -> None:
    """Check configuration and hosts; change nothing."""
    deployment = _deployment(inventory, "check")
    outcome = deployment.check()
    if as_json:
        _print_json({"ok": True, "warnings": outcome.warnings})
        return
    _warn(outcome.warnings)
    click.echo(f"Inventory {inventory}: configuration and hosts are in order.")


@main.command()
@click.option("--check", "dry_run", is_flag=True, help="Say what would change, change nothing.")
@click.option("--diff", is_flag=True, help="Write differences of files into the log.")
@click.option("--verify/--no-verify", "prove", default=True, help="Run `dap verify` at the end.")
@click.pass_obj
def deploy(inventory: str, dry_run: bool, diff: bool, prove: bool) -> None:
    """Bring the hosts into the configured state."""
    from dap import summary
    from dap.verify import load_checks

    deployment = _deployment(inventory, "deploy")
    if prove and not dry_run:
        # Loading the clients takes half a second, which the program otherwise spends waiting for Ansible.
        threading.Thread(target=load_checks, daemon=True).start()
    outcome = deployment.run(check=dry_run, diff=diff)
    results: list[Result] = []
    if prove and not dry_run:
        with deployment.progress.step("Verify"):
            results = _verified(_place(deployment))
    click.echo(as_typed(summary.of_deploy(deployment.site, outcome, results, dry_run=dry_run)))
    if any(not result.ok for result in results):
        raise DapError("the platform is deployed, but not all of it works", f"dap -e {inventory} status")


@main.command()
@json_option
@click.pass_obj
def status(inventory: str, as_json: bool) -> None:
    """Show what runs where, and how it is."""
    from dap import summary
    from dap.site import load_site
    from dap.status import status_of

    found = status_of(load_site(inventory))
    if as_json:
        _print_json(found.as_json())
    else:
        click.echo(as_typed(summary.of_status(found)))
    if not found.well:
        sys.exit(1)


@main.command()
@click.argument("service")
@click.option("-f", "--follow", is_flag=True, help="Go on as new lines come.")
@click.option("-n", "--lines", default=100, show_default=True, help="Number of lines from the end.")
@click.pass_obj
def logs(inventory: str, service: str, follow: bool, lines: int) -> None:
    """Show the log of SERVICE."""
    from dap.site import load_site
    from dap.status import logs_argv

    argv = logs_argv(load_site(inventory), service, follow=follow, lines=lines)
    os.execvp(argv[0], argv)  # noqa: S606  our own argv, no shell


@main.command()
@json_option
@click.pass_obj
def verify(inventory: str, as_json: bool) -> None:
    """Prove from a user's place that the platform works."""
    from dap import summary

    results = _verified(_place(_deployment(inventory, "verify")))
    if as_json:
        _print_json(
            {"ok": all(result.ok for result in results), "checks": [result.as_json() for result in results]}
        )
    else:
        click.echo(as_typed(summary.of_verify(inventory, results)))
    if not all(result.ok for result in results):
        sys.exit(1)


@main.command()
@click.option("--user", metavar="NAME", help="Only the logins of this user name.")
@json_option
@click.pass_obj
def credentials(inventory: str, user: str | None, as_json: bool) -> None:
    """Show every login, or one user's to hand out. The output is secret."""
    from dap import summary

    every = _place(_deployment(inventory, "credentials")).credentials.logins()
    logins = [login for login in every if user in (None, login.user)]
    if not logins:
        raise RefusedError(f"nobody logs in as {user!r}", f"dap -e {inventory} credentials")
    if as_json:
        _print_json(
            [
                {"what": entry.what, "url": entry.url, "user": entry.user, "secret": entry.secret.reveal()}
                for entry in logins
            ]
        )
    else:
        click.echo(summary.of_credentials(logins))


@main.command()
@click.option(
    "--data", "with_data", is_flag=True, help="Also remove all data and secrets; asks for confirmation."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def destroy(inventory: str, with_data: bool, yes: bool) -> None:
    """Remove containers and rendered files; data and secrets stay."""
    deployment = _deployment(inventory, "destroy")
    if with_data and not yes:
        platform = deployment.site.platform
        hosts = ", ".join(host.name for host in deployment.inventory.hosts)
        click.echo(
            f"This removes ALL DATA in {platform.paths.data} on {hosts}: databases, buckets, MLflow's runs.\n"
            f"It also removes the secrets of inventory {inventory}. There is no way back.",
            err=True,
        )
        question = f"Type the inventory's name ({inventory}) to confirm"
        try:
            typed = click.prompt(question, default="", show_default=False, err=True)
        except click.Abort:
            typed = ""
        if typed != inventory:
            again = f"dap -e {inventory} destroy --data, or with --yes where nobody can type"
            raise RefusedError("not confirmed; nothing was changed", again)
    outcome = deployment.destroy(with_data=with_data)
    kept = (
        "Data and secrets are gone."
        if with_data
        else "Data and secrets are kept; `dap deploy` brings it all back."
    )
    click.echo(f"{len(outcome.changes)} changes. {kept}")


@main.group()
def image() -> None:
    """The platform's images."""


@image.command("build")
@click.argument("services", nargs=-1)
@click.pass_obj
def image_build(inventory: str, services: Sequence[str]) -> None:
    """Build the images of SERVICES (all by default) that are missing, without deploying."""
    outcome = _deployment(inventory, "image-build").build_images(services)
    click.echo("\n".join(what for _, what in outcome.changes) or "All images are there.")


@main.group()
def ca() -> None:
    """The platform's certificate authority."""


@ca.command("export")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; else standard output.",
)
@click.pass_obj
def ca_export(inventory: str, output: Path | None) -> None:
    """Print the CA's certificate, for browsers and clients."""
    from dap.site import load_site
    from dap.status import ca_certificate

    certificate = ca_certificate(load_site(inventory))
    if output is None:
        click.echo(certificate.pem, nl=False)
    else:
        try:
            output.write_text(certificate.pem, encoding="utf-8")
        except OSError as error:
            raise DapError(f"cannot write {output}: {error.strerror}", "name another file with -o") from error
        click.echo(f"Wrote {output}.")
    click.echo(f"SHA-256 fingerprint: {certificate.fingerprint}", err=True)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    Use it with: eval "$(dap completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101  the choices are click's own
    click.echo(kind(main, {}, "dap", "_DAP_COMPLETE").source())


def _deployment(inventory: str, verb: str) -> Deployment:
    from dap.deploy import Deployment
    from dap.progress import Progress
    from dap.site import load_site

    return Deployment(load_site(inventory), Progress(), verb)


def _place(deployment: Deployment) -> Place:
    from dap.status import place_of

    return place_of(deployment.site)


def _verified(place: Place) -> list[Result]:
    from dap.status import container_results
    from dap.verify import verify as run_checks

    return [*container_results(place.site), *run_checks(place, list(place.site.services.values()))]


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.secho("warning: ", fg="yellow", nl=False, err=True)
        click.echo(warning, err=True)


def _print_json(data: object) -> None:
    click.echo(json.dumps(data, indent=2))
