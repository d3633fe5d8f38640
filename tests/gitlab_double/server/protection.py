"""Which branches are protected, and from whom."""

from __future__ import annotations

import fnmatch

from .access import DEVELOPER
from .records import Project, ProtectedBranch
from .store import Store


def protection(store: Store, project: int, branch: str) -> ProtectedBranch | None:
    """The rule for a branch, whose name may be a pattern."""
    rules = store.find(ProtectedBranch, project_id=project)
    return next((one for one in rules if fnmatch.fnmatchcase(branch, one.name)), None)


def lets_push(rule: ProtectedBranch, role: int) -> bool:
    """Level 0 is nobody."""
    return 0 < rule.push_access_level <= role


def may_push(store: Store, project: Project, branch: str, role: int) -> bool:
    rule = protection(store, project.id, branch)
    return role >= DEVELOPER if rule is None else lets_push(rule, role)
