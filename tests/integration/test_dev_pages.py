"""JupyterLab and VS Code of a development container in a real browser, as their user sees them."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import yaml
from playwright.sync_api import Browser, Page, expect

from dap.layout import environments_dir
from tests.integration.browsing import visiting
from tests.integration.desks import Desks
from tests.integration.platform import docker, free_ports, from_nothing

SECONDS = 1000
CONTAINER = "alice-python-r"
MIB = 1024 * 1024
# How much the door takes while nobody comes.
IDLE_KIB = 12 * 1024
# How much VS Code takes with a window open, its shared pages counted once.
CODE_MIB = 600
# What a container takes whose JupyterLab runs and does nothing.
IDLE_JUPYTER_MIB = 150


@dataclass
class Pages(Desks):
    """A platform on which alice has a container with R and a page, and bob one without."""

    passwords: dict[str, str] = field(default_factory=dict)

    def write_inventory(self) -> None:
        """Write it."""
        super().write_inventory()
        written = yaml.safe_load(self.settings_file.read_text(encoding="utf-8"))
        alice, bob = written["dev_containers"]
        alice |= {"environment": "python-r", "memory": "1500m", "code_server": True}
        bob |= {"jupyter": False}
        self.settings_file.write_text(yaml.safe_dump(written), encoding="utf-8")

    def configure_client(self) -> None:
        """There is nobody here who uses SSH."""

    def password(self, user: str) -> str:
        """A user's platform login."""
        if user not in self.passwords:
            entries = json.loads(self.must("credentials", "--user", user, "--json"))
            (self.passwords[user],) = (one["secret"] for one in entries if one["what"] == "Platform login")
        return self.passwords[user]

    def inside(self, *command: str) -> str:
        """What a command says in alice's container."""
        return docker("exec", f"{self.name}-dev-{CONTAINER}", *command)

    def visitor(self, user: str = "", headers: dict[str, str] | None = None) -> httpx.Client:
        """A client of the page with a user's login."""
        login = (user, self.password(user)) if user else None
        return httpx.Client(
            base_url=self.url(CONTAINER), verify=self.trust, auth=login, headers=headers, timeout=120
        )


