"""The verb ``dap init``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click


def asks() -> bool:
    """Whether somebody is there to be asked."""
    return sys.stdin.isatty()


@click.command()
@click.argument("name")
@click.option("--domain", metavar="DOMAIN", help="Domain of the platform's names.")
@click.option(
    "--service-host", metavar="HOST", help="Machine that runs the services; `localhost` is this one."
)
@click.option(
    "--runner-host", "runner_hosts", multiple=True, metavar="HOST", help="Runner machine; repeatable."
)
@click.option("--user", metavar="NAME", help="Account to log in there with; root, or one that may use sudo.")
@click.pass_context
def init(
    ctx: click.Context,
    name: str,
    domain: str | None,
    service_host: str | None,
    runner_hosts: Sequence[str],
    user: str | None,
) -> None:
    """Create the inventory NAME with every setting explained.

    HOST is a name or an address, or both as NAME=ADDRESS. On a terminal, what is not given is asked for.
    """
    from dap.scaffold import create_inventory

    if asks() and not (domain and service_host):
        domain = domain or click.prompt("Domain of the platform's names, such as dap.example.com")
        service_host = service_host or click.prompt("Machine that runs the services (localhost: this one)")
        if not runner_hosts:
            runner_hosts = _may_be_empty("Runner machines, with spaces between").split()
        if user is None and {service_host, *runner_hosts} != {"localhost"}:
            user = _may_be_empty("Account to log in there with")
    for option, value in (("domain", domain), ("service_host", service_host)):
        if not value:
            missing = next(one for one in ctx.command.params if one.name == option)
            raise click.MissingParameter(ctx=ctx, param=missing)
    folder = create_inventory(name, str(domain), str(service_host), runner_hosts, user or "")
    click.echo(f"Created {folder}. Next:\n  edit {folder}/group_vars/all/platform.yml\n  dap -e {name} check")


def _may_be_empty(question: str) -> str:
    answer: str = click.prompt(f"{question} (may be empty)", "", show_default=False)
    return answer
