"""The reference pages of the service manifest and of the services, written from the manifests and rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from dap import container
from dap.config import Host, Inventory
from dap.facts import HostFacts
from dap.hostsfile import SERVICE_HOST
from dap.layout import compose_dir
from dap.manifest import Service, Web, find_folders, load_services
from dap.manifest_schema import GUARDED, Manifest, ManifestSection, section_in
from dap.reference_cli import paragraph, table
from dap.schema import Platform, Ports
from dap.site import Site
from dap.verify import CHECKS, data, tracking, web

# Each registers its checks when it is imported.
CHECK_MODULES = (data, tracking, web)

# --- the manifest ----------------------------------------------------------------------------------------

_MANIFEST_INTRODUCTION = """\
# Service manifest

<!-- Generated from scripts/dap/manifest_schema.py and scripts/dap/container.py by `python -m dap.reference`:
change those, not this page. -->

A service is a folder with a manifest, `service.yml`. The platform's own services are in `compose/`, those of
an inventory in `ansible/inventories/<inventory>/compose/`; of two folders with one name that of the inventory
counts. The folder's name is the service's: at most 40 small letters, digits and hyphens, with a letter first.
[Add a service](../how-to/add-a-service.md) shows one from beginning to end.

All manifests are checked completely before any host is touched. An unknown key is refused, with the one that
was probably meant.

## The folder

| Path | What it is |
|---|---|
| `service.yml` | The manifest: what the platform needs to know. |
| `compose.yaml.j2` | The Compose fragment: what is special about the container. A template. |
| `image/` | The build context with a `Dockerfile`, where `image` has `build`. Not templates. |
| `config/` | Configuration files; the container sees them in `/etc/dap`, read-only, mode 0444. |
| `secrets/` | Files with secrets in them, in `/run/secrets`, mode 0400, owned by the service's user. |

In `config/` and `secrets/` a file that ends in `.j2` is a template and loses that ending; others are copied.
A name that begins with `_` is no file of its own: other templates import it.
"""

_VARIABLES = {
    "platform": "`platform.name`, `platform.domain`, `platform.url` (of the start page), `platform.version`,"
    " `platform.private_ca` (true or false), `platform.ca_fingerprint`",
    "service": "this service: `service.name`, `service.title`, `service.user` (number), `service.hosts`"
    " (its web names)",
    "host": "the host it runs on: `host.memory_mib`, `host.cpus`",
    "port_suffix": "`:8443` where HTTPS is not on 443, else empty",
    "ports": "the configuration's ports, such as the one of `https`",
    "time_zone": "the configuration's time zone",
    "admin_email": "the administrator's e-mail address",
    "connect": "where clients connect to, empty for what is not there: `connect.s3_url`,"
    " `connect.mlflow_url`, `connect.postgres_host`, `connect.postgres_port`, `connect.git_url`,"
    " `connect.ssh_host`",
    "projects": "list of projects: `name`, `summary`, `database`, `role`, `bucket`",
    "services": "list of services for people: `name`, `title`, `summary`, `group`, `links`, `endpoints`,"
    " `probe`, `login`",
    "left_out": "list of services that do not run: `name`, `reason`",
    "probes": "list of what the start page asks",
    "vhosts": "list of names that the proxy serves: `host`, `service`, `title`, `upstream`, `web` (as in the"
    " manifest)",
    "names": "list of all host names of the platform",
    "ca_certificate": "the private CA's certificate, PEM; empty without one",
    "hsts": "whether browsers trust the certificate without being told to",
}
_SPECIAL_VARIABLES = {
    "administers": "with `admin_of`: list of servers: `service`, `host`, `tls` (true or false)",
}
_SECRET_VARIABLES = {
    "secret": '`secret("name")`: the value of one of the service\'s secrets',
    "admin_secret": '`admin_secret("postgres-data")`, with `admin_of`: the administrator\'s password there',
    "web_users": "with `provides: proxy`: list of accounts of the platform's login: `name`, `hash`, `basic`",
    "desired_state": "with `provides: jobs`: what the provisioning jobs are to bring about, as JSON",
}

_FRAGMENT_INTRODUCTION = """\
## The Compose fragment

One top-level key, `services`, with one service in it, named like the folder. The platform adds what every
container has. Mappings are merged, lists joined, and any other value of the fragment counts. A health check
has to say what to run; the platform sets its times. From this manifest,
"""

_SAMPLE_FRAGMENT = """\
# compose.yaml.j2
services:
  guestbook:
    healthcheck:
      test: [CMD, healthcheck, "http://127.0.0.1:8000/"]
