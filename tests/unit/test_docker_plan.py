"""What the deploy decides about a host's Docker, as a table of hosts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from module_utils.dap_apt import AptSource, base_source, parse_sources
from module_utils.dap_engine import EngineState, HostState, Plan, lacking, plan, version_of

REPOSITORY = "https://download.docker.com/linux"
KEYRING = (("Signed-By", "/usr/share/keyrings/debian-archive-keyring.gpg"),)
BOOKWORM = AptSource(
    "/etc/apt/sources.list.d/debian.sources", "http://mirror.example/debian", "bookworm", ("main",), KEYRING
)
SYSTEMS = {
    "debian 12": HostState("debian", "12", "bookworm", "systemd", EngineState(), sources=(BOOKWORM,)),
    "debian 13": HostState("debian", "13", "trixie", "systemd", EngineState()),
    "ubuntu 22.04": HostState("ubuntu", "22.04", "jammy", "systemd", EngineState()),
    "ubuntu 24.04": HostState("ubuntu", "24.04", "noble", "systemd", EngineState()),
}
GOOD = EngineState(
    "/usr/bin/docker", "27.1.1", "27.1.1", "2.29.1", "0.16.1", packages={"docker-ce": "5:27.1.1"}
)
DISTRIBUTION_PACKAGES = {
    "debian 12": ("docker.io", "iptables", "docker-compose", "docker-buildx"),
    "debian 13": ("docker.io", "iptables", "docker-cli", "docker-compose", "docker-buildx"),
    "ubuntu 22.04": ("docker.io", "iptables", "docker-compose-v2", "docker-buildx"),
    "ubuntu 24.04": ("docker.io", "iptables", "docker-compose-v2", "docker-buildx"),
}


def decide(host: HostState) -> Plan:
    return plan(host, "dap", REPOSITORY)


def with_engine(system: str, engine: EngineState, **changes: object) -> HostState:
    return replace(SYSTEMS[system], engine=engine, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("system", SYSTEMS)
def test_bare_host_gets_dockers_own_packages_when_their_repository_answers(system: str) -> None:
    decided = decide(replace(SYSTEMS[system], repository_reachable=True))

    assert decided.outcome == "docker-repository"
    assert set(decided.packages) == {
        "docker-ce",
        "containerd.io",
        "docker-ce-cli",
        "docker-compose-plugin",
        "docker-buildx-plugin",
    }
    assert decided.start == "systemd"


@pytest.mark.parametrize("system", SYSTEMS)
def test_bare_host_gets_the_distributions_packages_otherwise(system: str) -> None:
    decided = decide(replace(SYSTEMS[system], repository_reachable=False))

    assert decided.outcome == "distribution"
    assert sorted(decided.packages) == sorted(DISTRIBUTION_PACKAGES[system])
    assert not decided.upgrade
    assert not decided.key


@pytest.mark.parametrize("system", SYSTEMS)
def test_good_engine_is_left_alone(system: str) -> None:
    decided = decide(with_engine(system, GOOD, enabled=True))

    assert decided == Plan("use")
    assert not decided.needed


@pytest.mark.parametrize("system", ["debian 13", "ubuntu 22.04", "ubuntu 24.04"])
def test_distributions_packages_need_no_further_source(system: str) -> None:
    assert decide(replace(SYSTEMS[system], repository_reachable=False)).files == ()


def test_dockers_repository_is_added_with_its_key() -> None:
    decided = decide(replace(SYSTEMS["ubuntu 24.04"], repository_reachable=True))

    (source,) = decided.files
    assert source.path == "/etc/apt/sources.list.d/dap-docker.sources"
    assert source.content == (
        "Types: deb\n"
        "URIs: https://download.docker.com/linux/ubuntu\n"
        "Suites: noble\n"
        "Components: stable\n"
        "Signed-By: /etc/apt/keyrings/dap-docker.asc\n"
    )
    assert decided.key == "/etc/apt/keyrings/dap-docker.asc"
    assert decided.key_url == "https://download.docker.com/linux/ubuntu/gpg"


def test_debian_12_takes_just_two_packages_from_the_next_release_and_from_the_sites_mirror() -> None:
    pins, source = decide(replace(SYSTEMS["debian 12"], repository_reachable=False)).files

    assert pins.path == "/etc/apt/preferences.d/dap-trixie"
    assert pins.content == (
        "Package: *\nPin: release n=trixie\nPin-Priority: -10\n\n"
        "Package: docker-compose docker-buildx\nPin: release n=trixie\nPin-Priority: 990\n"
    )
    assert source.path == "/etc/apt/sources.list.d/dap-trixie.sources"
    assert source.content == (
        "Types: deb\nURIs: http://mirror.example/debian\nSuites: trixie\nComponents: main\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    )


def test_debian_12_whose_operator_uses_the_next_release_keeps_its_source_and_priorities() -> None:
    own = AptSource("/etc/apt/sources.list", "http://mirror.example/debian", "trixie", ("main",))
    host = replace(SYSTEMS["debian 12"], repository_reachable=False, sources=(BOOKWORM, own))

    (pins,) = decide(host).files

    assert pins.content == "Package: docker-compose docker-buildx\nPin: release n=trixie\nPin-Priority: 990\n"


def test_killed_deploy_writes_the_same_files_again() -> None:
    ours = AptSource("/etc/apt/sources.list.d/dap-trixie.sources", BOOKWORM.uri, "trixie", ("main",), KEYRING)
    fresh = replace(SYSTEMS["debian 12"], repository_reachable=False)

    assert decide(replace(fresh, sources=(BOOKWORM, ours))).files == decide(fresh).files


def test_debian_12_without_any_source_is_refused() -> None:
    decided = decide(replace(SYSTEMS["debian 12"], repository_reachable=False, sources=()))

    assert decided.outcome == "refuse"
    assert "no apt source of bookworm main" in decided.reasons[0]


def test_missing_compose_comes_from_where_the_engine_came_from() -> None:
    docker_ce = replace(GOOD, compose="")
    debian = replace(docker_ce, packages={"docker.io": "26.1.5"})
    mirror = AptSource("/etc/apt/sources.list.d/docker.list", f"{REPOSITORY}/debian", "trixie", ("stable",))

    from_docker = decide(with_engine("debian 13", docker_ce, enabled=True, sources=(mirror,)))
    from_debian = decide(with_engine("debian 13", debian, enabled=True, repository_reachable=True))

    assert (from_docker.outcome, from_docker.packages) == ("docker-repository", ("docker-compose-plugin",))
    assert (from_docker.files, from_docker.key, from_docker.start) == ((), "", "")
    assert (from_debian.outcome, from_debian.packages) == ("distribution", ("docker-compose",))
    assert from_debian.reasons == ("compose is missing",)


def test_debians_old_compose_package_is_upgraded_not_taken_for_the_plugin() -> None:
    engine = EngineState(
        "/usr/bin/docker", "20.10.24+dfsg1", packages={"docker.io": "20.10.24", "docker-compose": "1.29.2-3"}
    )

    decided = decide(with_engine("debian 12", engine, enabled=True))

    assert decided.upgrade == ("docker-compose",)
    assert decided.packages == ("docker-buildx",)


def test_old_engine_is_upgraded_within_its_family() -> None:
    engine = replace(GOOD, running="20.9.1", packages={"docker.io": "20.9.1", "iptables": "1.8"})

    decided = decide(with_engine("ubuntu 22.04", engine, enabled=True, repository_reachable=True))

    assert (decided.outcome, decided.upgrade, decided.packages) == ("distribution", ("docker.io",), ())
    assert decided.reasons == ("engine 20.9.1 is older than 20.10",)


def test_engine_without_its_command_gets_the_command() -> None:
    engine = EngineState("", "26.1.5", "26.1.5", packages={"docker.io": "26.1.5"})

    assert "docker-cli" in decide(with_engine("debian 13", engine, enabled=True)).packages


@pytest.mark.parametrize(
    ("engine", "reason", "suggestion"),
    [
        (
            EngineState("/usr/bin/podman", "4.9.3", podman=True),
            "is Podman",
            "remove the package podman-docker",
        ),
        (
            EngineState("/snap/bin/docker", "24.0.5", "", "2.20.3", "0.11.2"),
            "as a snap",
            "snap remove docker",
        ),
        (
            EngineState("/usr/local/bin/docker", "18.9.1", "18.9.1", "2.29.1", "0.16.1"),
            "engine 18.9.1 is older than 20.10, and it was not installed from a package",
            "upgrade it the way it was installed",
        ),
    ],
)
def test_what_the_platform_may_not_touch_is_refused(
    engine: EngineState, reason: str, suggestion: str
) -> None:
    decided = decide(with_engine("ubuntu 24.04", engine, repository_reachable=True))

    assert decided.outcome == "refuse"
    assert reason in decided.reasons[0]
    assert suggestion in decided.suggestion


def test_dockers_own_engine_without_its_repository_is_refused() -> None:
    decided = decide(with_engine("debian 13", replace(GOOD, buildx=""), repository_reachable=False))

    assert decided.outcome == "refuse"
    assert decided.reasons[-1].endswith("https://download.docker.com/linux cannot be reached")


def test_unknown_system_is_refused_only_if_something_is_missing() -> None:
    fedora = HostState("fedora", "41", "", "systemd", EngineState())

    assert decide(fedora).outcome == "refuse"
    assert decide(replace(fedora, engine=GOOD, enabled=True)).outcome == "use"


@pytest.mark.parametrize(
    ("init", "running", "enabled", "start"),
    [
        ("systemd", "27.1.1", True, ""),
        ("systemd", "27.1.1", False, "systemd"),
        ("systemd", "", True, "systemd"),
        ("sysv", "", None, "sysv"),
        ("sysv", "27.1.1", True, ""),
        ("none", "", None, "detached"),
        ("none", "27.1.1", None, ""),
    ],
)
def test_engine_is_started_only_if_it_does_not_run_or_would_not_at_boot(
    init: str, running: str, enabled: bool | None, start: str
) -> None:
    decided = decide(with_engine("debian 13", replace(GOOD, running=running), init=init, enabled=enabled))

    assert (decided.outcome, decided.start) == ("use", start)


def test_host_without_init_is_told_that_nothing_starts_the_engine() -> None:
    (note,) = decide(with_engine("debian 12", GOOD, init="none")).notes

    assert "after a reboot nothing starts the Docker engine" in note


def test_apparmor_without_its_parser_brings_the_parser() -> None:
    host = replace(SYSTEMS["debian 13"], repository_reachable=False, apparmor_unready=True)

    assert "apparmor" in decide(host).packages


def test_version_that_cannot_be_read_is_good_enough() -> None:
    assert lacking(replace(GOOD, compose="dev")) == {}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("20.10.24+dfsg1", (20, 10, 24)), ("v2.26.1-4", (2, 26, 1)), ("0.13.1+ds1", (0, 13, 1)), ("dev", ())],
)
def test_versions_are_read(text: str, numbers: tuple[int, ...]) -> None:
    assert version_of(text) == numbers


ONE_LINE = """\
# deb http://deb.debian.org/debian bookworm main
deb [arch=amd64 signed-by=/etc/apt/site.gpg trusted=yes] http://mirror.example/debian bookworm main contrib
deb-src http://mirror.example/debian bookworm main
deb http://security.example/debian-security bookworm-security main # the site's
"""
DEB822 = """\
Types: deb deb-src
# made by the installer
URIs: mirror+file:///etc/apt/mirrors/debian.list
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEZtest
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
Enabled: no
URIs: http://backports.example/debian
Suites: bookworm-backports
Components: main
"""


def test_one_line_sources_keep_the_options_that_their_mirror_needs() -> None:
    sources = parse_sources({"/etc/apt/sources.list": ONE_LINE})

    assert [source.suite for source in sources] == ["bookworm", "bookworm-security"]
    assert sources[0].components == ("main", "contrib")
    assert sources[0].options == (("Signed-By", "/etc/apt/site.gpg"), ("Trusted", "yes"))


def test_deb822_sources_keep_a_key_block_and_leave_out_what_is_disabled() -> None:
    sources = parse_sources({"/etc/apt/sources.list.d/debian.sources": DEB822})

    assert [(source.uri, source.suite) for source in sources] == [
        ("mirror+file:///etc/apt/mirrors/debian.list", "bookworm"),
        ("mirror+file:///etc/apt/mirrors/debian.list", "bookworm-updates"),
    ]
    host = replace(SYSTEMS["debian 12"], repository_reachable=False, sources=tuple(sources))
    written = decide(host).files[1]
    assert written.content.endswith(
        "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEZtest\n"
        " -----END PGP PUBLIC KEY BLOCK-----\n"
    )
    again = parse_sources({written.path: written.content})
    assert [(source.suite, source.options) for source in again] == [("trixie", sources[0].options)]


def test_base_source_is_the_releases_own_main() -> None:
    sources = parse_sources({"/etc/apt/sources.list": ONE_LINE})

    assert base_source(sources, "bookworm") == sources[0]
    assert base_source(sources, "trixie") is None
