"""A plan in words for an operator."""

from __future__ import annotations

from collections.abc import Sequence

from dap.plan import Change, Plan
from dap.site import Site

_SHOWN_FILES = 20
_NO_REASON = {"reloaded": "reads its files again"}


def of_plan(plan: Plan, site: Site, warnings: Sequence[str] = ()) -> str:
    """The answer of ``dap plan``."""
    several = len(site.inventory.hosts) > 1
    count = plan.count
    head = f"{count} change{'s' if count != 1 else ''} would be made" if count else "Nothing would change."
    sections = [
        ("Services", _containers(plan, several)),
        ("Development containers", _lines(plan.dev, several)),
        ("Images", _lines(plan.images, several)),
        ("Certificates", [f"{one.service}: issued anew, because {one.reason}" for one in plan.certificates]),
        ("Databases, buckets and accounts", _lines(plan.provisioning, several)),
        ("Hosts", _lines(plan.hosts, several)),
        ("Files", _files(plan, several)),
        ("Known only later", plan.unknown),
        ("Differences", [line for one in plan.differences for line in one.what.rstrip().splitlines()]),
    ]
    lines = [head]
    for title, content in sections:
        if content:
            lines += ["", title, *(f"  {line}" for line in content)]
    lines.append("")
    lines += [f"Left out: {name} ({reason})" for name, reason in plan.left_out.items()]
    lines += left_alone(plan, site.inventory.name)
    lines += [f"warning: {warning}" for warning in dict.fromkeys(warnings)]
    lines.append(f"Data is not touched: what lies in {site.platform.paths.data} stays as it is.")
    return "\n".join(lines)


def left_alone(plan: Plan, inventory: str) -> list[str]:
    """What an operator should know after a deploy of some services only."""
    if not plan.left_alone:
        return []
    return [
        f"Left as they are although the configuration says otherwise: {', '.join(plan.left_alone)}",
        f"  next: dap -e {inventory} plan",
    ]


def _containers(plan: Plan, several: bool) -> list[str]:
    rows = []
    for change in plan.containers:
        why = "; ".join(change.reasons) or _NO_REASON.get(change.action, "")
        place = [change.host] if several else []
        rows.append([*place, change.service, change.action, why])
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3 + several)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _files(plan: Plan, several: bool) -> list[str]:
    lines = _lines(plan.files, several)
    more = len(lines) - _SHOWN_FILES
    return [*lines[:_SHOWN_FILES], f"… and {more} more, see --json"] if more > 0 else lines


def _lines(changes: Sequence[Change], several: bool) -> list[str]:
    return [f"{change.host}: {change.what}" if several else change.what for change in changes]
