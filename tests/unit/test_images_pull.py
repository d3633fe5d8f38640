"""Images that come from registries, with recorded output of Docker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins import FakeDocker, load, run_module

pulling = load("ansible.module_utils.dap_pull")
building = load("ansible.module_utils.dap_build")
bootstrapping = load("ansible.module_utils.dap_bootstrap")
dap_images = load("modules.dap_images")

OLD, NEW = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
GITLAB = "gitlab/gitlab-ce:19.4.1-ce.0"
MIRRORED = f"registry.example.com/hub/{GITLAB}"
HERE = (
    f"{GITLAB}\t0123456789ab\t<none>\nregistry.example.com/hub/gitlab/gitlab-ce:<none>\t0123456789ab\t{OLD}\n"
)
# What docker pull of 20.10 writes where nobody watches.
PULL_LOG = """\
19.4.1-ce.0: Pulling from gitlab/gitlab-ce
3f4ca61aafcd: Already exists
5e0b5d8a1a4f: Pulling fs layer
a7d1e3a0c9b2: Pulling fs layer
5e0b5d8a1a4f: Verifying Checksum
5e0b5d8a1a4f: Download complete
5e0b5d8a1a4f: Pull complete
"""
NO_NAME = (
    'Error response from daemon: Get "https://registry-1.docker.io/v2/": dial tcp: lookup'
    " registry-1.docker.io on 10.0.0.53:53: no such host"
)
ADVICE = (
    "If this host reaches registries only through a proxy or a mirror, set proxy or mirrors.registry in"
    " platform.yml (docs/how-to/use-mirrors-and-a-proxy.md)"
)


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """A Docker without images, whose pulls succeed."""
    fake = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    monkeypatch.setattr(dap_images, "RETRY_PAUSES", (0, 0))
    fake.answer("image ls *")
    # From the pull on it is there.
    fake.answer("pull *", PULL_LOG, then=f"cp {fake.folder}/after {fake.folder}/0.out")
    (fake.folder / "after").write_text(HERE, encoding="utf-8")
    fake.answer("tag *")
    return fake


def images(tmp_path: Path, state: str, **parameters: Any) -> dict[str, Any]:
    given = {"source": GITLAB, "digest": "", **parameters.pop("image", {})}
    return run_module(
        "dap_images",
        state=state,
        root=str(tmp_path / "root"),
        contexts=str(tmp_path / "root/.build"),
        pulled=[{"name": "gitlab", "reference": GITLAB, **given}],
        **parameters,
    )


def test_one_call_tells_which_images_of_registries_are_missing(docker: FakeDocker, tmp_path: Path) -> None:
    result = images(tmp_path, "query")

    assert not result["changed"] and result["missing"] == []
    assert result["missing_pulled"] == [GITLAB] and result["digests"] == {}
    assert len(docker.calls) == 1


def test_the_digest_of_an_image_that_is_there_costs_no_further_call(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answer("image ls *", HERE)

    result = images(tmp_path, "query", image={"source": MIRRORED})

    assert result["missing_pulled"] == []
    assert result["digests"] == result["dap"]["digests"] == {GITLAB: OLD}
    assert len(docker.calls) == 1


def test_an_image_that_was_loaded_from_a_file_has_no_digest(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("image ls *", f"{GITLAB}\t0123456789ab\t<none>\n")

    result = images(tmp_path, "query")

    assert (result["missing_pulled"], result["digests"]) == ([], {})


@pytest.mark.parametrize(
    ("reference", "there"),
    [
        (f"gitlab/gitlab-ce@{OLD}", True),
        (f"gitlab/gitlab-ce:19.4.1-ce.0@{OLD}", True),
        (f"docker.io/gitlab/gitlab-ce@{OLD}", True),
        (f"gitlab/gitlab-ce@{NEW}", False),
        (f"gitlab/gitlab-ee@{OLD}", False),
    ],
)
def test_an_image_that_is_named_by_its_digest_is_found(reference: str, there: bool) -> None:
    listed = pulling.parse_listed(f"gitlab/gitlab-ce:<none>\t0123456789ab\t{OLD}\n")

    assert bool(pulling.rows_of(reference, listed)) is there


def test_a_missing_image_is_pulled(docker: FakeDocker, tmp_path: Path) -> None:
    result = images(tmp_path, "pull")

    assert result["changed"] and result["changed_items"] == [f"image {GITLAB} pulled"]
    assert result["digests"] == result["dap"]["digests"] == {GITLAB: OLD}
    assert docker.calls_of("pull") == [f"pull {GITLAB}"] and not docker.calls_of("tag")
    assert (tmp_path / "root/log/pull-gitlab.log").read_text(encoding="utf-8") == PULL_LOG
    assert not (tmp_path / "root/log/progress").exists()


def test_an_image_of_the_sites_mirror_gets_the_name_that_compose_knows(
    docker: FakeDocker, tmp_path: Path
) -> None:
    result = images(tmp_path, "pull", image={"source": MIRRORED})

    assert docker.calls_of("pull") == [f"pull {MIRRORED}"]
    assert docker.calls_of("tag") == [f"tag {MIRRORED} {GITLAB}"]
    assert result["changed_items"] == [f"image {GITLAB} pulled"]


def test_the_recorded_image_is_taken(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("image inspect *", f'["gitlab/gitlab-ce@{OLD}"]\n')

    assert images(tmp_path, "pull", image={"digest": OLD})["changed"]


def test_another_image_under_the_same_tag_is_refused_and_not_left_behind(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answer("image inspect *", f'["registry.example.com/hub/gitlab/gitlab-ce@{NEW}"]\n')
    docker.answer("image rm *")

    result = images(tmp_path, "pull", image={"source": MIRRORED, "digest": OLD})

    assert result["msg"] == (
        f"image {GITLAB}: the registry now has another image under this tag: {NEW}, and {OLD} was recorded"
        " when it was first pulled. Find out who changed it; to take the new one, remove its line from"
        " image_digests.json in the folder secrets/<inventory>, then deploy again"
    )
    assert docker.calls_of("rm") == [f"image rm {MIRRORED}"] and not docker.calls_of("tag")


def test_a_pull_that_the_network_ended_is_tried_again(docker: FakeDocker, tmp_path: Path) -> None:
    tried = tmp_path / "tried"
    docker.answer("pull *", then=f"test -e {tried} && exit 0; touch {tried}; echo '{NO_NAME}'; exit 1")

    assert images(tmp_path, "pull")["changed"]
    assert len(docker.calls_of("pull")) == 2


def test_an_image_that_cannot_be_had_is_named_with_its_registry_and_the_setting(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answer("pull *", error=f"{NO_NAME}\n", status=1)

    result = images(tmp_path, "pull")

    assert result["msg"] == (
        f"image {GITLAB} cannot be pulled from docker.io: {NO_NAME}. {ADVICE}\n"
        f"  log: {tmp_path}/root/log/pull-gitlab.log"
    )
    assert len(docker.calls_of("pull")) == 3


def test_an_image_that_the_mirror_lacks_is_not_asked_for_again(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("pull *", error="manifest unknown: manifest unknown\n", status=1)

    result = images(tmp_path, "pull", image={"source": MIRRORED})

    assert result["msg"].startswith(
        f"image {GITLAB} cannot be pulled from registry.example.com as {MIRRORED}: manifest unknown:"
    )
    assert len(docker.calls_of("pull")) == 1


def test_a_pull_that_never_ends_is_ended(
    docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "PULL_SECONDS", 1)
    docker.answer("pull *", then="exec sleep 60")

    assert "docker did not end within 1 s" in images(tmp_path, "pull")["msg"]


def test_a_digest_cannot_be_given_to_an_image_of_a_mirror(docker: FakeDocker, tmp_path: Path) -> None:
    named = f"gitlab/gitlab-ce@{OLD}"
    source = f"registry.example.com/hub/{named}"

    result = images(tmp_path, "pull", image={"reference": named, "source": source})

    assert result["msg"] == (
        f"{named} cannot be pulled as {source}: an image that is named by its digest cannot be given another"
        " name. Name it by its tag, or by the mirror's own name"
    )
    assert not docker.calls_of("pull")


def test_check_mode_tells_what_would_be_pulled_and_built(docker: FakeDocker, tmp_path: Path) -> None:
    built = [{"name": "mlflow", "tag": "dap/mlflow:3", "context": "mlflow.tar", "base": "debian:13"}]

    pull = images(tmp_path, "pull", check=True, images=built)
    build = images(tmp_path, "build", check=True, images=built)
    query = images(tmp_path, "query", check=True, images=built)

    assert (pull["changed"], pull["changed_items"]) == (True, [f"image {GITLAB} pulled"])
    assert (build["changed"], build["changed_items"]) == (True, ["image mlflow built"])
    assert (query["changed"], query["changed_items"]) == (False, [])
    assert not docker.calls_of("pull") and not docker.calls_of("build")


def test_how_far_a_pull_is_can_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "pull.log"
    monkeypatch.setattr(pulling, "elapsed", lambda since: "01:20")
    image = pulling.PulledImage("gitlab", GITLAB, MIRRORED)
    before = pulling.how_far(image, log, 0)
    log.write_text(PULL_LOG, encoding="utf-8")

    assert before == f"fetching {GITLAB} as {MIRRORED}: 01:20"
    assert pulling.how_far(image, log, 0) == f"fetching {GITLAB} as {MIRRORED}: 01:20, 2 of 3 layers"


def test_a_base_comes_from_the_mirror_too(docker: FakeDocker, tmp_path: Path) -> None:
    wanted = [{"name": "base", "tag": "dap/base:1", "context": "base.tar", "base": "debian:13"}]
    source = "registry.example.com/hub/library/debian:13"
    bases = [{"tag": "debian:13", "suite": "trixie", "source": source}]

    result = images(tmp_path, "pull", image={"source": MIRRORED}, images=wanted, base_images=bases)

    assert result["changed_items"] == [f"image {GITLAB} pulled", "image debian:13 pulled"]
    assert f"pull --quiet {source}" in docker.calls and f"tag {source} debian:13" in docker.calls


MIRRORS = {"DEBIAN_MIRROR": "http://m.example.com/debian/"}
BASE = {"name": "base", "tag": "dap/base:1", "context": "base.tar", "base": "debian:13"}
CHILD = {
    "name": "app",
    "tag": "dap/app:1",
    "context": "app.tar",
    "base": "dap/base:1",
    "depends_on": ["base"],
}


@pytest.mark.parametrize(
    ("environment", "built_with", "missing"),
    [
        ({}, "", ["app"]),
        (MIRRORS, bootstrapping.mirrors_mark(MIRRORS), ["app"]),
        (MIRRORS, "", ["base", "app"]),
        ({}, bootstrapping.mirrors_mark(MIRRORS), ["base", "app"]),
        (MIRRORS, "<no value>", ["base", "app"]),
    ],
)
def test_what_a_missing_image_is_built_upon_is_built_again_for_other_mirrors(
    docker: FakeDocker, tmp_path: Path, environment: dict[str, str], built_with: str, missing: list[str]
) -> None:
    docker.answer("image ls *", "dap/base:1\ndebian:13\n")
    docker.answer("image inspect *", f"{built_with}\n")

    result = images(tmp_path, "query", images=[BASE, CHILD], build_environment=environment)

    assert result["missing"] == missing


def test_that_goes_down_to_the_first_image(docker: FakeDocker, tmp_path: Path) -> None:
    top = {"name": "top", "tag": "dap/top:1", "context": "", "base": "dap/app:1", "depends_on": ["app"]}
    docker.answer("image ls *", "dap/base:1\ndap/app:1\ndebian:13\n")
    docker.answer("image inspect *", "\n")

    result = images(tmp_path, "query", images=[BASE, CHILD, top], build_environment=MIRRORS)

    assert result["missing"] == ["base", "app", "top"]


def test_mirrors_alone_are_no_reason_to_build(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("image ls *", "dap/base:1\ndap/app:1\n")

    assert images(tmp_path, "query", images=[BASE, CHILD], build_environment=MIRRORS)["missing"] == []


def test_a_build_remembers_its_mirrors_and_old_cache_goes_afterwards(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answer("build *")
    docker.answer("builder prune *", error="no such command\n", status=1)
    (tmp_path / "root/.build").mkdir(parents=True)
    (tmp_path / "root/.build/base.tar").touch()
    docker.answer("image ls *", "debian:13\n")

    result = images(tmp_path, "build", images=[BASE], build_environment=MIRRORS)

    (call,) = docker.calls_of("build")
    assert result["changed"] and f"--label dap.mirrors={bootstrapping.mirrors_mark(MIRRORS)}" in call
    assert " --build-arg DEBIAN_MIRROR " in call
    assert docker.calls_of("prune") == ["builder prune --force --filter until=336h"]


def test_the_mirrors_of_the_configuration_come_before_those_of_the_host() -> None:
    own = bootstrapping.Mirrors("http://own/debian", "http://own/debian-security")

    assert bootstrapping.chosen_mirrors(MIRRORS, own) == bootstrapping.Mirrors(
        "http://m.example.com/debian", "http://own/debian-security"
    )
    assert bootstrapping.chosen_mirrors({}, own) == own


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        (NO_NAME, True),
        ('Get "https://registry-1.docker.io/v2/": EOF', True),
        ("net/http: request canceled while waiting for connection (Client.Timeout exceeded)", True),
        (
            "E: Failed to fetch http://m/x.deb  Could not connect to m:80 (10.0.0.1), connection timed out",
            True,
        ),
        ("connect: network is unreachable", True),
        ("E: Unable to locate package python4", False),
        ("manifest unknown", False),
    ],
)
def test_network_trouble_is_told_with_the_settings_that_may_be_missing(said: str, trouble: bool) -> None:
    advice = building.network_advice(f"line\n{said}")

    assert advice == (
        "\n  if this host reaches the internet only through a proxy or a mirror, set proxy or mirrors in"
        " platform.yml (docs/how-to/use-mirrors-and-a-proxy.md)"
        if trouble
        else ""
    )


def test_a_build_without_a_network_says_which_settings_may_be_missing(
    docker: FakeDocker, tmp_path: Path
) -> None:
    docker.answer("build *", f"{NO_NAME}\n", status=1)
    docker.answer("image ls *", "debian:13\n")
    (tmp_path / "root/.build").mkdir(parents=True)
    (tmp_path / "root/.build/base.tar").touch()

    result = images(tmp_path, "build", images=[BASE])

    assert result["msg"] == (
        "1 image could not be built:\n"
        f"base: docker build ended with status 1\n    {NO_NAME}\n"
        "  if this host reaches the internet only through a proxy or a mirror, set proxy or mirrors in"
        " platform.yml (docs/how-to/use-mirrors-and-a-proxy.md)\n"
        f"  log: {tmp_path}/root/log/build-base.log"
    )


def test_a_proxys_login_is_no_part_of_an_images_history() -> None:
    assert building.kept_in_history({"http_proxy": "", "NO_PROXY": "", "PIP_INDEX_URL": ""}) == [
        "PIP_INDEX_URL"
    ]
