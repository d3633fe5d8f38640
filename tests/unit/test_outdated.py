"""Newer versions of what is pinned, asked of real servers on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dap import outdated as listing
from dap.cli import main
from dap.outdated import Pin, compared, pins_of
from dap.outdated.sources import Sources
from dap.site import Site, load_site
from tests.unit.inventories import InventoryFolder
from tests.unit.platforms import service_of, site_of, tree_of

SIMPLE = "application/vnd.pypi.simple.v1+json"
Answer = tuple[int, str, bytes] | tuple[int, str, bytes, dict[str, str]]


class Upstream:
    """An index, a proxy of modules and a registry in one.

    Attributes:
        answers: status, content type, content and further headers by path; 404 for others.
        asked: the paths, in order.
        token: what a registry wants to be shown; empty for none.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.token = ""
        self.address = ""

    def packages(self, name: str, *files: str, yanked: tuple[str, ...] = ()) -> None:
        found = [{"filename": file, "yanked": file in yanked} for file in (*files, *yanked)]
        self.answers[f"/simple/{name}/"] = (200, SIMPLE, json.dumps({"files": found}).encode())

    def answer(self, path: str, headers: Mapping[str, str]) -> Answer:
        self.asked.append(path)
        if path.startswith("/token"):
            return 200, "application/json", json.dumps({"token": self.token}).encode()
        if path.startswith("/v2/") and self.token and headers.get("Authorization") != f"Bearer {self.token}":
            realm = f'Bearer realm="http://{self.address}/token",service="hub",scope="repository:x:pull"'
            return 401, "application/json", b"{}", {"WWW-Authenticate": realm}
        return self.answers.get(path, (404, "text/plain", b""))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    there = Upstream()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, content, *more = there.answer(self.path, dict(self.headers))
            self.send_response(status)
            headers = {"Content-Type": kind, "Content-Length": str(len(content)), **(more[0] if more else {})}
            for name, value in headers.items():
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    there.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield there
    server.shutdown()
    thread.join()
    server.server_close()


def mirrored(upstream: Upstream) -> Site:
    """A platform whose mirrors are that server."""
    at = f"http://{upstream.address}"
    mirrors = {"pypi": f"{at}/simple", "go": f"{at}/go,direct", "registry": f"{upstream.address}/hub"}
    return site_of(mirrors=mirrors)


def newest(upstream: Upstream, kind: str, name: str, version: str) -> tuple[str, str]:
    """The newest version, and why it is unknown."""
    (found,) = compared([Pin(kind, name, version, ("here",))], Sources(mirrored(upstream)))
    return found.newest, found.unknown


def test_newest_package_is_the_highest_version_that_was_not_taken_back(upstream: Upstream) -> None:
    files = ("Click_Me-8.9.tar.gz", "click_me-8.10-py3-none-any.whl", "click_me-9.0rc1.tar.gz", "notes.txt")
    upstream.packages("click-me", *files, yanked=("click_me-8.11.tar.gz",))
    assert newest(upstream, "python", "Click.Me", "8.9") == ("8.10", "")
    assert newest(upstream, "python", "Click.Me", "9.0b1") == ("9.0rc1", "")
    # What is written stays as it is written.
    assert newest(upstream, "python", "Click.Me", "8.10.0") == ("8.10.0", "")


def test_index_that_speaks_html_only_is_understood(upstream: Upstream) -> None:
    page = b"""<a href="/f#sha256=0">click-8.9.tar.gz</a><br>
    <a href="/f" data-yanked="broken">click-9.9.tar.gz</a> <a href="/f"> click-8.10-py3-none-any.whl </a>"""
    upstream.answers["/simple/click/"] = (200, "text/html", page)
    assert newest(upstream, "python", "click", "8.9") == ("8.10", "")


