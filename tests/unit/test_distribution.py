"""Where each host gets its images from."""

from __future__ import annotations

from typing import Any

from dap.configuration.inventory import Host
from dap.deployment.selection import Selection
from dap.images.builds import Build, Images, Pull
from dap.images.distribution import Distribution, HandedImage
from dap.site import Site
from tests.unit.platforms import LOCAL, service_of, site_of

REGISTRY = service_of(
    "registry", provides="images", web=[{"name": "registry", "port": 5000, "access": "own"}]
)
APP = service_of("app")
WORK = service_of("work", role="runner")
RUN = service_of("run", role="runner", image={"pull": "vendor/run:1"})
DIGEST = "hub.example.com:5000/fixed@sha256:" + "a" * 64
FIXED = service_of("fixed", role="runner", image={"pull": DIGEST})
FAR, FARTHER = (Host(name, frozenset({"runner_hosts"}), {}) for name in ("far", "farther"))
BUILDS = [
    Build("debian", "dap/debian:1", "debian:13", b""),
    *(Build(name, f"dap/{name}:1", "dap/debian:1", b"") for name in ("app", "registry", "work")),
]
PULLS = [Pull(("fixed",), DIGEST, ""), Pull(("run",), "vendor/run:1", "")]
EVERY = Images(
    {
        "app": "dap/app:1",
        "registry": "dap/registry:1",
        "work": "dap/work:1",
        "run": "vendor/run:1",
        "fixed": DIGEST,
    },
    BUILDS,
    PULLS,
)


def platform(*services: Any, **settings: Any) -> Site:
    return site_of(APP, WORK, RUN, FIXED, *services, hosts=(LOCAL, FAR, FARTHER), **settings)


def test_service_host_has_every_image_and_others_get_theirs_from_it() -> None:
    distribution = Distribution(platform(REGISTRY), EVERY)
    first, far = distribution.of(LOCAL), distribution.of(FAR)
    assert (first.own.builds, first.own.pulls, first.handed) == (BUILDS, PULLS, [])
    assert far.handed == [
        HandedImage("work", "dap/work:1", "registry.dap.example.com/dap/work:1"),
        HandedImage("run", "vendor/run:1", "registry.dap.example.com/vendor/run:1"),
    ]
    assert distribution.supplier(FAR) == LOCAL


def test_image_named_by_its_digest_is_pulled_by_each_host() -> None:
    far = Distribution(platform(REGISTRY), EVERY).of(FAR)
    assert (far.own.builds, far.own.pulls) == ([], PULLS[:1])


def test_without_a_registry_each_host_gets_its_images_itself() -> None:
    distribution = Distribution(platform(), EVERY)
    far = distribution.of(FAR)
    assert ([build.name for build in far.own.builds], far.own.pulls) == (["debian", "work"], PULLS)
    assert [build.name for build in distribution.of(LOCAL).own.builds] == ["debian", "app"]
    assert (far.handed, distribution.supplier(FAR), distribution.address) == ([], FAR, "")


def test_what_any_other_host_lacks_is_handed_out_once() -> None:
    distribution = Distribution(platform(REGISTRY, ports={"https": 8443}), EVERY)
    lacking = {"alpha": {"dap/app:1"}, "far": {"dap/work:1"}, "farther": {"dap/work:1", "dap/app:1"}}
    out = distribution.handed_out({host: frozenset(tags) for host, tags in lacking.items()})
    assert out == [HandedImage("work", "dap/work:1", "registry.dap.example.com:8443/dap/work:1")]


def test_deploy_of_one_service_concerns_its_image_only() -> None:
    distribution = Distribution(platform(REGISTRY), EVERY, Selection(("run",)))
    assert [image.name for image in distribution.of(FAR).handed] == ["run"]
    assert distribution.of(LOCAL).own == Images({"run": "vendor/run:1"}, [], PULLS[1:])


def test_name_of_a_registry_with_a_port_becomes_a_part_of_the_path() -> None:
    every = Images({"run": ""}, [], [Pull(("run",), "hub.example.com:5000/run", "")])
    site = site_of(RUN, REGISTRY, hosts=(LOCAL, FAR))
    assert Distribution(site, every, Selection(("run",))).of(FAR).handed == [
        HandedImage(
            "run", "hub.example.com:5000/run", "registry.dap.example.com/hub.example.com-5000/run:latest"
        )
    ]
