"""Which services run: switched, off by default, left to the platform, or the operator's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dap.configuration.inventory import Host
from dap.configuration.schema import Platform
from dap.deployment.preflight import left_out, wanted
from dap.errors import ConfigurationError, Finding, Problems, RefusedError
from dap.hosts.facts import HostFacts
from dap.images import digests
from dap.images.builds import Images, Pull, pulls, resolve
from dap.images.distribution import Distribution
from dap.services import choices, customization
from dap.site import Site
from tests.unit.platforms import service_of, site_of, tree_of

FILE = "platform.yml"
GIT = service_of("git", image={"pull": "registry.example.com/git:1"}, minimum_memory="4g", minimum_disk="8g")
PULL = Pull(("git",), "registry.example.com/git:1", "registry.example.com/git:1")
FACTS = HostFacts(memory_mib=16000, cpus=4, free_mib=100 * 1024)
IMAGES = Images({}, [], [PULL])
LACKING = replace(FACTS, images={"git": "the registry does not answer"})


def platform(**services: Any) -> Platform:
    return Platform.model_validate({"domain": "dap.example.com", "services": services})


def found(*services: Any, **settings: Any) -> list[Finding]:
    every = {service.name: service for service in services}
    return list(choices.findings(every, platform(**settings), FILE))


def test_service_that_is_off_by_default_says_why() -> None:
    service = service_of("risky", off_by_default="may do everything")
    assert choices.switched_off({"risky": service}, {}) == {"risky": "off by default: may do everything"}
    on = platform(risky={"enabled": True}).services
    assert choices.switched_off({"risky": service}, on) == {}


def test_service_that_is_switched_off_says_by_whom() -> None:
    service = service_of("risky", off_by_default="may do everything")
    off = platform(risky={"enabled": False}).services
    assert choices.switched_off({"risky": service}, off) == {"risky": "switched off in platform.yml"}


def test_what_others_need_is_not_switched_off() -> None:
    assert found(service_of("db"), service_of("app", needs=["db"]), db={"enabled": False}) == [
        Finding(
            FILE,
            "services.db.enabled",
            "false",
            "leaves out what app needs",
            "remove it, or switch off app too",
        )
    ]


def test_what_is_off_by_default_and_needed_is_to_be_switched_on() -> None:
    services = service_of("db", off_by_default="is large"), service_of("app", needs=["db"])
    assert found(*services) == [
        Finding(
            FILE,
            "services.db.enabled",
            "",
            "leaves out what app needs",
            "write services.db.enabled: true, or switch off app too",
        )
    ]


def test_server_of_ones_own_stands_in_for_databases_and_object_storage_only() -> None:
    services = service_of("app"), service_of("db", provides="postgres"), service_of("store", provides="s3")
    external = {"url": "https://app.example.com", "user": "dap"}
    assert found(*services, app={"external": external}) == [
        Finding(
            FILE,
            "services.app.external",
            "",
            "cannot be replaced by a server of your own",
            "remove it; db and store can",
        )
    ]
    assert found(*services, db={"external": external}) == [
        Finding(
            FILE,
            "services.db.external.url",
            "https://app.example.com",
            "is not the address of a server for Db",
            "write one that begins with postgresql://",
        )
    ]
    assert found(*services, store={"external": external}) == []


def test_ports_are_those_of_the_manifest() -> None:
    service = service_of("app", ports=[{"name": "metrics", "container": 9100}])
    assert found(service, app={"ports": {"metrics": 9200}}) == []
    assert found(service, app={"ports": {"metric": 9200}}) == [
        Finding(
            FILE,
            "services.app.ports.metric",
            "9200",
            "is not a port of the service",
            "did you mean metrics?",
        )
    ]
    assert found(service_of("app"), app={"ports": {"web": 80}})[0].suggestion == (
        "remove it: the service publishes no port"
    )


def sure_left_out(site: Site, facts: HostFacts) -> dict[str, str]:
    """What is left out on a host with these ``facts``, where nothing is wrong."""
    problems = Problems()
    out = left_out(Distribution(site, IMAGES), {"alpha": facts}, problems)
    assert problems.entries == []
    return out


def test_image_that_cannot_be_had_leaves_out_an_auto_service_and_what_lives_on_it() -> None:
    page = service_of("page", needs=["git"])
    auto = {"git": {"enabled": "auto"}, "page": {"enabled": "auto"}}
    site = site_of(GIT, page, service_of("app"), services=auto)
    out = sure_left_out(site, LACKING)
    reason = "its image registry.example.com/git:1 cannot be had: the registry does not answer"
    assert out == {"git": reason}
    rest = site.without(out)
    assert list(rest.services) == ["app"]
    assert {name: why for name, (_, why) in rest.left_out.items()} == {
        "git": reason,
        "page": "needs git, which is left out",
    }


def test_service_that_must_run_is_not_left_without_what_it_needs() -> None:
    site = site_of(GIT, service_of("page", needs=["git"]), services={"git": {"enabled": "auto"}})
    with pytest.raises(ConfigurationError) as caught:
        site.without({"git": "its image cannot be had"})
    assert str(caught.value) == (
        "1 error in the configuration; nothing was changed:\n"
        "  inventories/team/group_vars/all/platform.yml: services.git.enabled = auto\n"
        "    leaves out what page needs: its image cannot be had\n"
        "    write services.page.enabled: auto, or provide the image of git"
    )


def test_image_that_cannot_be_had_refuses_a_service_that_must_run() -> None:
    problems = Problems()
    assert left_out(Distribution(site_of(GIT), IMAGES), {"alpha": LACKING}, problems) == {}
    with pytest.raises(RefusedError) as caught:
        problems.refuse()
    assert str(caught.value) == (
        "preflight found 1 error; nothing was changed:\n"
        "  inventories/team/group_vars/all/platform.yml: services.git = registry.example.com/git:1\n"
        "    is an image that alpha neither has nor can pull: the registry does not answer\n"
        "    load it there (docker load), set mirrors.registry or proxy, or write services.git.enabled: auto"
    )


def test_auto_service_is_left_out_on_a_small_host() -> None:
    site = site_of(GIT, services={"git": {"enabled": "auto"}})
    small, full = replace(FACTS, memory_mib=4096), replace(FACTS, free_mib=20 * 1024)
    assert sure_left_out(site, small) == {"git": "alpha has 4.0 GiB of memory, and 6.0 GiB are needed"}
    assert sure_left_out(site, full) == {"git": "alpha has 20.0 GiB of free disk, and 23.0 GiB are needed"}
    assert sure_left_out(site, FACTS) == {}


def test_auto_service_that_runs_already_stays_on_a_host_that_has_become_full() -> None:
    site = site_of(GIT, services={"git": {"enabled": "auto"}})
    assert sure_left_out(site, replace(FACTS, free_mib=0, deployed=("git",))) == {}


def test_host_must_have_what_sure_services_need_at_least() -> None:
    site = site_of(GIT)
    sure = wanted(site, site.inventory.hosts[0])
    assert (sure["memory_required_mib"], sure["disk_required_gib"]) == (2048 + 4096, 15 + 8)
    site = site_of(GIT, services={"git": {"enabled": "auto"}})
    auto = wanted(site, site.inventory.hosts[0])
    assert (auto["memory_required_mib"], auto["disk_required_gib"]) == (2048, 15)


def test_decision_is_kept_for_those_who_only_look(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DAP_SECRETS", str(tmp_path))
    assert choices.recall("team") == {}
    choices.remember("team", {"git": "no image"})
    assert choices.recall("team") == {"git": "no image"}
    assert (tmp_path / "team" / "left_out.json").stat().st_mode & 0o777 == 0o600
    choices.remember("team", {})
    assert choices.recall("team") == {}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"git:1": "sha256', "Unterminated string starting at: line 1 column 11 (char 10)"),
        ("[]", "it holds no JSON object"),
    ],
)
def test_damaged_record_is_refused_and_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, reason: str
) -> None:
    """As if it were empty, another image under a known tag would be taken without a word."""
    monkeypatch.setenv("DAP_SECRETS", str(tmp_path))
    file = tmp_path / "team" / "image_digests.json"
    file.parent.mkdir()
    file.write_text(content, encoding="utf-8")
    for use in (lambda: digests.recall("team"), lambda: digests.remember("team", {"git:1": "sha256:0"})):
        with pytest.raises(RefusedError) as caught:
            use()
        assert str(caught.value) == (
            f"{file} cannot be read: {reason}\n"
            "  next: restore it from a backup, or remove it: the next deploy notes anew what it finds"
        )
    assert file.read_text(encoding="utf-8") == content


@pytest.fixture
def customized(tmp_path: Path) -> Callable[..., list[Finding]]:
    def check(*files: str) -> list[Finding]:
        tree_of(tmp_path, dict.fromkeys(files, ""))
        return list(customization.findings(tmp_path, ["mlflow", "minio"]))

    return check


def test_files_for_a_service_of_the_platform_are_taken(customized: Callable[..., list[Finding]]) -> None:
    assert customized("mlflow/compose.override.yaml.j2", "minio/nginx.conf.j2", "own/service.yml") == []


def test_folder_for_no_service_is_refused(customized: Callable[..., list[Finding]], tmp_path: Path) -> None:
    reason = "is neither a service of the platform nor one of your own: it has no service.yml"
    assert customized("mlfow/nginx.conf.j2", "shop/compose.yaml.j2") == [
        Finding(str(tmp_path / "mlfow"), "", "", reason, "did you mean mlflow?"),
        Finding(str(tmp_path / "shop"), "", "", reason, "write service.yml there, or remove it"),
    ]


def test_file_that_means_nothing_is_refused(customized: Callable[..., list[Finding]], tmp_path: Path) -> None:
    assert customized("mlflow/compose.yaml.j2") == [
        Finding(
            str(tmp_path / "mlflow/compose.yaml.j2"),
            "",
            "",
            "means nothing in the folder of mlflow, a service of the platform",
            "there may be compose.override.yaml.j2 and nginx.conf.j2",
        )
    ]


# --- what has nothing to do ------------------------------------------------------------------------------

HUB = service_of("hub", image={"pull": "registry.example.com/hub:1"})
WORKER = service_of("worker", only_with=["hub"], provides="runner", image={"pull": "worker:1"})


def test_what_has_nothing_to_do_without_another_goes_with_it() -> None:
    every = {"hub": HUB, "worker": WORKER}
    off = platform(hub={"enabled": False})
    reason = "has nothing to do without hub, which is left out"
    assert choices.switched_off(every, off.services)["worker"] == reason
    assert list(choices.findings(every, off, FILE)) == []
    auto = platform(hub={"enabled": "auto"})
    out = choices.cascade({"hub": "its image cannot be had"}, every, auto, FILE)
    assert out == {"hub": "its image cannot be had", "worker": reason}


def test_what_runs_jobs_is_left_out_without_hosts_for_them() -> None:
    every = {"hub": HUB, "worker": WORKER}
    assert choices.without_runner_hosts(every) == {"worker": "there are no runner hosts in hosts.yml"}


def test_image_that_a_service_starts_itself_is_asked_for_too() -> None:
    worker = service_of(
        "worker", role="runner", image={"pull": "worker:1", "more": {"helper": "helper:1"}}, provides="runner"
    )
    alpha = Host("alpha", frozenset({"service_host", "runner_hosts"}), {"ansible_connection": "local"})
    site = site_of(worker, hosts=(alpha,), services={"worker": {"enabled": "auto"}})
    references, builds = resolve(site.services)
    every = Images(references, builds, pulls(references, builds, None))
    facts = {"alpha": replace(FACTS, images={"worker.helper": "the registry does not answer"})}
    assert left_out(Distribution(site, every), facts, Problems()) == {
        "worker": "its image helper:1 cannot be had: the registry does not answer"
    }
    assert set(every.of(site.services).references) == {"worker", "worker.helper"}


def test_image_that_no_service_starts_cannot_be_set() -> None:
    worker = service_of("worker", image={"pull": "worker:1", "more": {"helper": "helper:1"}})
    assert found(worker, worker={"images": {"halper": "other:1"}}) == [
        Finding(
            FILE,
            "services.worker.images.halper",
            "other:1",
            "is not an image that the service starts itself",
            "did you mean helper?",
        )
    ]
