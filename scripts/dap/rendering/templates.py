"""Templates of Compose files and configuration, and what is made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from dap.errors import DapError
from dap.layout import shown
from dap.rendering.tree import File
from dap.services import container


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
        fragment = yaml.safe_load(text)
    except yaml.YAMLError as error:
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
    return fragment


def render_template(template: Path, context: Mapping[str, Any]) -> str:
    templates = _templates_of(template.parent, ".html" in template.name)
    try:
        return templates.get_template(template.name).render(context)
    except TemplateError as error:
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
