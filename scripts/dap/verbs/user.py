"""``dap user``: the people who use the platform."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dap.errors import RefusedError


@click.group()
def user() -> None:
    """The people who use the platform."""


deploy_option = click.option(
    "--deploy/--no-deploy", "with_deploy", default=True, help="Bring it to the hosts at once."
)


@user.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def user_list(inventory: str, as_json: bool) -> None:
    """List everybody in the configuration."""
    from dap import people, summary
    from dap.site import load_site

    found = people.listed(load_site(inventory))
    click.echo(json.dumps(found, indent=2) if as_json else summary.of_people(found))


@user.command("add")
@click.argument("name")
@click.option("--full-name", default="", metavar="TEXT", help="The person's name as others read it.")
@click.option("--email", default="", metavar="ADDRESS", help="E-mail address, for GitLab.")
@click.option(
    "--ssh-key",
    "ssh_keys",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Public SSH key for Git, such as ~/.ssh/id_ed25519.pub; repeatable.",
)
@click.option("--gitlab-admin", is_flag=True, help="Make the account an administrator of GitLab.")
@deploy_option
@click.pass_obj
def user_add(
    inventory: str,
    name: str,
    full_name: str,
    email: str,
    ssh_keys: Sequence[Path],
    gitlab_admin: bool,
    with_deploy: bool,
) -> None:
    """Write NAME into the configuration, and give the person all logins.

    Comments in the file stay. With --no-deploy the next deploy does the rest.
    """
    from dap import people
    from dap.site import load_site

    given: dict[str, Any] = {"name": name, "full_name": full_name, "email": email}
    given["ssh_keys"] = [_public_key(file) for file in ssh_keys]
    given["gitlab_admin"] = gitlab_admin
    site = load_site(inventory)
    people.add(site, {key: value for key, value in given.items() if value})
    _told(inventory, f"Added {name} to", with_deploy)
    click.echo(_typed(f"Logins to hand out: dap -e {inventory} credentials --user {name}"))


@user.command("disable")
@click.argument("name")
@deploy_option
@click.pass_obj
def user_disable(inventory: str, name: str, with_deploy: bool) -> None:
    """Take all logins of NAME back, and say what is left."""
    from dap import people
    from dap.dev import certificates
    from dap.layout import secrets_dir
    from dap.secrets import SecretStore
    from dap.site import load_site

    people.set_disabled(load_site(inventory), name, True)
    if certificates.recall(inventory):
        # Should the person come back one day, these do not.
        certificates.revoke(load_site(inventory), name)
    _told(inventory, f"Disabled {name} in", with_deploy)
    store = SecretStore.load(secrets_dir() / inventory, inventory)
    for line in people.left_with(load_site(inventory), store, name):
        click.echo(_typed(line))


@user.command("enable")
@click.argument("name")
@deploy_option
@click.pass_obj
def user_enable(inventory: str, name: str, with_deploy: bool) -> None:
    """Give the logins of NAME back."""
    from dap import people
    from dap.site import load_site

    people.set_disabled(load_site(inventory), name, False)
    _told(inventory, f"Enabled {name} in", with_deploy)


@user.command("certify")
@click.argument("name")
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Public SSH key of the person, such as id_ed25519.pub.",
)
@click.option("--valid", metavar="TIME", help="For how long, such as 8h; without it, as long as may be.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File to write; beside the key without it.",
)
@click.pass_obj
def user_certify(inventory: str, name: str, key: Path, valid: str | None, output: Path | None) -> None:
    """Sign an SSH key that opens the development containers of NAME for some hours."""
    from dap.dev import certificates
    from dap.site import load_site

    text, made = certificates.certify(load_site(inventory), name, key, valid)
    target = output or certificates.file_beside(key)
    certificates.write(text, target)
    click.echo(f"Wrote {target}: certificate {made.serial} of {name}, valid until {made.ends}.")
    click.echo(_typed(f"To take it back: dap -e {inventory} user revoke {name} --serial {made.serial}"))


@user.command("revoke")
@click.argument("name")
@click.option(
    "--serial", "serials", multiple=True, type=int, metavar="NUMBER", help="Only this one; repeatable."
)
@click.pass_obj
def user_revoke(inventory: str, name: str, serials: Sequence[int]) -> None:
    """Take SSH certificates of NAME back, all without --serial; other logins stay."""
    from dap.dev import certificates, working
    from dap.site import load_site

    site = load_site(inventory)
    gone = certificates.revoke(site, name, serials)
    for box in site.dev_containers:
        if box.user.name == name:
            working.refresh(site, box)
    numbers = ", ".join(str(one.serial) for one in gone)
    click.echo(f"Certificates of {name} that no longer count: {numbers or 'none was valid'}.")


def _told(inventory: str, what: str, with_deploy: bool) -> None:
    """Say what was written where, and deploy it."""
    from dap.cli import deploy
    from dap.layout import shown
    from dap.site import load_site

    click.echo(f"{what} {shown(load_site(inventory).inventory.platform_file)}.")
    if with_deploy:
        click.get_current_context().invoke(
            deploy, dry_run=False, diff=False, only=(), prove=False, as_json=False
        )
    else:
        click.echo(_typed(f"Next: dap -e {inventory} deploy"))


def _typed(text: str) -> str:
    from dap.cli import as_typed

    return as_typed(text)


def _public_key(file: Path) -> str:
    try:
        return file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        # The last is for the home folder of somebody who is not there.
        raise RefusedError(f"{file} cannot be read: {error}", "name a file that ends in .pub") from error
