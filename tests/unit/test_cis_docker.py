"""What the CIS Docker Benchmark 1.6 asks of images and containers (sections 4 and 5), and what holds it here.

Checkov's policies for Dockerfiles ask for nothing beyond section 4 but that no download goes unchecked and no
password is set, which is looked for here, too. It has none for Compose files.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.container_rules import RULES, SHORTEST_REASON

ROOT = Path(__file__).parents[2]
KERNEL = "tests/integration/test_containers.py::test_the_kernel_says_so_too_of_every_process"
# By number: rules of tests/container_rules.py, tests, checks of hadolint, or the reason why nothing holds it.
HELD: dict[str, list[str]] = {
    "4.1": ["rule user"],
    "4.2": ["rule image"],
    "4.3": ["hadolint DL3015"],
    "4.4": ["not: an operator rebuilds by a deploy, and dap outdated says when"],
    "4.5": ["not: images are built here, or pulled by digest or tag and their digests noted in a lock"],
    "4.6": ["rule healthcheck"],
    "4.7": ["test tests/unit/test_cis_docker.py::test_lists_of_packages_are_as_old_as_what_they_install"],
    "4.8": ["rule security_opt", f"test {KERNEL}"],
    "4.9": ["hadolint DL3020"],
    "4.10": [
        "test tests/integration/test_secret_places.py"
        "::test_no_image_that_is_younger_than_the_secrets_has_one",
    ],
    "4.11": ["test tests/unit/test_cis_docker.py::test_no_build_takes_what_nobody_vouches_for"],
    "4.12": ["not: there is no standard by which the makers of GitLab, its runner and Portainer sign images"],
    "5.1": ["not: a deploy does not turn Swarm on; where others do, it is their engine, too"],
    "5.2": ["rule security_opt"],
    "5.3": ["rule security_opt"],
    "5.4": ["rule cap_drop", "rule cap_add", f"test {KERNEL}"],
    "5.5": ["rule privileged"],
    "5.6": ["rule volumes"],
    "5.7": ["not: no service has an sshd but GitLab for Git; development containers are there for SSH"],
    "5.8": ["not: web browsers and programs look for 80, 443 and 22; `ports` sets others"],
    "5.9": [
        "rule ports",
        "test tests/integration/test_containers.py"
        "::test_nothing_listens_for_the_platform_but_the_declared_ports",
    ],
    "5.10": ["rule network_mode"],
    "5.11": ["rule mem_limit", "rule memswap_limit"],
    "5.12": ["not: containers have equal shares of the processors; `cpus` limits them where one must not"],
    "5.13": ["rule read_only"],
    "5.14": ["rule ports"],
    "5.15": ["not: a service is to come back however often it fails; its log and dap status tell"],
    "5.16": ["rule pid"],
    "5.17": ["rule ipc"],
    "5.18": ["rule devices", "rule device_cgroup_rules"],
    "5.19": ["not: only development containers need other limits than the engine's, and have them"],
    "5.20": ["rule volumes"],
    "5.21": ["rule uts"],
    "5.22": ["rule security_opt", f"test {KERNEL}"],
    "5.23": [
        "test tests/unit/test_cis_docker.py::test_nothing_is_run_in_a_container_with_more_rights_than_it_has"
    ],
    "5.24": [
        "test tests/unit/test_cis_docker.py::test_nothing_is_run_in_a_container_with_more_rights_than_it_has"
    ],
    "5.25": ["rule cgroup", "rule cgroup_parent"],
    "5.26": ["rule security_opt", f"test {KERNEL}"],
    "5.27": ["rule healthcheck"],
    "5.28": ["rule image"],
    "5.29": ["rule pids_limit"],
    "5.30": ["rule networks"],
    "5.31": ["rule userns_mode"],
    "5.32": ["rule docker_socket"],
}
# Of packages, by apt, pip, npm and Go; of downloads, by curl, wget and git; and of certificates altogether.
UNCHECKED = re.compile(
    r"--allow-(unauthenticated|insecure)|--force-yes|trusted=yes|AllowUnauthenticated"
    r"|--trusted-host|PIP_TRUSTED_HOST|strict[-_]ssl[ =]false|GO(INSECURE|NOSUMDB|NOSUMCHECK)|GOSUMDB=off"
    r"|--insecure|curl[^|&;]* -\w*k\b|--no-check-certificate|GIT_SSL_NO_VERIFY|sslverify[ =](0|false)"
    r"|PYTHONHTTPSVERIFY=0|NODE_TLS_REJECT_UNAUTHORIZED=0|chpasswd",
    re.IGNORECASE,
)


def of_images() -> list[Path]:
    """Everything that images are built by."""
    folders = [*ROOT.glob("compose/*/image"), *ROOT.glob("environments/*")]
    found = [path for folder in folders for path in folder.rglob("*") if path.suffix == ".sh"]
    found += [path for folder in folders for path in folder.rglob("Dockerfile")]
    assert len(found) >= 15
    return found


@pytest.mark.parametrize("number", HELD)
def test_what_holds_it_is_there(number: str) -> None:
    for entry in HELD[number]:
        kind, _, name = entry.partition(" ")
        if kind == "rule":
            assert name in RULES
        elif kind == "test":
            path, _, function = name.partition("::")
            assert f"\ndef {function}(" in (ROOT / path).read_text(encoding="utf-8")
        elif kind == "hadolint":
            settings = yaml.safe_load((ROOT / ".hadolint.yaml").read_text(encoding="utf-8"))
            assert settings["failure-threshold"] == "style" and name not in settings["ignored"]
        else:
            assert kind == "not:" and len(name) >= SHORTEST_REASON


def test_nothing_that_is_asked_is_left_out() -> None:
    asked = [*(f"4.{number}" for number in range(1, 13)), *(f"5.{number}" for number in range(1, 33))]
    assert list(HELD) == asked


def test_lists_of_packages_are_as_old_as_what_they_install() -> None:
    steps = [
        (path, step)
        for path in of_images()
        for step in re.split(r"^RUN ", path.read_text(encoding="utf-8"), flags=re.M)[1:]
        if "apt-get update" in step
    ]
    assert len(steps) >= 5
    assert [path for path, step in steps if "apt-get install" not in step] == []


def test_no_build_takes_what_nobody_vouches_for() -> None:
    found = [path for path in of_images() if UNCHECKED.search(path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "apt-get install --allow-unauthenticated less",
        "echo 'deb [trusted=yes] http://mirror.example.com /' > /etc/apt/sources.list",
        "pip install --trusted-host pypi.example.com requests",
        "npm config set strict-ssl false",
        "ENV NPM_CONFIG_STRICT_SSL=false",
        "GOSUMDB=off go build",
        "curl -fsSLk https://example.com/install.sh",
        "curl --insecure https://example.com/install.sh",
        "wget --no-check-certificate https://example.com/install.sh",
        "git -c http.sslVerify=false clone https://example.com/code.git",
        "ENV PYTHONHTTPSVERIFY=0",
        "echo root:secret | chpasswd",
    ],
)
def test_such_a_build_would_be_found(line: str) -> None:
    assert UNCHECKED.search(line)


def test_nothing_is_run_in_a_container_with_more_rights_than_it_has() -> None:
    found = {
        (path.name, line)
        for path in [*ROOT.glob("scripts/dap/**/*.py"), *ROOT.glob("ansible/plugins/**/*.py")]
        for line in path.read_text(encoding="utf-8").splitlines()
        if '"exec", ' in line
    }
    assert {name for name, _ in found} == {"dap_commands.py", "leftovers.py", "looking.py", "working.py"}
    assert [line for _, line in found if re.search("--user|--privileged|-u", line)] == []