def test_newest_module_is_a_release_or_the_latest_commit(upstream: Upstream) -> None:
    upstream.answers["/go/example.com/!azure/sdk/@v/list"] = (
        200,
        "text/plain",
        b"v1.9.0\nv1.10.0\nv2.0.0-rc1\n",
    )
    assert newest(upstream, "go", "example.com/Azure/sdk", "v1.9.0") == ("v1.10.0", "")
    upstream.answers["/go/example.com/bare/@v/list"] = (200, "text/plain", b"")
    latest = "v0.0.0-20260102030405-abcdefabcdef"
    upstream.answers["/go/example.com/bare/@latest"] = (
        200,
        "text/plain",
        json.dumps({"Version": latest}).encode(),
    )
    assert newest(upstream, "go", "example.com/bare", "v0.0.0-20250102030405-ffffffffffff") == (latest, "")
    assert newest(upstream, "go", "example.com/bare", latest) == (latest, "")


@pytest.mark.parametrize("token", ["", "t0ken"])
def test_newest_image_has_a_tag_of_the_same_shape(upstream: Upstream, token: str) -> None:
    upstream.token = token
    pages = (["19.4.1-ce.0", "19.10.0-ce.0", "latest"], ["19.5.0-ce.0", "20.0.0-ee.0", "20.0.0-rc1.ce.0"])
    for number, tags in enumerate(pages):
        path = "/v2/hub/gitlab/gitlab-ce/tags/list?n=1000" + "&last=x" * number
        following = {} if number else {"Link": f'<{path}&last=x>; rel="next"'}
        upstream.answers[path] = (200, "application/json", json.dumps({"tags": tags}).encode(), following)
    assert newest(upstream, "image", "gitlab/gitlab-ce", "19.4.1-ce.0") == ("19.10.0-ce.0", "")


@pytest.mark.parametrize(
    ("kind", "name", "version", "answer", "reason"),
    [
        ("python", "click", "8.9", (404, "text/plain", b""), "click: 127.0.0.1 answers 404"),
        ("python", "click", "8.9", (200, SIMPLE, b"{"), "click: the answer cannot be understood"),
        ("python", "click", "8.9", (200, SIMPLE, b"[]"), "click: the answer cannot be understood"),
        ("go", "a.b/c", "v1.0.0", (200, "text/plain", b"vX"), "a.b/c: the answer cannot be understood"),
        (
            "image",
            "team/app",
            "1.2",
            (200, "a/b", b'{"tags": 1}'),
            "team/app: the answer cannot be understood",
        ),
        ("image", "team/app", "latest", (200, "a/b", b""), "team/app: the tag latest has no version"),
    ],
)
def test_what_cannot_be_compared_is_unknown_and_why(
    upstream: Upstream, kind: str, name: str, version: str, answer: Answer, reason: str
) -> None:
    for path in ("/simple/click/", "/go/a.b/c/@v/list", "/v2/hub/team/app/tags/list?n=1000"):
        upstream.answers[path] = answer
    assert newest(upstream, kind, name, version) == ("", reason)


def test_registry_that_wants_a_login_is_unknown(upstream: Upstream) -> None:
    path = "/v2/hub/team/app/tags/list?n=1000"
    upstream.answers[path] = (401, "text/plain", b"", {"WWW-Authenticate": 'Basic realm="hub"'})
    assert newest(upstream, "image", "team/app", "1.2") == ("", "team/app: 127.0.0.1 wants a login")


def test_source_that_cannot_be_reached_is_asked_once(upstream: Upstream) -> None:
    site = site_of(mirrors={"pypi": "http://127.0.0.1:9/simple"})
    found = compared([Pin("python", f"p{n}", "1", ("here",)) for n in range(20)], Sources(site))
    (reason,) = {pin.unknown for pin in found}
    assert reason == "127.0.0.1:9 cannot be reached: [Errno 111] Connection refused"


