"""CI variables of the instance and of groups."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..report import Report

# Without this an equal name is somebody's own variable, which is left alone.
MARK = "Set by the Data Analysis Platform; a deploy sets it back"


def provision(
    manager: Any,
    place: str,
    wanted: list[dict[str, Any]],
    report: Report,
    present: list[Any] | None = None,
) -> None:
    """Set variables, and remove those that an earlier deploy has set and that are no longer wanted.

    Args:
        manager: python-gitlab's for the variables of one place; None for a group that is still to be made.
        place: as messages name it.
        present: the variables that are there, if they were listed already.
    """
    if present is None:
        present = manager.list(get_all=True)
    by_key = {
        one.key: one.attributes for one in present if one.attributes.get("environment_scope", "*") == "*"
    }
    for one in wanted:
        values = _values(one)
        there = by_key.get(one["key"])
        if there and there.get("description") != MARK:
            report.ensure(True, "", lambda: None)
            continue

        def write(values: dict[str, Any] = values, known: bool = there is not None) -> None:
            if known:
                manager.update(values["key"], values)
            else:
                manager.create(values)

        right = there is not None and all(there.get(name) == value for name, value in values.items())
        report.ensure(right, f"{place}: variable {one['key']} set", write)
    keys = {one["key"] for one in wanted}
    for key, attributes in by_key.items():
        if attributes.get("description") == MARK and key not in keys:
            report.ensure(False, f"{place}: variable {key} removed", partial(manager.delete, key))


def _values(wanted: dict[str, Any]) -> dict[str, Any]:
    return {
        "key": wanted["key"],
        "value": wanted["value"],
        "variable_type": "file" if wanted["file"] else "env_var",
        "masked": wanted["masked"],
        # Pipelines of any branch train and test; what they may use is limited by the group.
        "protected": False,
        "raw": True,
        "description": MARK,
    }
