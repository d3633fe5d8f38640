"""Settings of the whole GitLab: that of a team, closed to strangers."""

from __future__ import annotations

import re
from typing import Any

from gitlab import Gitlab

from ..report import Report

# Kept so: who has an account is said in the configuration.
_ALWAYS = {"signup_enabled": False}
# How it begins. Administrators may see some of it differently.
_AT_FIRST = {
    "require_admin_approval_after_user_signup": True,
    "restricted_visibility_levels": ["public"],
    "default_project_visibility": "private",
    "default_group_visibility": "private",
    "default_snippet_visibility": "private",
    # Asks a server of others for a picture of everybody.
    "gravatar_enabled": False,
    # Every project without a pipeline would get one that fails.
    "auto_devops_enabled": False,
    "allow_runner_registration_token": False,
}
# On the first administrator, for other administrators to read: then the beginning is over.
_BEGUN = "Data Analysis Platform: settings made"
_PLACEHOLDER = re.compile(r"(admin|gitlab_admin_[0-9a-f]+)@example\.com")


def provision(api: Gitlab, server: dict[str, Any], report: Report) -> None:
    """Close sign-up, and at the first time make the settings that a closed team wants."""
    service, me = server["service"], api.users.get(api.user.id if api.user else 0)
    begun = _BEGUN in (me.attributes.get("note") or "")
    present = api.settings.get().attributes
    wanted = _ALWAYS if begun else _ALWAYS | _AT_FIRST
    different = {name: value for name, value in wanted.items() if present.get(name) != value}
    report.ensure(
        not different,
        f"{service}: settings changed: {', '.join(different)}",
        lambda: api.settings.update(new_data=different),
    )
    address = server["admin_email"]
    if _PLACEHOLDER.fullmatch(me.email):
        report.ensure(
            False,
            f"{service}: e-mail address of {me.username} set to {address}",
            lambda: api.users.update(me.id, {"email": address, "skip_reconfirmation": True}),
        )
    if not begun and not report.check:
        note = "\n".join(filter(None, [me.attributes.get("note"), _BEGUN]))
        api.users.update(me.id, {"note": note})
