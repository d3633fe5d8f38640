"""The measure of the design: a web service with a database is one folder, 4 files and 60 lines at most."""

from __future__ import annotations

import json
import shutil
import ssl
import urllib.request
from pathlib import Path

from tests.integration.platform import DeployedPlatform

FIXTURE = Path(__file__).parent / "fixtures" / "guestbook"


def test_fixture_is_as_small_as_promised() -> None:
    files = [path for path in FIXTURE.rglob("*") if path.is_file()]
    assert len(files) <= 4
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 60


def test_operators_own_service_is_deployed_and_reached_over_tls(platform: DeployedPlatform) -> None:
    context = ssl.create_default_context(cafile=str(platform.ca_file))
    target = platform.inventory / "compose" / "guestbook"
    others = {
        name: box["Id"]
        for name, box in platform.containers().items()
        if name not in {"nginx-proxy", "portal"}
    }
    try:
        shutil.copytree(FIXTURE, target)
        platform.must("deploy")
        for visitor in ("ada", "grace"):
            request = urllib.request.Request(platform.url("guestbook"), data=visitor.encode(), method="POST")  # noqa: S310
            with urllib.request.urlopen(request, context=context) as answer:  # noqa: S310
                assert answer.status == 200
        with urllib.request.urlopen(platform.url("guestbook"), context=context) as answer:  # noqa: S310
            assert json.load(answer) == ["ada", "grace"]
        with urllib.request.urlopen(platform.url(), context=context) as answer:  # noqa: S310
            assert "Guestbook" in answer.read().decode()
        unchanged = {name: box["Id"] for name, box in platform.containers().items() if name in others}
        assert unchanged == others
    finally:
        shutil.rmtree(target.parent)
        platform.deploy()
    assert "guestbook" not in platform.containers()
    assert not (platform.root / "guestbook").exists()
