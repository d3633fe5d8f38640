"""The keys of a service manifest: the single source of its checks and of its reference page."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from dap.configuration import values
from dap.configuration.wording import Location, Wording
from dap.services.manifest_values import (
    Amount,
    BucketName,
    Folder,
    Header,
    Identifier,
    Label,
    Length,
    Line,
    Memory,
    Mode,
    Name,
    Pids,
    Prefix,
    Seconds,
    Signal,
    Size,
    Text,
    UrlPath,
    User,
    Version,
)

# Keys of a container that only the platform sets; a fragment may set them when the manifest gives a reason.
GUARDED = (
    *("user", "read_only", "cap_drop", "cap_add", "security_opt", "privileged", "pids_limit", "mem_limit"),
    *("memswap_limit", "logging", "restart", "network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup"),
    *("cgroup_parent", "devices", "device_cgroup_rules", "group_add", "sysctls", "oom_kill_disable"),
    *("volumes_from", "ports"),
)
# No key of Compose, but a mount that needs a reason too: who has the Docker socket is root on the host.
DOCKER_SOCKET = "docker_socket"
EXCEPTIONS = (*GUARDED, DOCKER_SOCKET)


class ManifestSection(BaseModel):
    """A group of keys: unknown ones are refused, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Image(ManifestSection):
    """Where the image comes from: exactly one of `build`, `same_as` and `pull`."""

    build: Version | None = Field(
        None,
        description="Version of what the folder's `image/` builds; the first part of its tag.",
        examples=["1"],
    )
    same_as: Text | None = Field(
        None, description="Another service, whose image this one runs too.", examples=["postgres-service"]
    )
    pull: values.ImageReference | None = Field(
        None,
        description="Reference with a tag or digest, pulled from a registry.",
        examples=["registry.example.com/team/app:1.4"],
    )
    more: dict[Name, values.ImageReference] = Field(
        {},
        description=(
            "Other images that it starts containers of, by names; pulled like its own. Templates find them as"
            " `service.images.<name>`."
        ),
        examples=[{"helper": "registry.example.com/team/helper:1.4"}],
    )
    include: dict[str, Text] = Field(
        {},
        description="Folders of the repository that join the build context: name there to path here.",
        examples=[{"jobs": "scripts/dap/jobs"}],
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> Image:
        if sum(way is not None for way in (self.build, self.same_as, self.pull)) != 1:
            raise values.refusal(
                Wording("does not have exactly one of: build, pull, same_as", "write one of them")
            )
        return self


class Web(ManifestSection):
    """A page or API under the platform's domain, served by the proxy with TLS."""

    name: Label = Field(
        description="First label of the host name, `<name>.<domain>`; `@` for the domain itself.",
        examples=["guestbook"],
    )
    port: values.Port = Field(description="Port in the container that answers plain HTTP.", examples=[8000])
    label: Line = Field(
        "", description="What the start page calls it; the service's title if empty.", examples=["Console"]
    )
    access: Annotated[
        Literal["login", "own", "open"], BeforeValidator(values.choice("login", "own", "open"))
    ] = Field(
        description=(
            "`login`: the proxy asks for the platform's login and passes the user's name on in"
            " `X-Forwarded-User`; `own`: the service has a login of its own; `open`: no login."
        ),
        examples=["login"],
    )
    upload: Size = Field("10m", description="Largest request body; `0` for no limit.", examples=["5g"])
    stream: values.Switch = Field(
        False,
        description="Bodies pass unbuffered and may take an hour, for large uploads and downloads.",
        examples=[True],
    )
    websocket: values.Switch = Field(
        False, description="WebSocket connections pass, and may be silent for an hour.", examples=[True]
    )
    http2: values.Switch = Field(
        True,
        description="`false` for clients that upload much with HTTP/1.1 only, or badly with HTTP/2.",
        examples=[False],
    )
    login_paths: list[UrlPath] = Field(
        [],
        description="Paths where logins happen: the proxy slows down guessing there.",
        examples=[["/login"]],
    )
    private_paths: list[UrlPath] = Field(
        [], description="Paths that the proxy refuses, with all below them.", examples=[["/metrics"]]
    )
    closed_paths: list[UrlPath] = Field(
        [],
        description=(
            "Paths that the proxy refuses, also with an ending such as `.json`; what is below them passes."
        ),
        examples=[["/users/sign_up"]],
    )
    registry: values.Switch = Field(
        False,
        description="A container registry: Docker on every host trusts the platform's CA for this name.",
        examples=[True],
    )
    writers: list[Identifier] = Field(
        [],
        description=(
            "Accounts that may change something, where the service itself lets each account do all: from"
            " others the proxy refuses everything but `GET` and `HEAD`."
        ),
        examples=[["dap"]],
    )
    csp: Header = Field(
        "",
        description="Content-Security-Policy to send, where the service sends none.",
        examples=["default-src 'self'"],
    )
    users_path: UrlPath | None = Field(
        None,
        description=(
            "Path at which the proxy itself answers, and shows each user what is theirs, after a login: their"
            " development containers, and what their SSH client needs."
        ),
        examples=["/my/"],
    )
    page: values.Switch = Field(
        True,
        description="`false` for an API: the start page shows its address, and no link.",
        examples=[False],
    )


class Port(ManifestSection):
    """A TCP port published on the host."""

    name: Identifier = Field(
        description="Its number on the host is that of this name under `ports` of the configuration, if any.",
        examples=["postgres"],
    )
    container: values.Port | None = Field(
        None, description="Number in the container; the same as on the host without it.", examples=[5432]
    )


class Data(ManifestSection):
    """A directory that survives: `<paths.data>/<service>/<name>` on the host."""

    target: Folder = Field(description="Where the container sees it.", examples=["/data"])
    name: Name = Field("data", description="The directory's name on the host.", examples=["data"])
    mode: Mode = Field("0700", description="Its mode; it belongs to the service's user.", examples=["0700"])


class Database(ManifestSection):
    """A PostgreSQL database with a role of the same name that owns it."""

    server: Text = Field(
        description="Service with `provides: postgres` that holds it.", examples=["postgres-service"]
    )
    name: Identifier = Field(description="Name of the database and of its role.", examples=["guestbook"])


class Bucket(ManifestSection):
    """An S3 bucket that the service's own key may list, read and write."""

    name: BucketName = Field(description="Name of the bucket.", examples=["guestbook"])
    versioning: values.Switch = Field(
        False, description="Whether overwritten and deleted objects are kept as versions.", examples=[True]
    )


class Probe(ManifestSection):
    """How the start page asks over the platform's network whether the service answers."""

    type: Annotated[
        Literal["http", "tcp", "postgres"], BeforeValidator(values.choice("http", "tcp", "postgres"))
    ] = Field(
        description=(
            "`http`: a GET has to find a page, a redirect or a login; `tcp`: a connection has to be accepted;"
            " `postgres`: the server has to answer in its protocol."
        ),
        examples=["http"],
    )
    port: values.Port = Field(description="Port in the container.", examples=[8000])
    path: UrlPath = Field("/", description="Path to ask for, with `http`.", examples=["/health"])


class Tls(ManifestSection):
    """A certificate for a service that ends TLS itself, in `/run/tls`."""

    names: Annotated[Literal["own", "all"], BeforeValidator(values.choice("own", "all"))] = Field(
        description="`own`: `<service>.<domain>`; `all`: the domain and every web name.", examples=["own"]
    )
    reload: Signal = Field(
        "HUP", description="Signal that makes the service read a renewed certificate.", examples=["HUP"]
    )


class Credential(ManifestSection):
    """A login that `dap credentials` shows."""

    what: Line = Field(description="What it is for.", examples=["pgAdmin"])
    user: Line = Field(
        description="User name; `$admin_email` for the configuration's `admin_email`.", examples=["admin"]
    )
    secret: Identifier = Field(description="One of the service's `secrets`.", examples=["admin_password"])


class Rotation(ManifestSection):
    """How a new value of a secret gets into the service: exactly one of `job`, `command` and `fixed`.

    The service does not start anew for it. Without an entry its container is replaced.
    """

    secret: Identifier = Field(description="One of the service's `secrets`.", examples=["admin_password"])
    job: values.Switch = Field(
        False,
        description="The provisioning job sets it; the service reads it at its first start only.",
        examples=[True],
    )
    command: list[Text] = Field(
        [],
        description="Command that sets it in the running container; it gets `input` on its standard input.",
        examples=[["app-admin", "set-password"]],
    )
    input: Text = Field(
        "",
        description="Template in the service's folder, with the variables of those in `secrets/`.",
        examples=["rotation/admin_password.j2"],
    )
    fixed: Line = Field(
        "",
        description="Why it can never change: `dap rotate` refuses it.",
        examples=["encrypts the database"],
    )

    @model_validator(mode="after")
    def _has_one_way(self) -> Rotation:
        if sum(map(bool, (self.job, self.command, self.fixed))) != 1 or bool(self.command) != bool(
            self.input
        ):
            raise values.refusal(
                Wording(
                    "does not have exactly one of: job, fixed, command together with input",
                    "write one of them",
                )
            )
        return self


class Token(ManifestSection):
    """A secret by which the platform itself uses the service's API. The container gets no file with it.

    The provisioning jobs find out whether the service accepts it; where it does not, the command makes it.
    """

    name: Identifier = Field(description="Name of the secret.", examples=["api_token"])
    length: Length = Field(30, description="Length of what is generated.", examples=[30])
    prefix: Prefix = Field("", description="What stands before that.", examples=["glpat-"])
    command: list[Text] = Field(
        description="Command that makes it in the running container; it gets `input` on its standard input.",
        examples=[["app-admin", "set-token"]],
    )
    input: Text = Field(
        description="Template in the service's folder, with the variables of those in `secrets/`.",
        examples=["tokens/api_token.j2"],
    )


class Manifest(ManifestSection):
    """All that the platform needs to know of a service."""

    title: Line = Field(description="What people call it.", examples=["Guestbook"])
    summary: Line = Field(description="One line on what it is for.", examples=["Remembers who was here"])
    group: Line = Field("Services", description="Heading on the start page.", examples=["Data"])
    off_by_default: Line = Field(
        "",
        description="Why it is left out unless the configuration asks for it; on by default without it.",
        examples=["shows every container to everyone who may log in"],
    )
    role: Annotated[
        Literal["service", "runner", "both"], BeforeValidator(values.choice("service", "runner", "both"))
    ] = Field(
        "service",
        description=(
            "Which hosts run it: `service` the service host, `runner` every runner host, `both` all of them."
        ),
        examples=["service"],
    )
    image: Image = Field(
        description="Where the image comes from: exactly one of `build`, `same_as` and `pull`.",
        examples=[{"build": "1"}],
    )
    user: User = Field(
        description=(
            "Number of the user and group that its processes run as; one that no other image has. `0` only"
            " where `exceptions.user` says why."
        ),
        examples=[10900],
    )
    memory: Memory = Field(
        description="Most memory it may use, with unit `m` or `g`, or a share of the host's such as `25%`.",
        examples=["512m"],
    )
    pids: Pids = Field(256, description="Most processes and threads it may have.", examples=[512])
    minimum_memory: Amount | None = Field(
        None,
        description=(
            "Memory that the host must have for it, beside what the others need. A share of the host's that"
            " is less is raised to it."
        ),
        examples=["4g"],
    )
    minimum_disk: Amount | None = Field(
        None, description="Free disk that the host must have for it, beside the rest.", examples=["10g"]
    )
    start_seconds: Seconds = Field(
        60,
        description="How long its first start may take before it counts as unhealthy; a deploy waits for it.",
        examples=[300],
    )
    needs: list[Text] = Field(
        [], description="Services that must be healthy before it starts.", examples=[["postgres-service"]]
    )
    environments: values.Switch = Field(
        False,
        description="It runs containers of the environments' images, so every host that runs it has them.",
        examples=[True],
    )
    only_with: list[Text] = Field(
        [],
        description="Services without which it has nothing to do: it is left out together with them.",
        examples=[["gitlab"]],
    )
    provides: (
        Annotated[
            Literal["postgres", "s3", "proxy", "jobs", "images", "runner", "cleaner"],
            BeforeValidator(values.choice("postgres", "s3", "proxy", "jobs", "images", "runner", "cleaner")),
        ]
        | None
    ) = Field(
        None,
        description=(
            "A part that the platform itself uses. `postgres` and `s3`: databases or buckets are made there;"
            " it needs the secrets `admin_password`, or `root_user` and `root_password`. `proxy`: it serves"
            " all web names. `jobs`: it runs the provisioning jobs and does not stay up. `images`: a registry"
            " that hands the platform's images on to other hosts, with the secret `password`; it runs only"
            " where there are any. `runner`: it starts containers for CI jobs, in a network of their own that"
            " only the public names are in. `cleaner`: it removes what those have left."
        ),
        examples=["postgres"],
    )
    admin_of: Annotated[Literal["postgres"], BeforeValidator(values.choice("postgres"))] | None = Field(
        None,
        description="Its templates get the administrator's login of every service that provides this.",
        examples=["postgres"],
    )
    projects: values.Switch = Field(
        False, description="Each project gets its own database or bucket here.", examples=[True]
    )
    web: list[Web] = Field(
        [],
        description="Pages and APIs under the platform's domain, served by the proxy with TLS.",
        examples=[[{"name": "guestbook", "port": 8000, "access": "login"}]],
    )
    ports: list[Port] = Field(
        [],
        description="TCP ports published on the host, at `listen_address`.",
        examples=[[{"name": "postgres", "container": 5432}]],
    )
    data: list[Data] = Field(
        [],
        description="Directories that survive: `<paths.data>/<service>/<name>` on the host.",
        examples=[[{"target": "/data"}]],
    )
    tls: Tls | None = Field(
        None,
        description="A certificate in `/run/tls`, for a service that ends TLS itself.",
        examples=[{"names": "own"}],
    )
    trust_folder: Folder | None = Field(
        None,
        description="Folder in the container that gets every trusted CA as a file of its own.",
        examples=["/etc/app/trusted-certs"],
    )
    secrets: dict[Identifier, Length] = Field(
        {},
        description="Secrets to generate: name to length. Each is a file `/run/secrets/<name>`.",
        examples=[{"admin_password": 40}],
    )
    shared_secrets: dict[Identifier, Text] = Field(
        {},
        description="Secrets of other services that this one reads too: name to service; files like its own.",
        examples=[{"agent_secret": "portainer"}],
    )
    tokens: list[Token] = Field(
        [],
        description="Secrets by which the platform itself uses the service's API, made by a command.",
        examples=[
            [{"name": "api_token", "command": ["app-admin", "set-token"], "input": "tokens/api_token.j2"}]
        ],
    )
    rotation: list[Rotation] = Field(
        [],
        description="How new values of secrets get into the service, where replacing it is not the way.",
        examples=[[{"secret": "admin_password", "job": True}]],
    )
    reload: Signal | None = Field(
        None,
        description=(
            "Signal that makes it read the files of `live/` again, where it does not read them each time it"
            " needs them."
        ),
        examples=["HUP"],
    )
    databases: list[Database] = Field(
        [],
        description=(
            "PostgreSQL databases, each with a role of the same name that owns it. `PGHOST`, `PGDATABASE` and"
            " `PGUSER` are those of the first, and `PGPASSFILE` has the passwords of all."
        ),
        examples=[[{"server": "postgres-service", "name": "guestbook"}]],
    )
    buckets: list[Bucket] = Field(
        [],
        description=(
            "S3 buckets that the service's own key may list, read and write; the key is in the file that"
            " `AWS_SHARED_CREDENTIALS_FILE` names."
        ),
        examples=[[{"name": "guestbook"}]],
    )
    probe: Probe | None = Field(
        None,
        description="How the start page asks over the platform's network whether the service answers.",
        examples=[{"type": "http", "port": 8000}],
    )
    credentials: list[Credential] = Field(
        [],
        description="Logins that `dap credentials` shows.",
        examples=[[{"what": "Guestbook", "user": "admin", "secret": "admin_password"}]],
    )
    checks: list[Text] = Field(
        [], description="Checks of `dap verify` that prove that it works.", examples=[["tracking"]]
    )
    exceptions: dict[str, Line] = Field(
        {},
        description="What the fragment sets although the platform does: key of the fragment to reason.",
        examples=[{"ipc": "shares memory between its processes"}],
    )


def section_in(annotation: Any) -> type[ManifestSection] | None:
    """The group of keys that a field holds, as it is or in a list; None for other fields."""
    if isinstance(annotation, type) and issubclass(annotation, ManifestSection):
        return annotation
    return next(filter(None, map(section_in, get_args(annotation))), None)


def section_at(location: Location, model: type[ManifestSection] = Manifest) -> type[ManifestSection] | None:
    """The group of keys that stands at a location of a manifest; None where there is none."""
    section: type[ManifestSection] | None = model
    for part in location:
        if section and isinstance(part, str):
            field = section.model_fields.get(part)
            section = section_in(field.annotation) if field else None
    return section


def field_at(location: Location, model: type[ManifestSection] = Manifest) -> FieldInfo | None:
    """The field at a location; None for unknown keys and for items of lists and mappings."""
    section = section_at(location[:-1], model) if location else None
    return section.model_fields.get(str(location[-1])) if section else None
