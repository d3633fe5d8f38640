"""Service manifests: what a service folder tells the rest of the platform, and how folders are found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from dap.errors import ConfigurationError, Finding

MANIFEST = "service.yml"
FRAGMENT = "compose.yaml.j2"

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Size = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*[kmg]$")]
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*([mg]|%)$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Image(_Strict):
    """Where the image comes from; exactly one of the three."""

    build: str | None = Field(None, description="version; built from the folder's image/")
    same_as: str | None = Field(None, description="another service, whose image this one runs too")
    pull: str | None = Field(None, description="reference with a tag, pulled from a registry")
    include: dict[str, str] = Field(
        {}, description="folders of the repository that join the build context: name there -> path here"
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Image:
        if sum(way is not None for way in (self.build, self.same_as, self.pull)) != 1:
            raise ValueError("wants exactly one of build, same_as, pull")
        return self


class Web(_Strict):
    """A page or API under the platform's domain, served by the proxy."""

    name: str = Field(description="first label of the host name; '@' for the domain itself")
    port: int = Field(description="port in the container")
    label: str = Field("", description="what the portal calls it; the service's title if empty")
    access: Literal["login", "own", "open"] = Field(
        description="login: the platform's login in front; own: the service has one; open: no login"
    )
    upload: Size = Field("10m", description="largest request body")
    stream: bool = Field(False, description="bodies pass unbuffered, for large uploads and downloads")
    websocket: bool = False
    login_paths: list[str] = Field([], description="paths where logins happen, rate-limited")
    private_paths: list[str] = Field([], description="paths that the proxy refuses")
    csp: str = Field("", description="Content-Security-Policy, where the service sends none")
    page: bool = Field(True, description="false for an API: no link on the portal")


class Port(_Strict):
    """A port published on the host; its number there is ``ports.<name>`` of the configuration."""

    name: Identifier
    container: int | None = Field(None, description="number in the container; as on the host if empty")


class Data(_Strict):
    """A directory that must survive: ``<data>/<service>/<name>`` on the host."""

    target: str = Field(description="where the container sees it")
    name: str = Field("data", pattern=r"^[a-z][a-z0-9-]*$")
    mode: str = Field("0700", pattern=r"^0[0-7]{3}$")


class Database(_Strict):
    """A database with a role of the same name that owns it."""

    server: str = Field(description="service that provides postgres")
    name: Identifier


class Bucket(_Strict):
    """An S3 bucket that the service's own key may read and write."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{2,62}$")
    versioning: bool = False


class Probe(_Strict):
    """How the portal asks whether the service answers, over the platform's network."""

    type: Literal["http", "tcp", "postgres"]
    port: int
    path: str = "/"


class Tls(_Strict):
    """A certificate for a service that ends TLS itself."""

    names: Literal["own", "all"] = Field(description="own: <service>.<domain>; all: every web name")
    reload: str = Field("HUP", description="signal that makes the service read a renewed certificate")


class Credential(_Strict):
    """A login that ``dap credentials`` shows."""

    what: str
    user: str = Field(description="user name, or '$admin_email'")
    secret: Identifier = Field(description="one of the service's secrets")


class Manifest(_Strict):
    """All that the platform needs to know of a service (``service.yml``)."""

    title: str
    summary: str
    group: str = Field("Services", description="heading on the portal")
    role: Literal["service", "runner"] = "service"
    image: Image
    user: int = Field(ge=1000, description="uid and gid of its processes")
    memory: Memory = Field(description="memory limit, fixed or as a share of the host's")
    pids: int = Field(256, description="limit of processes and threads")
    needs: list[str] = Field([], description="services that must be healthy before it starts")
    provides: Literal["postgres", "s3", "proxy", "jobs"] | None = None
    admin_of: Literal["postgres"] | None = Field(
        None, description="gets the administrator's login of every service that provides this"
    )
    projects: bool = Field(False, description="each project gets its own database or bucket here")
    web: list[Web] = []
    ports: list[Port] = []
    data: list[Data] = []
    tls: Tls | None = None
    secrets: dict[Identifier, int] = Field({}, description="secrets to generate: name -> length")
    databases: list[Database] = []
    buckets: list[Bucket] = []
    probe: Probe | None = None
    credentials: list[Credential] = []
    checks: list[str] = Field([], description="checks of `dap verify` that prove it works")
    exceptions: dict[str, str] = Field(
        {}, description="container rules that it cannot keep: Compose key -> reason"
    )


