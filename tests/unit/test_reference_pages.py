"""The pages that are written from the program, the manifests and the rules are complete."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from dap.cli import main
from dap.credentials import Credentials
from dap.gitlab.runners import Here
from dap.hosts.facts import HostFacts
from dap.layout import compose_dir
from dap.reference.cli import cli_page, table
from dap.reference.services import CHECK_MODULES, manifest_page, services_page
from dap.rendering.render import Renderer
from dap.secrets import SecretStore
from dap.services.manifest import find_folders, load_services
from dap.services.manifest_schema import GUARDED, Manifest, ManifestSection, section_in
from dap.trust.tls import Tls
from dap.verify import CHECKS
from tests.unit.platforms import site_of


def section_of(page: str, heading: str) -> str:
    """What stands below a heading, up to the next one."""
    _, found, rest = page.partition(f"\n## {heading}\n")
    assert found, heading
    return rest.partition("\n## ")[0]


def first_cells(text: str) -> list[str]:
    """What stands between backquotes at the beginning of each row of the tables."""
    return [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]


def verbs(group: click.Group, above: str) -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in group.commands.items():
        full = f"{above} {name}"
        found |= verbs(command, full) if isinstance(command, click.Group) else {full: command}
    return found


@pytest.mark.parametrize("name", verbs(main, "dap"))
def test_every_parameter_of_a_verb_is_on_the_page(name: str) -> None:
    text = section_of(cli_page(), f"`{name}`")
    command = verbs(main, "dap")[name]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert all(f"`{option}`" in text for option in [*parameter.opts, *parameter.secondary_opts])
        else:
            assert f"`{parameter.human_readable_name.upper()}`" in text


def test_every_row_of_an_option_says_what_it_does() -> None:
    rows = [line.split(" | ") for line in cli_page().splitlines() if line.startswith("| `-")]
    assert rows
    assert all(row[-1].strip(" |") for row in rows)


def test_every_key_of_the_manifest_is_on_the_page() -> None:
    page = manifest_page()
    assert first_cells(section_of(page, "`service.yml`, top level")) == list(Manifest.model_fields)
    for name, field in Manifest.model_fields.items():
        if section := section_in(field.annotation):
            heading = f"`{name}[]`" if isinstance(field.default, list) else f"`{name}`"
            assert first_cells(section_of(page, heading)) == list(section.model_fields)


def test_every_key_of_the_manifest_has_description_and_example() -> None:
    sections: list[type[ManifestSection]] = [Manifest]
    sections += filter(None, (section_in(field.annotation) for field in Manifest.model_fields.values()))
    for section in sections:
        for name, field in section.model_fields.items():
            assert field.description, name
            assert field.examples, name


def test_every_guarded_key_is_on_the_page() -> None:
    text = section_of(manifest_page(), "The Compose fragment")
    assert [key for key in GUARDED if f"`{key}`" not in text] == []


def test_templates_know_what_the_page_says_and_no_more(tmp_path: Path) -> None:
    services = load_services(find_folders([compose_dir()]))
    site = site_of(*services.values())
    credentials = Credentials(site, SecretStore.load(tmp_path, "team"))
    tls = Tls(leaves={}, ca_certificate=b"", extra_cas=(), public=False, warnings=())
    more = {f"{name}.{one}": "" for name, each in services.items() for one in each.manifest.image.more}
    renderer = Renderer(site, credentials, more, tls)
    public: set[str] = set()
    private: set[str] = set()
    for service in services.values():
        public |= set(renderer._context(service, HostFacts(16000, 4)))
        here = Here(site.inventory.service_host, HostFacts(16000, 4), "127.0.0.1")
        private |= set(renderer._secret_context(service, here))
    text = section_of(manifest_page(), "Templates")
    everywhere, _, in_secrets = text.partition("Only those in `secrets/` know:")
    assert set(first_cells(everywhere)) == public
    assert set(first_cells(in_secrets)) == private


def test_every_service_is_on_the_page_with_its_checks() -> None:
    page = services_page()
    services = load_services(find_folders([compose_dir()]))
    for name, service in services.items():
        text = section_of(page, f"`{name}`")
        assert service.manifest.summary in text
        assert all((CHECKS[check].__doc__ or "").splitlines()[0] in text for check in service.manifest.checks)


def test_all_modules_with_checks_are_asked() -> None:
    folder = Path(CHECK_MODULES[0].__file__ or "").parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {module.__name__.rpartition(".")[2] for module in CHECK_MODULES} == modules


@pytest.mark.parametrize("page", [cli_page, manifest_page, services_page])
def test_lines_of_prose_are_short(page: object) -> None:
    assert callable(page)
    long = [line for line in page().splitlines() if len(line) > 110 and not line.startswith("|")]
    assert long == []


def test_bar_in_a_cell_is_no_border() -> None:
    assert table(["A"], [["a|b"]]) == "| A |\n|---|\n| a\\|b |\n"
