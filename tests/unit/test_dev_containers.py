"""Development containers in the configuration: whose, where, with which numbers; and how they are written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from dap.configuration import edits
from dap.credentials import Credentials
from dap.dev import numbers, pages, ssh_config, user_pages
from dap.dev.rendering import DevRenderer
from dap.images.builds import tags_of
from dap.images.distribution import Distribution
from dap.images.making import images_of
from dap.rendering import portal
from dap.secrets import SecretStore
from dap.site import Site, load_site
from dap.trust.pem import names_of
from tests.container_rules import broken
from tests.unit.dev_sites import LOCAL, ONE_HOST, THREE_HOSTS, USERS, refusal, site_with
from tests.unit.platforms import service_of

# --- where they are --------------------------------------------------------------------------------------


def test_container_is_on_the_only_host_that_it_can_be_on(folder: Path) -> None:
    (box,) = site_with(folder, {"user": "bob.b", "environment": "python"}).dev_containers
    assert (box.name, box.host.name) == ("bob-b-python", "main")
    two = {"service_host": THREE_HOSTS["service_host"], "runner_hosts": {"hosts": {"one": LOCAL}}}
    (box,) = site_with(folder, {"user": "ada", "environment": "python"}, hosts=two).dev_containers
    assert box.host.name == "one"


def test_containers_of_disabled_users_are_not_wanted(folder: Path) -> None:
    users = [{**USERS[0], "disabled": True}, USERS[1]]
    boxes = [{"user": name, "environment": "python"} for name in ("ada", "bob.b")]
    assert [box.name for box in site_with(folder, *boxes, users=users).dev_containers] == ["bob-b-python"]


@pytest.mark.parametrize(
    ("container", "hosts", "told"),
    [
        (
            {"environment": "pyton"},
            ONE_HOST,
            "dev_containers[0].environment = pyton: is not an environment; did you mean python?",
        ),
        (
            {},
            THREE_HOSTS,
            "dev_containers[0].host = : is required, as there are 2 runner hosts; write one of: one, two",
        ),
        (
            {"host": "main"},
            THREE_HOSTS,
            "dev_containers[0].host = main: is a host without the runner role, and only those with it have"
            " development containers; write one of: one, two; or add it to runner_hosts in hosts.yml",
        ),
        (
            {"host": "ome"},
            THREE_HOSTS,
            "dev_containers[0].host = ome: is not a host of the inventory; did you mean one?",
        ),
        (
            {"port": 443},
            ONE_HOST,
            "dev_containers[0].port = 443: is published by nginx-proxy.https already;"
            " write another number, or remove it",
        ),
    ],
)
def test_wrong_place_is_one_finding(
    folder: Path, container: dict[str, Any], hosts: dict[str, Any], told: str
) -> None:
    written = {"user": "ada", "environment": "python"} | container
    assert refusal(folder, written, hosts=hosts) == [told]


def test_two_containers_on_one_port_of_a_host_are_refused_and_on_two_hosts_not(folder: Path) -> None:
    first = {"user": "ada", "environment": "python", "port": 22100}
    second = {"user": "eve", "environment": "python", "port": 22100}
    assert refusal(folder, first, second) == [
        "dev_containers[1].port = 22100: is published by dev_containers[0] already;"
        " write another number, or remove it"
    ]
    apart = ({**first, "host": "one"}, {**second, "host": "two"})
    assert len(site_with(folder, *apart, hosts=THREE_HOSTS).dev_containers) == 2


def test_host_gets_the_images_of_its_own_containers_and_those_of_jobs_where_jobs_run(folder: Path) -> None:
    boxes = (
        {"user": "ada", "environment": "ml", "host": "one"},
        {"user": "eve", "environment": "python", "host": "two"},
    )
    for registry in (True, False):
        services = {"gitlab-runner": {"enabled": False}, "registry": {"enabled": registry}}
        site = site_with(folder, *boxes, hosts=THREE_HOSTS, services=services)
        assert images_by_host(site) == {
            "main": {"base", "python", "ml"} if registry else {*()},
            "one": {"ml"} if registry else {"base", "python", "ml"},
            "two": {"python"} if registry else {"base", "python"},
        }
    # A large environment that one container runs in is none for the jobs of all hosts.
    site = site_with(folder, *boxes, hosts=THREE_HOSTS, environments=["base"])
    assert images_by_host(site) == {
        "main": {"base", "python", "ml", "image-builder"},
        "one": {"base", "ml", "image-builder"},
        "two": {"base", "python", "image-builder"},
    }
    assert {*site.job_environments} == {"base", "image-builder"}


def test_host_of_a_container_with_vs_code_has_its_image_and_no_other_host(folder: Path) -> None:
    boxes = (
        {"user": "ada", "environment": "python", "host": "one", "code_server": True},
        {"user": "eve", "environment": "python", "host": "two"},
    )
    services = {"gitlab-runner": {"enabled": False}}
    site = site_with(folder, *boxes, hosts=THREE_HOSTS, services=services)
    assert images_by_host(site) == {
        "main": {"base", "python", "code-server"},
        "one": {"python", "code-server"},
        "two": {"python"},
    }
    # Nothing runs in it: neither jobs nor containers.
    site = site_with(folder, *boxes, hosts=THREE_HOSTS, environments=["base"])
    assert {*site.job_environments} == {"base", "image-builder"}
    advice = "write one of: base, image-builder, ml, python, python-r"
    assert refusal(folder, environments=["code-server"]) == [
        f"environments[0] = code-server: is not an environment; {advice}"
    ]
    assert refusal(folder, {"user": "ada", "environment": "code-server"}) == [
        "dev_containers[0].environment = code-server: is not an environment;"
        " write one of: base, ml, python, python-r"
    ]


def images_by_host(site: Site) -> dict[str, set[str]]:
    """The environments that each host builds or is handed."""
    distribution = Distribution(site, images_of(site))
    found = {}
    for host in site.inventory.hosts:
        images = distribution.of(host)
        names = {build.name for build in images.own.builds} | {image.name for image in images.handed}
        found[host.name] = names & {*site.known_environments}
    return found


# --- numbers ---------------------------------------------------------------------------------------------


def test_numbers_stay_whoever_comes_and_goes(folder: Path) -> None:
    ada, bob, eve = ({"user": name, "environment": "python"} for name in ("ada", "bob.b", "eve"))
    first = numbers.numbers_of(site_with(folder, ada, bob))
    assert first.uids == {"ada": 20000, "bob.b": 20001}
    assert first.ports == {"ada-python": 22001, "bob-b-python": 22002}
    assert first.hosts == ["main"]
    numbers.remember("team", first)
    demo = {"name": "demo", "members": {"eve": "developer", "bob.b": "guest"}}
    later = numbers.numbers_of(site_with(folder, eve, bob, projects=[demo]))
    assert later.gids == {"demo": 70000}
    numbers.remember("team", later)
    other = {"name": "abacus", "members": {"*": "developer"}}
    site = site_with(folder, eve, bob, projects=[other])
    assert numbers.numbers_of(site).gids == {"demo": 70000, "abacus": 70001}
    assert later.uids == {"ada": 20000, "bob.b": 20001, "eve": 20002}
    assert later.ports == {"bob-b-python": 22002, "eve-python": 22001}


def test_written_numbers_count_and_others_keep_out_of_their_way(folder: Path) -> None:
    users = [USERS[0], {**USERS[1], "uid": 20000}]
    boxes = (
        {"user": "ada", "environment": "python"},
        {"user": "bob.b", "environment": "python", "port": 22001},
    )
    found = numbers.numbers_of(site_with(folder, *boxes, users=users))
    assert found.uids == {"bob.b": 20000, "ada": 20001}
    assert found.ports == {"bob-b-python": 22001, "ada-python": 22002}


def test_numbers_of_files_that_there_are_cannot_be_given_to_others(folder: Path) -> None:
    box = {"user": "ada", "environment": "python"}
    numbers.remember("team", numbers.numbers_of(site_with(folder, box)))
    users = [{**USERS[0], "uid": 20001}, {**USERS[1], "uid": 20000}]
    assert refusal(folder, box, users=users) == [
        "users[0].uid = 20001: is not the number of ada's files, which is 20000; write 20000, or remove it",
        "users[1].uid = 20000: is the number of ada's files; write a different number, or remove it",
    ]


# --- what a host gets ------------------------------------------------------------------------------------


def test_rendered_container_keeps_the_rules_of_all_containers(folder: Path) -> None:
    box = {"user": "ada", "environment": "python", "memory": "512m", "cpus": 1.5, "host": "one"}
    demo, mirror = {"name": "demo", "members": {"*": "developer"}}, "https://mirror.example.com/simple"
    cran = "https://mirror.example.com/cran"
    site = site_with(folder, box, hosts=THREE_HOSTS, projects=[demo], mirrors={"pypi": mirror, "cran": cran})
    store = SecretStore(folder / "secrets.yml", "team")
    renderer = DevRenderer(site, Credentials(site, store), numbers.numbers_of(site))
    rendered = renderer.render(site.dev_containers[0])
    files = {file.path: file for file in rendered.files}
    service = yaml.safe_load(files["compose.yaml"].content)["services"]["ada-python"]
    known = {
        "x-name": "ada-python",
        "x-data": "/var/lib/dap",
        "x-folders": {f"/var/lib/dap/{name}" for name in ("homes/ada", "scratch/ada", "shared/demo")},
        "x-ports": {("0.0.0.0", 22001), ("0.0.0.0", 23001)},  # noqa: S104
        "x-job": False,
    }
    assert broken({**service, **known}, {"group_add": "the user is a member of a project"}) == []
    assert service["group_add"] == ["70000"]
    assert (service["environment"]["PIP_INDEX_URL"], service["environment"]["UV_DEFAULT_INDEX"]) == (
        mirror,
        mirror,
    )
    assert service["environment"]["R_CRAN_WEB"] == cran
    assert b"ada:x:20000:\ndemo:x:70000:ada\n" in files["config/group"].content
    assert (service["user"], service["mem_limit"], service["cpus"]) == ("20000:20000", 512 * 1024**2, 1.5)
    # What is secret is in files that only the user reads, and in none that describes the container.
    values = [secret.reveal().encode() for secret in store.all_values().values()]
    for path, file in files.items():
        secret_file = path.startswith("live/")
        assert (file.mode, file.owner) == (("0400", 20000) if secret_file else ("0444", 0))
        assert secret_file or not any(value in file.content for value in values)
    assert b"ada: the first" not in files["config/passwd"].content
    # Names lead to the service host from there, and the same is rendered each time.
    assert service["extra_hosts"]["mlflow.dap.example.com"] == "192.0.2.10"
    assert renderer.render(site.dev_containers[0]) == rendered


def rendered_with(folder: Path, box: dict[str, Any], **more: Any) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The Compose service and the files of a container of ada's."""
    site = site_with(folder, {"user": "ada", "environment": "python", **box}, **more)
    store = SecretStore(folder / "secrets.yml", "team")
    renderer = DevRenderer(site, Credentials(site, store), numbers.numbers_of(site))
    files = {file.path: file.content for file in renderer.render(site.dev_containers[0]).files}
    return yaml.safe_load(files["compose.yaml"])["services"]["ada-python"], files


