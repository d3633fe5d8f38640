"""People in a platform's configuration: adds them, disables them, and says what they have.

Only the lines concerned are changed in ``platform.yml``; comments and everything else stay as they are.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dap.configuration import wording
from dap.configuration.inventory import load_inventory
from dap.configuration.schema import User
from dap.errors import RefusedError
from dap.files import write_atomic
from dap.layout import compose_dir, inventory_dir, shown
from dap.secrets import SecretStore
from dap.services.manifest import find_folders
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
    _change(site, lambda text: with_user(text, entry))


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
    _change(site, lambda text: with_disabled(text, name, disabled))
    return True


def _change(site: Site, change: Callable[[str], str]) -> None:
    """Write the changed file; if it is wrong then, it is put back."""
    file = site.inventory.platform_file
    before = file.read_bytes()
    mode = stat.S_IMODE(file.stat().st_mode)
    write_atomic(file, change(before.decode()).encode(), mode)
    try:
        roots = [compose_dir(), inventory_dir(site.inventory.name) / "compose"]
        load_inventory(site.inventory.name, find_folders(roots))
    except BaseException:
        write_atomic(file, before, mode)
        raise


# --- the text --------------------------------------------------------------------------------------------


def with_user(text: str, entry: Mapping[str, Any]) -> str:
    """The text of a configuration with one user more."""
    users = _value(_root(text), _USERS)
    block = yaml.safe_dump([dict(entry)], sort_keys=False, allow_unicode=True, width=1000)
    if users is None:
        return f"{text.rstrip()}\n\n{_USERS}:\n{_indented(block, 2)}"
    if isinstance(users, SequenceNode) and users.value and users.flow_style:
        item = yaml.safe_dump(dict(entry), default_flow_style=True, sort_keys=False, width=1000).strip()
        end = users.end_mark.index - 1
        return f"{text[:end].rstrip()}, {item}{text[end:]}"
    if isinstance(users, SequenceNode) and users.value:
        lines = text.splitlines(keepends=True)
        line = _last_line(users.value[-1]) + 1
        lines[line - 1] = lines[line - 1].rstrip("\n") + "\n"
        return "".join([*lines[:line], _indented(block, users.start_mark.column), *lines[line:]])
    start, end = users.start_mark.index, users.end_mark.index
    return f"{text[:start].rstrip(' ')}\n{_indented(block, 2).rstrip()}{text[end:]}"


def with_disabled(text: str, name: str, disabled: bool) -> str:
    """The text of a configuration in which a user is, or is no longer, disabled."""
    users = _value(_root(text), _USERS)
    items = users.value if isinstance(users, SequenceNode) else []
    for item in items:
        found = _value(item, _NAME)
        if found is None or found.value != name:
            continue
        word = "true" if disabled else "false"
        if there := _value(item, _DISABLED):
            return text[: there.start_mark.index] + word + text[there.end_mark.index :]
        if item.flow_style:
            end = item.end_mark.index - 1
            return f"{text[:end].rstrip()}, {_DISABLED}: {word}{text[end:]}"
        lines = text.splitlines(keepends=True)
        line = _last_line(found) + 1
        lines[line - 1] = lines[line - 1].rstrip("\n") + "\n"
        key = f"{' ' * item.start_mark.column}{_DISABLED}: {word}\n"
        return "".join([*lines[:line], key, *lines[line:]])
    return text


def _root(text: str) -> Any:
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _value(node: Node, key: str) -> Any:
    """The node of a key's value in a mapping; None without the key."""
    pairs = node.value if isinstance(node, MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _last_line(node: Any) -> int:
    """The line that a node ends in. That of a block is told too late: comments below it count."""
    if isinstance(node, ScalarNode) or node.flow_style or not node.value:
        mark = node.end_mark
        return int(mark.line if mark.column else mark.line - 1)
    last = node.value[-1]
    return max(map(_last_line, last)) if isinstance(node, MappingNode) else _last_line(last)


def _indented(block: str, columns: int) -> str:
    return "".join(" " * columns + line for line in block.splitlines(keepends=True))


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