@pytest.fixture(scope="module")
def pages(engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    made = Pages(tmp_path_factory.mktemp("pages"))
    made.write_inventory()
    with from_nothing(made):
        yield made


@pytest.fixture
def browser_page(browser: Browser, pages: Pages) -> Iterator[Page]:
    """A page of alice's browser."""
    with visiting(browser, "alice", pages.password("alice"), seconds=60) as page:
        yield page


def run_cell(page: Page, kernel: str, code: str) -> str:
    """Make a notebook with a kernel of this name, run one cell, and say what it says."""
    page.locator(f'.jp-LauncherCard[data-category="Notebook"][title^="{kernel}"]').first.click()
    notebook = page.locator(".jp-NotebookPanel:visible")
    notebook.locator(".jp-Cell .cm-content").first.click()
    page.keyboard.insert_text(code)
    output = notebook.locator(".jp-Cell-outputArea").first
    for _ in range(8):
        # Until it knows the kernel, the page takes no notice of a cell that is to run.
        page.keyboard.press("Control+Enter")
        with contextlib.suppress(AssertionError):
            expect(output).to_contain_text("done", timeout=12 * SECONDS)
            break
    return output.inner_text()


PYTHON = (
    'import mlflow; mlflow.end_run(); run = mlflow.start_run(); mlflow.log_metric("answer", 42);'
    ' print(mlflow.get_run(run.info.run_id).data.metrics, "done")'
)
R = (
    "library(DBI); connection <- dbConnect(RPostgreSQL::PostgreSQL());"
    ' user <- dbGetQuery(connection, "select session_user")[[1]];'
    ' cat(R.version$major, user, Sys.getenv("MLFLOW_TRACKING_URI"), "done")'
)


def test_cells_run_in_python_and_r_and_log_to_mlflow_with_nothing_set(
    browser_page: Page, pages: Pages
) -> None:
    browser_page.goto(f"{pages.url(CONTAINER)}/lab?reset")
    assert "{'answer': 42.0} done" in run_cell(browser_page, "Python 3", PYTHON)
    (known,) = (one for one in listed(pages) if one["name"] == CONTAINER)
    assert (known["kernels"], known["busy_kernels"]) == (1, 0)
    assert 0 < (datetime.now(UTC) - datetime.fromisoformat(known["last_kernel"])).total_seconds() < 60
    browser_page.goto(f"{pages.url(CONTAINER)}/lab?reset")
    assert f"4 alice {pages.url('mlflow')} done" in run_cell(browser_page, "R", R)


def test_vs_code_opens_a_file_and_runs_a_command_as_the_user(browser_page: Page, pages: Pages) -> None:
    home = pages.data / "homes" / "alice"
    (home / "greeting.py").write_text('print("hello from home")\n', encoding="utf-8")
    assert code_memory(pages) == 0
    browser_page.goto(f"{pages.url(CONTAINER)}/code/")
    browser_page.locator(".explorer-folders-view").get_by_text("greeting.py").dblclick()
    text = browser_page.locator(".editor-instance .view-lines")
    expect(text).to_contain_text("hello from home", timeout=60 * SECONDS)
    browser_page.keyboard.press("Control+Backquote")
    terminal = browser_page.locator(".terminal-wrapper.active textarea.xterm-helper-textarea")
    proof = home / "proof"
    command = 'echo "$(id -un) $PWD $(python greeting.py) $MLFLOW_TRACKING_URI" >proof\n'
    deadline = time.monotonic() + 120
    while not proof.exists() or not proof.read_text():
        assert time.monotonic() < deadline
        # What is typed before the shell is there is lost.
        terminal.focus()
        browser_page.keyboard.type(command)
        waited = time.monotonic() + 10
        while not proof.exists() and time.monotonic() < waited:
            browser_page.wait_for_timeout(100)
    assert proof.read_text() == f"alice /home/alice hello from home {pages.url('mlflow')}\n"
    # What it is told of a file that changes comes over the same connection.
    (home / "greeting.py").write_text('print("hello from outside")\n', encoding="utf-8")
    expect(text).to_contain_text("hello from outside", timeout=60 * SECONDS)
    assert 0 < code_memory(pages) < CODE_MIB
    (known,) = (one for one in listed(pages) if one["name"] == CONTAINER)
    assert known["code"] == f"{pages.url(CONTAINER)}/code/"
    assert known["code_connections"] > 0


def test_vs_code_is_its_users_alone_and_nobody_can_change_it(pages: Pages) -> None:
    for user, headers, status in (
        ("", {}, 401),
        ("bob", {}, 401),
        ("admin", {}, 401),
        ("alice", {}, 200),
        ("alice", {"Origin": pages.url("bob-python")}, 403),
        ("alice", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "websocket"}, 403),
    ):
        with pages.visitor(user, headers) as client:
            assert client.get("/code/healthz").status_code == status, (user, headers)
    with pages.visitor("alice") as client:
        assert client.get("/code").headers["location"] == "/code/"
    sockets = pages.inside("stat", "-c", "%a %U", "/run/jupyter", "/run/jupyter/code").splitlines()
    assert sockets == ["700 alice", "600 alice"]
    assert pages.inside("sh", "-c", "touch /opt/code-server/x 2>&1 || true").endswith(
        "Read-only file system\n"
    )
    # One copy for all containers of the host, root's.
    (program,) = (pages.root / "dev" / ".programs").iterdir()
    assert (program.stat().st_uid, program.name.partition("-trixie-")[0]) == (0, "code-server")


def code_memory(pages: Pages) -> int:
    """The memory in MiB of VS Code's processes, with each shared page counted once."""
    script = (
        "for one in $(pgrep -f ^/opt/code-server/bin/node); do"
        " sed -n 's/^Pss: *//p' /proc/$one/smaps_rollup 2>/dev/null; done; true"
    )
    found = pages.inside("sh", "-c", script)
    return sum(int(line.split()[0]) for line in found.splitlines()) // 1024


