"""What a deploy has made of the machines, seen by who logs in there."""

from __future__ import annotations

import re

from testinfra.host import Host

from tests.lab.conftest import RUNNING, login
from tests.lab.laboratory import Lab

# Reaches the start page as a program of the host does that knows nothing of the platform.
START_PAGE = "import urllib.request as u; print(u.urlopen('https://{domain}').status)"


def test_engine_runs_and_does_so_after_a_boot(host: Host) -> None:
    engine = host.service("docker")
    assert engine.is_running and engine.is_enabled
    assert host.run("docker compose version --short").stdout.strip() >= "2.20"
    assert host.run("docker buildx version").rc == 0


def test_older_release_has_its_own_engine_and_only_the_plugins_of_the_next(lab: Lab) -> None:
    bookworm = login(lab, "runner1")
    assert bookworm.system_info.codename == "bookworm"
    assert bookworm.package("docker.io").version.startswith("20.10.")
    assert bookworm.package("docker-compose").version.startswith("2.")
    later = bookworm.run("apt-cache policy libc6").stdout
    assert re.search(r"Candidate: 2\.36", later), later


def test_ubuntu_has_its_own_packages_and_stores_images_in_containerd(lab: Lab) -> None:
    noble = login(lab, "runner2")
    assert noble.system_info.codename == "noble"
    assert noble.package("docker-compose-v2").is_installed
    assert noble.check_output("docker info --format '{{.Driver}}'") == "overlayfs"


def test_host_knows_the_platforms_names_and_trusts_its_certificate(host: Host, lab: Lab) -> None:
    page = host.run("python3 -c %s", START_PAGE.format(domain=lab.domain))
    assert (page.rc, page.stdout.strip(), page.stderr) == (0, "200", "")


def test_list_of_names_has_one_block_and_what_was_there(host: Host, lab: Lab) -> None:
    names = host.file("/etc/hosts").content_string
    assert names.count("# BEGIN dap: ") == names.count("# END dap: ") == 1
    assert "127.0.0.1 localhost\n" in names
    assert f"{lab.service.address} service1\n" in names


def test_authority_is_in_the_store_that_all_programs_read(host: Host, lab: Lab) -> None:
    own = lab.ca_file.read_text().strip()
    assert own in host.file("/etc/ssl/certs/ca-certificates.crt").content_string


def test_service_host_listens_where_the_services_say_and_nowhere_else(service_host: Host) -> None:
    assert listening(service_host) == {22, 80, 443, 2222, 5432}


def test_runner_host_listens_for_ssh_only(runner_host: Host) -> None:
    assert listening(runner_host) == {22}


def listening(host: Host) -> set[int]:
    """TCP ports that others can reach."""
    told = host.check_output("ss --listening --tcp --numeric --no-header").splitlines()
    places = [line.split()[3].rsplit(":", 1) for line in told]
    return {int(port) for address, port in places if not address.startswith(("127.", "[::1]"))}


def test_all_services_run_and_are_healthy_on_the_service_host(service_host: Host) -> None:
    told = service_host.check_output("docker ps --all --format '{{.Names}} {{.Status}}'").splitlines()
    states = dict(line.split(" ", 1) for line in told)
    assert set(states) == {f"dap-{name}" for name in RUNNING - {"toolbox", "gitlab-runner", "runner-cleaner"}}
    assert {name for name, state in states.items() if "(healthy)" not in state} == set()


def test_runner_host_has_what_runs_jobs_and_nothing_of_the_other_services(runner_host: Host) -> None:
    names = runner_host.check_output("docker ps --all --format '{{.Names}}'").split()
    assert sorted(names) == ["dap-gitlab-runner", "dap-runner-cleaner"]
    folders = runner_host.check_output("ls --directory /opt/dap/*/").split()
    assert folders == ["/opt/dap/gitlab-runner/", "/opt/dap/log/", "/opt/dap/runner-cleaner/"]
    assert runner_host.check_output("ls --almost-all /var/lib/dap").split() == [
        ".platform-id",
        "runner-cleaner",
    ]


def test_runner_host_has_the_images_of_the_service_host_and_built_none(
    runner_host: Host, service_host: Host
) -> None:
    here = contents(runner_host)
    assert here.items() <= contents(service_host).items()
    environments = {"base", "python", "python-r"}
    assert environments <= {reference.partition(":")[0].removeprefix("dap/") for reference in here}
    assert len(here) == 3 + len(environments)
    assert runner_host.check_output("docker system df --format '{{.Type}} {{.Size}}'").splitlines()[-1] == (
        "Build Cache 0B"
    )


def contents(host: Host) -> dict[str, str]:
    """The layers of each image: its id is another where an engine stores images in containerd."""
    images = "$(docker images --format '{{.Repository}}:{{.Tag}}')"
    told = host.check_output(
        f"docker image inspect --format '{{{{.RepoTags}}}} {{{{.RootFS.Layers}}}}' {images}"
    )
    return {line.split("] ")[0].strip("["): line.split("] ")[1] for line in told.splitlines()}


def test_secrets_are_for_their_services_only(service_host: Host) -> None:
    told = service_host.check_output(
        "find /opt/dap -type f -path '*/secrets/*' -not -path '*/gitlab/*' -printf '%m %u\\n'"
    ).splitlines()
    assert len(told) >= 6
    assert {line.split()[0] for line in told} == {"400"}
    assert "root" not in {line.split()[1] for line in told}


def test_account_of_the_operator_cannot_read_what_is_secret(lab: Lab) -> None:
    operator = login(lab, "service1")
    with operator.sudo("admin"):
        assert operator.run("cat /opt/dap/minio/secrets/root_password").rc != 0
        assert operator.run("docker ps").rc != 0