def test_page_is_the_containers_own_and_its_key_in_no_other_place(folder: Path) -> None:
    service, files = rendered_with(folder, {})
    assert service["environment"]["DAP_PAGE"] == "https://ada-python.dap.example.com/"
    token = files["live/page_token"]
    assert [path for path, content in files.items() if token in content] == ["live/page_token"]
    assert b"your platform login: https://ada-python.dap.example.com/" in files["live/motd"]
    certificate = x509.load_pem_x509_certificate(files["live/page.pem"])
    assert names_of(certificate) == {"ada-python.dap.example.com"}


@pytest.mark.parametrize(("written", "seconds"), [("30m", "1800"), ("8h", "28800"), (None, None)])
def test_idle_container_knows_when_to_end_what_runs_in_it_and_its_user_too(
    folder: Path, written: str | None, seconds: str | None
) -> None:
    service, files = rendered_with(folder, {"idle_stop": written} if written else {})
    assert service["environment"].get("DAP_IDLE_SECONDS") == seconds
    told = f"What runs here is ended when it has been idle for {written}:"
    assert (told.encode() in files["live/motd"]) == bool(written)


@pytest.mark.parametrize(
    ("of_all", "own", "limit", "told"),
    [
        (None, None, b"", b"your home: stays, on main\n"),
        ("50g", None, b"52428800\n", b"your home: stays, on main; 50g at most\n"),
        ("50g", "2t", b"2147483648\n", b"your home: stays, on main; 2t at most\n"),
    ],
)
def test_home_has_the_limit_of_its_user_or_that_of_all(
    folder: Path, of_all: str | None, own: str | None, limit: bytes, told: bytes
) -> None:
    users = [user | {"home_size": own} if own else user for user in USERS]
    _, files = rendered_with(folder, {}, users=users, **({"homes": {"size": of_all}} if of_all else {}))
    assert files["live/home_limit"] == limit
    assert told in files["live/motd"]