def listed(pages: Pages) -> list[dict[str, Any]]:
    """What `dap dev list` says of each container."""
    return list(json.loads(pages.must("dev", "list", "--json"))["containers"])


def test_r_works_as_its_page_says(pages: Pages) -> None:
    text = (environments_dir().parent / "docs/how-to/use-r.md").read_text("utf-8")
    code = "\n".join(re.findall(r"^```r\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    box = ["docker", "exec", "--interactive", f"{pages.name}-dev-{CONTAINER}"]
    done = subprocess.run([*box, "Rscript", "-"], input=code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert (lines[1:3], lines[-1]) == (["  avg", "1 7.5"], "[1] 26"), done.stdout


def test_page_costs_little_until_somebody_comes_and_comes_back_whatever_ends_it(pages: Pages) -> None:
    docker("restart", f"{pages.name}-dev-{CONTAINER}")
    deadline = time.monotonic() + 30
    while not (door := processes(pages).get("door.py")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert door < IDLE_KIB
    assert "jupyter-lab" not in processes(pages)
    with pages.visitor("alice") as client:
        # The proxy asks for the container's new address every 5 seconds.
        deadline = time.monotonic() + 30
        while client.get("/api").status_code == 502:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert client.get("/api").json().keys() == {"version"}
        for victim in ("jupyter-lab", "door.py"):
            assert victim in processes(pages)
            pages.inside("pkill", "-9", "-f", victim)
            deadline = time.monotonic() + 30
            while (answer := client.get("/api")).status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert answer.json().keys() == {"version"}


def processes(pages: Pages) -> dict[str, int]:
    """The resident memory in KiB of what concerns the page, by program."""
    found = {}
    for line in pages.inside("ps", "-eo", "rss=,args=").splitlines():
        size, _, arguments = line.strip().partition(" ")
        if (name := re.search(r"door\.py|jupyter-lab", arguments)) and "pkill" not in arguments:
            found[name[0]] = int(size)
    return found


def test_page_is_for_its_user_alone(pages: Pages) -> None:
    own = f"{pages.url(CONTAINER)}"
    for user, headers, status in (
        ("", {}, 401),
        ("bob", {}, 401),
        ("admin", {}, 401),
        ("alice", {}, 200),
        ("alice", {"Origin": own}, 200),
        ("alice", {"Origin": pages.url("bob-python")}, 403),
        ("alice", {"Origin": "null"}, 403),
        ("alice", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("alice", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
        ("alice", {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
    ):
        with pages.visitor(user, headers) as client:
            assert client.get("/api/status").status_code == status, (user, headers)
    with pages.visitor() as client:
        guesses = [client.get("/api/status", auth=("alice", "wrong-password")).status_code for _ in range(40)]
        assert set(guesses) == {401, 429}
    with pages.visitor("alice") as client:
        assert client.get("/api/status").status_code == 200
    # A page that was switched off is no name of the platform, and neighbours find no way around the proxy.
    with httpx.Client(verify=pages.trust) as client:
        other = {"Host": f"bob-python.{pages.domain}:{pages.ports['https']}"}
        assert client.get(pages.url(), headers=other).status_code == 404
        plain = f"http://{CONTAINER}.{pages.domain}:{pages.ports['http']}/lab"
        assert client.get(plain).headers["location"] == f"{own}/lab"
    asked = ["curl", "--silent", "--insecure", "https://127.0.0.1:8888/api/status"]
    assert "<h1>Not your page</h1>" in pages.inside(*asked)
    refused = subprocess.run(
        ["docker", "exec", f"{pages.name}-dev-bob-python", *asked], capture_output=True, check=False
    )
    assert refused.returncode == 7


def test_users_find_what_is_theirs(pages: Pages) -> None:
    site = pages.url()
    with httpx.Client(verify=pages.trust) as client:
        assert client.get(f"{site}/my/").status_code == 401
        assert f"{site}/my/" in client.get(site).text
        told = client.get(f"{site}/my/", auth=("alice", pages.password("alice")))
        assert told.headers["content-type"] == "text/html; charset=utf-8"
        for address in ("", "code/"):
            assert f'href="{pages.url(CONTAINER)}/{address}"' in told.text
        assert "bob-python" not in told.text
        for user in ("alice", "bob"):
            kept = client.get(f"{site}/my/ssh_config", auth=(user, pages.password(user)))
            assert kept.headers["content-type"] == "text/plain; charset=utf-8"
            assert kept.text == pages.must("ssh-config", "--user", user)


def test_large_file_is_uploaded_in_pieces_as_jupyterlab_does(pages: Pages) -> None:
    piece = bytes(range(256)) * (8 * MIB // 256)
    with pages.visitor("alice", {"Origin": pages.url(CONTAINER)}) as client:
        # The page's own mark against requests of others is wanted, too.
        assert client.put("/api/contents/large.bin", json={"type": "file"}).status_code == 403
        assert client.get("/lab").status_code == 200
        client.headers["X-XSRFToken"] = client.cookies["_xsrf"]
        for number in (1, 2, -1):
            body = {
                "type": "file",
                "format": "base64",
                "chunk": number,
                "content": base64.b64encode(piece).decode(),
            }
            answer = client.put("/api/contents/large.bin", json=body)
            assert answer.status_code in (200, 201), answer.text
        assert client.get("/files/large.bin").content == piece * 3
    home = pages.data / "homes" / "alice" / "large.bin"
    assert (home.stat().st_size, home.stat().st_uid) == (24 * MIB, 20000)
    home.unlink()


def test_container_made_at_once_has_its_page_soon(pages: Pages) -> None:
    starts, (port,) = pages.starts(), free_ports(1)
    asked = ["dev", "create", "carol", "--environment", "python", "--memory", "512m", "--port", str(port)]
    told = pages.must(*asked)
    address = f"https://carol-python.{pages.domain}:{pages.ports['https']}/"
    assert told.endswith(f"JupyterLab, with carol's platform login: {address}\n")
    login = ("carol", pages.password("carol"))
    with httpx.Client(verify=pages.trust, auth=login, timeout=120) as client:
        # This machine learns new names from a whole deploy only.
        name = f"carol-python.{pages.domain}"
        headers, known = {"Host": name}, {"sni_hostname": name}
        deadline = time.monotonic() + 30
        while (
            answer := client.get(f"{pages.url()}/api", headers=headers, extensions=known)
        ).status_code == 502:
            # The proxy's page for it, which asks again by itself.
            if time.monotonic() > deadline:
                print(docker("logs", "--tail", "8", f"{pages.name}-nginx-proxy"))
                break
            time.sleep(0.2)
        assert answer.status_code == 200, answer.text
        assert answer.json().keys() == {"version"}
        without = client.get(f"{pages.url()}/code/", headers=headers, extensions=known)
        assert (without.status_code, "<h1>No VS Code here</h1>" in without.text) == (404, True)
        lab = client.get(f"{pages.url()}/lab", headers=headers, extensions=known)
        assert (lab.status_code, "JupyterLab" in lab.text) == (200, True)
    # JupyterLab runs, with no kernel.
    told = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", f"{pages.name}-dev-carol-python")
    taken = re.match(r"([\d.]+)MiB /", told)
    print(f"JupyterLab at rest: {told}")
    assert taken and float(taken[1]) < IDLE_JUPYTER_MIB, told
    shown = {one["name"]: one["page"] for one in listed(pages)}
    assert shown["carol-python"] == address
    assert shown["bob-python"] == ""
    # The proxy has read it without being made anew: nobody else's connections have ended.
    assert pages.starts() == starts
    pages.must("dev", "remove", "carol-python", "--with-home", "--yes")
    assert pages.deploy() > 0
    assert pages.deploy() == 0
