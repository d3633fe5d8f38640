"""What a host's own apt sources say, and the files that the platform adds beside them.

Pure functions: text in, text out. They run on the hosts, whose Python may be as old as 3.10.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Options of a source that must go along when its mirror is used for another suite, as deb822 writes them.
_KEPT_OPTIONS = ("Signed-By", "Trusted", "Check-Valid-Until", "Allow-Insecure", "Allow-Weak")
_ONE_LINE = re.compile(
    r"^deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<components>.*)$"
)
_FIELD = re.compile(r"^(?P<name>[!-9;-~]+):(?P<value>.*)$")


@dataclass(frozen=True)
class AptSource:
    """One place that apt takes binary packages from.

    Attributes:
        file: the file it stands in.
        uri: the address, as written (``https://…``, ``mirror+file:/…``).
        suite: ``bookworm``, ``bookworm-updates``, …
        components: ``main``, …
        options: the options that a second source at the same mirror needs too, by their deb822 name; a value
            may have several lines (a key block).
    """

    file: str
    uri: str
    suite: str
    components: tuple[str, ...]
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class AptFile:
    """One file that the platform puts below ``/etc/apt``."""

    path: str
    content: str


def _stanzas(text: str) -> list[dict[str, str]]:
    """The stanzas of a deb822 file; field names in lower case, comments dropped, continuation lines kept."""
    stanzas: list[dict[str, str]] = []
    current: dict[str, str] = {}
    name = ""
    for line in [*text.splitlines(), ""]:
        if line.startswith("#"):
            continue
        if not line.strip():
            if current:
                stanzas.append(current)
            current, name = {}, ""
        elif line[0] in " \t":
            if name:
                current[name] += "\n" + line
        elif match := _FIELD.match(line):
            name = match["name"].lower()
            current[name] = match["value"].strip()
    return stanzas


def parse_deb822(file: str, text: str) -> list[AptSource]:
    """The binary sources of a ``.sources`` file, one for every address and suite in it."""
    sources = []
    for stanza in _stanzas(text):
        if stanza.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        if "deb" not in stanza.get("types", "").split():
            continue
        options = tuple((name, stanza[name.lower()]) for name in _KEPT_OPTIONS if name.lower() in stanza)
        components = tuple(stanza.get("components", "").split())
        sources += [
            AptSource(file, uri, suite, components, options)
            for uri in stanza.get("uris", "").split()
            for suite in stanza.get("suites", "").split()
        ]
    return sources


def parse_one_line(file: str, text: str) -> list[AptSource]:
    """The binary sources of a ``.list`` file (``deb [options] uri suite components``)."""
    sources = []
    for line in text.splitlines():
        match = _ONE_LINE.match(line.split("#", 1)[0].strip())
        if not match:
            continue
        given = dict(part.split("=", 1) for part in (match["options"] or "").split() if "=" in part)
        given = {name.lower(): value.replace(",", " ") for name, value in given.items()}
        options = tuple((name, given[name.lower()]) for name in _KEPT_OPTIONS if name.lower() in given)
        sources.append(
            AptSource(file, match["uri"], match["suite"], tuple(match["components"].split()), options)
        )
    return sources


def parse_sources(files: dict[str, str]) -> list[AptSource]:
    """All binary sources of a host.

    Args:
        files: content by path, as apt would read them (``.list`` and ``.sources`` only).
    """
    sources = []
    for path, text in sorted(files.items()):
        if path.endswith(".sources"):
            sources += parse_deb822(path, text)
        elif path.endswith(".list"):
            sources += parse_one_line(path, text)
    return sources


def base_source(sources: list[AptSource], codename: str) -> AptSource | None:
    """The source that the distribution's own main component comes from; None when the host has none."""
    for source in sources:
        if source.suite == codename and "main" in source.components:
            return source
    return None


def deb822(uri: str, suite: str, component: str, options: tuple[tuple[str, str], ...]) -> str:
    """A source as a stanza of a ``.sources`` file."""
    lines = ["Types: deb", f"URIs: {uri}", f"Suites: {suite}", f"Components: {component}"]
    # A key block starts on the next line; the colon is then followed by nothing.
    lines += [f"{name}:{'' if value.startswith(chr(10)) else ' '}{value}" for name, value in options]
    return "\n".join(lines) + "\n"


def next_release_files(
    platform: str, base: AptSource, suite: str, packages: tuple[str, ...], *, known_already: bool
) -> tuple[AptFile, ...]:
    """The files that let apt take a few packages from another release, and nothing else from there.

    Args:
        platform: name of the platform, which the files are named after.
        base: the host's own source: its mirror and its keyring are used for the other release as well.
        suite: the other release's codename.
        packages: the only packages that may come from there.
        known_already: the operator has that release among the sources already. Then no source is added, and
            the priority of everything else there stays as the operator set it.
    """
    named = f"Package: {' '.join(packages)}\nPin: release n={suite}\nPin-Priority: 990\n"
    everything = f"Package: *\nPin: release n={suite}\nPin-Priority: -10\n\n"
    pins = AptFile(
        f"/etc/apt/preferences.d/{platform}-{suite}", named if known_already else everything + named
    )
    if known_already:
        return (pins,)
    source = AptFile(
        f"/etc/apt/sources.list.d/{platform}-{suite}.sources", deb822(base.uri, suite, "main", base.options)
    )
    # The pins first: a source without them would offer the whole next release to an upgrade.
    return (pins, source)


def docker_repository_file(platform: str, repository: str, os_id: str, codename: str, key: str) -> AptFile:
    """The source for Docker's own repository.

    Args:
        platform: name of the platform, which the file is named after.
        repository: address above the distributions, without a slash at its end.
        os_id: ``debian`` or ``ubuntu``.
        codename: of the host's release.
        key: path of the repository's key on the host.
    """
    return AptFile(
        f"/etc/apt/sources.list.d/{platform}-docker.sources",
        deb822(f"{repository}/{os_id}", codename, "stable", (("Signed-By", key),)),
    )