def test_container_without_a_page_has_nothing_of_it(folder: Path) -> None:
    service, files = rendered_with(folder, {"jupyter": False, "host": "one"}, hosts=THREE_HOSTS)
    assert "DAP_PAGE" not in service["environment"]
    assert [port["published"] for port in service["ports"]] == ["22001"]
    assert {"live/page.pem", "live/page_token"}.isdisjoint(files)
    assert b"JupyterLab" not in files["live/motd"]
    site = load_site("team")
    assert "ada-python.dap.example.com" not in site.tls_names(site.services["nginx-proxy"])


def test_containers_share_vs_code_of_their_host_and_cannot_change_it(folder: Path) -> None:
    service, files = rendered_with(folder, {"code_server": True})
    site = load_site("team")
    image = tags_of(site.environments)["code-server"]
    shared = f"/opt/dap/dev/.programs/code-server-{image.partition(':')[2]}"
    (mount,) = (one for one in service["volumes"] if one["target"] == "/opt/code-server")
    assert (mount["source"], mount["read_only"]) == (shared, True)
    assert "DAP_NO_JUPYTER" not in service["environment"]
    told = "VS Code in the browser, with your platform login: https://ada-python.dap.example.com/code/"
    assert told.encode() in files["live/motd"]
    rendered = DevRenderer(
        site, Credentials(site, SecretStore(folder / "secrets.yml", "team")), numbers.numbers_of(site)
    ).render(site.dev_containers[0])
    assert rendered.as_json()["programs"] == [{"image": image, "path": "/opt/code-server", "folder": shared}]


