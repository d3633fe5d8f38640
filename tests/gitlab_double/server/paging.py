"""Lists come in pages, and say in their headers which one this is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

from .routing import Call, Reply, bad

T = TypeVar("T")
DEFAULT, MOST = 20, 100


def page(call: Call, found: Sequence[T], entity: Callable[[T], Any]) -> Reply:
    """One page of what was found, as the request wants it."""
    number, size = _asked(call, "page", 1), min(_asked(call, "per_page", DEFAULT), MOST)
    last = max(1, -(-len(found) // size))
    headers = {
        "X-Page": str(number),
        "X-Per-Page": str(size),
        "X-Next-Page": str(number + 1) if number < last else "",
        "X-Prev-Page": str(number - 1) if number > 1 else "",
        "X-Total": str(len(found)),
        "X-Total-Pages": str(last),
        "Link": _links(call, number, size, last),
    }
    return Reply(200, [entity(one) for one in found[(number - 1) * size : number * size]], headers)


def _asked(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal():
        raise bad(f"{name} is invalid")
    if int(text) == 0:
        raise bad(f"{name} does not have a valid value")
    return int(text)


def _links(call: Call, number: int, size: int, last: int) -> str:
    places = {"first": 1, "last": last}
    if number > 1:
        places["prev"] = number - 1
    if number < last:
        places["next"] = number + 1
    others = [(k, v) for k, v in call.query.items() if k not in ("page", "per_page", "private_token")]
    path = call.request.scope["raw_path"].decode()
    links = []
    for name, there in sorted(places.items()):
        query = urlencode([*others, ("page", there), ("per_page", size)])
        links.append(f'<{call.double.site.external_url}{path}?{query}>; rel="{name}"')
    return ", ".join(links)
