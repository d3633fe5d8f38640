"""People in a platform's configuration: adds them, disables them, and says what they have.

Only the lines concerned are changed in ``platform.yml``; comments and everything else stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dap.configuration import edits, wording
from dap.configuration.schema import User
from dap.errors import RefusedError
from dap.layout import shown
from dap.secrets import SecretStore
from dap.site import GITLAB, Site

_USERS, _NAME, _DISABLED = "users", "name", "disabled"


def add(site: Site, entry: Mapping[str, Any]) -> None:
    """Write a new user into the configuration.

    Raises:
        RefusedError: there is one of that name already.
        ConfigurationError: the configuration would be wrong then; nothing was written.
    """
    name = entry[_NAME]
    if any(user.name == name for user in site.platform.users):
        raise RefusedError(f"there is a user {name} already", f"dap -e {site.inventory.name} user list")
    edits.change(site.inventory, lambda text: with_user(text, entry))


def set_disabled(site: Site, name: str, disabled: bool) -> bool:
    """Write whether a user is disabled; returns whether that is new.

    Raises:
        RefusedError: there is no such user.
    """
    known = {user.name: user for user in site.platform.users}
    if name not in known:
        raise RefusedError(f"there is no user {name}", wording.one_of(name, known))
    if known[name].disabled == disabled:
        return False
    edits.change(site.inventory, lambda text: with_disabled(text, name, disabled))
    return True


def with_user(text: str, entry: Mapping[str, Any]) -> str:
    """The text of a configuration with one user more."""
    return edits.with_item(text, _USERS, entry)


def with_disabled(text: str, name: str, disabled: bool) -> str:
    """The text of a configuration in which a user is, or is no longer, disabled."""
    return edits.with_switch(text, (_USERS, _NAME, name), _DISABLED, disabled)


# --- what they have --------------------------------------------------------------------------------------


def roles_of(site: Site, user: User) -> dict[str, str]:
    """The projects that a user is a member of in GitLab by the configuration, each with the role."""
    if not user.gitlab_account or user.disabled:
        return {}
    found = {project.name: project.role_of(user.name) for project in site.projects}
    return {name: role for name, role in found.items() if role}


def listed(site: Site) -> list[dict[str, Any]]:
    """What ``dap user list`` shows, one entry for each user."""
    return [
        {
            "name": user.name,
            "full_name": user.full_name,
            "email": site.email_of(user),
            "disabled": user.disabled,
            "gitlab": GITLAB in site.services and user.gitlab_account,
            "projects": roles_of(site, user),
        }
        for user in site.platform.users
    ]


def left_with(site: Site, store: SecretStore, name: str) -> Iterator[str]:
    """What somebody who was disabled may still know or have left, a line each."""
    user = next(user for user in site.platform.users if user.name == name)
    shared = [
        key
        for project in site.projects
        for key in (f"project.{project.name}.database", f"project.{project.name}.s3_secret_key")
        if store.peek(key)
    ]
    if shared:
        yield "Each project has a login to its database and its bucket that belongs to nobody."
        yield f"  If {name} knows them: dap -e {site.inventory.name} rotate {' '.join(shared)}"
    if GITLAB in site.services and user.gitlab_account:
        yield "In GitLab, what they made, their memberships and their keys stay with the blocked account."
        yield f"  To remove them: in {shown(site.inventory.platform_file)} and in GitLab"
