"""Users, and who one is oneself."""

from __future__ import annotations

import re
from typing import Any

from .. import passwords
from ..access import need_admin
from ..double import Double
from ..paging import page
from ..records import Key, Member, Namespace, PersonalAccessToken, User
from ..routing import ApiError, Call, Reply, bad, invalid, not_found, route

NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
GENERATED = 40


def basic(double: Double, user: User) -> dict[str, Any]:
    return {
        "id": user.id,
        "username": user.username,
        "public_email": user.more.get("public_email"),
        "name": user.name,
        "state": user.state,
        "locked": False,
        "avatar_url": None,
        "web_url": f"{double.site.external_url}/{user.username}",
    }


def full(double: Double, user: User) -> dict[str, Any]:
    """What an administrator, or the user, sees."""
    namespace = double.store.first(Namespace, kind="user", owner_id=user.id)
    return basic(double, user) | {
        "created_at": user.created_at,
        "bio": user.more.get("bio", ""),
        "location": user.more.get("location", ""),
        "organization": user.more.get("organization", ""),
        "bot": False,
        "last_sign_in_at": None,
        "confirmed_at": user.created_at,
        "last_activity_on": None,
        "email": user.email,
        "projects_limit": user.more.get("projects_limit", 100000),
        "current_sign_in_at": None,
        "identities": [],
        "can_create_group": user.more.get("can_create_group", True),
        "can_create_project": True,
        "two_factor_enabled": False,
        "external": user.more.get("external", False),
        "private_profile": user.more.get("private_profile", False),
        "commit_email": user.email,
        "is_admin": user.admin,
        "note": user.more.get("note"),
        "namespace_id": namespace.id if namespace else None,
        "created_by": None,
    }


def create_user(double: Double, user: User) -> User:
    """Keep a new user, and make the namespace for what they own."""
    double.store.add(user)
    double.store.add(
        Namespace(
            kind="user",
            owner_id=user.id,
            name=user.name,
            path=user.username,
            full_path=user.username,
            visibility="public",
        )
    )
    return user


def find_user(call: Call, name: str = "id") -> User:
    found = call.double.store.get(User, call.number(name))
    if found is None:
        raise not_found("User")
    return found


@route("GET", "/user", scopes=("read_user",))
def oneself(call: Call) -> Reply:
    user = call.login.known
    said = full(call.double, user)
    if not user.admin:
        said = {key: value for key, value in said.items() if key not in ("is_admin", "note", "created_by")}
    return Reply(200, said)


@route("GET", "/users", scopes=("read_user",))
def all_users(call: Call) -> Reply:
    _ = call.login.known
    found = call.double.store.find(User)
    if username := call.query.get("username"):
        found = [one for one in found if one.username.lower() == username.lower()]
    if search := call.query.get("search", "").lower():
        found = [
            one for one in found if search in (one.username + "\n" + one.name).lower() or search == one.email
        ]
    for name, state in {"active": "active", "blocked": "blocked"}.items():
        if call.flag(name):
            found = [one for one in found if one.state == state]
    if call.flag("admins") and call.login.admin:
        found = [one for one in found if one.admin]
    found.sort(key=lambda one: -one.id)
    entity = full if call.login.admin else basic
    return page(call, found, lambda one: entity(call.double, one))


@route("GET", "/users/{id}", scopes=("read_user",))
def one_user(call: Call) -> Reply:
    _ = call.login.known
    user = find_user(call)
    return Reply(200, (full if call.login.admin else basic)(call.double, user))


@route("POST", "/users")
def create(call: Call) -> Reply:
    need_admin(call)
    email, name, username = call.need("email", "name", "username")
    _check_taken(call, email, username, None)
    generated = call.flag("reset_password") or call.flag("force_random_password")
    password = call.body.get("password")
    if not password and not generated:
        raise bad(
            "password, reset_password, force_random_password are missing, at least one parameter must be"
            " provided"
        )
    _check_password(call, password)
    user = User(
        username=username,
        name=name,
        email=email,
        admin=call.flag("admin"),
        password=passwords.digest(password or passwords.token("", GENERATED)),
        password_automatically_set=not password,
        more={key: value for key, value in call.body.items() if key not in _COLUMNS},
    )
    create_user(call.double, user)
    return Reply(201, full(call.double, user))


_COLUMNS = ("username", "name", "email", "admin", "password", "reset_password", "force_random_password", "id")


@route("PUT", "/users/{id}")
def change(call: Call) -> Reply:
    administrator = need_admin(call)
    user = find_user(call)
    email = call.body.get("email", user.email)
    username = call.body.get("username", user.username)
    _check_taken(call, email, username, user)
    password = call.body.get("password")
    _check_password(call, password)
    if password:
        user.password = passwords.digest(password)
        # A password that somebody else has set must be changed at the next sign-in.
        user.password_expires_at = user.created_at if user.id != administrator.id else None
    user.email, user.name = email, call.body.get("name", user.name)
    if username != user.username:
        _rename(call, user, username)
    user.admin = call.flag("admin", user.admin)
    user.more |= {key: value for key, value in call.body.items() if key not in _COLUMNS}
    call.double.store.save(user)
    return Reply(200, full(call.double, user))


def _rename(call: Call, user: User, username: str) -> None:
    namespace = call.double.store.first(Namespace, kind="user", owner_id=user.id)
    if namespace:
        namespace.path = namespace.full_path = username
        call.double.store.save(namespace)
    user.username = username


def _check_password(call: Call, password: Any) -> None:
    least = call.double.settings()["minimum_password_length"]
    if password is not None and len(password) < least:
        raise invalid("password", f"is too short (minimum is {least} characters)")


def _check_taken(call: Call, email: str, username: str, but: User | None) -> None:
    others = [one for one in call.double.store.find(User) if but is None or one.id != but.id]
    if any(one.email.lower() == email.lower() for one in others):
        raise ApiError(409, "Email has already been taken")
    places = [one for one in call.double.store.find(Namespace) if not but or one.owner_id != but.id]
    if any(one.full_path.lower() == username.lower() for one in places):
        raise ApiError(409, "Username has already been taken")
    if not NAME.fullmatch(username) or username.endswith((".git", ".atom", ".")):
        raise invalid(
            "username",
            "can contain only letters, digits, '_', '-' and '.'. It must not start with '-', '_', or '.', nor"
            " end with '-', '_', '.', '.git', or '.atom'.",
        )


@route("DELETE", "/users/{id}")
def delete(call: Call) -> Reply:
    need_admin(call)
    user, store = find_user(call), call.double.store
    for kind in (Key, Member, PersonalAccessToken):
        for record in store.find(kind, user_id=user.id):
            store.delete(record)
    for namespace in store.find(Namespace, kind="user", owner_id=user.id):
        store.delete(namespace)
    store.delete(user)
    return Reply(204)


def _set_state(call: Call, state: str, allowed_from: str, refusal: str) -> Reply:
    administrator = need_admin(call)
    user = find_user(call)
    if user.id == administrator.id or user.state != allowed_from:
        raise ApiError(403, refusal)
    user.state = state
    call.double.store.save(user)
    return Reply(201, True)


@route("POST", "/users/{id}/block", described=False)
def block(call: Call) -> Reply:
    return _set_state(
        call, "blocked", "active", "403 Forbidden - The API initiating user cannot be blocked by the API"
    )


@route("POST", "/users/{id}/unblock", described=False)
def unblock(call: Call) -> Reply:
    return _set_state(call, "active", "blocked", "403 Forbidden - The user cannot be unblocked by the API")
