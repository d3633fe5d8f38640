"""``dap ca``: the platform's certificate authority."""

from __future__ import annotations

from pathlib import Path

import click

from dap.errors import DapError


@click.group()
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
