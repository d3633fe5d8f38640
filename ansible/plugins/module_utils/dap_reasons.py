"""Why a container would be replaced: the old and the new configuration of its service, compared in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Service = Mapping[str, Any]

# Compose leaves them out of the hash that decides; the second limit follows the first.
_IGNORED = {"build", "scale", "memswap_limit", "profiles"}
_FILES_LABEL = "dap.configuration.inventory"
_UNITS = ((1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k"))


def reasons(old: Service, new: Service, changed_files: Iterable[str]) -> list[str]:
    """What differs between two configurations of a service, one phrase for each thing.

    Values are shown where they are short and never secret; of the environment only the names.

    Args:
        old: the service as ``docker compose config --format json`` prints it, before.
        new: the same, after.
        changed_files: files of the service that get new content or go, relative to its folder.
    """
    differing = sorted(
        key for key in {*old, *new} - _IGNORED if (old.get(key) or None) != (new.get(key) or None)
    )
    files = sorted(path for path in changed_files if path.startswith(("config/", "secrets/")))
    told = []
    # What an operator sets comes first.
    for key in sorted(differing, key=lambda key: (list(_PHRASES).index(key) if key in _PHRASES else 99, key)):
        if key in ("labels", "secrets") and files:
            continue
        phrase = _PHRASES.get(key)
        told += phrase(old.get(key), new.get(key)) if phrase else [key.replace("_", " ")]
    # The label that stands for the files also stands for the certificate authorities that are trusted.
    return [*told, *files]


def size(value: object) -> str:
    """A number of bytes as Compose takes it: ``2g``."""
    number = int(str(value or 0))
    for unit, letter in _UNITS:
        if number and number % unit == 0:
            return f"{number // unit}{letter}"
    return str(number)


def _limit(name: str, show: Callable[[object], str] = str) -> Callable[[Any, Any], list[str]]:
    def phrase(old: Any, new: Any) -> list[str]:
        before, after = (show(value) if value else "no limit" for value in (old, new))
        return [f"{name} {before} → {after}"]

    return phrase


def _image(old: Any, new: Any) -> list[str]:
    name, _, tag = str(old).rpartition(":")
    other, _, new_tag = str(new).rpartition(":")
    return [f"image {name} {tag} → {new_tag}" if name == other else f"image {old} → {new}"]


def _names(title: str, name_of: Callable[[Any], str]) -> Callable[[Any, Any], list[str]]:
    """A phrase on a list or mapping: what was added, removed and changed, by name."""

    def phrase(old: Any, new: Any) -> list[str]:
        before, after = _by_name(old, name_of), _by_name(new, name_of)
        parts = [f"+{name}" for name in sorted(after.keys() - before.keys())]
        parts += [f"-{name}" for name in sorted(before.keys() - after.keys())]
        both = sorted(after.keys() & before.keys())
        parts += [name for name in both if before[name] != after[name]]
        return [f"{title} {' '.join(parts)}"] if parts else [title]

    return phrase


def _by_name(
    values: Mapping[str, Any] | Sequence[Any] | None, name_of: Callable[[Any], str]
) -> dict[str, Any]:
    if isinstance(values, Mapping):
        return dict(values)
    return {name_of(value): value for value in values or []}


def _port(value: Mapping[str, Any]) -> str:
    address = f"{value['host_ip']}:" if value.get("host_ip") else ""
    return f"{address}{value.get('published', '')}->{value.get('target', '')}"


def _networks(old: Any, new: Any) -> list[str]:
    before, after = ((value or {}).get("default") or {} for value in (old, new))
    if _without_aliases(old) == _without_aliases(new):
        return _names("names on the network", str)(before.get("aliases"), after.get("aliases"))
    return ["networks"]


def _without_aliases(networks: Any) -> dict[str, dict[str, Any]]:
    return {
        name: {key: value for key, value in (network or {}).items() if key != "aliases"}
        for name, network in (networks or {}).items()
    }


def _labels(old: Any, new: Any) -> list[str]:
    differing = {key for key in {*(old or {}), *(new or {})} if (old or {}).get(key) != (new or {}).get(key)}
    if differing == {_FILES_LABEL}:
        return ["trusted certificate authorities"]
    return [f"labels {' '.join(sorted(differing - {_FILES_LABEL}))}"]


_PHRASES: dict[str, Callable[[Any, Any], list[str]]] = {
    "image": _image,
    "mem_limit": _limit("memory", size),
    "cpus": _limit("CPUs"),
    "pids_limit": _limit("processes"),
    "environment": _names("environment", str),
    "ports": _names("ports", _port),
    "volumes": _names("mounts", lambda value: str(value.get("target", ""))),
    "networks": _networks,
    "user": _limit("user"),
    "depends_on": _names("waits for", str),
    "labels": _labels,
}
