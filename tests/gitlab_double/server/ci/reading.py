"""From the text of ``.gitlab-ci.yml`` to plain mappings: includes, extends and references are resolved.

What GitLab can do and the double cannot is refused by name. Nothing is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

Files = Callable[[str], str | None]
"""The text of a file of the repository, or None."""
DEEPEST = 11
"""As many jobs may extend each other in a row."""
STAGES = ["build", "test", "deploy"]
GLOBAL = {
    "default",
    "include",
    "stages",
    "variables",
    "workflow",
    "image",
    "services",
    "cache",
    "before_script",
    "after_script",
}
NOT_JOBS = GLOBAL | {"spec", "pages_path_prefix"}
INHERITED = (
    "image",
    "services",
    "before_script",
    "after_script",
    "cache",
    "tags",
    "artifacts",
    "retry",
    "timeout",
)
"""What ``default`` gives to jobs that say nothing themselves."""


class ConfigurationError(Exception):
    """A configuration that no pipeline can be made of.

    Args:
        problems: sentences for the user.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


@dataclass
class Reference:
    """``!reference [job, key]``, not yet looked up."""

    path: list[str]


@dataclass
class Document:
    """A configuration with everything in its place, still as it was written."""

    document: dict[str, Any]
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Those that run, in their order."""

    @property
    def stages(self) -> list[str]:
        named = self.document.get("stages", STAGES)
        if not isinstance(named, list) or not all(isinstance(one, str) for one in named):
            raise ConfigurationError("stages config should be an array of strings")
        return [".pre", *(one for one in named if one not in (".pre", ".post")), ".post"]


class _Loader(yaml.SafeLoader):
    """Knows GitLab's own tag."""


def _reference(loader: yaml.Loader, node: yaml.Node) -> Reference:
    assert isinstance(node, yaml.SequenceNode)
    return Reference([str(one) for one in loader.construct_sequence(node)])


_Loader.add_constructor("!reference", _reference)


def read(text: str, files: Files) -> Document:
    """Read a configuration and all that it includes.

    Raises:
        ConfigurationError: when it is no configuration, or needs what the double has not.
    """
    document = _with_includes(_load(text, ".gitlab-ci.yml"), files, 0)
    document.pop("include", None)
    jobs = {name: body for name, body in document.items() if name not in NOT_JOBS}
    for name, body in jobs.items():
        if not isinstance(body, dict):
            raise ConfigurationError(
                f"jobs:{name} config should be a hash"
                if body is not None
                else f"jobs {name} config should be a hash"
            )
    resolved = {name: _extended(name, jobs, ()) for name in jobs}
    everything = {**document, **resolved}
    for name in [*resolved, *(one for one in GLOBAL if one in document)]:
        everything[name] = _dereferenced(everything[name], everything, ())
    resolved = {name: everything[name] for name in resolved if not name.startswith(".")}
    defaults = _defaults(everything)
    for name, body in resolved.items():
        resolved[name] = {key: value for key, value in defaults.items() if key not in body} | body
    if not resolved:
        raise ConfigurationError("jobs config should contain at least one visible job")
    return Document(everything, resolved)


def _load(text: str, name: str) -> dict[str, Any]:
    try:
        # A subclass of the safe loader.
        loaded = yaml.load(text, _Loader)  # noqa: S506
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{name}: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, dict):
        raise ConfigurationError("Invalid configuration format")
    return {str(key): value for key, value in loaded.items()}


def _with_includes(document: dict[str, Any], files: Files, depth: int) -> dict[str, Any]:
    """The document on top of what it includes."""
    if depth > 10:
        raise ConfigurationError("Maximum of 150 nested includes are allowed!")
    merged: dict[str, Any] = {}
    entries = document.get("include") or []
    for entry in entries if isinstance(entries, list) else [entries]:
        for path in _local_path(entry):
            text = files(path.lstrip("/"))
            if text is None:
                raise ConfigurationError(f"Local file `{path}` does not exist!")
            merged = merge(merged, _with_includes(_load(text, path), files, depth + 1))
    merged.pop("include", None)
    return merge(merged, document)


def _local_path(entry: Any) -> list[str]:
    if isinstance(entry, str):
        if entry.startswith(("http://", "https://")):
            raise ConfigurationError(f"include: the double has no remote files: {entry}")
        return [entry]
    if not isinstance(entry, dict):
        raise ConfigurationError("include config should be an array of hashes or strings")
    if set(entry) != {"local"}:
        others = ", ".join(sorted(set(entry) - {"local"}))
        raise ConfigurationError(f"include: the double knows only local files, not {others}")
    if any(mark in entry["local"] for mark in "*?["):
        raise ConfigurationError(f"include: the double knows no patterns: {entry['local']}")
    return [entry["local"]]


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged to any depth; everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _extended(name: str, jobs: dict[str, Any], way: tuple[str, ...]) -> dict[str, Any]:
    if name in way:
        raise ConfigurationError(f"{name}: circular dependency detected in `extends`")
    if len(way) > DEEPEST:
        raise ConfigurationError(f"{way[0]}: nesting too deep in `extends`")
    body: dict[str, Any] = jobs[name]
    parents = body.get("extends")
    merged: dict[str, Any] = {}
    for parent in [parents] if isinstance(parents, str) else parents or []:
        if parent not in jobs:
            raise ConfigurationError(f"{name}: unknown keys in `extends` ({parent})")
        merged = merge(merged, _extended(parent, jobs, (*way, name)))
    return {key: value for key, value in merge(merged, body).items() if key != "extends"}


def _dereferenced(value: Any, document: dict[str, Any], way: tuple[str, ...]) -> Any:
    if isinstance(value, Reference):
        text = str(value.path)
        if text in way or len(way) > 10:
            raise ConfigurationError(f"!reference {text} is part of a circular chain")
        found: Any = document
        for key in value.path:
            if not isinstance(found, dict) or key not in found:
                raise ConfigurationError(f"!reference {text} could not be found")
            found = found[key]
        return _dereferenced(found, document, (*way, text))
    if isinstance(value, dict):
        return {key: _dereferenced(one, document, way) for key, one in value.items()}
    if isinstance(value, list):
        return [_dereferenced(one, document, way) for one in value]
    return value


def _defaults(document: dict[str, Any]) -> dict[str, Any]:
    default = document.get("default") or {}
    if not isinstance(default, dict):
        raise ConfigurationError("default config should be a hash")
    unknown = sorted(set(default) - set(INHERITED))
    if unknown:
        raise ConfigurationError(f"default: the double does not know {', '.join(unknown)}")
    outer = {key: document[key] for key in INHERITED if key in document and key in GLOBAL}
    twice = sorted(set(outer) & set(default))
    if twice:
        raise ConfigurationError(f"{twice[0]} is defined in top-level and `default:` entry")
    return outer | default
