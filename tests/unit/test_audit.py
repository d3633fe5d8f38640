"""Known holes are asked for in all that is pinned, and each one is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests import audit
from tests.audit import Package

LOCK = json.dumps(
    {
        "packages": {
            "": {"name": "editor", "version": "1.0.0"},
            "node_modules/left": {"version": "1.2.3"},
            "node_modules/@team/right/node_modules/left": {"version": "2.0.0"},
            "node_modules/other": {"name": "real-name", "version": "3.0.0"},
            "node_modules/linked": {"link": True},
        }
    }
)
Answers = Callable[[httpx.Request], httpx.Response]


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        (
            "a/requirements.txt",
            'one==1.0 \\\n    --hash=sha256:00\ntwo[extra]==2.0 ; python_version < "3.12"\n# three==3\n',
            [("PyPI", "one", "1.0"), ("PyPI", "two", "2.0")],
        ),
        ("requirements.lock", "one==1.0\n", [("PyPI", "one", "1.0")]),
        (
            "a/go.mod",
            "module a\n\nrequire (\n\texample.com/one v1.2.3\n\texample.com/two v0.0.0-2026 // indirect\n)\n",
            [("Go", "example.com/one", "1.2.3"), ("Go", "example.com/two", "0.0.0-2026")],
        ),
        (
            "a/package-lock.json",
            LOCK,
            [("npm", "left", "1.2.3"), ("npm", "left", "2.0.0"), ("npm", "real-name", "3.0.0")],
        ),
        ("a/platform.schema.json", "{}", []),
    ],
)
def test_what_a_file_pins_is_read(path: str, text: str, found: list[tuple[str, str, str]]) -> None:
    assert list(audit.packages_of(path, text)) == [Package(*one, path) for one in found]


def test_all_that_is_pinned_is_asked_for() -> None:
    found = audit.pinned()
    files = {package.file for package in found}
    assert {
        *("requirements.lock", "compose/minio/image/go.mod", "compose/mlflow/image/requirements.txt"),
        *("environments/code-server/package-lock.json", "environments/python/requirements.txt"),
    } <= files
    assert len(found) > 800


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answers], None]:
    """Lets the service answer as it is told, and one package be pinned."""

    def answer(given: Answers) -> None:
        client = httpx.Client
        monkeypatch.setattr(
            httpx, "Client", lambda **more: client(transport=httpx.MockTransport(given), **more)
        )

    monkeypatch.setattr(audit, "pinned", lambda: [Package("npm", "left", "1.2.3", "a/package-lock.json")])
    return answer


def paged(request: httpx.Request) -> httpx.Response:
    """One hole on each of two pages."""
    (query,) = json.loads(request.content)["queries"]
    assert str(request.url) == "https://api.osv.dev/v1/querybatch"
    assert query["package"] == {"ecosystem": "npm", "name": "left"} and query["version"] == "1.2.3"
    first: dict[str, Any] = {"vulns": [{"id": "GHSA-1"}], "next_page_token": "more"}
    return httpx.Response(
        200, json={"results": [{"vulns": [{"id": "GHSA-2"}]} if "page_token" in query else first]}
    )


def test_each_hole_is_told_with_its_file(
    service: Callable[[Answers], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service(paged)
    monkeypatch.setitem(audit.ACCEPTED, "GHSA-2", "only on Windows")
    assert audit.main() == 1
    assert capsys.readouterr().out == (
        "npm   left 1.2.3  GHSA-1  a/package-lock.json\n"
        "npm   left 1.2.3  GHSA-2  a/package-lock.json  (accepted: only on Windows)\n"
        "packages: 1, holes: 2, accepted: 1\n"
    )
    monkeypatch.setitem(audit.ACCEPTED, "GHSA-1", "only on Windows")
    assert audit.main() == 0


def test_a_service_that_does_not_answer_is_no_clean_bill(
    service: Callable[[Answers], None], capsys: pytest.CaptureFixture[str]
) -> None:
    service(lambda request: httpx.Response(503))
    assert audit.main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("https://api.osv.dev cannot be asked: Server error '503 Service Unavailable'")