"""
_SAMPLE = """\
# service.yml
title: Guestbook
summary: Remembers who was here
image:
  build: "1"
user: 10900
memory: 64m
needs: [postgres-service]
web:
  - name: guestbook
    port: 8000
    access: open
data:
  - target: /data
databases:
  - server: postgres-service
    name: guestbook
"""


def manifest_page() -> str:
    """Every key of a manifest, and what is in a service's folder, in Markdown."""
    parts = [_MANIFEST_INTRODUCTION, "\n".join(_section("`service.yml`, top level", Manifest))]
    for name, field in Manifest.model_fields.items():
        section = section_in(field.annotation)
        if section:
            heading = f"`{name}[]`" if _is_list(field) else f"`{name}`"
            parts.append("\n".join(_section(heading, section)))
    parts += [_fragment_text(), _templates_text()]
    return "\n".join(parts)


def _is_list(field: FieldInfo) -> bool:
    return isinstance(field.default, list)


def _section(heading: str, section: type[ManifestSection]) -> Iterator[str]:
    yield f"## {heading}\n"
    yield paragraph((section.__doc__ or "").strip())
    properties = section.model_json_schema()["properties"]
    rows = [
        [
            f"`{name}`",
            _kind(name, field, properties[name]),
            _default(field),
            field.description or "",
            _example(field),
        ]
        for name, field in section.model_fields.items()
    ]
    yield table(["Key", "Type", "Default", "Meaning", "Example"], rows)


def _kind(name: str, field: FieldInfo, schema: dict[str, Any]) -> str:
    if section_in(field.annotation):
        suffix = "[]" if _is_list(field) else ""
        return f"[{'list' if suffix else 'mapping'}](#{name})"
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    return _plain_kind(options[0])


def _plain_kind(schema: dict[str, Any]) -> str:
    """What kind of value a key takes, in words."""
    if choices := schema.get("enum") or ([schema["const"]] if "const" in schema else None):
        return " or ".join(f"`{choice}`" for choice in choices)
    if schema["type"] == "integer":
        return f"whole number, {schema['minimum']} to {schema['maximum']}"
    if schema["type"] == "array":
        return f"list of {_plain_kind(schema['items'])}s"
    if schema["type"] == "object":
        kind = _plain_kind(schema["additionalProperties"])
        return f"mapping of names to {kind.replace('number', 'numbers')}"
    return {"boolean": "`true` or `false`"}.get(schema["type"], "text")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "none" if field.default in (None, "", [], {}) else f"`{_shown(field.default)}`"


def _example(field: FieldInfo) -> str:
    return f"`{_shown(field.examples[0])}`" if field.examples else ""


def _shown(value: object) -> str:
    """A value as it is written in YAML, on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def sample_site() -> tuple[Site, Service]:
    """A platform with one service of its own, for the examples of the page."""
    manifest = Manifest.model_validate(yaml.safe_load(_SAMPLE))
    service = Service("guestbook", Path("guestbook"), manifest)
    services = load_services(find_folders([compose_dir()])) | {"guestbook": service}
    host = Host("alpha", frozenset({SERVICE_HOST}), {})
    platform = Platform(domain="dap.example.com")
    inventory = Inventory("team", Path(), Path("platform.yml"), Path("hosts.yml"), platform, (host,))
    return Site(inventory, services), service


def _fragment_text() -> str:
    site, service = sample_site()
    rules = container.Rules(
        site=site,
        service=service,
        image="dap/guestbook:1-3f0c2a9b7d51",
        facts=HostFacts(memory_mib=16000, cpus=4),
        config=True,
        secrets=["pgpass"],
        config_hash="5d41402abc4b2a76",
    )
    completed = container.complete(yaml.safe_load(_SAMPLE_FRAGMENT), rules)
    composed = yaml.safe_dump(completed, sort_keys=False, width=100)
    guarded = ", ".join(f"`{key}`" for key in GUARDED)
    refused = (
        "What the platform sets for the sake of security and order is refused in a fragment, unless the"
        f" manifest gives the reason under `exceptions`, for each key: {guarded}."
    )
    return "\n".join(
        [
            f"{_FRAGMENT_INTRODUCTION}\n```yaml\n{_SAMPLE}```\n\nthis fragment\n",
            f"```yaml\n{_SAMPLE_FRAGMENT}```\n\nand a file in `config/` comes\n",
            f"```yaml\n# compose.yaml\n{composed}```\n",
            paragraph(refused),
        ]
    )


def _templates_text() -> str:
    def rows(variables: dict[str, str]) -> list[list[str]]:
        return [[f"`{name}`", meaning] for name, meaning in variables.items()]

    return "\n".join(
        [
            "## Templates\n",
            paragraph(
                "Templates are Jinja's. A name that does not exist stops the deploy before anything on a host"
                " changes. Where a file's name has `.html` in it, values are escaped for HTML. The fragment"
                " and all templates in `config/` and `secrets/` know:"
            ),
            table(["Name", "What it is"], rows(_VARIABLES | _SPECIAL_VARIABLES)),
            "Only those in `secrets/` know:\n",
            table(["Name", "What it is"], rows(_SECRET_VARIABLES)),
        ]
    )


# --- the services ----------------------------------------------------------------------------------------

_SERVICES_INTRODUCTION = """\
# Services

