"""Asks registries whether they have an image, with the standard library alone and without pulling it."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from .dap_proxy import NONE, Proxy, bypasses, without_login

HUB = "docker.io"
_HUB_HOST = "registry-1.docker.io"
_HUB_LOGIN = "https://index.docker.io/v1/"
# Each request; a check takes three of them at most, and the whole has a limit for what has none: names.
REQUEST_SECONDS = 5
CHECK_SECONDS = 15
# A registry answers for an image of one machine type only when an index is accepted too.
_ACCEPTED = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1",
        "docker.distribution.manifest.list.v2",
        "oci.image.manifest.v1",
        "docker.distribution.manifest.v2",
    )
)


@dataclass(frozen=True)
class Reference:
    """An image's name taken apart, the way Docker does it.

    Attributes:
        registry: ``docker.io`` or the host, with its port.
        repository: ``library/debian``, ``gitlab/gitlab-ce``, …
        version: the tag, or the digest (``sha256:…``).
    """

    registry: str
    repository: str
    version: str

    @classmethod
    def of(cls, text: str) -> Reference:
        """Take apart ``[registry/]repository[:tag][@digest]``; the digest counts more than the tag."""
        name, _, digest = text.partition("@")
        first, slash, rest = name.partition("/")
        if slash and (re.search(r"[.:]", first) or first == "localhost"):
            registry, name = first, rest
        else:
            registry = HUB
        head, slash, last = name.rpartition("/")
        last, _, tag = last.partition(":")
        repository = f"{head}{slash}{last}"
        if registry in ("index.docker.io", _HUB_HOST):
            registry = HUB
        if registry == HUB and "/" not in repository:
            repository = f"library/{repository}"
        return cls(registry, repository, digest or tag or "latest")

    @property
    def shown(self) -> str:
        """The repository as people write it."""
        return self.repository.removeprefix("library/") if self.registry == HUB else self.repository


@dataclass(frozen=True)
class EngineSettings:
    """What the engine is told about registries in its ``daemon.json``."""

    mirrors: tuple[str, ...] = ()
    insecure: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> EngineSettings:
        """Read ``daemon.json``; without one, or with one that is none, there are no such settings."""
        try:
            given = json.loads(text or "{}")
            return cls(tuple(given.get("registry-mirrors", ())), tuple(given.get("insecure-registries", ())))
        except (ValueError, AttributeError, TypeError):
            return cls()


@dataclass(frozen=True)
class Access:
    """How this host reaches registries.

    Attributes:
        proxy: that requests go through.
        logins: ``/root/.docker/config.json``, parsed.
        engine: what the engine is told.
        ca_file: the host's bundle of CAs.
        ca_certificates: further CAs, PEM.
        ca_folder: with Docker's own CAs, a folder for each registry.
    """

    proxy: Proxy = NONE
    logins: Mapping[str, Any] = field(default_factory=dict)
    engine: EngineSettings = EngineSettings()
    ca_file: str = "/etc/ssl/certs/ca-certificates.crt"
    ca_certificates: tuple[str, ...] = ()
    ca_folder: str = "/etc/docker/certs.d"


class UnreachableError(Exception):
    """No answer came; says why."""


@dataclass(frozen=True)
class Answer:
    """A registry's answer: its status, headers (names in lower case), and the beginning of its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


def tls_context(access: Access, registry: str) -> ssl.SSLContext:
    """Trust what the engine trusts for a registry: the system's CAs, the site's, and those in ``certs.d``."""
    context = ssl.create_default_context()
    # The engine does not insist on every extension that newer versions of Python want in a CA.
    context.verify_flags &= ~getattr(ssl, "VERIFY_X509_STRICT", 0)
    files = [Path(access.ca_file), *sorted(Path(access.ca_folder, registry).glob("*.crt"))]
    texts = [file.read_text(encoding="ascii", errors="replace") for file in files if file.is_file()]
    for text in [*texts, *access.ca_certificates]:
        # One certificate at a time: one that cannot be read must not take the others with it.
        for pem in re.findall(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", text, re.S):
            try:
                context.load_verify_locations(cadata=pem + "\n")
            except ssl.SSLError:
                continue
    if registry in access.engine.insecure:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def ask(method: str, url: str, headers: Mapping[str, str], access: Access, context: ssl.SSLContext) -> Answer:
    """Send one request, through the proxy where there is one.

    Raises:
        UnreachableError: no answer came.
    """
    proxy = access.proxy.for_url(url)
    scheme = urlsplit(url).scheme
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({scheme: proxy} if proxy else {}),
        urllib.request.HTTPSHandler(context=context),
    )
    request = urllib.request.Request(url, method=method)  # noqa: S310 - http and https only
    for name, value in headers.items():
        # Not for where a redirection leads to.
        request.add_unredirected_header(name, value)
    try:
        with opener.open(request, timeout=REQUEST_SECONDS) as response:
            return Answer(response.status, _lower(response.headers), response.read(1 << 20))
    except urllib.error.HTTPError as error:
        return Answer(error.code, _lower(error.headers), error.read(1 << 16))
    except (OSError, http.client.HTTPException, ValueError) as error:
        through = f" through the proxy {without_login(proxy)}" if proxy else ""
        host = urlsplit(url).netloc
        raise UnreachableError(f"{host} cannot be reached{through}: {in_words(error)}") from None


