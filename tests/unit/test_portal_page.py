"""The portal's page and nginx-proxy's error pages, rendered with sample data."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dap.errors import DapError
from dap.rendering.templates import render_template

COMPOSE = Path(__file__).parents[2] / "compose"
PAGE = COMPOSE / "portal" / "config"
ERRORS = COMPOSE / "nginx-proxy" / "config" / "errors"
ERROR_PAGES = ["too-many-requests.html", "unavailable.html", "unknown-host.html"]
VOID = {"br", "hr", "img", "input", "link", "meta"}

SAMPLE: dict[str, Any] = {
    "platform": {
        "name": "Data Analysis Platform",
        "domain": "dap.example.org",
        "url": "https://dap.example.org",
        "version": "0.1.0",
        "private_ca": True,
        "ca_fingerprint": ":".join(["A1", "B2", "C3", "D4"] * 8),
    },
    "services": [
        {
            "name": "mlflow",
            "title": "MLflow",
            "summary": "Tracks experiments.",
            "group": "Experiments",
            "links": [{"label": "Open MLflow", "url": "https://mlflow.dap.example.org"}],
            "endpoints": [],
            "probe": True,
            "login": "Platform login",
        },
        {
            "name": "postgres-data",
            "title": "PostgreSQL for data",
            "summary": "Databases of the projects.",
            "group": "Databases",
            "links": [],
            "endpoints": [{"label": "Server", "value": "dap.example.org:5432"}],
            "probe": True,
            "login": "",
        },
        {
            "name": "nginx-proxy",
            "title": "nginx",
            "summary": "The entrance.",
            "group": "Platform",
            "links": [],
            "endpoints": [],
            "probe": False,
            "login": "",
        },
    ],
    "left_out": [{"name": "GitLab", "reason": "8 GiB of memory are too few."}],
    "projects": [
        {"name": "first", "database": "first_db", "role": "first_role", "bucket": "first-bucket"},
        {"name": "second", "database": "second_db", "role": "second_role", "bucket": "second-bucket"},
    ],
    "connect": {
        "mlflow_url": "https://mlflow.dap.example.org",
        "s3_url": "https://s3.dap.example.org:8443",
        "postgres_host": "dap.example.org",
        "postgres_port": 5432,
        "git_url": "https://gitlab.dap.example.org",
        "dev_containers": "https://dap.example.org/my/",
    },
}
NOTHING_TO_CONNECT_TO = dict.fromkeys(SAMPLE["connect"])


def sample(**changes: Any) -> dict[str, Any]:
    """The sample with whole top-level values replaced, or keys of ``platform`` and ``connect`` updated."""
    context = copy.deepcopy(SAMPLE)
    for key, value in changes.items():
        if isinstance(value, dict):
            context[key].update(value)
        else:
            context[key] = value
    return context


def render(folder: Path, name: str, context: dict[str, Any]) -> str:
    """Renders exactly as a deployment does: how blocks are trimmed decides where a snippet's lines end."""
    return render_template(folder / f"{name}.j2", context)


class Document(HTMLParser):
    """Reads a page strictly: every element must be closed in order.

    Attributes:
        elements: tag and attributes of each element.
        panels: by tab, the text of each snippet.
        text: all text outside of ``style``.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.panels: dict[str, list[str]] = {}
        self.text = ""
        self._open: list[str] = []
        self._snippet: str | None = None
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append(tag)
        if "data-tab" in attributes:
            self.panels[attributes["data-tab"]] = []
        if tag == "pre":
            self._snippet = ""

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "pre" and self._snippet is not None:
            self.panels[list(self.panels)[-1]].append(self._snippet)
            self._snippet = None

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data
        if self._snippet is not None:
            self._snippet += data

    def values(self, attribute: str) -> list[str]:
        """All values of one attribute, in the page's order."""
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]


def page(**changes: Any) -> Document:
    """The portal's page of the changed sample."""
    return Document(render(PAGE, "index.html", sample(**changes)))


def variants() -> dict[str, dict[str, Any]]:
    """Deployments with and without each optional part."""
    absent = {key: {"connect": {key: None}} for key in SAMPLE["connect"] if key != "postgres_port"}
    absent["postgres_host"]["connect"]["postgres_port"] = None
    return {
        "all": {},
        "nothing": {"connect": NOTHING_TO_CONNECT_TO, "projects": [], "left_out": [], "services": []},
        "public-ca": {"platform": {"private_ca": False, "ca_fingerprint": ""}},
        "no-project": {"projects": []},
        "one-project": {"projects": SAMPLE["projects"][:1]},
        **{f"no-{key}": change for key, change in absent.items()},
    }


every_variant = pytest.mark.parametrize("changes", variants().values(), ids=variants())


