"""A security analyzer for nginx (https://gixy.getpagespeed.com) finds nothing in what the proxy is given."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dap.hosts.facts import HostFacts
from dap.layout import compose_dir
from tests.rendering import render, write

# Checks that are wrong here, and why.
LEFT_OUT = {
    "origins": "it falls over a pattern that lets an empty origin pass; tests of the pages hold it",
    "hsts_header": "it is sent with a public CA only, which a test of its own holds",
    "try_files_is_evil_too": "it is about speed: a file is looked up that is there, and seldom asked for",
}
EVERYTHING = {
    "domain": "dap.example.com",
    "services": {path.parent.name: {"enabled": True} for path in compose_dir().glob("*/service.yml")},
    "users": [{"name": "ada", "ssh_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 ada@laptop"]}],
    "dev_containers": [{"user": "ada", "environment": "python"}],
}
HOSTS = {"service_host": {"hosts": {"localhost": {"ansible_connection": "local"}}}}
SNIPPET = "location /reports/ { proxy_set_header Host $asked_host; proxy_pass http://$upstream; }\n"


def shipped(inventory: str, folder: Path) -> Path:
    """The files of the proxy that a shipped inventory renders to."""
    return render(inventory, folder).folder / "nginx-proxy"


def everything(folder: Path) -> Path:
    """Those of a site that uses all there is: every service, a user's page, a public CA, a snippet."""
    inventory = folder / "inventories" / "everything"
    for path, text in {
        "group_vars/all/platform.yml": yaml.safe_dump(EVERYTHING),
        "hosts.yml": yaml.safe_dump(HOSTS),
        "compose/mlflow/nginx.conf.j2": SNIPPET,
    }.items():
        file = inventory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAP_INVENTORIES", str(inventory.parent))
        rendered = render("everything", folder)
        public = replace(rendered.renderer, tls=replace(rendered.renderer.tls, public=True))
        tree = public.tree(rendered.site.services.values(), HostFacts(memory_mib=16000, cpus=4))
    return write(tree, rendered.folder) / "nginx-proxy"


VARIANTS: dict[str, Callable[[Path], Path]] = {
    "local": lambda folder: shipped("local", folder),
    "example": lambda folder: shipped("example", folder),
    "everything": everything,
}


@pytest.fixture(params=VARIANTS)
def configuration(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The configuration of a variant, whose includes are found where they are rendered."""
    proxy = VARIANTS[request.param](tmp_path)
    file = proxy / "config" / "nginx.conf"
    text = file.read_text(encoding="utf-8")
    assert text.count("include /run/live/") == 2
    file.chmod(0o600)
    file.write_text(text.replace("include /run/live/", f"include {proxy}/live/"), encoding="utf-8")
    return file


def findings(configuration: Path) -> list[str]:
    """What the analyzer finds: the check, and the lines that it is about."""
    argv = [str(Path(sys.executable).parent / "gixy"), "--format", "json", "--skips", ",".join(LEFT_OUT)]
    done = subprocess.run([*argv, str(configuration)], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return [f"{one['plugin']}: {one['config'].strip()}" for one in json.loads(done.stdout)]


def test_analyzer_finds_nothing(configuration: Path) -> None:
    assert findings(configuration) == []


def test_analyzer_reads_every_server_of_a_site_that_uses_all_there_is(tmp_path: Path) -> None:
    """What it would say if one thing were as it must not be."""
    proxy = everything(tmp_path)
    names = set()
    for file in (proxy / "config" / "nginx.conf", proxy / "live" / "pages.conf"):
        text = file.read_text(encoding="utf-8")
        file.chmod(0o600)
        text = text.replace("Host $asked_host;", "Host $http_host;")
        file.write_text(text.replace("include /run/live/", f"include {proxy}/live/"), encoding="utf-8")
        names |= {line.split()[1].strip(";") for line in text.splitlines() if "server_name" in line}
    (found,) = findings(proxy / "config" / "nginx.conf")
    assert found.startswith("host_spoofing: ")
    proxied = {name for name in names if f"server_name {name};" in found}
    assert {"ada-python.dap.example.com", "mlflow.dap.example.com", "portainer.dap.example.com"} <= proxied
