"""Templates of Compose files and configuration, and what is made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from dap.configuration.yamlfile import too_large
from dap.errors import DapError
from dap.layout import shown
from dap.rendering.tree import File
from dap.services import container

# What a template's own expressions may raise.
_OF_EXPRESSIONS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
# Of what the platform looks at or adds to; Compose judges the rest.
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "environment": ((dict, list), "a mapping"),
    "healthcheck": ((dict,), "a mapping"),
    "volumes": ((list,), "a list"),
    "tmpfs": ((str, list), "a list"),
}


def project_file(name: str, services: Iterable[str], *, with_jobs: bool, with_dev: bool) -> File:
    """The Compose file that joins those of the ``services`` of one host."""
    include = [f"{service}/compose.yaml" for service in services]
    return File(
        "compose.yaml",
        as_yaml(
            {
                "name": name,
                "include": include,
                "networks": container.network(name, with_jobs=with_jobs, with_dev=with_dev),
            }
        ),
    )


def fragment_of(file: Path, context: Mapping[str, Any], service: str = "") -> dict[str, Any]:
    """A rendered Compose fragment; with ``service``, the one that has to be in it."""
    text = render_template(file, context)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None and (refusal := too_large(node)):
            raise yaml.YAMLError(refusal.reason)
        fragment = loader.construct_document(node) if node is not None else None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Brackets without end, a date that does not exist: YAML's loader lets Python's own errors through.
        reason = " ".join(str(error).split())
        raise DapError(
            f"{shown(file)}: what it renders to is not YAML: {reason}",
            "correct the template at the line that is named; {{ … }} in a value often wants quotes around it",
        ) from error
    if not isinstance(fragment, dict) or list(fragment) != ["services"]:
        raise DapError(
            f"{shown(file)}: wants one top-level key, services",
            "move networks, volumes and the like below the service, or remove them: the platform sets them",
        )
    if service and (not isinstance(fragment["services"], dict) or list(fragment["services"]) != [service]):
        raise DapError(
            f"{shown(file)}: wants exactly one service, {service}",
            f"keep services.{service} only; another service gets a folder of its own",
        )
    for name, own in _services(fragment["services"]).items():
        if trouble := _trouble(own):
            raise DapError(f"{shown(file)}: services.{name}{trouble}", "write it as Compose's manual shows")
    return fragment


def _services(found: object) -> Mapping[str, object]:
    return found if isinstance(found, dict) else {"": found}


def _trouble(own: object) -> str:
    """What is of another kind than it has to be; empty where nothing is."""
    if not isinstance(own, dict):
        return " is not a mapping"
    for key, (kinds, called) in _KINDS.items():
        if key in own and not isinstance(own[key], kinds):
            return f".{key} is not {called}"
    test = own.get("healthcheck", {}).get("test", [])
    if not isinstance(test, str | list):
        return ".healthcheck.test is not a list"
    for mount in own.get("volumes", []):
        if not isinstance(mount, str | dict) or not isinstance(
            mount.get("source", "") if isinstance(mount, dict) else mount, str
        ):
            return ".volumes has something that is no mount"
    if isinstance(own.get("tmpfs"), list) and not all(isinstance(one, str) for one in own["tmpfs"]):
        return ".tmpfs has something that is no path"
    return ""


def render_template(template: Path, context: Mapping[str, Any]) -> str:
    templates = _templates_of(template.parent, ".html" in template.name)
    try:
        return templates.get_template(template.name).render(context)
    except UnicodeDecodeError as error:
        raise DapError(f"{template}: is not UTF-8", "write it as a text file") from error
    except (TemplateError, *_OF_EXPRESSIONS) as error:
        raise DapError(f"{template}: {error}", "correct the template") from error


@lru_cache
def _templates_of(folder: Path, html: bool) -> Environment:
    """The templates of a folder; each is read once, and again where its file has changed."""
    return Environment(
        loader=FileSystemLoader([folder, folder.parent]),
        undefined=StrictUndefined,
        # Compose files and configuration are no HTML: escaping would corrupt them.
        autoescape=html,  # noqa: S701
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def as_yaml(data: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(dict(data), sort_keys=False, width=110).encode()


def digest_of(files: Iterable[File]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        digest.update(f"{file.path}\0{file.mode}\0{file.owner}\0".encode() + file.content + b"\0")
    return digest.hexdigest()[:16]
