"""Who calls, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from starlette.requests import Request

from . import clock, passwords
from .records import Job, Member, Namespace, PersonalAccessToken, Project, User
from .routing import ApiError, Call, Route, forbidden, not_found
from .store import Store

if TYPE_CHECKING:
    from .double import Double

GUEST, REPORTER, DEVELOPER, MAINTAINER, OWNER = 10, 20, 30, 40, 50
LEVELS = (0, 5, 10, 15, 20, 30, 40, 50)
RUNNING = ("running", "canceling")


@dataclass
class Login:
    """Who calls. Nobody, a user with a token, or a running job."""

    user: User | None = None
    token: PersonalAccessToken | None = None
    job: Job | None = None
    admin_mode: bool = True
    """Whether an administrator's rights count; with ``admin_mode`` on, a token needs a scope for them."""

    @property
    def known(self) -> User:
        if self.user is None:
            raise ApiError(401, "401 Unauthorized")
        return self.user

    @property
    def admin(self) -> bool:
        return bool(self.user and self.user.admin and self.admin_mode)


def invalid_token(reason: str) -> ApiError:
    return ApiError(401, {"error": "invalid_token", "error_description": reason})


def is_active(token: PersonalAccessToken) -> bool:
    return not token.revoked and not is_expired(token.expires_at)


def is_expired(day: str | None) -> bool:
    return bool(day) and date.fromisoformat(str(day)) <= clock.today()


def find_token(store: Store, text: str) -> PersonalAccessToken | None:
    return store.first(PersonalAccessToken, digest=passwords.token_digest(text))


def log_in(double: Double, request: Request, route: Route) -> Login:
    """Who sends a request.

    Raises:
        ApiError: 401 for a token that is unknown, expired or revoked; 403 for one without the scope.
    """
    job_token = request.headers.get("JOB-TOKEN")
    if job_token and not route.public:
        job = double.store.first(Job, token=job_token)
        if job is None or job.status not in RUNNING:
            raise ApiError(401, "401 Unauthorized")
        return Login(user=double.store.get(User, job.user_id), job=job, admin_mode=False)
    bearer = request.headers.get("Authorization", "").partition(" ")
    text = request.headers.get("PRIVATE-TOKEN") or (bearer[2] if bearer[0].lower() == "bearer" else "")
    text = text or request.query_params.get("private_token", "")
    if not text:
        return Login()
    token = find_token(double.store, text)
    if token is None:
        raise ApiError(401, "401 Unauthorized")
    if token.revoked:
        raise invalid_token("Token was revoked. You have to re-authorize from the user.")
    if is_expired(token.expires_at):
        raise invalid_token("Token is expired. You can either do re-authorization or token refresh.")
    user = double.store.must(User, token.user_id)
    if user.state != "active":
        raise ApiError(403, "403 Forbidden - Your account has been blocked.")
    _need_scope(token, route)
    token.last_used_at = clock.now()
    double.store.save(token)
    admin_mode = not double.settings().get("admin_mode") or "admin_mode" in token.scopes
    return Login(user, token, admin_mode=admin_mode)


def _need_scope(token: PersonalAccessToken, route: Route) -> None:
    enough = {"api", *route.scopes}
    if route.method in ("GET", "HEAD"):
        enough.add("read_api")
    if enough & set(token.scopes) or "*" in route.scopes:
        return
    raise ApiError(
        403,
        {
            "error": "insufficient_scope",
            "error_description": "The request requires higher privileges than provided by the access token.",
            "scope": " ".join(sorted(enough)),
        },
    )


def need_admin(call: Call) -> User:
    user = call.login.known
    if not call.login.admin:
        raise forbidden()
    return user


def level_in_namespace(store: Store, user: User, namespace: Namespace | None) -> int:
    """The highest role that a user has in a namespace or above it."""
    best = 0
    while namespace is not None:
        if namespace.kind == "user" and namespace.owner_id == user.id:
            return OWNER
        for member in store.find(Member, source="group", source_id=namespace.id, user_id=user.id):
            best = max(best, 0 if is_expired(member.expires_at) else member.access_level)
        namespace = store.get(Namespace, namespace.parent_id)
    return best


def level_in_project(store: Store, user: User, project: Project) -> int:
    best = level_in_namespace(store, user, store.get(Namespace, project.namespace_id))
    for member in store.find(Member, source="project", source_id=project.id, user_id=user.id):
        best = max(best, 0 if is_expired(member.expires_at) else member.access_level)
    return best


def level(call: Call, place: Project | Namespace) -> int:
    """The caller's role; an administrator has every right."""
    if call.login.admin:
        return OWNER
    if call.login.user is None:
        return 0
    if isinstance(place, Project):
        return level_in_project(call.double.store, call.login.user, place)
    return level_in_namespace(call.double.store, call.login.user, place)


def sees(call: Call, place: Project | Namespace) -> bool:
    if place.visibility == "public" or level(call, place) > 0:
        return True
    return place.visibility == "internal" and call.login.user is not None


def find_project(call: Call, least: int = 0, name: str = "id") -> Project:
    """The project that a path names by number or by its full path.

    Raises:
        ApiError: 404 for what the caller may not see, 403 where the role is too low.
    """
    text, store = call.params[name], call.double.store
    found = (
        store.get(Project, int(text))
        if text.isdecimal()
        else next((one for one in store.find(Project) if one.full_path.lower() == text.lower()), None)
    )
    if found is None or not sees(call, found):
        raise not_found("Project")
    if level(call, found) < least:
        raise forbidden()
    return found


def find_group(call: Call, least: int = 0, name: str = "id") -> Namespace:
    """The group that a path names; raises as :func:`find_project`."""
    text, store = call.params[name], call.double.store
    groups = store.find(Namespace, kind="group")
    found = next(
        (one for one in groups if str(one.id) == text or one.full_path.lower() == text.lower()), None
    )
    if found is None or not sees(call, found):
        raise not_found("Group")
    if level(call, found) < least:
        raise forbidden()
    return found
