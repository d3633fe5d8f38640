"""Which image a tag stood for when it was first pulled, so that another one under the same tag is noticed."""

from __future__ import annotations

import json
from collections.abc import Mapping

from dap.files import PRIVATE_FILE, write_atomic
from dap.layout import secrets_dir

_FILE = "image_digests.json"


def recall(inventory: str) -> dict[str, str]:
    """Image reference to ``sha256:…`` of every pulled image that was seen."""
    try:
        kept = json.loads((secrets_dir() / inventory / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): str(digest) for name, digest in kept.items()} if isinstance(kept, dict) else {}


def remember(inventory: str, seen: Mapping[str, str]) -> None:
    """Add the images that were seen for the first time; what is recorded stays."""
    known = recall(inventory)
    every = {**{name: digest for name, digest in seen.items() if digest}, **known}
    if every != known:
        content = json.dumps(dict(sorted(every.items())), indent=1).encode()
        write_atomic(secrets_dir() / inventory / _FILE, content, PRIVATE_FILE)
