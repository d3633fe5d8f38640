"""What the preflight reads from a host, and what it finds wrong there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from module_utils.dap_host import (
    GIB,
    FileSystem,
    Finding,
    HostFacts,
    Listener,
    Occupant,
    Wants,
    judge,
    overlaps,
    parse_listeners,
    parse_memory_mib,
    parse_os_release,
    parse_published,
)

OS_RELEASES = {
    ("debian", "12"): (
        'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\n'
        'VERSION="12 (bookworm)"\nVERSION_CODENAME=bookworm\nID=debian\nHOME_URL="https://www.debian.org/"\n'
    ),
    ("debian", "13"): (
        'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nNAME="Debian GNU/Linux"\nVERSION_ID="13"\n'
        'VERSION="13 (trixie)"\nVERSION_CODENAME=trixie\nDEBIAN_VERSION_FULL=13.1\nID=debian\n'
    ),
    ("ubuntu", "22.04"): (
        'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nNAME="Ubuntu"\nVERSION_ID="22.04"\n'
        'VERSION="22.04.5 LTS (Jammy Jellyfish)"\nVERSION_CODENAME=jammy\nID=ubuntu\nID_LIKE=debian\n'
        "UBUNTU_CODENAME=jammy\n"
    ),
    ("ubuntu", "24.04"): (
        'PRETTY_NAME="Ubuntu 24.04.2 LTS"\nNAME="Ubuntu"\nVERSION_ID="24.04"\n'
        'VERSION="24.04.2 LTS (Noble Numbat)"\nVERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\n'
    ),
    ("fedora", "41"): (
        'NAME="Fedora Linux"\nVERSION="41 (Server Edition)"\nRELEASE_TYPE=stable\nID=fedora\nVERSION_ID=41\n'
        'VERSION_CODENAME=""\nPLATFORM_ID="platform:f41"\n'
    ),
    ("alpine", "3.20.3"): (
        'NAME="Alpine Linux"\nID=alpine\nVERSION_ID=3.20.3\nPRETTY_NAME="Alpine Linux v3.20"\n'
    ),
}
SUPPORTED = [("debian", "12"), ("debian", "13"), ("ubuntu", "22.04"), ("ubuntu", "24.04")]
DISK = FileSystem("/var/lib/dap", device=1, free=100 * GIB)
FACTS = HostFacts(
    distribution="debian",
    version="12",
    machine="x86_64",
    kernel="6.1.0-28-amd64",
    hostname="host",
    python="3.11.2",
    cpus=2,
    memory_mib=8000,
    init="systemd",
    is_root=True,
    epoch=0.0,
    root=replace(DISK, path="/opt/dap"),
    data=DISK,
    docker=replace(DISK, path="/var/lib/docker"),
    overlay=True,
)
WANTS = Wants(
    project="dap",
    ports=(("0.0.0.0", 443, "nginx-proxy"), ("10.0.0.5", 5432, "postgres-data")),  # noqa: S104
    memory_mib=4000,
    disk_gib=20,
)


def subjects(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.severity, finding.subject) for finding in findings]


def held(*occupants: Occupant) -> HostFacts:
    return replace(FACTS, occupants=occupants)


@pytest.mark.parametrize("system", OS_RELEASES)
def test_system_is_recognized(system: tuple[str, str]) -> None:
    values = parse_os_release(OS_RELEASES[system])

    assert (values["ID"], values["VERSION_ID"]) == system


@pytest.mark.parametrize("system", OS_RELEASES)
def test_only_supported_systems_pass(system: tuple[str, str]) -> None:
    findings = judge(replace(FACTS, distribution=system[0], version=system[1]), WANTS)

    assert subjects(findings) == ([] if system in SUPPORTED else [("error", "operating system")])


def test_os_release_with_rubbish_in_it_is_still_read() -> None:
    assert parse_os_release("# comment\n\nnonsense\nBROKEN=\"unclosed\nID='debian'\nEMPTY=\n") == {
        "ID": "debian",
        "EMPTY": "",
    }


def test_good_host_has_no_findings() -> None:
    assert judge(FACTS, WANTS) == []


def test_everything_wrong_is_told_at_once_errors_first() -> None:
    small = replace(DISK, free=GIB)
    facts = replace(
        FACTS,
        distribution="alpine",
        version="3.20.3",
        machine="riscv64",
        is_root=False,
        memory_mib=2000,
        data=small,
        docker=replace(small, path="/var/lib/docker"),
        overlay=False,
        occupants=(Occupant("0.0.0.0", 443, "apache2 (pid 812)"),),  # noqa: S104
    )

    assert subjects(judge(facts, WANTS)) == [
        ("error", "operating system"),
        ("error", "architecture"),
        ("error", "rights"),
        ("error", "memory"),
        ("error", "disk space at /var/lib/dap"),
        ("error", "port 443"),
        ("warning", "kernel"),
    ]


def test_findings_say_what_was_found_why_it_matters_and_what_to_do() -> None:
    (finding,) = judge(held(Occupant("::", 443, "apache2 (pid 812)")), WANTS)

    assert finding == Finding(
        "error",
        "port 443",
        "in use by apache2 (pid 812)",
        "nginx-proxy is to be published there (0.0.0.0:443)",
        "stop that program, or choose another port or listen address in the configuration",
        service="nginx-proxy",
    )


def test_ports_of_the_platform_itself_are_no_conflict() -> None:
    own = Occupant("0.0.0.0", 443, "the container dap-nginx-proxy", "dap")  # noqa: S104
    other = replace(own, holder="the container web", project="shop")

    assert judge(held(own), WANTS) == []
    (finding,) = judge(held(other), WANTS)
    assert finding.value == "in use by the container web of the Compose project shop"


def test_program_on_both_families_is_told_once() -> None:
    nginx = Occupant("0.0.0.0", 443, "nginx (pid 9)")  # noqa: S104

    assert len(judge(held(nginx, replace(nginx, address="::")), WANTS)) == 1


@pytest.mark.parametrize(
    ("wanted", "there", "conflict"),
    [
        ("0.0.0.0", "127.0.0.1", True),  # noqa: S104
        ("10.0.0.5", "0.0.0.0", True),  # noqa: S104
        ("10.0.0.5", "::", True),
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.5", "127.0.0.1", False),
    ],
)
def test_addresses_overlap_as_the_kernel_sees_it(wanted: str, there: str, conflict: bool) -> None:
    assert overlaps(wanted, there) is conflict


def test_data_and_images_on_two_file_systems_need_half_the_space_each() -> None:
    split = replace(FACTS, docker=FileSystem("/var/lib/docker", device=2, free=9 * GIB))

    (finding,) = judge(split, WANTS)

    assert (finding.subject, finding.reason) == (
        "disk space at /var/lib/docker",
        "Docker's images need 10.0 GiB",
    )
    assert judge(replace(split, docker=replace(split.docker, free=10 * GIB)), WANTS) == []


def test_little_space_only_warns_where_the_platform_is_deployed_already() -> None:
    small = replace(DISK, free=GIB)
    deployed = replace(FACTS, data=small, docker=small, platform_id="2f6d")

    assert subjects(judge(deployed, WANTS)) == [("warning", "disk space at /var/lib/dap")]


def test_another_platform_of_the_same_name_is_an_error() -> None:
    same_name = replace(FACTS, project_folder="/opt/other")
    (finding,) = judge(same_name, WANTS)
    assert finding == Finding(
        "error",
        "platform_name",
        "dap",
        "a platform of this name runs from /opt/other, and /var/lib/dap holds nothing of it",
        "write another platform_name, or the paths that it was deployed with",
    )
    # The platform itself, wherever its files lie now.
    assert judge(replace(same_name, platform_id="2f6d"), WANTS) == []


# Recorded: sshd on every address, a database on one, an established connection, a client's local end.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000   0   0 18533 1 00000000a9f456d7
   1: 0500000A:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000   115   0 20211 1 00000000a9f456d7
   2: 0500000A:0016 0100000A:D2F0 01 00000000:00000000 02:000A6B1C 00000000   0   0 31337 2 00000000a9f456d8
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr
   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 20333 1
   1: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 20444 1
   2: 000080FE00000000FF005402FE3A2B1C:0050 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 20555 1
"""


