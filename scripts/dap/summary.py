"""The program's answers as text for a person: tables and the summary of a deploy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from dap.credentials import Login
from dap.deployment.outcome import Outcome
from dap.dev.hosts import Seen
from dap.dev.quota import readable
from dap.dev.working import KnownContainer
from dap.gitlab.ci import KnownRunner
from dap.gpus.listing import KnownGpu
from dap.images.listing import Change, Known
from dap.plan.text import left_alone
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
    rows += [[host, "-", "unreached", "", reason] for host, reason in status.unreached.items()]
    text = table(["HOST", "SERVICE", "STATE", "SINCE", "IMAGE"], rows) if rows else "No containers."
    text += "".join(
        f"\n{entry.host}: {entry.service}: {entry.complaint}"
        for entry in status.containers
        if entry.complaint
    )
    name = status.site.inventory.name
    ill = next((entry.service for entry in status.containers if not entry.well), None)
    next_step = (
        f"\nnext: dap -e {name} logs {ill}, or bring all back with: dap -e {name} deploy" if ill else ""
    )
    if status.missing and not ill:
        next_step = f"\nnext: dap -e {name} deploy"
    if status.unreached:
        next_step = (
            f"\nnext: see that every host runs; dap -e {name} check says what keeps one from being reached"
        )
    out = "".join(f"\nLeft out: {left}" for left in _left_out(status.site))
    expiring = [f"{name}: {days} days" for name, days in sorted(status.certificates.items())]
    if status.runners:
        text += f"\n\n{of_runners(status.runners)}"
    elif status.runners is None:
        text += "\n\nRunners: GitLab cannot be asked for them"
    if status.gpus:
        text += f"\n\n{of_gpus(status.gpus)}"
    return f"{text}\n{out}\nCertificates: {', '.join(expiring) or 'none'}{next_step}"


def _left_out(site: Site) -> list[str]:
    """The services that do not run here, each with the reason."""
    return [f"{name} ({reason})" for name, (_, reason) in site.left_out.items()]


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


def of_runners(runners: Sequence[KnownRunner]) -> str:
    """The answer of ``dap runner list``."""
    rows = [
        [one.name, one.state, str(one.jobs), ", ".join(one.tags) or "-", one.version or "-"]
        for one in runners
    ]
    return table(["RUNNER", "STATE", "JOBS", "TAGS", "VERSION"], rows) if rows else "No runners."


def of_gpus(gpus: Sequence[KnownGpu]) -> str:
    """The part of ``dap status`` about GPUs."""
    rows = [
        [one.host, one.device, one.uuid or "-", ", ".join(one.promised_to) or "-", one.state] for one in gpus
    ]
    return table(["HOST", "GPU", "UUID", "PROMISED TO", "STATE"], rows)


def age(time: str, now: datetime) -> str:
    """How long ago something was that an engine tells the time of; a hyphen where nothing was."""
    if not time:
        return "-"
    seconds = max(0, int((now - datetime.fromisoformat(time)).total_seconds()))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def of_dev_containers(
    containers: Sequence[KnownContainer], unreached: Mapping[str, str], inventory: str, now: datetime
) -> str:
    """The answer of ``dap dev list``."""
    with_gpus = any(one.seen and one.seen.gpus for one in containers)
    rows = [
        [
            *(one.name, one.user, one.environment, one.host, str(one.port or "-")),
            f"{one.state}, outdated" if one.outdated and one.state == "running" else one.state,
            *(_busy(one.seen, now) if one.seen else ["-"] * 4),
            *([_gpus(one.seen)] if with_gpus else []),
            f"{age(one.seen.image_built, now)} ago" if one.seen and one.seen.image_built else "-",
            _home(one),
            one.page or "-",
        ]
        for one in containers
    ]
    head = [
        "CONTAINER",
        "USER",
        "ENVIRONMENT",
        "HOST",
        "PORT",
        "STATE",
        "SINCE",
        "SSH",
        "KERNELS",
        "CPU",
        *(["GPU"] if with_gpus else []),
        "IMAGE BUILT",
        "HOME",
        "PAGE",
    ]
    lines = [table(head, rows) if rows else "No development containers."]
    lines += [f"{host}: {reason}" for host, reason in unreached.items()]
    lines += _homes(containers)
    old = [one.name for one in containers if one.outdated and one.state == "running" and one.port]
    if old:
        lines.append(f"next: dap -e {inventory} dev recreate {old[0]}, which ends what runs in it")
    if any(one.state == "missing" or not one.port for one in containers):
        lines.append(f"next: dap -e {inventory} deploy")
    return "\n".join(lines)


def _busy(seen: Seen, now: datetime) -> list[str]:
    last = f"{age(seen.last_login, now)} ago" if seen.last_login else "-"
    return [
        age(seen.since, now),
        f"{seen.connections} now" if seen.connections else last,
        _kernels(seen, now),
        f"{seen.cpu:.1f}",
    ]


def _gpus(seen: Seen | None) -> str:
    if seen is None or not seen.gpus or seen.state != "running":
        return "-"
    return "unknown" if seen.gpu is None else f"{seen.gpu} %"


def _home(one: KnownContainer) -> str:
    used = one.seen.home_used if one.seen else None
    parts = [] if used is None else [readable(used)]
    parts += [f"of {readable(one.home_limit)}"] if one.home_limit else []
    return " ".join(parts) or "-"


def _homes(containers: Sequence[KnownContainer]) -> list[str]:
    """What there is to say of homes that are larger than they are to be, and of limits that nobody keeps."""
    there = [(one, one.seen) for one in containers if one.home_limit and one.seen]
    full = [one for one, seen in there if (seen.home_used or 0) >= one.home_limit]
    lines = [*dict.fromkeys(f"{one.host}: the home of {one.user} is full: {_home(one)}" for one in full)]
    watched = dict.fromkeys(one.host for one, seen in there if not seen.home_kept)
    return lines + [f"{host}: limits of homes are only watched there, not kept" for host in watched]


def _kernels(seen: Seen, now: datetime) -> str:
    if seen.busy_kernels:
        return f"{seen.busy_kernels} at work"
    return f"{age(seen.last_kernel, now)} ago" if seen.last_kernel else "-"


def of_credentials(logins: Sequence[Login]) -> str:
    """The answer of ``dap credentials``."""
    rows = [[login.what, login.url, login.user, login.secret.reveal()] for login in logins]
    return table(["WHAT", "WHERE", "USER", "SECRET"], rows)


def of_images(images: Sequence[Known]) -> str:
    """The answer of ``dap image list``."""
    rows = [
        [
            one.tag,
            one.digest.removeprefix("sha256:")[:12] or "not built",
            f"{one.size / 1e6:.0f} MB" if one.digest else "-",
            one.created[:10] or "-",
            one.use,
            one.parent or "-",
        ]
        for one in images
    ]
    return table(["IMAGE", "DIGEST", "SIZE", "BUILT", "USE", "UPON"], rows)


def of_image_changes(before: Known, after: Known, changes: Sequence[Change]) -> str:
    """The answer of ``dap image diff``."""
    rows = [[one.kind, one.name, one.before or "-", one.after or "-"] for one in changes]
    head = f"{before.tag} → {after.tag}: {len(rows)} packages differ"
    return f"{head}\n\n{table(['KIND', 'PACKAGE', 'BEFORE', 'AFTER'], rows)}" if rows else head


def of_people(people: Sequence[Mapping[str, Any]]) -> str:
    """The answer of ``dap user list``."""
    rows = [
        [
            entry["name"],
            entry["full_name"] or "-",
            entry["email"],
            "disabled" if entry["disabled"] else "",
            ", ".join(f"{name} ({role})" for name, role in entry["projects"].items()) or "-",
        ]
        for entry in people
    ]
    return table(["USER", "NAME", "E-MAIL", "", "PROJECTS"], rows)


def of_rotation(secrets: Sequence[Mapping[str, Any]]) -> str:
    """The answer of ``dap rotate --list``."""
    rows = [
        [
            entry["secret"],
            entry["what"],
            ", ".join(entry["restarts"]) or "-",
            "yes" if entry["pending"] else "",
        ]
        for entry in secrets
    ]
    return table(["SECRET", "WHAT", "STARTS ANEW", "PENDING"], rows)


def of_deploy(site: Site, outcome: Outcome, results: Sequence[Result]) -> str:
    """What runs where, how to log in, how to trust the CA, what was left out and why."""
    name = site.inventory.name
    program = "dap" if name == "local" else f"dap -e {name}"
    # What happened to services and data says more than which files were written for it.
    changes = sorted(outcome.changes, key=lambda change: change[1].endswith(" written"))
    count = len(changes)
    lines = [f"{count} change{'s' if count != 1 else ''}"]
    lines += [f"  {host}: {what}" for host, what in changes[:20]]
    if count > 20:
        lines.append(f"  … and {count - 20} more, see the log")
    if outcome.rotated:
        lines += ["New values, in use everywhere now:", *(f"  {key}" for key in outcome.rotated)]
    lines += ["", *_services(site, outcome.only), "", *_next_steps(site, program)]
    lines += left_alone(outcome.plan, name)
    if results:
        failed = [result for result in results if not result.ok]
        lines += [f"Verified: {len(results) - len(failed)} of {len(results)} checks passed"]
        lines += [f"  FAILED {result.service}: {result.check}: {result.detail}" for result in failed]
    lines += [f"warning: {warning}" for warning in dict.fromkeys(outcome.warnings)]
    return "\n".join([*lines, f"log: {outcome.log}"])


def _services(site: Site, only: Sequence[str] = ()) -> list[str]:
    rows = []
    for host in site.inventory.hosts:
        for service in site.services_on(host).values():
            if service.manifest.provides == "jobs" or (only and service.name not in only):
                continue
            where = [site.url(web) for web in service.manifest.web]
            host_name = "" if service.manifest.provides == "proxy" else site.own_host(service)
            where += [f"{host_name}:{site.published_port(service, port)}" for port in service.manifest.ports]
            rows.append([service.name, host.name, ", ".join(where) or "-"])
    return table(["SERVICE", "HOST", "WHERE"], rows).splitlines()


def _external(site: Site) -> list[tuple[str, str]]:
    """The services in whose place a server of the operator's stands, and its address."""
    own = {name: site.settings(service).external for name, service in site.external.items()}
    return [(name, external.url) for name, external in own.items() if external]


def _next_steps(site: Site, program: str) -> list[str]:
    portal = f"https://{site.platform.domain}{site.port_suffix}"
    steps = [f"Start page:    {portal}", f"Log in with:   {program} credentials"]
    if site.platform.tls.mode == "private-ca":
        steps.append(f"Trust the CA:  {program} ca export -o ~/dap-ca.crt (docs/how-to/trust-the-ca.md)")
    steps += [f"Left out:      {left}" for left in _left_out(site)]
    steps += [f"Your own:      {name} is {url}" for name, url in _external(site)]
    return steps