<!-- Generated from compose/*/service.yml by `python -m dap.reference`: change those, not this page. -->

The services that come with the platform, as their manifests describe them. Every name is below the platform's
domain. [Service manifest](service-manifest.md) says what the words mean, and `services.<service>` of the
[configuration](configuration.md) changes memory and processors or leaves a service out.
"""

_ACCESS = {
    "login": "behind the platform's login",
    "own": "with a login of its own",
    "open": "open to everybody",
}


def services_page() -> str:
    """Every service of the platform, in Markdown."""
    services = load_services(find_folders([compose_dir()]))
    rows = [
        [f"[`{name}`](#{name})", service.manifest.summary, _image(service), service.manifest.memory]
        for name, service in services.items()
    ]
    parts = [_SERVICES_INTRODUCTION, table(["Service", "What for", "Image", "Memory"], rows)]
    parts += ["\n".join([f"## `{name}`\n", *_service_lines(service)]) for name, service in services.items()]
    return "\n".join(parts)


def _image(service: Service) -> str:
    image = service.manifest.image
    if image.same_as:
        return f"that of `{image.same_as}`"
    return f"`{image.pull}`" if image.pull else f"`{service.name}`, version {image.build}"


def _service_lines(service: Service) -> Iterator[str]:
    manifest = service.manifest
    yield paragraph(f"{manifest.title}. {manifest.summary}.")
    limits = f"{manifest.memory} of memory, {manifest.pids} processes and threads"
    facts = {
        "Image": _image(service),
        "Runs as": f"user {manifest.user}, with at most {limits}",
        "Starts after": _named(manifest.needs),
        "Names": "<br>".join(map(_name, manifest.web)),
        "Ports on the host": "<br>".join(_port(port.name, port.container) for port in manifest.ports),
        "Certificate": _certificate(service),
        "Data": "<br>".join(
            f"`/var/lib/dap/{service.name}/{entry.name}`, in the container `{entry.target}`"
            for entry in manifest.data
        ),
        "Databases": "<br>".join(f"`{entry.name}` on `{entry.server}`" for entry in manifest.databases),
        "Buckets": "<br>".join(
            f"`{entry.name}`{', with versions' * entry.versioning}" for entry in manifest.buckets
        ),
        "Secrets": _named(manifest.secrets),
        "Exceptions": "<br>".join(f"`{key}`: {reason}" for key, reason in manifest.exceptions.items()),
        "Proven by": "<br>".join((CHECKS[name].__doc__ or name).splitlines()[0] for name in manifest.checks),
    }
    yield table(["", ""], [[what, text] for what, text in facts.items() if text])


def _named(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _name(entry: Web) -> str:
    host = "`<domain>`" if entry.name == "@" else f"`{entry.name}.<domain>`"
    label = f": {entry.label}" if entry.label else ""
    return f"{host}{label}, {_ACCESS[entry.access]}"


def _port(name: str, inside: int | None) -> str:
    field = Ports.model_fields.get(name)
    if field is None:
        return f"{inside}"
    return f"{field.default}, or what `ports.{name}` says"


def _certificate(service: Service) -> str:
    tls = service.manifest.tls
    if tls is None:
        return ""
    return f"for `{service.name}.<domain>`" if tls.names == "own" else "for the domain and all web names"
