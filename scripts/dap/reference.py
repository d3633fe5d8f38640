"""Writes what is generated: the reference pages, the JSON Schema and the commented example.

``python -m dap.reference`` writes them, ``python -m dap.reference --check`` fails where one is out of date.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from dap import layout
from dap.config import check_platform
from dap.errors import Finding
from dap.hostsfile import GROUPS
from dap.rules import RULES
from dap.schema import Platform, Section, section_at
from dap.wording import Location, dotted
from dap.yamlfile import parse_yaml

_WIDTH = 100
_MODELINE = "# yaml-language-server: $schema=../../../../../docs/reference/platform.schema.json"

# --- JSON Schema -----------------------------------------------------------------------------------------


def json_schema() -> str:
    """The JSON Schema of `platform.yml`, for editors."""
    schema = _without_noise(Platform.model_json_schema())
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "platform.yml"}
    return json.dumps({**head, **schema}, indent=2, ensure_ascii=False) + "\n"


def _without_noise(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without the titles that pydantic makes up from the keys, and without defaults of null."""
    kept = {}
    for key, value in schema.items():
        if key == "title" or (key == "default" and value is None):
            continue
        if key in ("properties", "$defs"):
            kept[key] = {name: _without_noise(inner) for name, inner in value.items()}
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            kept[key] = _without_noise(value)
        else:
            kept[key] = value
    return kept


# --- all keys --------------------------------------------------------------------------------------------


def _item(location: Location, field: FieldInfo) -> Location | None:
    """Where the items of a list or mapping of sections stand; None for other fields."""
    if field.default == () and section_at((*location, 0)):
        return (*location, 0)
    if field.default == {} and section_at((*location, "<service>")):
        return (*location, "<service>")
    return None


def _sections() -> Iterator[tuple[Location, type[Section], FieldInfo | None]]:
    """Every section with its location and the field that holds it, the top level first."""
    yield (), Platform, None
    for name, field in Platform.model_fields.items():
        location = _item((name,), field) or (name,)
        section = section_at(location)
        if section:
            yield location, section, field


def _shown(value: object) -> str:
    """A value as it is written in YAML, on one line."""
    plain = str(value) if not isinstance(value, str | int | float | list | dict) else value
    text: str = yaml.safe_dump(
        plain, default_flow_style=True, sort_keys=False, width=1000, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _default(field: FieldInfo, domain: str) -> object:
    """A field's default; where it depends on the domain, for this one."""
    if field.default_factory:
        return field.get_default(call_default_factory=True, validated_data={"domain": domain})
    return None if field.is_required() else field.default


# --- the reference page ----------------------------------------------------------------------------------

_INTRODUCTION = """\
# Configuration

<!-- Generated from scripts/dap/schema.py by `python -m dap.reference`: change that, not this page. -->

An inventory is a folder `ansible/inventories/<name>/` with two files: `group_vars/all/platform.yml` says what
the platform is like, `hosts.yml` on which machines it runs. `local` is ready to use, `example` is there to be
copied. The environment variable `DAP_INVENTORIES` names another folder for all inventories.

Only `domain` must be written; everything else has a default. Passwords never stand in these files: they are
generated. `platform.schema.json` beside this page lets editors complete and check `platform.yml`.
"""

_WRONG_EXAMPLE = """\
domain: https://dap.example.com
prots: {https: 8443}
projects:
  - name: Churn_Model
services:
  mlfow: {memory: 2GB}
"""

_WRONG_INTRODUCTION = """\
## When something is wrong

Both files are checked completely before any host is touched. Every finding names the file, the place, what is
written there, why it is refused and what to write instead; the exit code is 2. This, for example,
"""


def configuration_page() -> str:
    """The reference page of all settings, in Markdown."""
    parts = [_INTRODUCTION]
    for location, section, field in _sections():
        parts.append("\n".join(_section_lines(location, section, field)))
    parts += [_rules_text(), _hosts_text(), _wrong_text()]
    return "\n".join(parts)


def _section_lines(location: Location, section: type[Section], holder: FieldInfo | None) -> Iterator[str]:
    path = _path(location)
    yield f"## `{path}`" if location else "## `platform.yml`, top level"
    yield ""
    if holder:
        yield from (holder.description or "", "")
    yield from ("| Key | Type | Default | Meaning | Example |", "|---|---|---|---|---|")
    properties = section.model_json_schema()["properties"]
    for name, field in section.model_fields.items():
        inner = _item((*location, name), field) or (*location, name)
        if section_at(inner):
            description = f"See [`{_path(inner)}`](#{_anchor(_path(inner))})."
            cells = ["mapping" if field.default != () else "list", "", description, ""]
        else:
            example = f"`{_shown(field.examples[0])}`" if field.examples else ""
            cells = [_kind(properties[name]), _default_text(field), field.description or "", example]
        key = f"{path}.{name}" if path else name
        yield f"| `{key}` | {' | '.join(cells)} |"
    yield ""


def _path(location: Location) -> str:
    return dotted(location).replace("[0]", "[]").replace('["<service>"]', ".<service>")


def _anchor(path: str) -> str:
    """The anchor that Markdown renderers make from a heading."""
    return "".join(letter for letter in path.lower() if letter.isalnum() or letter in "-_")


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = _default(field, "<domain>")
    return "none" if default in (None, "", (), {}) else f"`{_shown(default)}`"


def _kind(schema: Mapping[str, Any]) -> str:
    """What kind of value a key takes, in words."""
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    first = options[0]
    if "enum" in first:
        return " or ".join(f"`{choice}`" for choice in first["enum"])
    if first.get("format") == "ipv4":
        return "IP address"
    if first["type"] in ("integer", "number"):
        noun = "whole number" if first["type"] == "integer" else "number"
        return f"{noun}, {first['minimum']} to {first['maximum']}"
    if first["type"] == "array":
        return f"list of {_kind(first['items'])}s"
    if first["type"] == "boolean":
        return "`true` or `false`"
    return "path" if first.get("format") == "path" else "text"


def _rules_text() -> str:
    rules = "\n".join(f"- {(rule.__doc__ or '').splitlines()[0]}" for rule in RULES)
    return f"""\
## Rules across keys

{rules}
- The files that `tls.certificate`, `tls.key` and `trust.extra_cas` name exist.
- Those of `trust.extra_cas` hold certificates and no private key.
- A value counts as what it is written as: `"443"` is text, not a number, and `yes` is not `true`.
"""


def _hosts_text() -> str:
    groups = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in GROUPS.items())
    return f"""\
## `hosts.yml`

A plain Ansible inventory in YAML with these groups, at the top or below `all.children`.
Ansible's own variables say how to reach it: `ansible_host`, `ansible_user`, `ansible_port`, and
`ansible_connection: local` for the machine that `dap` runs on. A host may be in both groups.

| Group | Hosts |
|---|---|
{groups}
"""