@pytest.mark.parametrize(
    ("environment", "written", "titles"),
    [
        ("python", {}, ["JupyterLab"]),
        ("python-r", {"code_server": True}, ["JupyterLab", "VS Code"]),
        ("python", {"code_server": True, "jupyter": False}, ["VS Code"]),
        ("base", {"code_server": True}, ["VS Code"]),
        ("base", {}, []),
    ],
)
def test_links_are_to_what_the_page_opens(
    folder: Path, environment: str, written: dict[str, Any], titles: list[str]
) -> None:
    site = site_with(folder, {"user": "ada", "environment": environment, **written})
    (box,), page = site.dev_containers, f"https://ada-{environment}.dap.example.com/"
    addresses = {"JupyterLab": page, "VS Code": f"{page}code/"}
    assert site.page_links(box) == {title: addresses[title] for title in titles}
    assert (site.has_page(box), site.page_hosts) == (bool(titles), [site.page_host(box)] if titles else [])
    credentials = Credentials(site, SecretStore(folder / "secrets.yml", "team"))
    renderer = DevRenderer(site, credentials, numbers.numbers_of(site))
    assert ("DAP_NO_JUPYTER" in renderer.environment(box)) == (titles == ["VS Code"])
    found = user_pages.files(site, credentials, service_of("proxy", user=10002))
    (text,) = (file.content.decode() for file in found if file.path == "proxy/live/my_ada")
    assert re.findall(r'<a class="button[^"]*" href="(https:[^"]+)">([^<]+)<svg', text) == [
        (addresses[title], title) for title in titles
    ]