@dataclass(frozen=True)
class Service:
    """A service folder and what its manifest says.

    Attributes:
        name: the folder's name; also the container's name on the platform's network.
        folder: where it stands (in the product or in the operator's inventory).
    """

    name: str
    folder: Path
    manifest: Manifest

    @cached_property
    def fragment(self) -> Path:
        """The Compose fragment, a Jinja template."""
        return self.folder / FRAGMENT

    def templates(self, kind: Literal["config", "secrets"]) -> list[Path]:
        """Files to render (``.j2``) or copy for this service; ``secrets`` become 0400 files.

        Names that start with ``_`` are parts that others import.
        """
        folder = self.folder / kind
        return sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("_"))


def find_folders(roots: Iterable[Path]) -> dict[str, Path]:
    """Service folders by name: every folder in ``roots`` that holds a manifest; later roots win."""
    return {
        folder.name: folder
        for root in roots
        if root.is_dir()
        for folder in sorted(root.iterdir())
        if (folder / MANIFEST).is_file()
    }


def load_services(folders: Mapping[str, Path]) -> dict[str, Service]:
    """Read the manifests of all ``folders``.

    Raises:
        ConfigurationError: with everything that is wrong in any of them.
    """
    findings: list[Finding] = []
    services: dict[str, Service] = {}
    for name, folder in folders.items():
        file = folder / MANIFEST
        try:
            services[name] = Service(name, folder, Manifest.model_validate(_read(file)))
        except yaml.YAMLError as error:
            findings.append(Finding(str(file), "", "", f"is not YAML: {error}", "correct the syntax"))
        except ValidationError as error:
            findings += [_finding(file, detail) for detail in error.errors()]
    findings += _wrong_references(services, folders)
    if findings:
        raise ConfigurationError(findings)
    return services


def _read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def _finding(file: Path, detail: Mapping[str, Any]) -> Finding:
    path = ".".join(str(part) for part in detail["loc"])
    reason = re.sub(r"^Value error, ", "", detail["msg"])
    if detail["type"] == "extra_forbidden":
        reason = f"is not a key of a service manifest; there are: {', '.join(Manifest.model_fields)}"
    value = "" if detail["type"] == "missing" else repr(detail["input"])[:60]
    return Finding(str(file), path, value, reason, "see docs/reference/service-manifest.md")


def _wrong_references(services: Mapping[str, Service], folders: Mapping[str, Path]) -> list[Finding]:
    """References to services that are not there, names taken twice, files that are missing."""
    findings = []
    owner: dict[str, str] = {}

    def wrong(service: Service, path: str, value: str, reason: str) -> None:
        findings.append(
            Finding(
                str(service.folder / MANIFEST), path, repr(value), reason, f"services: {', '.join(folders)}"
            )
        )

    for service in services.values():
        manifest = service.manifest
        references = [("needs", name) for name in manifest.needs]
        references += [("databases", database.server) for database in manifest.databases]
        if manifest.image.same_as:
            references.append(("image.same_as", manifest.image.same_as))
        for path, name in references:
            if name not in folders:
                wrong(service, path, name, "is not a service")
        for web in manifest.web:
            other = owner.setdefault(web.name, service.name)
            if other != service.name:
                wrong(service, "web.name", web.name, f"is already the name of {other}")
        for credential in manifest.credentials:
            if credential.secret not in manifest.secrets:
                wrong(service, "credentials", credential.secret, "is not one of its secrets")
        if not service.fragment.is_file():
            wrong(service, "", FRAGMENT, "is missing in the folder")
    return findings