def _lower(headers: Message) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def in_words(error: BaseException) -> str:
    """Why a connection failed, for people."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, socket.gaierror):
        return "no such name"
    if isinstance(cause, TimeoutError):
        return f"no answer within {REQUEST_SECONDS} s"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({cause.verify_message})"
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__


def login_for(registry: str, logins: Mapping[str, Any]) -> str:
    """The header ``Authorization`` of a registry's login on this host; empty without one."""
    key = _HUB_LOGIN if registry == HUB else registry
    keys = {key, registry, f"https://{registry}", f"https://{registry}/v2/", f"https://{registry}/v1/"}
    helper = next((name for one, name in logins.get("credHelpers", {}).items() if one in keys), "")
    if helper := helper or logins.get("credsStore", ""):
        return _from_helper(helper, key)
    for one, entry in logins.get("auths", {}).items():
        if one in keys and isinstance(entry, dict) and entry.get("auth"):
            return f"Basic {entry['auth']}"
    return ""


def _from_helper(helper: str, key: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own, as Docker calls it
            [f"docker-credential-{helper}", "get"],
            input=key,
            capture_output=True,
            text=True,
            timeout=REQUEST_SECONDS,
            check=False,
        )
        told = json.loads(done.stdout)
        pair = f"{told['Username']}:{told['Secret']}"
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return ""
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def challenge(header: str) -> tuple[str, dict[str, str]]:
    """The scheme in lower case and the parameters of a header ``WWW-Authenticate``."""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), dict(re.findall(r'(\w+)="([^"]*)"', rest))


def _token(parameters: Mapping[str, str], login: str, access: Access, context: ssl.SSLContext) -> str:
    """A token for what a registry wants one for; empty when it is refused."""
    realm = parameters.get("realm", "")
    if urlsplit(realm).scheme not in ("http", "https"):
        return ""
    wanted = {name: parameters[name] for name in ("service", "scope") if name in parameters}
    separator = "&" if urlsplit(realm).query else "?"
    headers = {"Authorization": login} if login else {}
    answer = ask("GET", f"{realm}{separator}{urlencode(wanted)}", headers, access, context)
    try:
        told = json.loads(answer.body)
        return str(told.get("token") or told.get("access_token") or "") if answer.status == 200 else ""
    except (ValueError, AttributeError):
        return ""


def _manifest(base: str, reference: Reference, access: Access, registry: str) -> Answer:
    """A registry's answer about an image, after it has been given the login that it wants."""
    context = tls_context(access, registry)
    url = f"{base}/v2/{reference.repository}/manifests/{reference.version}"
    # A mirror wants its own login, not that of the registry which it stands in for.
    login = login_for(registry, access.logins)
    headers = {"Accept": _ACCEPTED}
    # HEAD does not count as a pull, of which Docker Hub grants a number an hour.
    answer = ask("HEAD", url, headers, access, context)
    if answer.status == 401:
        scheme, parameters = challenge(answer.headers.get("www-authenticate", ""))
        authorization = login if scheme == "basic" else ""
        if scheme == "bearer" and (token := _token(parameters, login, access, context)):
            authorization = f"Bearer {token}"
        if authorization:
            answer = ask("HEAD", url, {**headers, "Authorization": authorization}, access, context)
    return answer


def _bases(reference: Reference, access: Access) -> list[tuple[str, str]]:
    """Where the engine would look for an image: (registry, address), in its order."""
    if reference.registry == HUB:
        mirrors = [(urlsplit(mirror).netloc, mirror.rstrip("/")) for mirror in access.engine.mirrors]
        return [*mirrors, (HUB, f"https://{_HUB_HOST}")]
    host = urlsplit(f"//{reference.registry}").hostname or ""
    bases = [(reference.registry, f"https://{reference.registry}")]
    # The engine tries plain HTTP as well on this machine itself, and where it is told to.
    if bypasses(host, ()) or reference.registry in access.engine.insecure:
        bases.append((reference.registry, f"http://{reference.registry}"))
    return bases


def _refusal(answer: Answer, reference: Reference, host: str) -> str:
    """Why an answer is no yes, for people."""
    if answer.status == 404:
        what = "image" if reference.version.startswith("sha256:") else "tag"
        return f"{reference.shown} has no {what} {reference.version} at {host}"
    if answer.status in (401, 403):
        return (
            f"{host} refused the login for {reference.shown}, or has no such image;"
            f" docker login {reference.registry}, as root on this host, gives it one"
        )
    if answer.status == 429:
        return f"{host} allows no more pulls at the moment (429)"
    phrase = http.client.responses.get(answer.status, "")
    return f"{host} answered {answer.status} {phrase}".rstrip()


def reason_against(reference: Reference, access: Access) -> str:
    """Why an image cannot be had; empty when a registry has it."""
    reason = ""
    for registry, base in _bases(reference, access):
        try:
            answer = _manifest(base, reference, access, registry)
        except UnreachableError as error:
            # Plain HTTP is only tried after HTTPS: what it says is what is the matter.
            reason = str(error)
            continue
        if answer.status == 200:
            return ""
        reason = _refusal(answer, reference, urlsplit(base).netloc)
    return reason


def reasons_against(references: Iterable[str], access: Access) -> dict[str, str]:
    """Why each of some images cannot be had; empty for those that can. All are asked for at once."""
    wanted = list(dict.fromkeys(references))
    reasons: dict[str, str] = {}

    def check(text: str) -> None:
        reasons[text] = reason_against(Reference.of(text), access)

    threads = [threading.Thread(target=check, args=(text,), daemon=True) for text in wanted]
    end = time.monotonic() + CHECK_SECONDS
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    late = f"cannot be reached: no answer within {CHECK_SECONDS} s"
    return {text: reasons.get(text, f"{Reference.of(text).registry} {late}") for text in wanted}
