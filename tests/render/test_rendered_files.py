"""The files that a host would get are right by the tools that read them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import yaml

from dap.hosts.facts import HostFacts
from dap.services.manifest_schema import GUARDED
from tests.rendering import Rendered


def test_compose_accepts_the_project(rendered: Rendered, proxy_image: str) -> None:
    done = subprocess.run(
        ["docker", "compose", "--profile", "*", "--project-directory", str(rendered.folder), "config"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == set(rendered.tree.services)


def test_every_compose_file_keeps_the_specifications_schema(rendered: Rendered) -> None:
    files = sorted(str(path) for path in rendered.folder.rglob("compose.yaml"))
    assert len(files) == len(rendered.tree.services) + 1
    command = [
        str(Path(sys.executable).parent / "check-jsonschema"),
        "--builtin-schema",
        "vendor.compose-spec",
    ]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nginx_accepts_its_configuration(rendered: Rendered, proxy_image: str) -> None:
    proxy = rendered.folder / "nginx-proxy"
    mounts = {"config": "/etc/dap", "live": "/run/live", "tls": "/run/tls"}
    volumes = [f"--volume={proxy / source}:{target}:ro" for source, target in mounts.items()]
    run = ["docker", "run", "--rm", "--read-only", "--tmpfs=/tmp:mode=1777", "--network=none"]
    check = ["--entrypoint=nginx", proxy_image, "-t", "-c", "/etc/dap/nginx.conf"]
    done = subprocess.run([*run, *volumes, *check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "test is successful" in done.stderr
    assert "[warn]" not in done.stderr


def test_guarded_keys_are_real_compose_keys(rendered: Rendered, schema: Path) -> None:
    definitions = json.loads(schema.read_text())["$defs"]
    parts = ("container_spec", "workload_spec", "service")
    known = {key for part in parts for key in definitions[part].get("properties", {})}
    assert [key for key in GUARDED if key not in known] == []


def test_no_secret_stands_in_an_open_file(rendered: Rendered) -> None:
    values = [secret.reveal() for secret in rendered.store.all_values().values()]
    assert len(values) > 8
    for file in rendered.tree.files:
        text = file.content.decode(errors="replace")
        assert not [value for value in values if value in text], file.path


def test_rendering_twice_gives_the_same_files(rendered: Rendered, tmp_path: Path) -> None:
    from dap.credentials import stable_bcrypt

    assert stable_bcrypt("secret", "ada") == stable_bcrypt("secret", "ada")
    assert stable_bcrypt("secret", "ada") != stable_bcrypt("secret", "grace")


def test_renewed_certificate_does_not_replace_the_container(rendered: Rendered) -> None:
    tls = [file.path for file in rendered.tree.secret_files if "/tls/" in file.path]
    assert sorted(tls) == [
        "nginx-proxy/tls/tls.crt",
        "nginx-proxy/tls/tls.key",
        "postgres-data/tls/tls.crt",
        "postgres-data/tls/tls.key",
    ]
    assert {entry["service"]: entry["signal"] for entry in rendered.tree.reload} == {
        "nginx-proxy": "HUP",
        "postgres-data": "HUP",
    }


def test_proxy_serves_every_name_of_the_manifests(rendered: Rendered) -> None:
    configuration = (rendered.folder / "nginx-proxy" / "config" / "nginx.conf").read_text()
    names = [vhost.host for vhost in rendered.site.vhosts]
    assert len(names) >= 5
    for name in names:
        assert f"server_name {name};" in configuration


def test_uploads_of_5_gigabytes_stream_to_mlflow(rendered: Rendered) -> None:
    configuration = (rendered.folder / "nginx-proxy" / "config" / "nginx.conf").read_text()
    server = configuration.split("# mlflow\n")[1].split("\n    }\n", 1)[0]
    assert "client_max_body_size 5g;" in server
    assert "proxy_request_buffering off;" in server


def test_hsts_is_sent_with_a_public_ca_only(rendered: Rendered) -> None:
    path = "nginx-proxy/config/nginx.conf"
    sent = "add_header Strict-Transport-Security"
    assert sent not in (rendered.folder / path).read_text()
    public = replace(rendered.renderer, tls=replace(rendered.renderer.tls, public=True))
    tree = public.tree(rendered.site.services.values(), HostFacts(memory_mib=8000, cpus=2))
    (configuration,) = [file.content.decode() for file in tree.files if file.path == path]
    # By each server, and by its pages for errors, which send headers of their own.
    assert configuration.count(sent) == 2 * len(rendered.site.vhosts)
