"""Fetching images from registries, and telling which ones they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .dap_build import HELP_PAGE, BuildError, normal_tag, run_patiently
from .dap_docker import Run, elapsed, tail
from .dap_registry import Reference

# GitLab's image has 1.5 GB and more; over a slow line that takes its time.
PULL_SECONDS = 3600
LISTED = "{{.Repository}}:{{.Tag}}\t{{.ID}}\t{{.Digest}}"


@dataclass(frozen=True)
class PulledImage:
    """An image that comes from a registry.

    Attributes:
        name: of a service that runs it; its log is named after it.
        reference: what Compose names.
        source: where it is pulled from: the same, or where the site's mirror has it.
        digest: what it was at the first pull (``sha256:…``); empty when that is not known.
    """

    name: str
    reference: str
    source: str
    digest: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> PulledImage:
        """Read one entry of a module's parameters."""
        return cls(given["name"], given["reference"], given["source"], given.get("digest") or "")


@dataclass(frozen=True)
class Listed:
    """A row of the engine's list of images."""

    tag: str
    identifier: str = ""
    digest: str = ""

    @property
    def repository(self) -> str:
        """The tag's part before the version."""
        return self.tag.rpartition(":")[0]


def parse_listed(text: str) -> list[Listed]:
    """Read ``docker image ls --digests`` in the format ``LISTED``."""
    rows = [[*line.split("\t"), "", ""][:3] for line in text.splitlines() if line.strip()]
    return [Listed(tag.strip(), number, digest if ":" in digest else "") for tag, number, digest in rows]


def rows_of(reference: str, listed: Iterable[Listed]) -> list[Listed]:
    """The rows of an image that is named by a tag or by a digest; none when it is not there."""
    name, at, digest = reference.partition("@")
    if not at:
        return [row for row in listed if row.tag == normal_tag(reference)]
    repository = normal_tag(name).rpartition(":")[0]
    return [row for row in listed if row.repository == repository and row.digest == digest]


def digest_of(image: PulledImage, listed: Sequence[Listed]) -> str:
    """Which image it is in its registry (``sha256:…``); empty when it came from none, or is not there."""
    identifiers = {row.identifier for row in rows_of(image.reference, listed)} - {""}
    same = [row for row in listed if row.identifier in identifiers and row.digest]
    pulled_from = normal_tag(image.source.partition("@")[0]).rpartition(":")[0]
    return next(
        (row.digest for row in sorted(same, key=lambda row: row.repository != pulled_from)),
        "",
    )


def layers(output: str) -> tuple[int, int]:
    """How many layers of an image are there, and of how many, by what ``docker pull`` has written."""
    known, done = set(), set()
    for line in output.splitlines():
        layer, _, said = line.partition(": ")
        if said in ("Pulling fs layer", "Already exists"):
            known.add(layer)
        if said in ("Pull complete", "Already exists"):
            done.add(layer)
    return len(done), len(known)


def how_far(image: PulledImage, log: Path, started: float) -> str:
    """A line about a pull that is under way."""
    try:
        done, known = layers(log.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        done, known = 0, 0
    where = "" if image.source == image.reference else f" as {image.source}"
    parts = f", {done} of {known} layers" if known else ""
    return f"fetching {image.reference}{where}: {elapsed(started)}{parts}"


def fetch(image: PulledImage, log: Path, run: Run, pauses: Sequence[float]) -> None:
    """Pull an image, check that it is the recorded one, and give it the name that Compose knows.

    Args:
        log: what the pull writes.
        run: runs Docker.
        pauses: seconds to wait before each further try when the network failed.

    Raises:
        BuildError: it cannot be had, or is another than the recorded one.
    """
    if "@" in image.reference and image.source != image.reference:
        raise BuildError(
            f"{image.reference} cannot be pulled as {image.source}: an image that is named by its digest"
            " cannot be given another name. Name it by its tag, or by the mirror's own name"
        )
    argv = ["docker", "pull", image.source]
    try:
        failed = run_patiently(argv, log, timeout=PULL_SECONDS, pauses=pauses)
        said = (tail(log, 1) or ["it said nothing"])[0] if failed else ""
    except BuildError as error:
        said = str(error)
    if said:
        raise BuildError(_cannot_be_had(image, said, log))
    _check_digest(image, run)
    if image.source != image.reference:
        tagged = run(["tag", image.source, image.reference])
        if tagged.returncode:
            raise BuildError(f"{image.source} cannot be tagged {image.reference}: {tagged.last_words}")


def _cannot_be_had(image: PulledImage, said: str, log: Path) -> str:
    reference = Reference.of(image.source)
    as_source = "" if image.source == image.reference else f" as {image.source}"
    return (
        f"image {image.reference} cannot be pulled from {reference.registry}{as_source}: {said.strip()}."
        " If this host reaches registries only through a proxy or a mirror, set proxy or mirrors.registry in"
        f" platform.yml ({HELP_PAGE})\n  log: {log}"
    )


def _check_digest(image: PulledImage, run: Run) -> None:
    """Refuse what is not the recorded image, and leave it nowhere that the next deploy would take it from."""
    if not image.digest:
        return
    told = run(["image", "inspect", "--format", "{{json .RepoDigests}}", image.source])
    digests = [one.partition("@")[2] for one in json.loads(told.stdout or "[]") or []]
    if image.digest in digests:
        return
    run(["image", "rm", image.source])
    raise BuildError(
        f"image {image.reference}: the registry now has another image under this tag:"
        f" {', '.join(digests) or 'one without a digest'}, and {image.digest} was recorded when it was first"
        " pulled. Find out who changed it; to take the new one, remove its line from image_digests.json in"
        " the folder secrets/<inventory>, then deploy again"
    )
