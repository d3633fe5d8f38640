"""What stands in a secrets file: how it is written, and everything for which it is refused when read.

No message quotes a value, nor YAML's own messages, which do.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dap.configuration.yamlfile import too_large
from dap.errors import RefusedError

FORMAT = 1

_KEYS = ("format", "inventory", "platform_id", "ca_fingerprint", "values", "previous")
_RESTORE = "restore the file from a backup"
_TWICE = "key written twice"
# YAML's end mark. A file that was cut off is often still valid YAML, with fewer or shorter values.
_END = "..."
_HEADER = """\
# The secrets of the inventory '{inventory}'. Keep a copy of this folder in a safe place: without it the
# platform's data cannot be used any more.
# Only missing and blank values are filled in. To choose a value: dap secret set. For new ones: dap rotate.
# This file is written anew when something changes; comments are not kept. It may be encrypted as a whole:
# ansible-vault encrypt, with ANSIBLE_VAULT_PASSWORD_FILE set for dap.
"""


@dataclass(frozen=True)
class Document:
    """The content of a secrets file.

    Attributes:
        inventory: the inventory it belongs to.
        platform_id: a random UUID.
        ca_fingerprint: SHA-256 of the CA's certificate in hexadecimal, or empty.
        values: the secrets by key; blank ones are empty.
        previous: what values were before they were replaced, oldest first, as long as it may still be in use.
    """

    inventory: str
    platform_id: str
    ca_fingerprint: str
    values: dict[str, str] = field(repr=False)
    previous: dict[str, list[str]] = field(repr=False, default_factory=dict)

    def text(self) -> bytes:
        """The file's content, the same for the same document."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "inventory": self.inventory,
            "platform_id": self.platform_id,
            "ca_fingerprint": self.ca_fingerprint,
            "values": {key: self.values[key] for key in sorted(self.values)},
        }
        if self.previous:
            document["previous"] = {key: self.previous[key] for key in sorted(self.previous)}
        body = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=10_000, explicit_end=True)
        return (_HEADER.format(inventory=self.inventory) + body).encode()


def parse(content: bytes, path: Path, inventory: str) -> Document:
    """Read the plain content of a secrets file.

    Args:
        content: the content, decrypted.
        path: the file, for the messages.
        inventory: the inventory whose secrets are wanted.

    Raises:
        RefusedError: it is damaged, of another format or of another inventory.
    """
    raw = _load(content, path)
    found = raw.get("format")
    if type(found) is not int or found != FORMAT:
        raise RefusedError(
            f"{path} has the format {found!r}; this dap knows format {FORMAT}",
            f"use the dap that wrote it, or {_RESTORE}",
        )
    unknown = sorted(str(key) for key in raw if key not in _KEYS)
    if unknown:
        raise RefusedError(
            f"{path} has unknown keys: {', '.join(unknown)}", f"remove them; known are {', '.join(_KEYS)}"
        )
    _check_owner(raw.get("inventory"), path, inventory)
    platform_id = raw.get("platform_id")
    if not isinstance(platform_id, str) or not is_uuid(platform_id):
        raise RefusedError(f"{path} has no valid platform_id (a UUID)", _RESTORE)
    fingerprint = raw.get("ca_fingerprint")
    if not isinstance(fingerprint, str) or not re.fullmatch(r"([0-9a-f]{64})?", fingerprint):
        raise RefusedError(f"{path} has no valid ca_fingerprint (64 hexadecimal digits, or '')", _RESTORE)
    previous = _previous(raw.get("previous", {}), path)
    return Document(inventory, platform_id, fingerprint, _values(raw.get("values"), path), previous)


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID in its usual spelling."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _check_owner(owner: object, path: Path, inventory: str) -> None:
    if not isinstance(owner, str):
        raise RefusedError(f"{path} does not say which inventory it belongs to", _RESTORE)
    if owner != inventory:
        raise RefusedError(
            f"{path} belongs to the inventory '{owner}', not to '{inventory}'",
            f"put the secrets of '{inventory}' there; if the inventory was renamed, "
            f"write 'inventory: {inventory}' in that file",
        )


def _values(values: object, path: Path) -> dict[str, str]:
    if not isinstance(values, dict):
        raise RefusedError(f"{path} has no values (a mapping)", _RESTORE)
    wrong = [key for key, value in values.items() if not isinstance(key, str) or not _is_text(value)]
    if wrong:
        names = ", ".join(sorted(map(str, wrong)))
        raise RefusedError(f"{path} has values that are not text: {names}", "write them in quotes")
    return {key: value or "" for key, value in values.items()}


def _previous(previous: object, path: Path) -> dict[str, list[str]]:
    known = isinstance(previous, dict) and all(
        isinstance(key, str) and isinstance(values, list) and all(isinstance(value, str) for value in values)
        for key, values in previous.items()
    )
    if not isinstance(previous, dict) or not known:
        raise RefusedError(f"{path} has previous values that are not lists of text", _RESTORE)
    return previous


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a key that is written twice: YAML would take the last one without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, _TWICE, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _load(content: bytes, path: Path) -> dict[Any, Any]:
    # `from None`: the errors caught here hold the text, and with it secrets.
    try:
        text = content.decode()
        loader = _UniqueKeys(text)
        node = loader.get_single_node()
        if node is not None and too_large(node):
            # Aliases of aliases: more than fits into memory.
            raise ValueError
        document = loader.construct_document(node) if node is not None else None
    except UnicodeDecodeError:
        raise RefusedError(f"{path} is not a text file", _RESTORE) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        why = f": {_TWICE}" if getattr(error, "problem", "") == _TWICE else ""
        raise RefusedError(
            f"{path} is not valid YAML{where}{why}", f"correct it there, or {_RESTORE}"
        ) from None
    except (ValueError, RecursionError):
        # A date that does not exist, brackets without end: YAML's loader lets Python's own errors through.
        raise RefusedError(f"{path} is not valid YAML", _RESTORE) from None
    if not isinstance(document, dict):
        raise RefusedError(f"{path} is empty or holds no keys", _RESTORE)
    if text.rstrip().rsplit("\n", 1)[-1] != _END:
        raise RefusedError(f"{path} is cut off: its last line is not '{_END}'", _RESTORE)
    return document