@every_variant
def test_page_keeps_to_its_content_security_policy(changes: dict[str, Any]) -> None:
    document = page(**changes)
    tags = {tag for tag, _ in document.elements}
    attributes = {name for _, attributes in document.elements for name in attributes}
    assert "style" not in tags | attributes
    assert not [name for name in attributes if name.startswith("on")]
    assert [attrs["src"] for tag, attrs in document.elements if tag == "script"] == ["/app.js"]
    assert set(document.values("src")) == {"/app.js", "/favicon.svg"}


@every_variant
def test_every_link_of_the_page_leads_somewhere(changes: dict[str, Any]) -> None:
    document = page(**changes)
    ids = document.values("id")
    assert len(ids) == len(set(ids))
    here = {"/", "/ca.crt", *(f"/{file.name}" for file in PAGE.iterdir())}
    for link in document.values("href"):
        if link.startswith("#"):
            assert link[1:] in ids
        else:
            assert link in here or re.match(r"https://([a-z0-9]+\.)?dap\.example\.org", link)


@every_variant
def test_every_label_and_copy_button_has_something_to_work_on(changes: dict[str, Any]) -> None:
    document = page(**changes)
    ids = document.values("id")
    assert [label for label in document.values("aria-labelledby") if label not in ids] == []
    assert (
        len(document.values("data-copy")) == len(document.values("data-source")) > 0 or "nothing" in changes
    )
    assert all(attrs["aria-label"] for _, attrs in document.elements if "data-copy" in attrs)


@every_variant
def test_no_value_that_is_absent_is_shown(changes: dict[str, Any]) -> None:
    assert not re.search(r"\bNone\b|\{\{|\{%", page(**changes).text)


@every_variant
def test_python_snippets_are_valid_python(changes: dict[str, Any]) -> None:
    for code in page(**changes).panels.get("Python", []):
        if "import " in code:
            compile(code, "snippet", "exec")


@every_variant
def test_shell_snippets_are_valid_shell(changes: dict[str, Any]) -> None:
    panels = page(**changes).panels
    shell = [code for tab in ("S3 client", "Git", "Linux", "macOS") for code in panels.get(tab, [])]
    shell += [code for tab in panels.values() for code in tab if code.startswith(("export ", "pip "))]
    for code in shell:
        subprocess.run(["bash", "-n"], input=code, text=True, check=True)


def test_a_command_that_asks_something_is_the_last_of_its_snippet() -> None:
    asking = ("; read -rs", "mc alias set", "aws configure --profile", 'psql "', "git clone", "sudo ")
    lines = [
        (line, last)
        for tab in page().panels.values()
        for code in tab
        for *before, last in [code.replace("\\\n", "").splitlines()]
        for line in [*before, last]
        if any(word in line for word in asking)
    ]
    assert len(lines) >= len(asking)
    assert [line for line, last in lines if line != last] == []


def test_services_are_shown_with_links_endpoints_and_health() -> None:
    document = page()
    assert [attrs["data-service"] for _, attrs in document.elements if "data-service" in attrs] == [
        "mlflow",
        "postgres-data",
    ]
    assert "https://mlflow.dap.example.org" in document.values("href")
    for text in ("Tracks experiments.", "Platform login", "Experiments", "dap.example.org:5432", "0.1.0"):
        assert text in document.text
    assert "3 services deployed" in document.text


def test_left_out_services_are_named_with_the_reason_or_not_at_all() -> None:
    assert "8 GiB of memory are too few." in page().text
    assert "Left out" not in page(left_out=[]).text


def test_snippets_use_the_names_and_ports_of_this_site() -> None:
    panels = page().panels
    assert list(panels)[:6] == ["Python", "R", "psql", "S3 client", "Git", "IDE"]
    assert panels["Python"][1].splitlines() == [
        "export MLFLOW_TRACKING_URI=https://mlflow.dap.example.org",
        "export MLFLOW_TRACKING_USERNAME=YOUR_NAME",
        'cat "$(python -m certifi)" "$HOME/dap-ca.crt" > "$HOME/dap-cas.pem"',
        'export REQUESTS_CA_BUNDLE="$HOME/dap-cas.pem"',
        'printf "MLflow password: "; read -rs MLFLOW_TRACKING_PASSWORD; export MLFLOW_TRACKING_PASSWORD',
    ]
    address = "host=dap.example.org port=5432 dbname=first_db user=first_role sslmode=verify-full"
    assert f'psycopg.connect("{address}")' in panels["Python"][4]
    assert f'psql "{address}"' in panels["psql"][0]
    assert 'dbname = "first_db", user = "first_role"' in panels["R"][0]
    assert panels["S3 client"][0].endswith("\nmc alias set dap https://s3.dap.example.org:8443")
    assert panels["S3 client"][2].splitlines() == [
        "aws configure set --profile dap endpoint_url https://s3.dap.example.org:8443",
        'aws configure set --profile dap ca_bundle "$HOME/dap-ca.crt"',
        "aws configure --profile dap",
    ]
    assert panels["Git"][0].endswith("\ngit clone https://gitlab.dap.example.org/GROUP/PROJECT.git")
    assert "curl --insecure --output ~/dap-ca.crt https://dap.example.org/ca.crt\n" in panels["Linux"][0]


