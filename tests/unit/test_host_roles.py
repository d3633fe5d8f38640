"""Which roles have anything to do on a host, by what preflight has found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dap.deployment.host_roles import Given, with_work
from dap.gpus.found import Found
from dap.hosts.facts import HostFacts
from dap.images.builds import Build, Images, Pull
from dap.images.distribution import HandedImage, HostImages
from tests.unit.platforms import LOCAL, service_of, site_of

PULL = {"name": "git", "reference": "git:1", "source": "git:1", "digest": ""}
GIVEN = Given(
    trust={"name": "dap"}, names={"platform": "dap"}, pulls=[PULL], tags=["dap/app:1"], handed=["dap/far:1"]
)
FACTS = HostFacts(
    memory_mib=16000,
    cpus=4,
    ready=frozenset({"docker", "trust", "names"}),
    known_images=frozenset({"git"}),
)


def test_host_that_has_everything_needs_no_role() -> None:
    assert with_work(GIVEN, GIVEN, FACTS) == []
    assert with_work(GIVEN, GIVEN, replace(FACTS, gpus=Found("29.1.3", cdi=True))) == []


@pytest.mark.parametrize(
    ("facts", "role"),
    [
        (replace(FACTS, ready=FACTS.ready - {"docker"}), "docker"),
        (replace(FACTS, ready=FACTS.ready - {"trust"}), "trust"),
        (replace(FACTS, ready=FACTS.ready - {"names"}), "names"),
        (replace(FACTS, missing_tags=frozenset({"dap/app:1"})), "images"),
        (replace(FACTS, known_images=frozenset()), "images"),
        (replace(FACTS, building=True), "images"),
        (replace(FACTS, gpus=Found("26.1.5", cdi=False)), "gpu"),
        (replace(FACTS, missing_tags=frozenset({"dap/far:1"})), "handing"),
    ],
)
def test_role_runs_where_preflight_found_work_for_it(facts: HostFacts, role: str) -> None:
    assert with_work(GIVEN, GIVEN, facts) == [role]


def test_role_runs_when_it_is_given_something_else_than_preflight_has_looked_at() -> None:
    later = replace(GIVEN, trust={"name": "dap", "certificates": ["new"]}, names={})
    assert with_work(GIVEN, later, FACTS) == ["trust", "names"]


def test_images_of_services_that_are_left_out_do_not_count() -> None:
    facts = replace(FACTS, known_images=frozenset(), missing_tags=frozenset({"dap/other:1"}))
    assert with_work(GIVEN, replace(GIVEN, pulls=[]), facts) == []


def test_roles_are_given_what_concerns_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAP_SECRETS", str(tmp_path))
    site = site_of(service_of("app"), extra_hosts={"db.test": "192.0.2.9"})
    own = Images({}, [Build("app", "dap/app:1", "", b"")], [Pull(("git",), "git:1", "mirror/git:1")])
    given = Given.of(site, LOCAL, [b"PEM"], HostImages(own, [HandedImage("far", "dap/far:1", "")]))
    assert given.trust == {"name": "dap", "certificates": ["PEM"], "registries": []}
    assert given.names["extra"] == {"db.test": "192.0.2.9"}
    assert (given.tags, given.handed) == (["dap/app:1"], ["dap/far:1"])
    assert given.as_variables()["tags"] == ["dap/app:1", "dap/far:1"]
    assert given.pulls == [{"name": "git", "reference": "git:1", "source": "mirror/git:1", "digest": ""}]
    assert given.as_variables().keys() == {"trust", "names", "images", "tags"}
