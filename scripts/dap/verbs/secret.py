"""``dap secret``: the platform's secrets."""

from __future__ import annotations

import re
import sys

import click


@click.group()
def secret() -> None:
    """The platform's secrets."""


@secret.command("set")
@click.argument("key")
@click.pass_obj
def secret_set(inventory: str, key: str) -> None:
    """Store a value for KEY, read from standard input.

    It is for passwords of servers of your own, and for choosing a value instead of a generated one.
    """
    from dap import rotation
    from dap.cli import as_typed
    from dap.site import load_site

    rotation.set_value(load_site(inventory), key, _read_value(key))
    click.echo(as_typed(f"Stored {key}. Next: dap -e {inventory} deploy"))


def _read_value(key: str) -> str:
    """A value from standard input, typed without an echo where it is a terminal; without its line end."""
    if sys.stdin.isatty():
        value: str = click.prompt(key, hide_input=True, confirmation_prompt=True, err=True)
        return value
    return re.sub(r"\r?\n\Z", "", sys.stdin.read())
