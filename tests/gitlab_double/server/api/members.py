"""Members of groups and projects."""

from __future__ import annotations

from datetime import date
from typing import Any

from .. import access
from ..access import LEVELS, MAINTAINER, OWNER
from ..paging import page
from ..records import Member, Namespace, Project, User
from ..routing import ApiError, Call, Handler, Reply, bad, forbidden, invalid, not_found, route
from ..store import Store


def remove_members(store: Store, source: str, number: int) -> None:
    for member in store.find(Member, source=source, source_id=number):
        store.delete(member)


def entity(call: Call, member: Member) -> dict[str, Any]:
    from .users import basic

    store = call.double.store
    creator = store.get(User, member.created_by)
    return basic(call.double, store.must(User, member.user_id)) | {
        "access_level": member.access_level,
        "created_at": member.created_at,
        "created_by": basic(call.double, creator) if creator else None,
        "expires_at": member.expires_at,
        "membership_state": "active",
    }


def _place(call: Call, source: str, least: int = 0) -> Project | Namespace:
    return access.find_group(call, least) if source == "group" else access.find_project(call, least)


def _inherited(call: Call, source: str, place: Project | Namespace) -> list[Member]:
    """Members of the place and of every group above it, each user once with the highest role."""
    store = call.double.store
    found = store.find(Member, source=source, source_id=place.id)
    above = place.namespace_id if isinstance(place, Project) else place.parent_id
    while above is not None:
        found += store.find(Member, source="group", source_id=above)
        above = store.must(Namespace, above).parent_id
    best: dict[int, Member] = {}
    for member in found:
        if member.user_id not in best or best[member.user_id].access_level < member.access_level:
            best[member.user_id] = member
    return list(best.values())


def _one(call: Call, source: str, place: Project | Namespace) -> Member:
    member = call.double.store.first(
        Member, source=source, source_id=place.id, user_id=call.number("user_id")
    )
    if member is None:
        raise not_found("Member" if source == "group" else "")
    return member


def _check_level(call: Call, place: Project | Namespace, value: Any) -> int:
    if not str(value).isdecimal() or int(value) not in LEVELS:
        raise bad("access_level does not have a valid value")
    if int(value) > access.level(call, place):
        raise forbidden()
    return int(value)


def _check_end(value: Any) -> str | None:
    if value in (None, ""):
        return None
    try:
        date.fromisoformat(str(value)[:10])
    except ValueError:
        raise bad("expires_at is invalid") from None
    if access.is_expired(str(value)[:10]):
        raise invalid("expires_at", "cannot be a date in the past")
    return str(value)[:10]


def _list(source: str, inherited: bool) -> Handler:
    def answer(call: Call) -> Reply:
        place = _place(call, source)
        found = (
            _inherited(call, source, place)
            if inherited
            else call.double.store.find(Member, source=source, source_id=place.id)
        )
        if query := call.query.get("query", "").lower():
            users = {one.id: one for one in call.double.store.find(User)}
            found = [
                one
                for one in found
                if query in (users[one.user_id].name + users[one.user_id].username).lower()
            ]
        return page(call, found, lambda one: entity(call, one))

    return answer


def _add(source: str) -> Handler:
    def answer(call: Call) -> Reply:
        place = _place(call, source, OWNER if source == "group" else MAINTAINER)
        store = call.double.store
        (value,) = call.need("access_level")
        if call.body.get("user_id") is None and not call.body.get("username"):
            raise bad("user_id, username are missing, exactly one parameter must be provided")
        access_level = _check_level(call, place, value)
        username = call.body.get("username")
        user = (
            store.first(User, username=username) if username else store.get(User, int(call.body["user_id"]))
        )
        if user is None:
            raise not_found("User")
        if store.first(Member, source=source, source_id=place.id, user_id=user.id):
            raise ApiError(409, "Member already exists")
        member = Member(
            source=source,
            source_id=place.id,
            user_id=user.id,
            access_level=access_level,
            expires_at=_check_end(call.body.get("expires_at")),
            created_by=call.login.known.id,
        )
        _check_not_below_group(call, source, place, user, access_level)
        return Reply(201, entity(call, store.add(member)))

    return answer


def _check_not_below_group(
    call: Call, source: str, place: Project | Namespace, user: User, access_level: int
) -> None:
    inherited = [one for one in _inherited(call, source, place) if one.user_id == user.id]
    best = max((one.access_level for one in inherited), default=0)
    if best > access_level:
        group = call.double.store.must(Namespace, inherited[0].source_id)
        raise invalid(
            "access_level",
            f"should be greater than or equal to {_NAMES[best]} inherited membership from group {group.name}",
        )


_NAMES = {
    5: "Minimal Access",
    10: "Guest",
    15: "Planner",
    20: "Reporter",
    30: "Developer",
    40: "Maintainer",
    50: "Owner",
}


def _show(source: str, inherited: bool) -> Handler:
    def answer(call: Call) -> Reply:
        place = _place(call, source)
        if not inherited:
            return Reply(200, entity(call, _one(call, source, place)))
        for member in _inherited(call, source, place):
            if str(member.user_id) == call.params["user_id"]:
                return Reply(200, entity(call, member))
        raise not_found("Member" if source == "group" else "")

    return answer


def _change(source: str) -> Handler:
    def answer(call: Call) -> Reply:
        place = _place(call, source, OWNER if source == "group" else MAINTAINER)
        member = _one(call, source, place)
        (value,) = call.need("access_level")
        member.access_level = _check_level(call, place, value)
        if "expires_at" in call.body:
            member.expires_at = _check_end(call.body["expires_at"])
        return Reply(200, entity(call, call.double.store.save(member)))

    return answer


def _remove(source: str) -> Handler:
    def answer(call: Call) -> Reply:
        place = _place(call, source)
        member = _one(call, source, place)
        own = call.login.known.id == member.user_id
        if not own and access.level(call, place) < (OWNER if source == "group" else MAINTAINER):
            raise forbidden()
        owners = call.double.store.find(Member, source=source, source_id=place.id, access_level=OWNER)
        if source == "group" and owners == [member] and isinstance(place, Namespace) and not place.parent_id:
            raise forbidden()
        call.double.store.delete(member)
        return Reply(204)

    return answer


for _source in ("group", "project"):
    _base = f"/{_source}s/{{id}}/members"
    route("GET", _base)(_list(_source, inherited=False))
    route("POST", _base)(_add(_source))
    route("GET", f"{_base}/all", described=False)(_list(_source, inherited=True))
    route("GET", f"{_base}/all/{{user_id}}", described=False)(_show(_source, inherited=True))
    # What was kept of the description has these for groups only.
    _kept = _source == "group"
    route("GET", f"{_base}/{{user_id}}", described=_kept)(_show(_source, inherited=False))
    route("PUT", f"{_base}/{{user_id}}", described=_kept)(_change(_source))
    route("DELETE", f"{_base}/{{user_id}}", described=_kept)(_remove(_source))
