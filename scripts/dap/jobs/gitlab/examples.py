"""Example projects: put into a group once. Whoever changes or removes them is not worked against."""

from __future__ import annotations

from typing import Any

from gitlab import Gitlab
from gitlab.exceptions import GitlabGetError
from gitlab.v4.objects import Group, Project

from ..report import Report

# A variable of the group: which examples it was given.
KEY = "DAP_EXAMPLES"
_DESCRIPTION = "Example projects that were put here once. Take a name out, and the next deploy does so again."
_BRANCH = "main"


def provision(
    api: Gitlab,
    group: Group | None,
    place: str,
    examples: list[dict[str, Any]],
    variables: list[Any],
    report: Report,
) -> None:
    """Put each of ``examples`` into ``group`` that it was not given yet.

    Args:
        group: None if it is still to be made.
        variables: those that the group has.
    """
    kept = next((one for one in variables if one.key == KEY), None)
    given = kept.value.split() if kept else []
    for example in examples:
        name = example["name"]

        def put(example: dict[str, Any] = example) -> None:
            assert group  # noqa: S101  made by now, as this is no check
            _put(api, group, example)
            given.append(example["name"])
            _remember(group, given)

        report.ensure(name in given, f"{place}: example project {name} added", put)


def _put(api: Gitlab, group: Group, example: dict[str, Any]) -> None:
    """Make the project and its first commit; one that has commits is somebody's own, or was finished."""
    try:
        project: Project = api.projects.get(f"{group.full_path}/{example['name']}")
    except GitlabGetError as error:
        if error.response_code != 404:
            raise
        values = {"name": example["name"], "path": example["name"], "namespace_id": group.id}
        more = {"description": example["summary"], "visibility": "private", "default_branch": _BRANCH}
        project = api.projects.create({**values, **more})
    if not project.attributes.get("empty_repo", True):
        return
    actions = [
        {
            "action": "create",
            "file_path": file["path"],
            "content": file["content"],
            "encoding": "base64",
            "execute_filemode": file["executable"],
        }
        for file in example["files"]
    ]
    # Nobody has asked for a run yet.
    message = "Begin with the platform's example\n\n[skip ci]"
    project.commits.create({"branch": _BRANCH, "commit_message": message, "actions": actions})


def _remember(group: Group, given: list[str]) -> None:
    values = {"key": KEY, "value": " ".join(given), "description": _DESCRIPTION, "raw": True}
    if len(given) > 1 or any(one.key == KEY for one in group.variables.list(get_all=True)):
        group.variables.update(KEY, values)
    else:
        group.variables.create(values)
