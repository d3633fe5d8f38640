"""The kinds of single values that a configuration file may hold, each with its check.

A check takes whatever the YAML file holds and returns the typed value or raises one `PydanticCustomError`
with the reason and the suggestion in its context: one finding per value, whatever is wrong with it. Text
never counts as a number or as true, and numbers never count as text.
"""

from __future__ import annotations

import ipaddress
import re
import zoneinfo
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from dap.configuration import wording
from dap.configuration.wording import Wording

REFUSED = "refused"

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN_PATTERN = rf"{_LABEL}(?:\.{_LABEL})+"
LONGEST_DOMAIN = 200

Check = Callable[[object], object]


def refusal(text: Wording) -> PydanticCustomError:
    """The exception by which a check refuses a value."""
    return PydanticCustomError(REFUSED, "{reason}", {"reason": text.reason, "suggestion": text.suggestion})


def text_with(check: Callable[[str], object]) -> Check:
    """A check of a text; anything else is refused, with the advice to quote it where that would help."""

    def checked(value: object) -> object:
        if isinstance(value, str):
            return check(value)
        if value is None:
            raise refusal(wording.no_value(removable=True))
        quoted = str(value).lower() if isinstance(value, bool) else str(value)
        try:
            helps = not isinstance(value, dict | list) and check(quoted) is not None
        except PydanticCustomError:
            helps = False
        raise refusal(wording.not_text(quoted if helps else None))

    return checked


def number(noun: str, low: float, high: float, kind: type[int] | type[float] = int) -> Check:
    """A check of a number from low to high."""

    def checked(value: object) -> object:
        if value is None:
            raise refusal(wording.no_value(removable=True))
        numeric = isinstance(value, int | kind) and not isinstance(value, bool)
        if numeric and low <= value <= high:  # type: ignore[operator]
            return value
        unquoted = value if isinstance(value, str) and _is_number(value, low, high) else None
        raise refusal(wording.not_a_number(noun, low, high, unquoted))

    return checked


def _is_number(text: str, low: float, high: float) -> bool:
    return bool(re.fullmatch(r"[0-9]{1,9}", text, re.A)) and low <= int(text) <= high


def true_or_false(value: object) -> object:
    """A check of a switch."""
    if isinstance(value, bool):
        return value
    if value is None:
        raise refusal(wording.no_value(removable=True))
    unquoted = value if isinstance(value, str) and value in ("true", "false") else None
    raise refusal(wording.not_true_or_false(unquoted))


def true_false_or_auto(value: object) -> object:
    """A check of a switch that the platform may decide itself."""
    if isinstance(value, bool) or value == "auto":
        return value
    if value is None:
        raise refusal(wording.no_value(removable=True))
    unquoted = value if isinstance(value, str) and value in ("true", "false") else None
    raise refusal(wording.not_true_false_or_auto(unquoted))