def test_proxy_lets_each_user_in_to_their_own_page(folder: Path) -> None:
    boxes = [{"user": name, "environment": "python"} for name in ("ada", "eve")]
    site = site_with(folder, *boxes)
    credentials = Credentials(site, SecretStore(folder / "secrets.yml", "team"))
    proxy = site.services["nginx-proxy"]
    assert {"ada-python.dap.example.com", "eve-python.dap.example.com"} < {*site.tls_names(proxy)}
    files = {file.path: file.content.decode() for file in pages.files(site, credentials, proxy)}
    assert files.keys() == {
        f"nginx-proxy/live/{name}" for name in ("htpasswd_ada", "htpasswd_eve", "pages.crt")
    }
    logins = [text for path, text in files.items() if "htpasswd" in path]
    assert [login.partition(":")[0] for login in logins] == ["ada", "eve"]
    assert files["nginx-proxy/live/pages.crt"].count("BEGIN CERTIFICATE") == 2
    told = pages.context(site, credentials)["pages"]
    assert [(one["user"], one["host"], one["upstream"]) for one in told] == [
        ("ada", "ada-python.dap.example.com", "dap-dev-ada-python:8888"),
        ("eve", "eve-python.dap.example.com", "dap-dev-eve-python:8888"),
    ]
    assert told[0]["token"] != told[1]["token"]


def test_users_find_their_own_containers_and_no_others(folder: Path) -> None:
    boxes = ({"user": name, "environment": "python"} for name in ("ada", "bob.b"))
    site = site_with(folder, *boxes)
    credentials = Credentials(site, SecretStore(folder / "secrets.yml", "team"))
    proxy = service_of("proxy", user=10002)
    found = {file.path: file for file in user_pages.files(site, credentials, proxy)}
    assert {(file.mode, file.owner) for file in found.values()} == {("0400", 10002)}
    texts = {path.removeprefix("proxy/live/"): file.content.decode() for path, file in found.items()}
    mine, yours = ("ada-python", "https://ada-python.dap.example.com/"), ("bob-b-python",)
    assert [name in texts["my_ada"] for name in (*mine, *yours)] == [True, True, False]
    assert [name in texts["my_bob.b"] for name in (*mine, *yours)] == [False, False, True]
    assert "You have none yet." in texts["my_admin"]
    assert texts["ssh_config_ada"].startswith("Host ada-python ada-python.dap.example.com\n")
    assert "bob" not in texts["ssh_config_ada"]
    assert texts["ssh_config_admin"] == ""
    assert portal.connect(site)["dev_containers"] == "https://dap.example.com/my/"


def test_page_on_another_host_has_a_port_there_that_it_keeps(folder: Path) -> None:
    ada, eve = ({"user": name, "environment": "python", "host": "one"} for name in ("ada", "eve"))
    bob = {"user": "bob.b", "environment": "python", "host": "two", "port": 23001}
    site = site_with(folder, ada, eve, bob, hosts=THREE_HOSTS)
    credentials = Credentials(site, SecretStore(folder / "secrets.yml", "team"))
    assert [one["upstream"] for one in pages.context(site, credentials)["pages"]] == [
        "192.0.2.11:23001",
        "192.0.2.11:23002",
        "192.0.2.12:23002",
    ]
    numbers.remember("team", numbers.numbers_of(site))
    later = numbers.numbers_of(site_with(folder, eve, ada, hosts=THREE_HOSTS))
    assert later.pages == {"ada-python": 23001, "eve-python": 23002}


@pytest.mark.parametrize(("name", "owner"), [("mlflow", "mlflow"), ("s3", "minio"), ("portal", "portal")])
def test_name_of_a_service_is_refused(folder: Path, name: str, owner: str) -> None:
    assert refusal(folder, {"user": "ada", "environment": "python", "name": name}) == [
        f"dev_containers[0].name = {name}: is a name of the service {owner}; write a different name"
    ]


@pytest.mark.parametrize(("environment", "told"), [("python", True), ("ml", False)])
def test_container_names_its_image_where_jobs_have_it(folder: Path, environment: str, told: bool) -> None:
    box = {"environment": environment, "name": "ada-python", "host": "one"}
    service, files = rendered_with(folder, box, hosts=THREE_HOSTS)
    assert (service["environment"].get("DAP_IMAGE") == service["image"]) is told
    assert (f"image: {service['image']}\n".encode() in files["live/motd"]) is told


