"""The documentation against the project: links, commands, settings, examples and the list of services."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import click
import pytest
import yaml

from dap import schema
from dap.cli import main
from dap.hostsfile import find_hosts
from dap.layout import compose_dir
from dap.manifest import Manifest
from dap.schema import Platform
from dap.yamlfile import read_yaml
from tests.lint import ROOT, tracked

LONGEST_LINE = 110
SHELLS = {"bash", "sh", "shell", "console"}
INDEX = ROOT / "docs" / "index.md"
FIXTURE = ROOT / "tests" / "integration" / "fixtures" / "guestbook"

_FENCE = re.compile(r"^(`{3,})(\w*)[^\n]*\n(.*?)^\1[ \t]*$", re.M | re.S)
_LINK = re.compile(r"(?<!\\)!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_HTML_LINK = re.compile(r"<(?:img|a|source)\b[^>]*?\b(?:src|href|srcset)=\"([^\"]+)\"", re.I)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.M)
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def generated(self) -> bool:
        return "<!-- Generated from" in self.text

    @property
    def prose(self) -> str:
        """The page without its fenced blocks."""
        return _FENCE.sub("", self.text)

    @property
    def blocks(self) -> list[Block]:
        return [Block(match[2], match[3]) for match in _FENCE.finditer(self.text)]

    @property
    def code(self) -> list[str]:
        """What stands between single backquotes."""
        return [match[1] for match in _CODE.finditer(self.prose)]

    @property
    def links(self) -> list[str]:
        """Relative addresses of links and images."""
        prose = _CODE.sub("", self.prose)
        found = [match[1] for pattern in (_LINK, _HTML_LINK) for match in pattern.finditer(prose)]
        return [link for link in found if not re.match(r"[a-z][a-z0-9+.-]*:|//", link)]

    @property
    def anchors(self) -> set[str]:
        """The anchors that GitHub gives the headings."""
        anchors: set[str] = set()
        for match in _HEADING.finditer(self.prose):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).lower()
            slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            number, unique = 0, slug
            while unique in anchors:
                number += 1
                unique = f"{slug}-{number}"
            anchors.add(unique)
        return anchors

    @property
    def shell_lines(self) -> list[str]:
        """The lines of shell blocks, continued ones joined."""
        text = "\n".join(block.text for block in self.blocks if block.language in SHELLS)
        return text.replace("\\\n", " ").splitlines()


PAGES = [Page(ROOT / path) for path in tracked() if path.suffix == ".md"]
every_page = pytest.mark.parametrize("page", PAGES, ids=str)


def commands(lines: list[str], program: str) -> Iterator[list[str]]:
    """Every call of ``program`` in shell lines: its arguments, up to whatever ends the command."""
    for line in lines:
        for match in re.finditer(rf"(?:^|[\s(;&|`])(?:[\w./-]+/)?{program}(?=\s|$)([^|;&`#)<>]*)", line):
            before = line[: match.start()].strip()
            # As the argument of another program it is a word, not a command.
            if not before or before.endswith(("|", ";", "&&", "$(", "&")) or match[0][0] in "(;&|":
                yield shlex.split(match[1])


def refusal(arguments: list[str]) -> str:
    """What the command line says against these arguments; empty if it would take them."""
    command: click.Command = main
    try:
        while isinstance(command, click.Group):
            _, rest, _ = command.make_parser(click.Context(command)).parse_args(args=list(arguments))
            if not rest:
                return "" if {"--help", "--version", "-h"} & {*arguments} else "no verb"
            if rest[0] not in command.commands:
                return f"no verb {rest[0]!r}"
            command, arguments = command.commands[rest[0]], rest[1:]
        command.make_context(command.name, list(arguments))
    except click.UsageError as error:
        return error.format_message()
    except click.exceptions.Exit:
        pass
    return ""


def target(page: Page, link: str) -> tuple[Path, str]:
    """The file that a relative link leads to, and its anchor."""
    path, _, anchor = unquote(link).partition("#")
    return ((page.path.parent / path).resolve() if path else page.path), anchor


@every_page
def test_links_and_images_lead_somewhere(page: Page) -> None:
    broken = []
    for link in page.links:
        path, anchor = target(page, link)
        if not path.is_relative_to(ROOT) or not path.exists():
            broken.append(link)
        elif anchor and path.suffix == ".md" and anchor not in Page(path).anchors:
            broken.append(f"{link}: no such heading")
    assert broken == []


@every_page
def test_every_dap_command_is_one(page: Page) -> None:
    refused = {" ".join(call): refusal(call) for call in commands(page.shell_lines, "dap")}
    assert {call: why for call, why in refused.items() if why} == {}


@every_page
def test_every_dap_command_in_prose_is_one(page: Page) -> None:
    # In prose a command may stand for the verb alone.
    refused = {code: refusal(shlex.split(code)[1:]) for code in page.code if code.startswith("dap ")}
    assert {code: why for code, why in refused.items() if why and "Missing " not in why} == {}


@every_page
def test_every_make_command_has_a_target(page: Page) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.M))
    variables = set(re.findall(r"^([A-Z]+) \?=", makefile, re.M))
    calls = [*commands(page.shell_lines, "make")]
    calls += [shlex.split(code)[1:] for code in page.code if code.startswith("make ")]
    words = [word for call in calls for word in call]
    unknown = {word for word in words if "=" not in word} - targets
    unknown |= {word.partition("=")[0] for word in words if "=" in word} - variables
    assert unknown == set()


def table_below(page: Page, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    _, found, rest = page.prose.partition(f"\n## {heading}\n")
    assert found, f"{page} has no heading {heading!r}"
    rows = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def test_readme_lists_every_service_and_no_other() -> None:
    folders = {path.parent.name for path in compose_dir().glob("*/service.yml")}
    listed = [row[0].strip("`") for row in table_below(Page(ROOT / "README.md"), "Services")]
    assert sorted(listed) == sorted(folders - {"toolbox"})


def test_every_page_can_be_reached_from_the_index() -> None:
    reached, waiting = set(), [INDEX]
    while waiting:
        path = waiting.pop()
        if path in reached or not path.is_file():
            continue
        reached.add(path)
        page = Page(path)
        waiting += [file for file, _ in (target(page, link) for link in page.links) if file.suffix == ".md"]
    pages = {page.path for page in PAGES if page.path.is_relative_to(ROOT / "docs")}
    assert sorted(pages - reached) == []


@every_page
def test_lines_can_be_read_without_scrolling(page: Page) -> None:
    long = [line for line in page.prose.splitlines() if len(line) > LONGEST_LINE]
    assert page.generated or long == []


@every_page
def test_every_named_setting_exists(page: Page) -> None:
    dotted = [code.split(".") for code in page.code if re.fullmatch(r"[a-z_]+(\.[a-z_<>-]+)+", code)]
    settings = [tuple(parts) for parts in dotted if parts[0] in Platform.model_fields and parts[-1] != "yml"]
    unknown = [parts for parts in settings if not schema.field_at(parts) and not schema.section_at(parts)]
    assert unknown == []


@every_page
def test_examples_of_files_are_accepted(page: Page, tmp_path: Path) -> None:
    for block in page.blocks:
        name = block.text.partition("\n")[0].removeprefix("# ")
        if block.language != "yaml" or not name.endswith(".yml"):
            continue
        content = yaml.safe_load(block.text)
        if name == "platform.yml":
            Platform.model_validate({"domain": "dap.example.com"} | content)
        elif name == "service.yml":
            Manifest.model_validate(content)
        else:
            assert name == "hosts.yml"
            file = tmp_path / name
            file.write_text(block.text, encoding="utf-8")
            hosts, faults = find_hosts(read_yaml(file))
            assert (len(hosts), faults) == (1, [])


@pytest.mark.parametrize("name", ["service.yml", "compose.yaml.j2", "image/Dockerfile"])
def test_worked_example_is_the_fixture(name: str) -> None:
    blocks = [block.text for block in Page(ROOT / "docs" / "how-to" / "add-a-service.md").blocks]
    assert (FIXTURE / name).read_text(encoding="utf-8") in blocks


@every_page
def test_clients_have_the_servers_version(page: Page) -> None:
    manifest = yaml.safe_load((compose_dir() / "mlflow" / "service.yml").read_text(encoding="utf-8"))
    named = set(re.findall(r"mlflow-skinny==([0-9.]+[0-9])", page.text))
    assert named <= {manifest["image"]["build"]}


@pytest.mark.parametrize(
    ("line", "calls"),
    [
        ("dap -e team check", [["-e", "team", "check"]]),
        ("X=$(dap credentials --json | head)", [["credentials", "--json"]]),
        ("source x; dap status && .venv/bin/dap verify", [["status"], ["verify"]]),
        ("rm -r ~/dap-tutorial; mc alias set dap URL", []),
    ],
)
def test_calls_are_found_in_a_line(line: str, calls: list[list[str]]) -> None:
    assert list(commands([line], "dap")) == calls


@pytest.mark.parametrize(
    "arguments",
    [["deplyo"], ["deploy", "--force"], ["status", "extra"], ["ca"], ["completion", "tcsh"], ["logs"]],
)
def test_wrong_commands_are_refused(arguments: list[str]) -> None:
    assert refusal(arguments)
