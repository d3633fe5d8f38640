"""Which image a tag stood for when it was first pulled, so that another one under the same tag is noticed."""

from __future__ import annotations

from collections.abc import Mapping

from dap.deployment import records

_FILE = "image_digests.json"


def recall(inventory: str) -> dict[str, str]:
    """Image reference to ``sha256:…`` of every pulled image that was seen."""
    return records.recall(inventory, _FILE)


def remember(inventory: str, seen: Mapping[str, str]) -> None:
    """Add the images that were seen for the first time; what is recorded stays."""
    first = {name: digest for name, digest in seen.items() if digest}
    records.remember(inventory, _FILE, first | recall(inventory))
