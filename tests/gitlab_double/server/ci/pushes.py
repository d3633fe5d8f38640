"""What a push brings about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..records import Project, User
from ..repositories import NOTHING
from .creation import CONFIGURATION, NoPipelineError, create_pipeline, files_of
from .reading import ConfigurationError

if TYPE_CHECKING:
    from ..double import Double

SKIP = ("[ci skip]", "[skip ci]")


def look(double: Double, project: Project, before: dict[str, str], user: User) -> None:
    """Find what a push has changed.

    Args:
        before: all refs and their commits until now.
    """
    after = double.repositories.refs(project.id)
    for ref in sorted({*before, *after}):
        old, new = before.get(ref, NOTHING), after.get(ref, NOTHING)
        if old != new:
            pushed(double, project, user, ref, old, new)


def pushed(double: Double, project: Project, user: User, ref: str, before: str, after: str) -> None:
    """A branch or a tag came, moved or went.

    Args:
        ref: the full name.
        before: the commit until now, or forty zeros.
        after: the commit from now on, or forty zeros.
    """
    kind, _, name = ref.removeprefix("refs/").partition("/")
    if after == NOTHING or kind not in ("heads", "tags"):
        return
    project = double.store.must(Project, project.id)
    if kind == "heads" and project.default_branch not in double.repositories.branches(project.id):
        from ..api.projects import note_first_branch

        note_first_branch(double, project, name)
    commit = double.repositories.commit(project.id, after)
    if commit is None or any(mark in commit.message.lower() for mark in SKIP):
        return
    path = project.more.get("ci_config_path") or CONFIGURATION
    if files_of(double, project, after)(path) is None:
        return
    try:
        create_pipeline(double, project, user, name, after, "push", before, tag=kind == "tags")
    except (NoPipelineError, ConfigurationError):
        # Kept as a failed pipeline, where GitLab shows it; whoever pushed is not told.
        return
