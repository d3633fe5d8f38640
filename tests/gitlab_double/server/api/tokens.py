"""Personal access tokens."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from .. import clock, passwords
from ..access import find_token, invalid_token, is_active, need_admin
from ..paging import page
from ..records import PersonalAccessToken, User
from ..routing import ApiError, Call, Reply, bad, invalid, not_found, route
from ..store import Store
from .users import find_user

PREFIX = "glpat-"
LIFETIME = timedelta(days=365)
WEEK = timedelta(days=7)
SCOPES = frozenset(
    {
        *("api", "read_user", "read_api", "read_repository", "write_repository", "read_registry"),
        *("write_registry", "read_virtual_registry", "write_virtual_registry", "sudo"),
        *("admin_mode", "create_runner", "manage_runner", "ai_features", "k8s_proxy"),
        *("self_rotate", "read_service_ping"),
    }
)
FOR_ADMINISTRATORS = frozenset({"sudo", "admin_mode", "read_service_ping"})


class RefusedError(Exception):
    """A token that GitLab would not save; says the field and what is wrong with it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field, self.problem = field, problem


def check(user: User, scopes: list[str], expires_at: str | None) -> None:
    """Refuse what GitLab's model does.

    Raises:
        RefusedError: for a scope that is unknown or not for this user, or an end that is missing or too late.
    """
    if not scopes:
        raise RefusedError("scopes", "can't be blank")
    if set(scopes) - SCOPES or (set(scopes) & FOR_ADMINISTRATORS and not user.admin):
        raise RefusedError("scopes", "can only contain available scopes")
    if not expires_at:
        raise RefusedError("expires_at", "can't be blank")
    end = date.fromisoformat(expires_at)
    if end > clock.today() + LIFETIME:
        raise RefusedError("expires_at", f"must be before {clock.today() + LIFETIME + timedelta(days=1)}")


def save(store: Store, token: PersonalAccessToken, text: str) -> PersonalAccessToken:
    token.digest = passwords.token_digest(text)
    return store.add(token) if not token.id else store.save(token)


def entity(token: PersonalAccessToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "revoked": token.revoked,
        "created_at": token.created_at,
        "description": token.description,
        "scopes": token.scopes,
        "user_id": token.user_id,
        "last_used_at": token.last_used_at,
        "active": is_active(token),
        "granular": False,
        "expires_at": token.expires_at,
    }


def _new(call: Call, user: User) -> Reply:
    name, scopes = call.need("name", "scopes")
    expires_at = call.body.get("expires_at") or str(clock.today() + LIFETIME)
    try:
        check(user, scopes, expires_at)
    except ValueError:
        raise bad("expires_at is invalid") from None
    except RefusedError as problem:
        raise invalid(problem.field, problem.problem) from None
    token = PersonalAccessToken(
        user_id=user.id,
        name=name,
        description=call.body.get("description"),
        scopes=list(scopes),
        expires_at=expires_at,
    )
    text = passwords.token(PREFIX)
    save(call.double.store, token, text)
    return Reply(201, entity(token) | {"token": text})


@route("POST", "/users/{user_id}/personal_access_tokens")
def create_for_user(call: Call) -> Reply:
    need_admin(call)
    return _new(call, find_user(call, "user_id"))


@route("GET", "/personal_access_tokens")
def all_tokens(call: Call) -> Reply:
    user = call.login.known
    found = call.double.store.find(PersonalAccessToken)
    asked = call.query.get("user_id")
    if asked and not call.login.admin and asked != str(user.id):
        raise ApiError(401, "401 Unauthorized")
    if asked or not call.login.admin:
        found = [one for one in found if str(one.user_id) == (asked or str(user.id))]
    if "revoked" in call.query:
        found = [one for one in found if one.revoked == call.flag("revoked")]
    if state := call.query.get("state"):
        found = [one for one in found if is_active(one) == (state == "active")]
    if search := call.query.get("search"):
        found = [one for one in found if search.lower() in one.name.lower()]
    return page(call, found, lambda one: entity(one) | {"last_used_ips": []})


def _own(call: Call) -> PersonalAccessToken:
    if call.login.token is None:
        raise ApiError(401, "401 Unauthorized")
    return call.login.token


def _one(call: Call) -> PersonalAccessToken:
    user = call.login.known
    token = call.double.store.get(PersonalAccessToken, call.number("id"))
    if token is None or (token.user_id != user.id and not call.login.admin):
        # Whether a number exists is nobody's business but an administrator's.
        raise not_found() if call.login.admin else ApiError(401, "401 Unauthorized")
    return token


@route("GET", "/personal_access_tokens/self", scopes=("*",))
def show_own(call: Call) -> Reply:
    return Reply(200, entity(_own(call)) | {"last_used_ips": []})


@route("DELETE", "/personal_access_tokens/self", scopes=("*",))
def revoke_own(call: Call) -> Reply:
    return _revoke(call, _own(call))


@route("POST", "/personal_access_tokens/self/rotate", scopes=("self_rotate",), described=False)
def rotate_own(call: Call) -> Reply:
    return _rotate(call, _own(call))


@route("GET", "/personal_access_tokens/{id}", described=False)
def show(call: Call) -> Reply:
    return Reply(200, entity(_one(call)) | {"last_used_ips": []})


@route("DELETE", "/personal_access_tokens/{id}", described=False)
def revoke(call: Call) -> Reply:
    return _revoke(call, _one(call))


@route("POST", "/personal_access_tokens/{id}/rotate")
def rotate(call: Call) -> Reply:
    return _rotate(call, _one(call))


def _revoke(call: Call, token: PersonalAccessToken) -> Reply:
    if token.revoked:
        raise bad("already revoked")
    token.revoked = True
    call.double.store.save(token)
    return Reply(204)


def _rotate(call: Call, token: PersonalAccessToken) -> Reply:
    if token.revoked:
        raise invalid_token("Token was revoked. You have to re-authorize from the user.")
    expires_at = call.body.get("expires_at") or str(clock.today() + WEEK)
    user = call.double.store.must(User, token.user_id)
    try:
        check(user, token.scopes, expires_at)
    except ValueError:
        raise bad("expires_at is invalid") from None
    except RefusedError as problem:
        raise bad(f"{problem.field.replace('_', ' ').capitalize()} {problem.problem}") from None
    token.revoked = True
    call.double.store.save(token)
    text = passwords.token(PREFIX)
    fresh = PersonalAccessToken(
        user_id=token.user_id,
        name=token.name,
        description=token.description,
        scopes=token.scopes,
        expires_at=expires_at,
    )
    save(call.double.store, fresh, text)
    return Reply(201, entity(fresh) | {"token": text})


def owner_of(store: Store, text: str) -> User | None:
    """The user of a token that still counts."""
    token = find_token(store, text)
    return store.get(User, token.user_id) if token and is_active(token) else None
