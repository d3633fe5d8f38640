"""Environments: images that CI jobs and development containers run in, a folder with a manifest each."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from dap.configuration import values, wording
from dap.configuration.wording import Fault, Wording
from dap.configuration.yamlfile import YamlFile, read_yaml
from dap.errors import Finding
from dap.layout import environments_dir, shown
from dap.services.manifest import find_folders
from dap.services.manifest_document import checked, finding
from dap.services.manifest_schema import ManifestSection
from dap.services.manifest_values import NAME_PATTERN, NAME_RULE, Line, Name, Text

MANIFEST = "environment.yml"
DOCKERFILE = "Dockerfile"
BUILDER = "image-builder"
"""The environment of jobs that build images: no runner needs it that builds none, and every other does."""
CODE_SERVER = "code-server"
"""What is in this one hosts hand to containers that want it; nothing runs in it."""
TOOLS = frozenset({BUILDER, CODE_SERVER})
"""Those that nobody works in."""
_RECIPE = "recipe"
_SHORTEST = "summary: Python with what our models need\nparent: python"


class Variant(ManifestSection):
    """Another choice of packages for an environment, in a folder of its own in the environment's."""

    summary: Line = Field(description="What is in it, in one line.", examples=["PyTorch for NVIDIA's GPUs"])
    gpu: values.Switch = Field(False, description="Whether what is in it wants a GPU.", examples=[True])


class EnvironmentManifest(ManifestSection):
    """What an `environment.yml` says."""

    summary: Line = Field(description="What is in it, in one line.", examples=["Python with spaCy"])
    parent: Text | None = Field(
        None,
        description="The environment that it is built upon; Debian with the site's mirrors without it.",
        examples=["python"],
    )
    size: Annotated[
        Literal["small", "medium", "large"], BeforeValidator(values.choice("small", "medium", "large"))
    ] = Field(
        "medium",
        description=(
            "How much it brings: `small` up to 0.5 GB, `medium` up to 2 GB, `large` more. The hosts get large"
            " ones only where the configuration names them."
        ),
        examples=["large"],
    )
    jupyter: values.Switch | None = Field(
        None,
        description="Whether it has JupyterLab. Without it, as what it is built upon; else yes.",
        examples=[False],
    )
    gpu: values.Switch = Field(False, description="Whether what is in it wants a GPU.", examples=[True])
    variants: dict[Name, Variant] = Field(
        {},
        description=(
            "Other choices of packages, of which the configuration may name one: folders in this one, whose"
            " files take the place of those of the same names here."
        ),
        examples=[{"cuda": {"summary": "PyTorch for NVIDIA's GPUs", "gpu": True}}],
    )


@dataclass(frozen=True)
class Environment:
    """A folder with a manifest, and what it is built upon.

    Attributes:
        parent: the environment that it is built upon; None for one upon the platform's own Debian.
        variant: the one of its variants that is built; empty for none.
    """

    name: str
    folder: Path
    manifest: EnvironmentManifest
    parent: Environment | None = None
    variant: str = ""

    @property
    def has_jupyter(self) -> bool:
        """Whether JupyterLab is in it."""
        if self.manifest.jupyter is not None:
            return self.manifest.jupyter
        return self.parent.has_jupyter if self.parent else True

    @property
    def sources(self) -> list[Path]:
        """The folders of its build context, of which later ones win: without a Dockerfile the recipe, too."""
        recipe = [] if (self.folder / DOCKERFILE).is_file() else [environments_dir() / _RECIPE]
        return [*recipe, self.folder, *([self.folder / self.variant] if self.variant else [])]

    @property
    def variants(self) -> list[Path]:
        """The folders of all variants, whose files come into no context but their own."""
        return [self.folder / name for name in self.manifest.variants]

    @property
    def gpu(self) -> bool:
        """Whether what is in it wants a GPU."""
        return self.manifest.gpu or (self.variant != "" and self.manifest.variants[self.variant].gpu)


def find_environments(roots: Iterable[Path]) -> dict[str, Path]:
    """Folders of environments by name, also those with a Dockerfile that lack a manifest; later roots win."""
    roots = list(roots)
    return dict(sorted({**_folders(roots, DOCKERFILE), **_folders(roots, MANIFEST)}.items()))


def _folders(roots: Iterable[Path], marker: str) -> dict[str, Path]:
    recipe = environments_dir() / _RECIPE
    return {name: path for name, path in find_folders(roots, marker).items() if path != recipe}


