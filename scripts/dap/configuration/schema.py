"""The settings of a platform.

The single source of the checks, the reference page, the commented example and the JSON Schema for editors.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BeforeValidator, Field, StringConstraints, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from dap.configuration import values
from dap.configuration.dev_containers import DevContainer, Homes
from dap.configuration.gpus import GpuHosts
from dap.configuration.rules import Settings, broken_rules
from dap.configuration.runners import Runners
from dap.configuration.section import Section
from dap.configuration.wording import Location, dotted

NAME_PATTERN = r"[a-z](?:[a-z0-9-]{0,18}[a-z0-9])?"
USER_PATTERN = r"[a-z][a-z0-9._-]{0,30}"
# A bucket has the project's name, and S3 wants at least 3 characters and a letter or digit at the end.
PROJECT_PATTERN = r"[a-z][a-z0-9-]{1,29}[a-z0-9]"
RESERVED_PROJECTS = {
    "postgres|template0|template1|public|pg_.*": "PostgreSQL",
    "mlflow|minio|dap|admin|gitlab_.*": "the platform itself",
}

PlatformName = Annotated[
    str,
    StringConstraints(pattern=f"^{NAME_PATTERN}$"),
    BeforeValidator(
        values.name(
            NAME_PATTERN,
            "at most 20 small letters, digits and hyphens, with a letter first and no hyphen at the end",
        )
    ),
]
UserName = Annotated[
    str,
    StringConstraints(pattern=f"^{USER_PATTERN}$"),
    BeforeValidator(
        values.name(
            USER_PATTERN,
            "at most 31 small letters, digits, dots, hyphens and underscores, with a letter first",
            {
                "admin": "the account that always exists",
                "ci": "the account that pipelines use",
                "root": "GitLab's first administrator",
                "postgres|public|pg_.*": "PostgreSQL",
            },
            separators="._-",
        )
    ),
]
ProjectName = Annotated[
    str,
    StringConstraints(pattern=f"^{PROJECT_PATTERN}$"),
    BeforeValidator(
        values.name(
            PROJECT_PATTERN,
            "3 to 31 small letters, digits and hyphens, with a letter first and no hyphen at the end",
            RESERVED_PROJECTS,
        )
    ),
]
ROLES = ("guest", "reporter", "developer", "maintainer", "owner")
Role = Annotated[
    Literal["guest", "reporter", "developer", "maintainer", "owner"],
    BeforeValidator(values.choice(*ROLES)),
]
Member = Annotated[
    str,
    BeforeValidator(values.matching(rf"\*|{USER_PATTERN}", "is neither the name of a user nor *")),
]
SshKey = Annotated[
    str,
    BeforeValidator(
        values.matching(
            r"(ssh-(rsa|ed25519)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)"
            r"@openssh\.com) [A-Za-z0-9+/]+={0,3}( [^\n]*)?",
            "is not a public SSH key, as in a file that ends in .pub",
        )
    ),
]
TlsMode = Annotated[Literal["private-ca", "files"], BeforeValidator(values.choice("private-ca", "files"))]
VariableName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"),
    BeforeValidator(
        values.matching(
            r"[A-Za-z_][A-Za-z0-9_]{0,99}",
            "is not the name of a variable: letters, digits and underscores, no digit first",
        )
    ),
]
EnvironmentName = Annotated[str, StringConstraints(max_length=40), BeforeValidator(values.one_line(40))]
PortName = Annotated[
    str, BeforeValidator(values.matching(r"[a-z][a-z0-9_]{0,39}", "is not the name of a port"))
]


class Paths(Section):
    """Folders on the hosts."""

    root: values.Folder = Field(
        default=Path("/opt/dap"),
        description="Folder for what every deploy renders anew; nothing in it needs a backup.",
        examples=["/opt/dap"],
    )
    data: values.Folder = Field(
        default=Path("/var/lib/dap"),
        description="Folder for the data of all services. No redeploy touches it, and destroy keeps it.",
        examples=["/var/lib/dap"],
    )


class Ports(Section):
    """Ports that the service host publishes."""

    http: values.Port = Field(
        default=80, description="Port for plain HTTP, which only redirects to HTTPS.", examples=[8080]
    )
    https: values.Port = Field(default=443, description="Port of all web pages and of S3.", examples=[8443])
    postgres: values.Port = Field(
        default=5432, description="Port of postgres-data, the users' databases.", examples=[5433]
    )
    ssh: values.Port = Field(default=2222, description="Port of Git over SSH.", examples=[2022])


class Tls(Section):
    """Where the certificates of the web pages and of postgres-data come from."""

    mode: TlsMode = Field(
        default="private-ca",
        description=(
            "`private-ca`: the platform makes a certificate authority of its own and renews its"
            " certificates at every deploy. `files`: it uses `tls.certificate` and `tls.key`."
        ),
        examples=["private-ca"],
    )
    certificate: values.File | None = Field(
        default=None,
        description=(
            "PEM file with the certificate and its chain, for the domain and all names below it; required"
            " with mode `files`. A relative path starts at the inventory's folder."
        ),
        examples=["certs/site.pem"],
    )
    key: values.File | None = Field(
        default=None,
        description="PEM file with the certificate's private key; required with mode `files`.",
        examples=["certs/site.key"],
    )
    leaf_days: Annotated[
        int, Field(ge=7, le=825), BeforeValidator(values.number("a number of days", 7, 825))
    ] = Field(
        default=365,
        description="Days that a certificate of the platform's own authority lasts.",
        examples=[90],
    )


class Trust(Section):
    """Certificate authorities that the hosts and services trust beside those of the distribution."""

    extra_cas: tuple[values.File, ...] = Field(
        default=(),
        description=(
            "PEM files with certificates of the site's own authorities, such as that of a TLS-inspecting"
            " proxy. Relative paths start at the inventory's folder."
        ),
        examples=[["certs/site-ca.pem"]],
    )


class User(Section):
    """A person."""

    name: UserName = Field(
        description="Login name. The account `admin` always exists and is not listed here.", examples=["ada"]
    )
    full_name: Annotated[str, StringConstraints(max_length=100), BeforeValidator(values.one_line(100))] = (
        Field(default="", description="The person's name as others read it.", examples=["Ada Lovelace"])
    )
    email: values.Email | None = Field(
        default=None,
        description="E-mail address, for GitLab; `<name>@<domain>` without it.",
        examples=["ada@example.com"],
    )
    ssh_keys: tuple[SshKey, ...] = Field(
        default=(),
        description="Public SSH keys for Git. Those that people add in GitLab stay beside them.",
        examples=[["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 ada@laptop"]],
    )
    ssh_keys_from_gitlab: values.Switch = Field(
        default=False,
        description=(
            "Whether the keys that the person has in GitLab open their development containers: as soon as"
            " they are added there, and no longer once they are removed. Those of `ssh_keys` do in any case."
        ),
        examples=[True],
    )
    uid: Annotated[
        int | None, Field(ge=1000, le=59999), BeforeValidator(values.number("a number", 1000, 59999))
    ] = Field(
        default=None,
        description=(
            "Number that files in homes belong to, on all hosts. Without it, one from 20000 on, which the"
            " user keeps."
        ),
        examples=[20001],
    )
    home_size: values.DiskSpace | None = Field(
        default=None,
        description="Most that the person's home may hold on each host; `homes.size` without it.",
        examples=["200g"],
    )
    gitlab_account: values.Switch = Field(
        default=True,
        description="Whether the person has an account of GitLab, where there is one on the platform.",
        examples=[True],
    )
    gitlab_admin: Annotated[bool | None, BeforeValidator(values.true_or_false)] = Field(
        default=None,
        description="Whether that is an administrator. Without it, GitLab's administrators decide.",
        examples=[False],
    )
    gitlab_password: values.Switch = Field(
        default=True,
        description=(
            "Whether it begins with a generated password, which `dap credentials` shows and which has to be"
            " changed at the first login. `false` for people who log in by other means."
        ),
        examples=[True],
    )
    disabled: values.Switch = Field(
        default=False,
        description="Takes all logins of the person back. What they made stays.",
        examples=[False],
    )


class Project(Section):
    """A body of work with data of its own."""

    name: ProjectName = Field(
        description=(
            "Name of the bucket and, with `_` for `-`, of the database and its role. 3 to 31 small letters,"
            " digits and hyphens."
        ),
        examples=["demo"],
    )
    summary: Annotated[str, StringConstraints(max_length=200), BeforeValidator(values.one_line(200))] = Field(
        default="",
        description="One line about the project for the credentials page.",
        examples=["First steps"],
    )
    members: dict[Member, Role] = Field(
        default={},
        description=(
            "Who works on it in GitLab, with a role: `guest`, `reporter`, `developer`, `maintainer` or"
            " `owner`. `*` stands for all other users. Roles are raised to these, never lowered, and members"
            " that are added in GitLab stay."
        ),
        examples=[{"ada": "maintainer", "*": "developer"}],
    )
    examples: values.Switch = Field(
        default=False,
        description="Whether the example projects are put into its group in GitLab, once.",
        examples=[True],
    )


class External(Section):
    """A server that is there already, in place of a service of the platform."""

    url: values.Url = Field(
        description=(
            "Where it is: `postgresql://host:5432` or, for S3, `https://host:9000`. With `?sslmode=disable`"
            " PostgreSQL is spoken to without TLS, otherwise its certificate has to be right."
        ),
        examples=["postgresql://db.example.com:5432"],
    )
    user: Annotated[str, StringConstraints(max_length=128), BeforeValidator(values.one_line(128))] = Field(
        description=(
            "Role that may make databases and roles, or access key that may make buckets. Its password is"
            " given with `dap secret set`."
        ),
        examples=["dap_admin"],
    )
    region: Annotated[str, StringConstraints(max_length=40), BeforeValidator(values.one_line(40))] = Field(
        default="us-east-1", description="Region of the S3 server.", examples=["eu-central-1"]
    )
    own_keys: values.Switch = Field(
        default=False,
        description=(
            "Whether services and projects get S3 keys of their own, made with MinIO's admin interface."
            " Without it all of them use the one key given here, and can reach each other's buckets."
        ),
        examples=[True],
    )


class ServiceSettings(Section):
    """Settings that every service has."""

    enabled: Annotated[bool | Literal["auto"] | None, BeforeValidator(values.true_false_or_auto)] = Field(
        default=None,
        description=(
            "`false` leaves the service out; its data stays. `auto` leaves it out where its image is neither"
            " on the host nor to be had. Without it, on unless the service is off by default."
        ),
        examples=[False],
    )
    image: values.ImageReference | None = Field(
        default=None,
        description="Another image, with tag or digest, that keeps the contract of the service's own.",
        examples=["registry.example.com/team/mlflow:3.17.2"],
    )
    images: dict[PortName, values.ImageReference] = Field(
        default={},
        description="The same for images that the service starts itself, by their names in its manifest.",
        examples=[{"helper": "registry.example.com/team/gitlab-runner-helper:x86_64-v19.4.0"}],
    )
    environment: dict[VariableName, values.Line] = Field(
        default={},
        description="Environment variables beside the service's own; no secrets, every admin sees them.",
        examples=[{"MLFLOW_LOGGING_LEVEL": "DEBUG"}],
    )
    ports: dict[PortName, values.Port] = Field(
        default={},
        description="Ports on the host, by the names in the service's manifest.",
        examples=[{"metrics": 9100}],
    )
    external: External | None = Field(
        default=None,
        description="For databases and object storage: a server of your own, used in place of this service.",
        examples=[{"url": "postgresql://db.example.com:5432", "user": "dap_admin"}],
    )
    pids: Annotated[
        int | None, Field(ge=1, le=32768), BeforeValidator(values.number("a number of processes", 1, 32768))
    ] = Field(
        default=None,
        description="Most processes and threads it may have; the service's own default without it.",
        examples=[1024],
    )
    memory: values.Memory | None = Field(
        default=None,
        description="Most memory it may use, with unit `m` or `g`; the service's own default without it.",
        examples=["2g"],
    )
    cpus: values.Processors | None = Field(
        default=None,
        description="Most processors it may use, at most as many as the host has. Without it, all of them.",
        examples=[1.5],
    )


class Proxy(Section):
    """The HTTP proxy through which hosts, image builds and containers reach the internet."""

    http: values.HttpUrl | None = Field(
        default=None,
        description="Proxy for addresses with `http://`.",
        examples=["http://proxy.example.com:3128"],
    )
    https: values.HttpUrl | None = Field(
        default=None,
        description="Proxy for addresses with `https://`; that of `proxy.http` without it.",
        examples=["http://proxy.example.com:3128"],
    )
    no_proxy: tuple[values.NoProxyEntry, ...] = Field(
        default=(),
        description=(
            "Names, domains (`.example.com`) and networks that are reached without it, beside this machine,"
            " all names of the platform and all its services."
        ),
        examples=[[".example.com", "10.0.0.0/8"]],
    )


class Mirrors(Section):
    """Package mirrors of the site, for builds of images and for development containers."""

    debian: values.HttpUrl | None = Field(
        default=None,
        description="Debian packages in images; the mirror that the host itself uses without it.",
        examples=["https://mirror.example.com/debian"],
    )
    debian_security: values.HttpUrl | None = Field(
        default=None,
        description="Debian's security updates in images.",
        examples=["https://mirror.example.com/debian-security"],
    )
    pypi: values.HttpUrl | None = Field(
        default=None, description="Python packages.", examples=["https://mirror.example.com/pypi/simple"]
    )
    npm: values.HttpUrl | None = Field(
        default=None, description="Node packages.", examples=["https://mirror.example.com/npm"]
    )
    go: Annotated[str | None, BeforeValidator(values.one_line(300))] = Field(
        default=None,
        description="Go modules, as the variable GOPROXY has it.",
        examples=["https://mirror.example.com/go"],
    )
    cran: values.HttpUrl | None = Field(
        default=None,
        description="Packages of R, in development containers.",
        examples=["https://mirror.example.com/cran"],
    )
    registry: values.RegistryPrefix | None = Field(
        default=None,
        description=(
            "Registry that images of Docker Hub are pulled from: it is written before their names, so"
            " `registry.example.com/hub` pulls `registry.example.com/hub/gitlab/gitlab-ce`."
        ),
        examples=["registry.example.com/hub"],
    )


class Deploy(Section):
    """How a deploy goes about its work."""

    wait_seconds: Annotated[
        int, Field(ge=30, le=3600), BeforeValidator(values.number("a number of seconds", 30, 3600))
    ] = Field(
        default=300,
        description=(
            "Seconds that a deploy waits for all services to be healthy. Where it is not written, GitLab's"
            " first start has the 20 minutes that it may take."
        ),
        examples=[600],
    )
    parallel_builds: Annotated[
        int, Field(ge=1, le=16), BeforeValidator(values.number("a number of builds", 1, 16))
    ] = Field(default=2, description="Images that are built at the same time.", examples=[4])


class Platform(Section):
    """All settings of a platform."""

    platform_name: PlatformName = Field(
        default="dap",
        description="Prefix of the containers and name of their network. Small letters, digits and hyphens.",
        examples=["dap"],
    )
    domain: values.Domain = Field(
        description=(
            "Domain of the platform: the portal's own name, and each service is `<service>.<domain>`. All"
            " these names must lead to the service host; those below `.localhost` do so on itself."
        ),
        examples=["dap.example.com"],
    )
    listen_address: values.Address = Field(
        default=IPv4Address("0.0.0.0"),  # noqa: S104 - a platform is there to be reached
        description="Address of the service host that the ports are published on; `127.0.0.1`: itself only.",
        examples=["127.0.0.1"],
    )
    paths: Paths = Field(
        default=Paths(), description="Folders on the hosts.", examples=[{"root": "/opt/dap"}]
    )
    ports: Ports = Field(
        default=Ports(),
        description="Ports that the service host publishes. All must differ.",
        examples=[{"https": 8443}],
    )
    tls: Tls = Field(
        default=Tls(),
        description="Where the certificates of the web pages and of postgres-data come from.",
        examples=[{"mode": "private-ca"}],
    )
    trust: Trust = Field(
        default=Trust(),
        description="Certificate authorities that hosts and services trust beside those of the distribution.",
        examples=[{"extra_cas": ["certs/site-ca.pem"]}],
    )
    admin_email: values.Email = Field(
        default_factory=lambda data: f"admin@{data['domain']}",
        description="E-mail address of the account `admin`, its login at pgAdmin.",
        examples=["admin@example.com"],
    )
    users: tuple[User, ...] = Field(
        default=(),
        description="People with a password for the pages behind the platform's login, beside `admin`.",
        examples=[[{"name": "ada", "full_name": "Ada Lovelace"}]],
    )
    projects: tuple[Project, ...] = Field(
        default=(),
        description="Each gets a database with a role on postgres-data, a bucket and an S3 key.",
        examples=[[{"name": "demo", "summary": "First steps"}]],
    )
    services: dict[str, ServiceSettings] = Field(
        default={},
        description="Settings of single services, by the service's name.",
        examples=[{"mlflow": {"memory": "2g"}}],
    )
    environments: tuple[EnvironmentName, ...] | None = Field(
        default=None,
        description=(
            "Environments whose images the hosts get: folders of `environments/`, here or in the inventory."
            " All that are not large, without it."
        ),
        examples=[["python-r", "ml"]],
    )
    share_environments: values.Switch = Field(
        default=False,
        description=(
            "Keep the environments' images in the platform's registry, with a login that may only pull, for"
            " users who work with them on machines of their own."
        ),
        examples=[True],
    )
    environment_variants: dict[EnvironmentName, EnvironmentName] = Field(
        default={},
        description=(
            "Variants of environments that are built in place of the usual ones: `{ml: cuda}` is PyTorch for"
            " NVIDIA's GPUs."
        ),
        examples=[{"ml": "cuda"}],
    )
    dev_containers: tuple[DevContainer, ...] = Field(
        default=(),
        description="Containers that users work in, over SSH.",
        examples=[[{"user": "ada", "environment": "python", "memory": "16g"}]],
    )
    homes: Homes = Field(
        default=Homes(),
        description="What users' homes in development containers may hold.",
        examples=[{"size": "50g"}],
    )
    ssh_user_certificates: values.Duration | None = Field(
        default=None,
        description=(
            "How long an SSH certificate that opens a user's development containers lasts at most. With it,"
            " `dap user certify` makes such certificates; without it, no container takes any."
        ),
        examples=["12h"],
    )
    runners: Runners = Field(
        default=Runners(),
        description="What runs the jobs of GitLab's pipelines on the runner hosts.",
        examples=[{"jobs": 4}],
    )
    gpus: GpuHosts = Field(
        default=GpuHosts(),
        description="Hosts with GPUs that development containers or jobs want.",
        examples=[{"prepare": True}],
    )
    extra_hosts: dict[values.HostName, values.KnownAddress] = Field(
        default={},
        description="Names that no DNS server knows, with their addresses: for the hosts and all containers.",
        examples=[{"db.example.com": "192.0.2.10"}],
    )
    proxy: Proxy = Field(
        default=Proxy(),
        description="HTTP proxy through which hosts, image builds and containers reach the internet.",
        examples=[{"http": "http://proxy.example.com:3128"}],
    )
    mirrors: Mirrors = Field(
        default=Mirrors(),
        description="Package mirrors of the site, for what is fetched when images are built.",
        examples=[{"pypi": "https://mirror.example.com/pypi/simple"}],
    )
    time_zone: values.TimeZone = Field(
        default="UTC",
        description="Time zone of the containers, by its name in the IANA database.",
        examples=["Europe/Berlin"],
    )
    deploy: Deploy = Field(
        default=Deploy(), description="How a deploy goes about its work.", examples=[{"wait_seconds": 600}]
    )

    @model_validator(mode="after")
    def _keeps_the_rules(self) -> Platform:
        faults = broken_rules(Settings(self.model_dump(mode="json", exclude_unset=True), default_at))
        if faults:
            told = "; ".join(f"{dotted(fault.location)} {fault.wording.reason}" for fault in faults)
            raise PydanticCustomError("rules", "{told}", {"told": told})
        return self


def section_at(location: Location) -> type[Section] | None:
    """The section whose keys stand at a location; None where no section is."""
    annotation: Any = Platform
    for part in location:
        if isinstance(annotation, type) and issubclass(annotation, Section):
            known = annotation.model_fields.get(str(part))
            annotation = _without_none(known.annotation) if known else None
        else:
            # Below a list or a mapping all items are of one kind.
            annotation = get_args(annotation)[1 if get_origin(annotation) is dict else 0]
        if annotation is None:
            return None
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def field_at(location: Location) -> FieldInfo | None:
    """The field at a location; None for unknown keys and for items of lists and mappings."""
    section = section_at(location[:-1]) if location else None
    return section.model_fields.get(str(location[-1])) if section else None


def default_at(location: Location) -> object:
    """The default of the key at a location, as it would be written; None where it has none."""
    known = field_at(location)
    default = known.default if known and not known.is_required() else None
    return str(default) if isinstance(default, Path) else default


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else annotation
    return annotation
