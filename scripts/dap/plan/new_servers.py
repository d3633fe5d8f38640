"""What the provisioning jobs do in a server that is new: everything. In the words of the jobs themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def changes_in_a_new_server(kind: str, server: Mapping[str, Any]) -> list[str] | None:
    """The changes that the jobs will report, in their order; None for a kind whose changes only it knows."""
    if kind == "postgres":
        return _postgres(server)
    if kind == "s3":
        return _s3(server)
    return None


def _postgres(server: Mapping[str, Any]) -> list[str]:
    name = server["service"]
    lines = [f"{name}: database {database} closed to other roles" for database in ("postgres", "template1")]
    for database in server["databases"]:
        lines += [
            f"{name}: role {database['role']} created",
            f"{name}: database {database['name']} created",
            f"{name}: database {database['name']} closed to other roles",
        ]
    for person in server.get("people", []):
        lines.append(f"{name}: role {person['role']} created")
        lines += [f"{name}: {person['role']} may use {project}" for project in person["projects"]]
    return lines


def _s3(server: Mapping[str, Any]) -> list[str]:
    name = server["service"]
    lines = []
    for bucket in server["buckets"]:
        lines.append(f"{name}: bucket {bucket['name']} created")
        if bucket["versioning"]:
            lines.append(f"{name}: versioning of bucket {bucket['name']} switched on")
    for key in server["keys"]:
        policy = key["policy"]
        lines += [
            f"{name}: policy {policy} set",
            f"{name}: key of {policy} set",
            f"{name}: policy {policy} attached to its key",
        ]
    return lines
