"""Environments: images that CI jobs and development containers run in, a folder with a Dockerfile each."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from dap.configuration import wording
from dap.errors import Finding
from dap.layout import shown
from dap.services.manifest import find_folders
from dap.services.manifest_values import NAME_PATTERN, NAME_RULE

DOCKERFILE = "Dockerfile"
BUILDER = "image-builder"
"""The environment of jobs that build images: no runner needs it that builds none, and every other does."""


def find_environments(roots: Iterable[Path]) -> dict[str, Path]:
    """Folders of environments by name: every folder in ``roots`` with a Dockerfile; later roots win."""
    return find_folders(roots, DOCKERFILE)


def chosen(
    folders: Mapping[str, Path], names: Sequence[str] | None, *, with_builder: bool
) -> dict[str, Path]:
    """The environments that the configuration asks for; all without a list."""
    wanted = {*folders} - {BUILDER} if names is None else {*names}
    wanted |= {BUILDER} if with_builder else set()
    return {name: folder for name, folder in folders.items() if name in wanted}


def findings(
    folders: Mapping[str, Path], names: Sequence[str] | None, services: Collection[str], file: str
) -> Iterator[Finding]:
    """What is wrong with the folders' names, and with those that the configuration asks for.

    Args:
        services: their names; images of both are called alike.
        file: the configuration, as it is shown.
    """
    for name, folder in folders.items():
        if not re.fullmatch(NAME_PATTERN, name):
            yield Finding(shown(folder), "", "", f"is not a name of {NAME_RULE}", "rename the folder")
        elif name in services:
            reason = "is the name of a service, whose image would be called the same"
            yield Finding(shown(folder), "", "", reason, "rename the folder")
    for index, name in enumerate(names or ()):
        if name not in folders:
            advice = wording.one_of(name, folders)
            yield Finding(file, f"environments[{index}]", name, "is not an environment", advice)


def variable_of(name: str) -> str:
    """The variable of CI jobs that names an environment's image."""
    return f"DAP_IMAGE_{name.upper().replace('-', '_')}"
