"""Users' SSH keys."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from ..access import need_admin
from ..paging import page
from ..records import Key, User
from ..routing import Call, Reply, invalid, not_found, route
from .users import find_user

KINDS = ("ssh-rsa", "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
HARDWARE = ("sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com")


def entity(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "title": key.title,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "last_used_at": None,
        "key": key.key,
        "usage_type": key.usage_type,
    }


def _is_public_key(text: str) -> bool:
    kind, _, rest = text.strip().partition(" ")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except (binascii.Error, ValueError):
        return False
    name = kind.encode()
    return kind in KINDS + HARDWARE and blob[:4] == len(name).to_bytes(4, "big") and blob[4:].startswith(name)


def _add(call: Call, user: User) -> Reply:
    text, title = call.need("key", "title")
    if not _is_public_key(text):
        raise invalid("key", "is invalid")
    same = text.split()[:2]
    if any(one.key.split()[:2] == same for one in call.double.store.find(Key)):
        raise invalid("fingerprint_sha256", "has already been taken")
    key = Key(
        user_id=user.id,
        title=title,
        key=text.strip(),
        expires_at=call.body.get("expires_at"),
        usage_type=call.body.get("usage_type", "auth_and_signing"),
    )
    return Reply(201, entity(call.double.store.add(key)))


def _delete(call: Call, user: User) -> Reply:
    key = call.double.store.first(Key, id=call.number("key_id"), user_id=user.id)
    if key is None:
        raise not_found("Key")
    call.double.store.delete(key)
    return Reply(204)


@route("GET", "/users/{user_id}/keys", scopes=("read_user",))
def of_user(call: Call) -> Reply:
    user = find_user(call, "user_id")
    return page(call, call.double.store.find(Key, user_id=user.id), entity)


@route("POST", "/users/{user_id}/keys")
def add_for_user(call: Call) -> Reply:
    need_admin(call)
    return _add(call, find_user(call, "user_id"))


@route("DELETE", "/users/{user_id}/keys/{key_id}", described=False)
def delete_for_user(call: Call) -> Reply:
    need_admin(call)
    return _delete(call, find_user(call, "user_id"))


@route("GET", "/user/keys", scopes=("read_user",), described=False)
def own(call: Call) -> Reply:
    return page(call, call.double.store.find(Key, user_id=call.login.known.id), entity)


@route("POST", "/user/keys", described=False)
def add_own(call: Call) -> Reply:
    return _add(call, call.login.known)


@route("DELETE", "/user/keys/{key_id}", described=False)
def delete_own(call: Call) -> Reply:
    return _delete(call, call.login.known)