def load_environments(
    folders: Mapping[str, Path], reserved: Collection[str], variants: Mapping[str, str] | None = None
) -> tuple[dict[str, Environment], list[Finding]]:
    """The environments of ``folders``, and what is wrong with them: with a finding, some are left out.

    Args:
        reserved: names that other images have.
        variants: those that the configuration wants, by environment.
    """
    found: list[Finding] = []
    documents: dict[str, YamlFile] = {}
    manifests: dict[str, EnvironmentManifest] = {}
    for name, folder in folders.items():
        if not re.fullmatch(NAME_PATTERN, name):
            found.append(Finding(shown(folder), "", "", f"is not a name of {NAME_RULE}", "rename the folder"))
        elif name in reserved:
            reason = "is the name of a service, whose image would be called the same"
            found.append(Finding(shown(folder), "", "", reason, "rename the folder"))
        if not (folder / MANIFEST).is_file():
            advice = f"write {shown(folder / MANIFEST)} with a line such as summary: Python with spaCy"
            found.append(Finding(shown(folder), "", "", f"has no {MANIFEST}", advice))
            continue
        documents[name] = read_yaml(folder / MANIFEST)
        manifest, faults = checked(documents[name], EnvironmentManifest, _SHORTEST)
        if manifest:
            manifests[name] = manifest
            faults += _faults_of_parent(name, folder, manifest, folders)
            faults += _faults_of_variants(folder, manifest)
        found += [finding(folder / MANIFEST, fault, documents[name], EnvironmentManifest) for fault in faults]
    for name, fault in _circles(manifests):
        found.append(finding(folders[name] / MANIFEST, fault, documents[name], EnvironmentManifest))
    return ({} if found else _linked(folders, manifests, variants or {})), found


def _faults_of_parent(
    name: str, folder: Path, manifest: EnvironmentManifest, folders: Mapping[str, Path]
) -> Iterator[Fault]:
    if manifest.parent is None:
        if not (folder / DOCKERFILE).is_file():
            text = Wording("is required without a Dockerfile", "write parent: base, or add a Dockerfile")
            yield Fault(("parent",), text)
    elif manifest.parent not in folders:
        others = [other for other in folders if other != name]
        yield Fault(("parent",), Wording("is not an environment", wording.one_of(manifest.parent, others)))


def _faults_of_variants(folder: Path, manifest: EnvironmentManifest) -> Iterator[Fault]:
    for name in manifest.variants:
        if not (folder / name).is_dir():
            advice = f"put a folder {name} beside {MANIFEST} with its packages.txt or requirements.txt"
            yield Fault(("variants", name), Wording("has no folder", advice))


def _circles(manifests: Mapping[str, EnvironmentManifest]) -> Iterator[tuple[str, Fault]]:
    """Environments that are built upon themselves: each circle once, with its first."""
    for name in sorted(manifests):
        way = [name]
        while (parent := manifests[way[-1]].parent) in manifests and parent not in way:
            way.append(str(parent))
        if parent == name and name == min(way):
            text = " upon ".join([*way, name])
            yield name, Fault(("parent",), Wording(f"goes round in a circle: {text}", "remove one of them"))


def _linked(
    folders: Mapping[str, Path], manifests: Mapping[str, EnvironmentManifest], variants: Mapping[str, str]
) -> dict[str, Environment]:
    made: dict[str, Environment] = {}

    def make(name: str) -> Environment:
        if name not in made:
            manifest = manifests[name]
            parent = make(manifest.parent) if manifest.parent else None
            variant = variants.get(name, "")
            # That the configuration names one that there is not is told elsewhere.
            known = variant if variant in manifest.variants else ""
            made[name] = Environment(name, folders[name], manifest, parent, known)
        return made[name]

    return {name: make(name) for name in folders}


def with_parents(environments: Iterable[Environment]) -> list[Environment]:
    """The environments and all that they are built upon, each after its parent."""
    found: dict[str, Environment] = {}

    def add(environment: Environment) -> None:
        if environment.parent:
            add(environment.parent)
        found.setdefault(environment.name, environment)

    for environment in environments:
        add(environment)
    return list(found.values())


def chosen(
    environments: Mapping[str, Environment], names: Sequence[str] | None, *, with_builder: bool
) -> dict[str, Environment]:
    """The environments that the configuration asks for; without a list all but large ones."""
    usual = {name for name, one in environments.items() if one.manifest.size != "large"} - TOOLS
    wanted = usual if names is None else {*names}
    wanted |= {BUILDER} if with_builder else set()
    return {name: environment for name, environment in environments.items() if name in wanted}


def unknown(names: Sequence[str] | None, folders: Collection[str], file: str) -> Iterator[Finding]:
    """What the configuration asks for and is not there.

    Args:
        file: the configuration, as it is shown.
    """
    for index, name in enumerate(names or ()):
        if name not in folders:
            advice = wording.one_of(name, folders)
            yield Finding(file, f"environments[{index}]", name, "is not an environment", advice)


def unknown_variants(
    wanted: Mapping[str, str], environments: Mapping[str, Environment], folders: Collection[str], file: str
) -> Iterator[Finding]:
    """Variants that the configuration asks for and that are not there.

    Args:
        environments: all that there are; none, where something is wrong with one.
        folders: the names of all.
    """
    for name, variant in wanted.items():
        where = f"environment_variants.{name}"
        if name not in folders:
            advice = wording.one_of(name, folders)
            yield Finding(file, where, variant, "is for something that is not an environment", advice)
        elif name in environments and variant not in (known := environments[name].manifest.variants):
            advice = wording.one_of(variant, known)
            yield Finding(file, where, variant, f"is not a variant of {name}", advice)


def variable_of(name: str) -> str:
    """The variable of CI jobs that names an environment's image."""
    return f"DAP_IMAGE_{name.upper().replace('-', '_')}"
