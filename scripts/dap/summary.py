"""The program's answers as text for a person: tables and the summary of a deploy."""

from __future__ import annotations

from collections.abc import Sequence

from dap.credentials import Login
from dap.deploy import Outcome
from dap.site import Site
from dap.status import Status
from dap.verify import Result


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned with spaces; the last one is not padded."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    padded = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    return "\n".join(padded)


def of_status(status: Status) -> str:
    """The answer of ``dap status``."""
    rows = [
        [entry.host, entry.service, entry.health or entry.state, entry.since, entry.image]
        for entry in status.containers
    ]
    rows += [[host, service, "missing", "", ""] for host, service in status.missing]
    text = table(["HOST", "SERVICE", "STATE", "SINCE", "IMAGE"], rows) if rows else "No containers."
    name = status.site.inventory.name
    ill = next((entry.service for entry in status.containers if not entry.well), None)
    next_step = (
        f"\nnext: dap -e {name} logs {ill}, or bring all back with: dap -e {name} deploy" if ill else ""
    )
    if status.missing and not ill:
        next_step = f"\nnext: dap -e {name} deploy"
    expiring = [f"{name}: {days} days" for name, days in sorted(status.certificates.items())]
    return f"{text}\n\nCertificates: {', '.join(expiring) or 'none'}{next_step}"


def of_verify(inventory: str, results: Sequence[Result]) -> str:
    """The answer of ``dap verify``."""
    rows = [
        [
            "ok" if result.ok else "FAILED",
            result.service,
            result.check,
            f"{result.seconds:.1f} s",
            result.detail,
        ]
        for result in results
    ]
    failed = sum(not result.ok for result in results)
    head = table(["", "SERVICE", "CHECK", "TIME", "SEEN"], rows)
    next_step = f"\nnext: dap -e {inventory} status" if failed else ""
    return f"{head}\n\n{len(results)} checks, {failed} failed{next_step}"


def of_credentials(logins: Sequence[Login]) -> str:
    """The answer of ``dap credentials``."""
    rows = [[login.what, login.url, login.user, login.secret.reveal()] for login in logins]
    return table(["WHAT", "WHERE", "USER", "SECRET"], rows)


def of_deploy(site: Site, outcome: Outcome, results: Sequence[Result], *, dry_run: bool) -> str:
    """What runs where, how to log in, how to trust the CA, what was left out and why."""
    name = site.inventory.name
    program = "dap" if name == "local" else f"dap -e {name}"
    # What happened to services and data says more than which files were written for it.
    changes = sorted(outcome.changes, key=lambda change: change[1].endswith(" written"))
    count = len(changes)
    lines = [f"{count} change{'s' if count != 1 else ''}{' would be made' if dry_run else ''}"]
    lines += [f"  {host}: {what}" for host, what in changes[:20]]
    if count > 20:
        lines.append(f"  … and {count - 20} more, see the log")
    if dry_run:
        return "\n".join([*lines, f"log: {outcome.log}"])
    lines += ["", *_services(site), "", *_next_steps(site, program)]
    if results:
        failed = [result for result in results if not result.ok]
        lines += [f"Verified: {len(results) - len(failed)} of {len(results)} checks passed"]
        lines += [f"  FAILED {result.service}: {result.check}: {result.detail}" for result in failed]
    lines += [f"warning: {warning}" for warning in dict.fromkeys(outcome.warnings)]
    return "\n".join([*lines, f"log: {outcome.log}"])


def _services(site: Site) -> list[str]:
    rows = []
    for host in site.inventory.hosts:
        for service in site.services_on(host).values():
            if service.manifest.provides == "jobs":
                continue
            where = [site.url(web) for web in service.manifest.web]
            host_name = "" if service.manifest.provides == "proxy" else site.own_host(service)
            where += [f"{host_name}:{site.published_port(port)}" for port in service.manifest.ports]
            rows.append([service.name, host.name, ", ".join(where) or "-"])
    return table(["SERVICE", "HOST", "WHERE"], rows).splitlines()


def _next_steps(site: Site, program: str) -> list[str]:
    portal = f"https://{site.platform.domain}{site.port_suffix}"
    steps = [f"Start page:    {portal}", f"Log in with:   {program} credentials"]
    if site.platform.tls.mode == "private-ca":
        steps.append(f"Trust the CA:  {program} ca export -o ~/dap-ca.crt (docs/how-to/trust-the-ca.md)")
    steps += [f"Left out:      {name} ({reason})" for name, (_, reason) in site.left_out.items()]
    return steps
