"""Proves from a user's place that the platform works: every check talks to the public names.

A service's manifest names its checks; each is a function here, registered under that name.
"""

from __future__ import annotations

import importlib
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dap.credentials import Credentials
from dap.errors import RefusedError
from dap.layout import shown
from dap.services.manifest import MANIFEST, Service
from dap.site import Site

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        check: what was proven, or not.
        ok: whether it holds.
        detail: what was seen, for people.
        seconds: how long it took.
    """

    service: str
    check: str
    ok: bool
    detail: str
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        """For ``--json``."""
        return asdict(self)


class CheckError(Exception):
    """A check failed; the text says what was expected and what came."""


def expect(condition: object, message: str) -> None:
    """Fail the check with ``message`` unless ``condition`` holds."""
    if not condition:
        raise CheckError(message)


@dataclass(frozen=True)
class Place:
    """Where a user stands: the names, the logins, and the CA.

    Attributes:
        ca_file: certificates to trust, a PEM file.
    """

    site: Site
    credentials: Credentials
    ca_file: Path

    def client(self, *, login: bool = False) -> httpx.Client:
        """An HTTP client that trusts the platform's CA, with the platform's login if wanted."""
        # Its import takes a quarter of a second, which only those who use it are to wait for.
        import httpx

        context = ssl.create_default_context()
        context.load_verify_locations(self.ca_file)
        user = self.credentials.web_users()[0]
        auth = (user.name, user.password.reveal()) if login else None
        return httpx.Client(verify=context, auth=auth, timeout=60, trust_env=False)


# A check yields what it proved, one line for each; it raises CheckError when something does not hold.
Check = Callable[[Place, Service], Iterator[str]]
CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    """Register a check under its function's name."""
    CHECKS[function.__name__] = function
    return function


def load_clients() -> None:
    """Import the client libraries that the checks use, which takes half a second."""
    for name in ("httpx", "minio", "psycopg"):
        importlib.import_module(name)


def _load_checks() -> None:
    from dap.verify import (  # noqa: F401  they register their checks
        data,
        gitlab,
        portainer,
        registry,
        runners,
        tracking,
        web,
    )


def refuse_unknown_checks(services: Iterable[Service]) -> None:
    """Find misspelt names of checks before a deploy instead of after it.

    Raises:
        RefusedError: a manifest names a check that does not exist.
    """
    _load_checks()
    for service in services:
        for name in service.manifest.checks:
            if name not in CHECKS:
                raise RefusedError(
                    f"{shown(service.folder / MANIFEST)}: checks: {name!r} is not a check",
                    f"write one of: {', '.join(sorted(CHECKS))}",
                )


def verify(place: Place, services: Sequence[Service]) -> list[Result]:
    """Run the checks of all ``services``, side by side; results in the order of the services.

    Raises:
        RefusedError: a manifest names a check that does not exist.
    """
    refuse_unknown_checks(services)
    wanted = [(service, name) for service in services for name in service.manifest.checks]
    with ThreadPoolExecutor(max_workers=8) as pool:
        return [
            result for results in pool.map(lambda entry: _run(place, *entry), wanted) for result in results
        ]


def _run(place: Place, service: Service, name: str) -> list[Result]:
    title = name.replace("_", " ")
    started = time.monotonic()
    proven: list[str] = []
    try:
        proven.extend(CHECKS[name](place, service))
    except Exception as error:  # whatever library it came from, it is this check's failure
        detail = str(error) if isinstance(error, CheckError) else f"{type(error).__name__}: {error}"
        return [Result(service.name, title, False, detail, time.monotonic() - started)]
    return [Result(service.name, title, True, "; ".join(proven), time.monotonic() - started)]
