"""Tokens for the container registry: what ``/jwt/auth`` answers, and the key that the registry trusts."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from . import git_access
from .access import DEVELOPER, REPORTER
from .double import Double
from .git_access import Holder
from .git_http import basic_login
from .records import Project

SERVICE = "container_registry"
ISSUER = "omnibus-gitlab-issuer"
LIFETIME_S = 300
KEY, CERTIFICATE = "registry.key", "registry.crt"


def make_key(folder: Path) -> None:
    """A key and its certificate, once."""
    if (folder / CERTIFICATE).exists():
        return
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gitlab-registry")])
    start = datetime.now(UTC) - timedelta(days=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / KEY).write_bytes(pem)
    (folder / KEY).chmod(0o600)
    (folder / CERTIFICATE).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def key_id(key: rsa.RSAPublicKey) -> str:
    """As the registry names the keys of its bundle: 240 bits of a digest, in groups of four letters."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(text[place : place + 4] for place in range(0, len(text), 4))


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def signed(folder: Path, claims: dict[str, Any]) -> str:
    key = serialization.load_pem_private_key((folder / KEY).read_bytes(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    head = {"typ": "JWT", "alg": "RS256", "kid": key_id(key.public_key())}
    text = ".".join(_part(json.dumps(one).encode()) for one in (head, claims))
    return f"{text}.{_part(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


async def answer(double: Double, request: Request) -> Response:
    """A token with those of the wanted rights that its holder has."""
    if request.query_params.get("service") != SERVICE:
        return JSONResponse({"errors": [{"code": "UNSUPPORTED", "message": "unknown service"}]}, 400)
    said = basic_login(request)
    who = git_access.holder(double, *said) if said else None
    if said and who is None:
        message = "HTTP Basic: Access denied"
        return JSONResponse({"errors": [{"code": "UNAUTHORIZED", "message": message}]}, 401)
    scopes = [part for one in request.query_params.getlist("scope") for part in one.split(" ") if part]
    given = [one for scope in scopes if (one := _granted(double, who, scope))]
    if scopes and not given and who is None:
        denied = {"code": "DENIED", "message": "access forbidden"}
        return JSONResponse({"errors": [denied]}, 403)
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": SERVICE,
        "sub": who.name if who else "",
        "jti": secrets.token_hex(16),
        "iat": now,
        "nbf": now - 5,
        "exp": now + LIFETIME_S,
        "access": given,
    }
    return JSONResponse({"token": signed(double.site.state, claims), "expires_in": LIFETIME_S})


def _granted(double: Double, who: Holder | None, scope: str) -> dict[str, Any] | None:
    """What of ``repository:team/project/image:pull,push`` is allowed."""
    kind, _, rest = scope.partition(":")
    name, _, wanted = rest.rpartition(":")
    if kind != "repository":
        return None
    project = _project_of(double, name)
    if project is None:
        return None
    allowed = [one for one in wanted.split(",") if _may(double, who, project, one)]
    return {"type": kind, "name": name, "actions": allowed} if allowed else None


def _project_of(double: Double, image: str) -> Project | None:
    """The project that an image belongs to: the longest path that is one."""
    parts = image.split("/")
    for length in range(len(parts), 1, -1):
        if project := git_access.find_project(double, "/".join(parts[:length])):
            return project
    return None


def _may(double: Double, who: Holder | None, project: Project, action: str) -> bool:
    if not project.more.get("container_registry_enabled", True):
        return False
    reading = action == "pull"
    if who is None:
        return reading and project.visibility == "public"
    if who.deploy_token:
        wanted = "read_registry" if reading else "write_registry"
        return who.deploy_token.project_id == project.id and wanted in who.deploy_token.scopes
    if who.job is not None:
        if who.job.project_id == project.id:
            return action in ("pull", "push", "delete")
        return reading and git_access.role(double, who, project) >= REPORTER
    if not who.has("read_registry" if reading else "write_registry", "write_registry"):
        return False
    if reading and project.visibility != "private":
        return True
    return git_access.role(double, who, project) >= (REPORTER if reading else DEVELOPER)