def test_keys_of_gitlab_count_where_it_runs_and_for_whom_they_are_to(folder: Path) -> None:
    users = [{"name": "ada", "ssh_keys_from_gitlab": True}]
    asks = (
        b"AuthorizedKeysCommand /bin/sh /etc/dap/keys.sh https://gitlab.dap.example.com/ada.keys\n"
        b"AuthorizedKeysCommandUser ada\n"
    )
    assert asks in rendered_with(folder, {}, users=users)[1]["config/sshd_config"]
    assert b"KeysCommand" not in rendered_with(folder, {}, users=USERS)[1]["config/sshd_config"]
    site = site_with(folder, {"user": "ada", "environment": "base"}, users=users)
    left_out = site.without({"gitlab": "its image cannot be had"})
    credentials = Credentials(left_out, SecretStore(folder / "secrets.yml", "team"))
    rendered = DevRenderer(left_out, credentials, numbers.numbers_of(left_out)).render(site.dev_containers[0])
    assert not [file for file in rendered.files if b"ada.keys" in file.content]
    off = {"gitlab": {"enabled": False}}
    assert refusal(folder, {"user": "ada", "environment": "base"}, users=users, services=off) == [
        "users[0].ssh_keys_from_gitlab = true: takes keys from an account that services.gitlab.enabled: false"
        " takes away; write false"
    ]


def test_ssh_config_has_a_block_for_each_container(folder: Path) -> None:
    boxes = [{"user": name, "environment": "python", "host": "two"} for name in ("ada", "eve")]
    site = site_with(folder, *boxes, hosts=THREE_HOSTS)
    ports = numbers.numbers_of(site).ports
    assert ssh_config.blocks(site, site.dev_containers[:1], ports, "ssh-ed25519 AAAA") == (
        "Host ada-python ada-python.dap.example.com\n"
        "  HostName 192.0.2.12\n"
        "  Port 22001\n"
        "  User ada\n"
        "  HostKeyAlias ada-python\n"
        "  CheckHostIP no\n"
        "  StrictHostKeyChecking yes\n"
        "  KnownHostsCommand /bin/echo @cert-authority ada-python ssh-ed25519 AAAA\n"
    )
    names = "ada-python,ada-python.dap.example.com,eve-python,eve-python.dap.example.com"
    told = ssh_config.known_hosts(site, site.dev_containers, "ssh-ed25519 AAAA")
    assert told == f"@cert-authority {names} ssh-ed25519 AAAA\n"


# --- the text --------------------------------------------------------------------------------------------

LISTS = [
    "things: [{name: a}, {name: b}, {name: c}]\n",
    "things:\n  - name: a\n    # of a\n  - {name: b}\n  - name: c   # the last\n",
    "things:\n- name: a\n- name: b\n  more: |-\n    x\n    y\n- name: c",
]


@pytest.mark.parametrize("text", LISTS)
@pytest.mark.parametrize("index", [0, 1, 2])
def test_item_is_removed_however_the_list_is_written(text: str, index: int) -> None:
    for whole in (f"# Ours.\ndomain: d\n{text}", f"{text.rstrip()}\n# after\ndomain: d\n"):
        before, changed = yaml.safe_load(whole), edits.without_item(whole, "things", index)
        expected = [item for place, item in enumerate(before["things"]) if place != index]
        assert yaml.safe_load(changed) == before | {"things": expected}
        for comment in ("# Ours.", "# after"):
            assert (comment in changed) == (comment in whole)


@pytest.mark.parametrize("things", ["things: [{name: a}]\n", "things:\n  - name: a\n    more: b\n"])
def test_last_item_takes_an_empty_list_with_it(things: str) -> None:
    for whole in (f"domain: d\n{things}# end\n", f"{things}domain: d\n"):
        changed = edits.without_item(whole, "things", 0)
        assert not yaml.safe_load(changed).get("things")
        assert yaml.safe_load(changed)["domain"] == "d"
        assert ("# end" in changed) == ("# end" in whole)