def test_listeners_are_read_and_connections_left_out() -> None:
    assert parse_listeners(TCP) == [Listener("0.0.0.0", 22, 18533), Listener("10.0.0.5", 5432, 20211)]  # noqa: S104


def test_ipv6_listeners_are_read_and_mapped_addresses_are_ipv4() -> None:
    assert [(one.address, one.port) for one in parse_listeners(TCP6)] == [
        ("::", 443),
        ("127.0.0.1", 8080),
        ("fe80::254:ff:1c2b:3afe", 80),
    ]


def test_published_ports_are_read_with_their_project() -> None:
    rows = (
        "dap-nginx-proxy\tdap\t0.0.0.0:80->8080/tcp, :::80->8080/tcp, 10.0.0.5:443->8443/tcp, 9000/tcp\n"
        "web\t\t0.0.0.0:8000-8001->8000-8001/tcp, 0.0.0.0:53->53/udp\n"
        "idle\tshop\t\n"
    )

    assert [(one.address, one.port, one.holder, one.project) for one in parse_published(rows)] == [
        ("0.0.0.0", 80, "the container dap-nginx-proxy", "dap"),  # noqa: S104
        ("::", 80, "the container dap-nginx-proxy", "dap"),
        ("10.0.0.5", 443, "the container dap-nginx-proxy", "dap"),
        ("0.0.0.0", 8000, "the container web", ""),  # noqa: S104
        ("0.0.0.0", 8001, "the container web", ""),  # noqa: S104
    ]


def test_memory_is_read_in_mebibytes() -> None:
    assert parse_memory_mib("MemTotal:       24683716 kB\nMemFree:          120000 kB\n") == 24105
    assert parse_memory_mib("") == 0
