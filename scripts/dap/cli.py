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
from dap.errors import EXIT_CHANGES, DapError, RefusedError
from dap.layout import secrets_dir, shown
from dap.verbs.bundle import bundle, bundle_option
from dap.verbs.ca import ca
from dap.verbs.ci import pipeline, runner
from dap.verbs.dev import dev, ssh_config
from dap.verbs.image import image
from dap.verbs.init import init
from dap.verbs.outdated import outdated
from dap.verbs.secret import secret
from dap.verbs.user import user

if TYPE_CHECKING:
    from dap.deployment.deploy import Deployment
    from dap.deployment.outcome import Outcome
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

    Exit codes: 0 done, 1 failed, 2 refused (bad configuration or usage; nothing was touched), 3 from `plan`:
    a deploy would change something, and from `outdated`: there are newer versions.
    """
    ctx.obj = inventory


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
only_option = click.option(
    "--only", multiple=True, metavar="SERVICE", help="Just this service, and no other; repeatable."
)


main.add_command(init)


@main.command()
@bundle_option
@json_option
@click.pass_obj
def check(inventory: str, bundle_file: Path | None, as_json: bool) -> None:
    """Check configuration and hosts; change nothing."""
    deployment = _deployment(inventory, "check", bundle_file)
    outcome = deployment.check()
    if as_json:
        _print_json({"ok": True, "warnings": outcome.warnings})
        return
    _warn(outcome.warnings)
    click.echo(f"Inventory {inventory}: configuration and hosts are in order.")


@main.command()
@click.option("--diff", is_flag=True, help="Show the differences of files; never of those with secrets.")
@only_option
@bundle_option
@json_option
@click.pass_obj
def plan(inventory: str, diff: bool, only: Sequence[str], bundle_file: Path | None, as_json: bool) -> None:
    """Say what a deploy would change and why; change nothing.

    Exit code 0 if nothing would change, 3 if something would.
    """
    if _planned(inventory, diff=diff, only=only, bundle_file=bundle_file, as_json=as_json):
        sys.exit(EXIT_CHANGES)


@main.command()
@click.option("--check", "dry_run", is_flag=True, help="Say what would change, as `dap plan` does.")
@click.option("--diff", is_flag=True, help="Write differences of files into the log.")
@only_option
@bundle_option
@click.option("--verify/--no-verify", "prove", default=True, help="Run `dap verify` at the end.")
@json_option
@click.pass_obj
def deploy(
    inventory: str,
    dry_run: bool,
    diff: bool,
    only: Sequence[str],
    bundle_file: Path | None,
    prove: bool,
    as_json: bool,
) -> None:
    """Bring the hosts into the configured state."""
    from dap.verify import load_clients

    if dry_run:
        _planned(inventory, diff=diff, only=only, bundle_file=bundle_file, as_json=as_json)
        return
    deployment = _deployment(inventory, "deploy", bundle_file)
    if prove:
        # The program otherwise spends that time waiting for Ansible.
        threading.Thread(target=load_clients, daemon=True).start()
    outcome = deployment.run(diff=diff, only=only)
    _prove(deployment, outcome, prove=prove, only=only, as_json=as_json)


@main.command()
@json_option
@click.pass_obj
def status(inventory: str, as_json: bool) -> None:
    """Show what runs where, and how it is."""
    from dap import summary
    from dap.site import load_site
    from dap.status import status_of, with_runners

    found = with_runners(status_of(load_site(inventory)))
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

    known = _place(_deployment(inventory, "credentials")).credentials
    logins = [login for login in known.logins() if user in (None, login.user)]
    if not logins:
        raise RefusedError(f"nobody logs in as {user!r}", f"dap -e {inventory} credentials")
    deploy_it = f"dap -e {inventory} deploy brings it there"
    _warn(known.store.repairs)
    for key in known.store.pending():
        _warn([f"{key} has a new value that may not be in use everywhere yet; {deploy_it}"])
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


@main.command()
@click.argument("secrets", nargs=-1, metavar="SECRET...")
@click.option("--list", "only_list", is_flag=True, help="List what can get a new value, and who starts anew.")
@click.option("--verify/--no-verify", "prove", default=True, help="Run `dap verify` at the end.")
@json_option
@click.pass_obj
def rotate(inventory: str, secrets: Sequence[str], only_list: bool, prove: bool, as_json: bool) -> None:
    """Give each SECRET a new value, in the store and in the running services; `all` for every one.

    If it is killed half-way, the next deploy finishes it.
    """
    from dap import rotation, summary
    from dap.secrets import SecretStore
    from dap.site import load_site

    site = load_site(inventory)
    if only_list:
        found = rotation.as_json(site, SecretStore.load(secrets_dir() / inventory, inventory))
        return _print_json(found) if as_json else click.echo(summary.of_rotation(found))
    if not secrets:
        raise click.UsageError(f"name secrets, or all; they are listed by: dap -e {inventory} rotate --list")
    chosen = rotation.chosen(site, secrets)
    deployment = _deployment(inventory, "rotate")
    _prove(deployment, deployment.run(rotate=chosen), prove=prove, as_json=as_json)


main.add_command(secret)
main.add_command(user)
main.add_command(dev)
main.add_command(ssh_config)
main.add_command(image)
main.add_command(bundle)
main.add_command(outdated)
main.add_command(runner)
main.add_command(pipeline)
main.add_command(ca)


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


def _deployment(inventory: str, verb: str, bundle_file: Path | None = None) -> Deployment:
    if verb not in ("verify", "credentials"):
        from dap.hosts import ansible as hosts

        hosts.load()
    from dap.bundle.archive import Bundle
    from dap.deployment.deploy import Deployment
    from dap.deployment.progress import Progress
    from dap.site import load_site

    # Verbs that change hosts decide anew what runs; the others go by what was decided last.
    reconsider = verb in ("check", "plan", "deploy", "rotate")
    site = load_site(inventory, reconsider=reconsider)
    return Deployment(site, Progress(), verb, Bundle.in_file(bundle_file) if bundle_file else None)


def _place(deployment: Deployment) -> Place:
    from dap.status import place_of

    return place_of(deployment.site)


def _planned(
    inventory: str, *, diff: bool, only: Sequence[str], bundle_file: Path | None, as_json: bool
) -> bool:
    """Print what a deploy would change; whether that is anything."""
    from dap.deployment.partial import refuse_failed
    from dap.plan.text import of_plan

    deployment = _deployment(inventory, "plan", bundle_file)
    outcome = deployment.run(check=True, diff=diff, only=only)
    if as_json:
        told = {"warnings": outcome.warnings, "failed": outcome.failed, "log": str(outcome.log)}
        _print_json({**outcome.plan.as_json(), **told})
    else:
        click.echo(as_typed(of_plan(outcome.plan, deployment.site, outcome.warnings)))
    refuse_failed(outcome, deployment.inventory)
    return outcome.plan.count > 0


def _prove(
    deployment: Deployment,
    outcome: Outcome,
    *,
    prove: bool,
    only: Sequence[str] = (),
    as_json: bool = False,
) -> None:
    """Verify what a deploy did, if wanted, and tell all of it."""
    from dap import summary
    from dap.deployment.partial import refuse_failed

    results: list[Result] = []
    if prove:
        with deployment.progress.step("Verify"):
            results = _verified(_place(deployment), only)
    if as_json:
        checks = {"checks": [result.as_json() for result in results]} if prove else {}
        told = {"rotated": outcome.rotated, "warnings": outcome.warnings, "failed": outcome.failed}
        _print_json({**outcome.plan.as_json(), **told, "log": str(outcome.log)} | checks)
    else:
        click.echo(as_typed(summary.of_deploy(deployment.site, outcome, results)))
    refuse_failed(outcome, deployment.inventory)
    if any(not result.ok for result in results):
        name = deployment.inventory.name
        raise DapError("the platform is deployed, but not all of it works", f"dap -e {name} status")


def _verified(place: Place, only: Sequence[str] = ()) -> list[Result]:
    from dap.status import container_results
    from dap.verify import verify as run_checks

    if only:
        # The others may differ from the configuration: what is wrong with them is not this deploy's.
        return run_checks(place, [place.site.services[name] for name in only])
    return [*container_results(place.site), *run_checks(place, list(place.site.services.values()))]


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        click.secho("warning: ", fg="yellow", nl=False, err=True)
        click.echo(warning, err=True)


def _print_json(data: object) -> None:
    click.echo(json.dumps(data, indent=2))
