"""What playbooks take: how long to wait, what builds are told of mirrors and proxies."""

from __future__ import annotations

import pytest

from dap.hosts import playbook_variables
from dap.hosts.playbook_variables import of_platform, wait_seconds
from tests.unit.platforms import service_of, site_of

SLOW = service_of("slow", start_seconds=1200)


def test_slow_first_start_has_its_time_unless_the_operator_says_otherwise() -> None:
    assert wait_seconds(site_of(service_of("app"))) == 300
    assert wait_seconds(site_of(service_of("app"), SLOW)) == 1200
    assert wait_seconds(site_of(service_of("app"), SLOW, deploy={"wait_seconds": 30})) == 30


def test_builds_are_told_of_mirrors_and_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in playbook_variables._BUILD_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GOSUMDB", "off")
    mirrors = {"pypi": "https://pypi.corp/simple", "debian": "https://deb.corp/debian"}
    told = of_platform(site_of(service_of("app"), mirrors=mirrors, proxy={"http": "http://proxy:3128"}))
    environment = told["build_environment"]
    assert {name: environment[name] for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "DEBIAN_MIRROR")} == {
        "PIP_INDEX_URL": "https://pypi.corp/simple",
        "UV_DEFAULT_INDEX": "https://pypi.corp/simple",
        "DEBIAN_MIRROR": "https://deb.corp/debian",
    }
    assert (environment["GOSUMDB"], environment["https_proxy"]) == ("off", "http://proxy:3128")
    assert told["proxy"]["http"] == told["proxy"]["https"] == "http://proxy:3128"
    assert "app" in told["proxy"]["no_proxy"]


def test_hosts_are_told_of_no_proxy_where_there_is_none() -> None:
    assert of_platform(site_of(service_of("app")))["proxy"] == {}
