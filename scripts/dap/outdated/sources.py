"""Asks for the newest versions: an index of Python packages, a proxy of Go modules, registries of images."""

from __future__ import annotations

import re
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from dap import http_proxy
from dap.images.builds import source_of
from dap.site import Site
from dap.trust import tls

_PYPI, _GO = "https://pypi.org/simple", "https://proxy.golang.org"
_HUB, _HUB_HOST = "docker.io", "registry-1.docker.io"
_JSON = "application/vnd.pypi.simple.v1+json"
_FILE = re.compile(r"<a[^>]*>\s*([^<\s]+)\s*</a>")
_NUMBERS = re.compile(r"\d+(?:\.\d+)+")
_SECONDS, _MOST_PAGES = 15, 50


class UnknownError(Exception):
    """Why a newest version is unknown."""


class Sources:
    """The places that a site takes packages and images from."""

    def __init__(self, site: Site) -> None:
        mirrors = site.platform.mirrors
        self._index = (mirrors.pypi or _PYPI).rstrip("/")
        named = [one for one in re.split(r"[,|]", mirrors.go or _GO) if one not in ("direct", "off")]
        self._modules = named[0].rstrip("/") if named else ""
        self._mirror = mirrors.registry
        self._client = _client(site)
        self._silent: dict[str, str] = {}
        self._locks: dict[str, threading.Lock] = {}

    def newest(self, kind: str, name: str, version: str) -> str:
        """The newest version of something that is pinned; the pinned one where none is newer.

        Raises:
            UnknownError: its source cannot be asked, does not know it, or says what cannot be compared.
        """
        ask: dict[str, Callable[[str, str], str]] = {
            "python": self._package,
            "go": self._module,
            "image": self._image,
        }
        try:
            return ask[kind](name, version)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnknownError(f"{name}: the answer cannot be understood") from error

    def _get(self, url: str, **headers: str) -> httpx.Response:
        """What a source answers; one that cannot be reached is not tried again."""
        host = urlsplit(url).netloc
        with self._locks.setdefault(host, threading.Lock()):
            # The others wait for the first answer only.
            if host not in self._silent:
                self._silent[host] = ""
                return self._ask(url, host, headers)
        if self._silent[host]:
            problem = self._silent[host]
            raise UnknownError(f"{host} cannot be reached: {problem}")
        return self._ask(url, host, headers)

    def _ask(self, url: str, host: str, headers: dict[str, str]) -> httpx.Response:
        try:
            return self._client.get(url, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = str(error) or type(error).__name__
            self._silent[host] = problem
            raise UnknownError(f"{host} cannot be reached: {problem}") from error

    def _package(self, name: str, version: str) -> str:
        url = f"{self._index}/{canonicalize_name(name)}/"
        answer = _good(self._get(url, Accept=f"{_JSON}, text/html;q=0.1"), name)
        if "json" in answer.headers.get("content-type", ""):
            files = [one["filename"] for one in answer.json()["files"] if not one.get("yanked")]
        else:
            files = _FILE.findall(re.sub(r"<a[^>]*data-yanked[^>]*>.*?</a>", "", answer.text))
        pinned = Version(version)
        versions = [found for file in files if (found := _version_of(file))]
        usable = [one for one in versions if pinned.is_prerelease or not one.is_prerelease]
        newest = max([pinned, *usable])
        return version if newest == pinned else str(newest)

    def _module(self, name: str, version: str) -> str:
        if not self._modules:
            raise UnknownError("mirrors.go names no proxy that could be asked")
        escaped = re.sub(r"[A-Z]", lambda capital: f"!{capital[0].lower()}", name)
        listed = _good(self._get(f"{self._modules}/{escaped}/@v/list"), name).text.split()
        final = [one for one in listed if "-" not in one]
        if not final:
            # Without releases there are versions that are made of a commit's time.
            final = [_good(self._get(f"{self._modules}/{escaped}/@latest"), name).json()["Version"]]
        return max([version, *final], key=_order)

    def _image(self, name: str, tag: str) -> str:
        numbers = max(_NUMBERS.findall(tag), key=len, default="")
        if not numbers:
            raise UnknownError(f"{name}: the tag {tag} has no version")
        before, _, after = tag.partition(numbers)
        shape = re.compile(f"{re.escape(before)}({_NUMBERS.pattern}){re.escape(after)}")
        source = source_of(name, self._mirror).removeprefix(f"{_HUB}/")
        first, slash, rest = source.partition("/")
        if slash and re.search(r"[.:]", first):
            host, repository = first, rest
        else:
            host, repository = _HUB_HOST, source if slash else f"library/{source}"
        alike = [found for one in self._tags(host, repository, name) if (found := shape.fullmatch(one))]
        newest = max([numbers, *(found[1] for found in alike)], key=Version)
        return tag if newest == numbers else f"{before}{newest}{after}"

    def _tags(self, host: str, repository: str, name: str) -> Iterable[str]:
        scheme = "http" if host.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
        url, headers, tags = f"{scheme}://{host}/v2/{repository}/tags/list?n=1000", dict[str, str](), []
        for _ in range(_MOST_PAGES):
            answer = self._get(url, **headers)
            if answer.status_code == 401 and not headers:
                headers = {"Authorization": f"Bearer {self._token(answer, name)}"}
                answer = self._get(url, **headers)
            tags += [str(tag) for tag in _good(answer, name).json()["tags"] or []]
            following = answer.links.get("next", {}).get("url")
            if not following:
                break
            url = urljoin(url, following)
            if urlsplit(url).netloc != host:
                raise UnknownError(f"{name}: {host} sends to another host for more tags")
        return tags

    def _token(self, answer: httpx.Response, name: str) -> str:
        """What a registry gives to whoever asks without a login."""
        kind, _, rest = answer.headers.get("www-authenticate", "").partition(" ")
        told = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if kind.lower() != "bearer" or "realm" not in told:
            raise UnknownError(f"{name}: {answer.url.host} wants a login")
        asked = httpx.URL(told.pop("realm")).copy_merge_params(told)
        given = _good(self._get(str(asked)), name).json()
        return str(given.get("token") or given["access_token"])


def _client(site: Site) -> httpx.Client:
    context = ssl.create_default_context(cadata=tls.public_and_extra_cas(site).decode("utf-8", "replace"))
    told: dict[str, Any] = http_proxy.environment(site)
    mounts: dict[str, httpx.BaseTransport | None] = {}
    for scheme in ("http", "https"):
        if address := told.get(f"{scheme}_proxy"):
            mounts[f"{scheme}://"] = httpx.HTTPTransport(proxy=address, verify=context)
    for name in http_proxy.exceptions(site) if mounts else ():
        if re.fullmatch(r"[\w.-]+", name):
            mounts[f"all://{'*' if name.startswith('.') else ''}{name}"] = None
    return httpx.Client(verify=context, timeout=_SECONDS, follow_redirects=True, mounts=mounts)


def _good(answer: httpx.Response, name: str) -> httpx.Response:
    if answer.status_code != 200:
        raise UnknownError(f"{name}: {answer.url.host} answers {answer.status_code}")
    return answer


def _version_of(file: str) -> Version | None:
    try:
        return parse_wheel_filename(file)[1] if file.endswith(".whl") else parse_sdist_filename(file)[1]
    except (ValueError, InvalidVersion):
        return None


def _order(version: str) -> tuple[tuple[int, ...], bool, str]:
    """By which versions of Go modules are newer than others."""
    numbers, _, rest = version.removeprefix("v").partition("+")[0].partition("-")
    return tuple(int(one) for one in numbers.split(".")), not rest, rest
