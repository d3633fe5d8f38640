"""The API's resources. Importing one registers its addresses."""

from . import (
    applications,
    branches,
    files,
    groups,
    integrations,
    jobs,
    keys,
    lint,
    members,
    pipelines,
    projects,
    runners,
    settings,
    tokens,
    users,
    variables,
)

__all__ = [
    "applications",
    "branches",
    "files",
    "groups",
    "integrations",
    "jobs",
    "keys",
    "lint",
    "members",
    "pipelines",
    "projects",
    "runners",
    "settings",
    "tokens",
    "users",
    "variables",
]