@pytest.mark.parametrize(
    ("part", "tabs", "words"),
    [
        ("mlflow_url", set(), ("MLFLOW_TRACKING_URI", "experiment tracking")),
        ("s3_url", {"S3 client"}, ("boto3.client", "S3 storage")),
        ("postgres_host", {"psql"}, ("psycopg.connect", "a database for projects")),
        ("git_url", {"Git"}, ("git clone", "Git hosting")),
        ("dev_containers", {"IDE"}, ("Your development containers", "development containers for an IDE")),
    ],
)
def test_a_part_that_is_not_deployed_is_said_to_be_absent(
    part: str, tabs: set[str], words: tuple[str, str]
) -> None:
    snippet, name = words
    document = page(connect={part: None})
    assert set(page().panels) - set(document.panels) == tabs
    assert snippet in page().text
    assert snippet not in document.text
    assert f"Not part of this deployment: {name}." in document.text
    assert "Not part of this deployment" not in page().text


def test_without_anything_to_connect_to_no_tab_and_no_hint_is_left() -> None:
    document = page(connect=NOTHING_TO_CONNECT_TO)
    assert "Python" not in document.panels
    assert "dap credentials" not in document.text
    assert "first_db" not in document.text


def test_the_private_ca_is_offered_with_its_fingerprint() -> None:
    document = page()
    assert SAMPLE["platform"]["ca_fingerprint"] in document.text
    assert "/ca.crt" in document.values("href")


def test_without_a_private_ca_nobody_is_told_to_trust_one() -> None:
    document = page(platform={"private_ca": False, "ca_fingerprint": ""})
    assert "/ca.crt" not in document.values("href")
    assert "dap-ca.crt" not in document.text
    assert 'PGSSLROOTCERT="/etc/ssl/certs/ca-certificates.crt"' in document.panels["psql"][0]


def test_projects_can_be_chosen_only_where_there_are_several() -> None:
    assert "project" in page().values("id")
    assert page().values("data-bucket") == ["first-bucket", "second-bucket"]
    assert "project" not in page(projects=SAMPLE["projects"][:1]).values("id")
    assert "No project is configured yet" in page(projects=[]).text


def test_what_the_script_looks_for_is_on_the_page() -> None:
    script = (PAGE / "app.js").read_text()
    wanted = set(re.findall(r'getElementById\("([\w-]+)"\)', script))
    assert wanted == {"announce", "overall", "project", "theme"}
    assert wanted <= set(page().values("id"))


def test_texts_of_the_configuration_are_escaped() -> None:
    hostile = "<script>alert(1)</script>\"'&"
    context = sample(left_out=[{"name": hostile, "reason": hostile}])
    context["platform"]["name"] = hostile
    for field in ("title", "summary", "group", "login"):
        context["services"][0][field] = hostile
    for field in ("name", "database", "role", "bucket"):
        context["projects"][1][field] = hostile
    document = Document(render(PAGE, "index.html", context))
    assert [tag for tag, _ in document.elements].count("script") == 1
    assert document.text.count(hostile) >= 8


@pytest.mark.parametrize("name", list(SAMPLE))
def test_a_missing_value_is_an_error(name: str) -> None:
    context = sample()
    del context[name]
    with pytest.raises(DapError, match=f"'{name}' is undefined"):
        render(PAGE, "index.html", context)


def test_probe_list_is_rendered_unchanged() -> None:
    probes = [{"service": "mlflow", "type": "http", "url": "http://mlflow:5000/health?a='1'&b=<2>"}]
    assert json.loads(render(PAGE, "probes.json", {"probes": probes})) == probes


@pytest.mark.parametrize("name", ERROR_PAGES)
def test_error_pages_need_no_other_file_and_lead_to_the_portal(name: str) -> None:
    document = Document(render(ERRORS, name, {"platform": SAMPLE["platform"]}))
    assert document.values("src") == []
    assert document.values("href") == ["data:,", "https://dap.example.org"]
    assert "Data Analysis Platform · dap.example.org" in document.text


def test_only_the_page_of_a_starting_service_reloads_itself() -> None:
    refreshing = {
        name: document.values("content")
        for name in ERROR_PAGES
        if "refresh" in (document := Document(render(ERRORS, name, SAMPLE))).values("http-equiv")
    }
    assert set(refreshing) == {"unavailable.html"}
    assert "5" in refreshing["unavailable.html"]


def test_error_pages_have_the_colours_of_the_portal() -> None:
    colours = re.findall(r"--[\w-]+: light-dark\(.*\);", render(ERRORS, "unavailable.html", SAMPLE))
    assert len(colours) == 8
    portal_styles = (PAGE / "styles.css").read_text()
    assert [colour for colour in colours if colour not in portal_styles] == []