def _wrong_text() -> str:
    services = ("minio", "mlflow", "pgadmin")
    _, faults = check_platform(parse_yaml(_WRONG_EXAMPLE), Path(), services)
    findings = sorted(
        Finding("platform.yml", dotted(where), value, text.reason, text.suggestion)
        for where, text, value in ((fault.location, fault.wording, fault.value or "") for fault in faults)
    )
    told = "\n".join(map(str, findings))
    return f"{_WRONG_INTRODUCTION}\n```yaml\n{_WRONG_EXAMPLE}```\n\nends with\n\n```text\n{told}\n```\n"


# --- the commented example -------------------------------------------------------------------------------

_EXAMPLE_HEAD = """\
All settings of a platform. What is commented out with # shows the default, or an example where there is
none; to change it, remove the # in front. Lines with ## explain. This file is generated: copy the folder
and change the copy.
"""


def commented_example() -> str:
    """The example inventory's `platform.yml`: every key explained, and in force only where required."""
    lines = [_MODELINE, "---", *_prose(_EXAMPLE_HEAD, "")]
    for name, field in Platform.model_fields.items():
        lines.append("")
        for is_prose, text in _setting((name,), field, ""):
            lines.append(text if is_prose or field.is_required() else f"# {text}")
    return "\n".join(lines) + "\n"


def _setting(location: Location, field: FieldInfo, indent: str, dash: str = "") -> Iterator[tuple[bool, str]]:
    """The lines of one key and all below it, each with whether it is an explanation."""
    for line in _prose(field.description or "", indent):
        yield True, line
    name = f"{indent}{dash}{location[-1]}"
    item = _item(location, field)
    section = section_at(item or location)
    if section is None:
        yield from _plain_setting(name, field, indent)
        return
    yield False, f"{name}:"
    inner_indent, dash = indent + "  ", "- " if item and item[-1] == 0 else ""
    if item and not dash:
        yield False, f"{inner_indent}{next(iter(field.examples[0])) if field.examples else item[-1]}:"
        inner_indent += "  "
    for key, inner in section.model_fields.items():
        yield from _setting((*(item or location), key), inner, inner_indent, dash)
        # Only the first key of a list's item has the dash.
        inner_indent, dash = inner_indent + " " * len(dash), ""


def _plain_setting(name: str, field: FieldInfo, indent: str) -> Iterator[tuple[bool, str]]:
    example = field.examples[0] if field.examples else ""
    default = _default(field, Platform.model_fields["domain"].examples[0])  # type: ignore[index]
    if isinstance(example, list):
        yield False, f"{name}:"
        for entry in example:
            yield False, f"{indent}  - {_shown(entry)}"
    else:
        yield False, f"{name}: {_shown(example if default in (None, '') else default)}"


def _prose(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=f"## {indent}", subsequent_indent=f"## {indent}")


# --- files -----------------------------------------------------------------------------------------------


def _page(module: str, function: str) -> Callable[[], str]:
    """The function that makes a page; its module is imported when it is wanted.

    ``dap init`` needs the commented example, and none of what those pages speak of.
    """

    def page() -> str:
        text: str = getattr(import_module(f"dap.{module}"), function)()
        return text

    return page


GENERATED: dict[str, Callable[[], str]] = {
    "docs/reference/configuration.md": configuration_page,
    "docs/reference/cli.md": _page("reference_cli", "cli_page"),
    "docs/reference/service-manifest.md": _page("reference_services", "manifest_page"),
    "docs/reference/services.md": _page("reference_services", "services_page"),
    "docs/reference/platform.schema.json": json_schema,
    "ansible/inventories/example/group_vars/all/platform.yml": commented_example,
}


def stale_files(root: Path) -> list[str]:
    """The generated files below ``root`` that differ from what would be written."""
    return [
        name
        for name, generate in GENERATED.items()
        if not (root / name).is_file() or (root / name).read_text(encoding="utf-8") != generate()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the generated files that are out of date, or only name them."""
    parser = argparse.ArgumentParser(prog="python -m dap.reference", description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file is out of date")
    only_check = parser.parse_args(arguments).check
    stale = stale_files(layout.ROOT)
    for name in stale:
        print(f"{name} is out of date; run: python -m dap.reference" if only_check else f"{name} written")
        if not only_check:
            path = layout.ROOT / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(GENERATED[name](), encoding="utf-8")
    return 1 if only_check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