def test_pins_are_found_where_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    module = "module x\n\nrequire example.com/a v1.0.0\n\nrequire (\n\texample.com/b v2.0.0\n"
    module += "\texample.com/c v3.0.0 // indirect\n)\n"
    tree_of(
        tmp_path,
        {
            "requirements.lock": "click==8.9 \\\n    --hash=sha256:0\n    # via x==1\n",
            "services/app/image/requirements.txt": "click==8.9\nuvicorn[standard]==0.5 ; os_name > '3'\n",
            "services/app/image/go.mod": module,
        },
    )
    more = {"helper": "registry.example.com:5000/team/helper:x86_64-v1.2"}
    pulled = service_of("git", Path("services"), image={"pull": "vendor/git:1.2.3", "more": more})
    assert [
        (pin.kind, pin.name, pin.version, pin.where)
        for pin in pins_of(site_of(service_of("app", Path("services")), pulled))
    ] == [
        ("go", "example.com/a", "v1.0.0", ("services/app/image/go.mod",)),
        ("go", "example.com/b", "v2.0.0", ("services/app/image/go.mod",)),
        ("image", "registry.example.com:5000/team/helper", "x86_64-v1.2", ("services/git/service.yml",)),
        ("image", "vendor/git", "1.2.3", ("services/git/service.yml",)),
        ("python", "click", "8.9", ("requirements.lock", "services/app/image/requirements.txt")),
        ("python", "uvicorn", "0.5", ("services/app/image/requirements.txt",)),
    ]


# --- the verb --------------------------------------------------------------------------------------------


@pytest.fixture
def site_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, upstream: Upstream) -> InventoryFolder:
    """An inventory whose mirrors are the server, and three pins."""
    for name, below in (("DAP_INVENTORIES", "inventories"), ("DAP_SECRETS", "secrets")):
        monkeypatch.setenv(name, str(tmp_path / below))
    monkeypatch.setenv("DAP_INVENTORY", "site")
    monkeypatch.chdir(tmp_path)
    at = f"http://{upstream.address}"
    folder = InventoryFolder(tmp_path)
    folder.write(
        f"domain: dap.example.com\nmirrors: {{pypi: '{at}/simple', registry: '{upstream.address}'}}\n"
    )
    pins = [Pin("python", name, "8.9", ("requirements.lock",)) for name in ("click", "httpx")]
    monkeypatch.setattr(listing, "pins_of", lambda site: [*pins, Pin("image", "team/app", "1.2", ("a", "b"))])
    return folder


def test_newer_versions_are_listed_and_end_with_3(site_folder: InventoryFolder, upstream: Upstream) -> None:
    upstream.packages("click", "click-8.10.tar.gz")
    upstream.packages("httpx", "httpx-8.9.tar.gz")
    result = CliRunner().invoke(main, ["outdated"])
    assert (result.exit_code, result.stderr, result.stdout) == (
        3,
        "",
        "python  click  8.9 -> 8.10  requirements.lock\n"
        "unknown (1): team/app: 127.0.0.1 answers 404\n"
        "1 of 3 pinned versions have a newer one.\n",
    )
    result = CliRunner().invoke(main, ["outdated", "--json"])
    first, _, last = json.loads(result.stdout)
    assert result.exit_code == 3
    assert first == {
        "kind": "python",
        "name": "click",
        "pinned": "8.9",
        "newest": "8.10",
        "outdated": True,
        "unknown": None,
        "where": ["requirements.lock"],
    }
    assert (last["newest"], last["outdated"], last["unknown"]) == (
        None,
        False,
        "team/app: 127.0.0.1 answers 404",
    )


def test_nothing_newer_ends_with_0(site_folder: InventoryFolder, upstream: Upstream) -> None:
    for name in ("click", "httpx"):
        upstream.packages(name, f"{name}-8.9.tar.gz")
    result = CliRunner().invoke(main, ["outdated"])
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (
        0,
        "0 of 3 pinned versions have a newer one.",
    )


def test_machine_without_a_network_says_so_in_one_line(site_folder: InventoryFolder) -> None:
    site_folder.write(
        "domain: dap.example.com\nmirrors: {pypi: 'http://127.0.0.1:9/', registry: '127.0.0.1:9'}\n"
    )
    assert load_site("site").platform.mirrors.registry == "127.0.0.1:9"
    result = CliRunner().invoke(main, ["outdated"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "error: none of 3 pinned versions can be compared:"
        " 127.0.0.1:9 cannot be reached: [Errno 111] Connection refused\n"
        "  next: run it on a machine that reaches the mirrors of platform.yml, or the Internet\n"
    )