def matching(pattern: str, reason: str) -> Check:
    """A check of a text's shape; the suggestion is the key's example."""

    def checked(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise refusal(wording.not_shaped(reason))
        return value

    return text_with(checked)


def url(*schemes: str) -> Check:
    """A check of a server's address with one of the schemes; a login in it is refused."""

    def checked(value: str) -> str:
        try:
            parts = urlsplit(value)
            right = parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            right = False
        if not right or not re.fullmatch(r"[!-~]+", value):
            raise refusal(wording.not_a_url(schemes))
        if "@" in urlsplit(value).netloc:
            raise refusal(wording.login_in_url())
        return value

    return text_with(checked)


def choice(*choices: str) -> Check:
    """A check of a text that is one of the choices."""

    def checked(value: str) -> str:
        if value not in choices:
            raise refusal(wording.not_a_choice(value, choices))
        return value

    return text_with(checked)


def one_line(longest: int) -> Check:
    """A check of a short text for people."""

    def checked(value: str) -> str:
        if len(value) > longest or not value.isprintable():
            raise refusal(wording.not_one_line(longest))
        return value

    return text_with(checked)


def name(
    pattern: str, rule: str, reserved: Mapping[str, str] | None = None, *, separators: str = "-"
) -> Check:
    """A check of a name.

    Args:
        pattern: what it must match.
        rule: the same in words.
        reserved: patterns of names that are taken, with what they are reserved for; `-` counts as `_`.
        separators: what may stand between words, the preferred one first.
    """

    def corrected(value: str) -> str | None:
        allowed = f"[^a-z0-9{re.escape(separators)}]+"
        attempt = re.sub(allowed, separators[0], value.lower()).strip(separators)
        return attempt if re.fullmatch(pattern, attempt) and not taken(attempt) else None

    def taken(value: str) -> str | None:
        plain = value.replace("-", "_")
        return next((by for taken, by in (reserved or {}).items() if re.fullmatch(taken, plain)), None)

    def checked(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise refusal(wording.not_a_name(rule, corrected(value)))
        by = taken(value)
        if by:
            raise refusal(wording.reserved(by))
        return value

    return text_with(checked)


@text_with
def domain(value: str) -> str:
    """A check of the domain under which the services get their names."""
    if re.fullmatch(DOMAIN_PATTERN, value) and len(value) <= LONGEST_DOMAIN:
        if not value.rsplit(".", 1)[1].isdigit():
            return value
        raise refusal(wording.not_a_domain("is an address, not a domain", None))
    host = re.sub(r"^[a-z][a-z0-9+.-]*://", "", value, flags=re.I).split("/")[0]
    bare = re.sub(r":[0-9]*$", "", host)
    corrected = bare.lower().strip(".").replace("_", "-")
    if corrected == "localhost":
        corrected = "dap.localhost"
    fits = re.fullmatch(DOMAIN_PATTERN, corrected) and len(corrected) <= LONGEST_DOMAIN
    raise refusal(
        wording.not_a_domain(_what_is_wrong_with_domain(value, host, bare), corrected if fits else None)
    )


def _what_is_wrong_with_domain(value: str, host: str, bare: str) -> str:
    for wrong, what in (
        (host != value, "is a URL, not a domain"),
        (bare != host, "has a port; ports.https sets it"),
        (value != value.strip("."), "has a dot at an end"),
        (value != value.lower(), "has capital letters"),
        ("_" in value, "has an underscore, which no host name may have"),
        (len(value) > LONGEST_DOMAIN, f"is longer than {LONGEST_DOMAIN} characters"),
        (
            "." not in value and re.fullmatch(_LABEL, value),
            "has no dot, and a domain has at least two parts",
        ),
    ):
        if wrong:
            return what
    return "is not a domain"


@text_with
def address(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A check of an address to listen on."""
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        raise refusal(wording.not_an_address()) from None
    if getattr(found, "scope_id", None) or found.is_multicast:
        raise refusal(wording.not_an_address())
    return found


@text_with
def known_address(value: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A check of the address of another machine."""
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        raise refusal(wording.not_shaped("is not an IP address")) from None


# What is the system's own with all that is in it, and what only holds folders of others.
_SYSTEM = re.compile(
    r"/(bin|boot|dev|etc|lib(32|64|x32)?|lost\+found|proc|run|sbin|sys|tmp"
    r"|usr/(bin|games|include|lib(32|64|exec|x32)?|sbin|share|src)"
    r"|var/(cache|lib/(apt|containerd|docker|dpkg)|lock|log|run|spool|tmp))(?=/|$)"
)
_SHARED = re.compile(r"/(home|media|mnt|opt|root|srv|usr(/local(/(bin|lib|sbin|share))?)?|var(/(lib|opt))?)?")


@text_with
def folder(value: str) -> Path:
    """A check of an absolute folder that may be the platform's own."""
    if not value.startswith("/"):
        raise refusal(wording.not_a_path("is not an absolute path"))
    if not re.fullmatch(r"[A-Za-z0-9/._+@-]+", value):
        raise refusal(wording.not_a_path("has characters other than letters, digits and / . _ + @ -"))
    path = PurePosixPath("/", value.lstrip("/"))
    if ".." in path.parts:
        raise refusal(wording.not_a_path("has .. in it"))
    if _SHARED.fullmatch(str(path)):
        raise refusal(wording.not_a_path("is a folder that others use too"))
    system = _SYSTEM.match(str(path))
    if system:
        raise refusal(wording.not_a_path(f"belongs to the system, like all of {system[0]}"))
    if str(path) != value:
        raise refusal(wording.not_a_path("is not the shortest way to write this path", str(path)))
    return Path(path)


@text_with
def file(value: str) -> Path:
    """A check of a file's path; whether it exists depends on the inventory's folder and is checked there."""
    # Longer names than the system takes: a key pasted where its file's name belongs.
    too_long = len(value) > 4000 or any(len(part.encode()) > 255 for part in value.split("/"))
    if not value.strip() or not value.isprintable() or too_long:
        raise refusal(wording.not_a_path("is not a path"))
    return Path(value)


@text_with
def email(value: str) -> str:
    """A check of an e-mail address."""
    local, _, host = value.rpartition("@")
    if not re.fullmatch(r"[A-Za-z0-9_%+-]+(\.[A-Za-z0-9_%+-]+)*", local, re.A) or not re.fullmatch(
        rf"{_LABEL}(\.{_LABEL})*", host.lower()
    ):
        raise refusal(wording.not_an_email("is not an e-mail address"))
    if "." not in host:
        raise refusal(wording.not_an_email("has no dot in its domain, and pgAdmin refuses such addresses"))
    return value


_LEAST_MEMORY_MIB = 16


def memory(value: object) -> object:
    """A check of an amount of memory."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        raise refusal(wording.not_memory(f"{_LEAST_MEMORY_MIB}m", None))
    found = re.fullmatch(r"([1-9][0-9]{0,6})\s*([mgMG])(i?[bB])?", text, re.A)
    corrected = f"{found[1]}{found[2].lower()}" if found else None
    if found and int(found[1]) * (1024 if found[2] in "gG" else 1) < _LEAST_MEMORY_MIB:
        corrected = None
    if corrected is None or corrected != value:
        raise refusal(wording.not_memory(f"{_LEAST_MEMORY_MIB}m", corrected))
    return corrected


_LEAST_SPACE_MIB = 16
_MIB = {"m": 1, "g": 1024, "t": 1024**2}


def mebibytes(amount: str | None) -> int:
    """An amount such as ``4g`` in MiB; 0 for none."""
    return int(amount[:-1]) * _MIB[amount[-1]] if amount else 0


def disk_space(value: object) -> object:
    """A check of an amount of disk space."""
    found = re.fullmatch(r"([1-9][0-9]{0,6})\s*([mgt])(i?b)?", str(value).lower(), re.A)
    corrected = f"{found[1]}{found[2]}" if found else None
    if mebibytes(corrected) < _LEAST_SPACE_MIB:
        corrected = None
    if corrected is None or corrected != value:
        raise refusal(wording.not_disk_space(f"{_LEAST_SPACE_MIB}m", corrected))
    return corrected


_LEAST_MINUTES = 5


def minutes(duration: str) -> int:
    """A length of time such as ``30m`` or ``8h``, in minutes."""
    return int(duration[:-1]) * (60 if duration.endswith("h") else 1)


def duration(value: object) -> object:
    """A check of a length of time."""
    found = re.fullmatch(r"([1-9][0-9]{0,4})\s*([mh])[a-z]*", str(value).lower(), re.A)
    corrected = f"{found[1]}{found[2]}" if found else None
    if corrected is not None and minutes(corrected) < _LEAST_MINUTES:
        corrected = None
    if corrected is None or corrected != value:
        raise refusal(wording.not_a_duration(f"{_LEAST_MINUTES}m", corrected))
    return corrected


@text_with
def time_zone(value: str) -> str:
    """A check of a time zone's name.

    On a machine without a time zone database (package tzdata) only the shape is checked.
    """
    if value == "UTC":
        return value
    try:
        zoneinfo.ZoneInfo(value)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        zones = zoneinfo.available_timezones()
        if not zones and re.fullmatch(r"[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*", value, re.A):
            return value
        raise refusal(wording.not_a_time_zone(_guessed_zone(value, zones))) from None
    return value


def _guessed_zone(value: str, zones: set[str]) -> str | None:
    last = value.rsplit("/", 1)[-1].replace(" ", "_").casefold()
    same_city = sorted(zone for zone in zones if "/" in zone and zone.rsplit("/", 1)[-1].casefold() == last)
    return same_city[0] if last and same_city else wording.closest(value, zones, cutoff=0.75)


Port = Annotated[int, Field(ge=1, le=65535), BeforeValidator(number("a port number", 1, 65535))]
Switch = Annotated[bool, BeforeValidator(true_or_false)]
Domain = Annotated[
    str, StringConstraints(pattern=f"^{DOMAIN_PATTERN}$", max_length=LONGEST_DOMAIN), BeforeValidator(domain)
]
Address = Annotated[ipaddress.IPv4Address | ipaddress.IPv6Address, BeforeValidator(address)]
KnownAddress = Annotated[ipaddress.IPv4Address | ipaddress.IPv6Address, BeforeValidator(known_address)]
Folder = Annotated[Path, BeforeValidator(folder)]
File = Annotated[Path, BeforeValidator(file)]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$"), BeforeValidator(email)]
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[mg]$"), BeforeValidator(memory)]
DiskSpace = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[mgt]$"), BeforeValidator(disk_space)]
Duration = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[mh]$"), BeforeValidator(duration)]
Processors = Annotated[
    float, Field(ge=0.01, le=1024), BeforeValidator(number("a number of processors", 0.01, 1024, float))
]
TimeZone = Annotated[str, BeforeValidator(time_zone)]
Line = Annotated[str, BeforeValidator(one_line(1000))]
Url = Annotated[str, BeforeValidator(url("postgresql", "http", "https"))]
HttpUrl = Annotated[str, BeforeValidator(url("http", "https"))]
# Without a tag it would be another image one day, although nobody changed anything.
IMAGE_PATTERN = r"[^\s@]+(:[\w][\w.-]*|@sha256:[0-9a-f]{64})"
ImageReference = Annotated[
    str, BeforeValidator(matching(IMAGE_PATTERN, "is not an image with a tag or digest"))
]
HostName = Annotated[
    str,
    StringConstraints(pattern=rf"^{_LABEL}(\.{_LABEL})*$"),
    BeforeValidator(matching(rf"{_LABEL}(\.{_LABEL})*", "is not a host name in small letters")),
]
NoProxyEntry = Annotated[
    str,
    BeforeValidator(matching(r"\.?[A-Za-z0-9][A-Za-z0-9.:/-]*", "is neither a name, a domain nor a network")),
]
RegistryPrefix = Annotated[
    str,
    BeforeValidator(
        matching(
            r"[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9._/-]*[a-z0-9])?",
            "is not a registry's name, with a path where it has one and without https://",
        )
    ),
]
