"""People work in their containers with the clients that they have: OpenSSH's, strict about host keys."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.container_rules import as_service, broken
from tests.integration.desks import ALICE, BOB, Desks, running
from tests.integration.platform import docker, free_ports
from tests.integration.secret_values import SecretValues
from tests.packages import installed

WORK = """
import os, pathlib, tempfile
import boto3, mlflow, psycopg

mlflow.set_experiment("first")
with mlflow.start_run() as run:
    mlflow.log_metric("answer", 42)
    file = pathlib.Path(tempfile.mkdtemp(), "model.txt")
    file.write_text("über")
    mlflow.log_artifact(str(file))
print("run", mlflow.get_run(run.info.run_id).data.metrics["answer"])
print("artifact", mlflow.artifacts.load_text(f"{run.info.artifact_uri}/model.txt"))
with psycopg.connect() as connection:
    user, database = connection.execute("SELECT session_user, current_database()").fetchone()
    print("database", user, database, connection.pgconn.ssl_in_use)
storage = boto3.client("s3")
storage.put_object(Bucket="demo", Key="from-alice", Body=b"seen")
print("object", storage.get_object(Bucket="demo", Key="from-alice")["Body"].read().decode())
"""


def box_of(desks: Desks, container: str) -> dict[str, Any]:
    (found,) = json.loads(docker("inspect", f"{desks.name}-dev-{container}"))
    return dict(found)


def starts(desks: Desks) -> dict[str, tuple[str, str]]:
    boxes = {name: box_of(desks, name) for name in (ALICE, BOB)}
    return {name: (box["Id"], box["State"]["StartedAt"]) for name, box in boxes.items()}


def wait_for(port: int) -> None:
    """Wait until something listens on a port of this machine."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


# --- a session -------------------------------------------------------------------------------------------


def test_session_is_the_users_and_has_what_editors_look_for(desks: Desks) -> None:
    told = desks.ssh(
        "id -un; id -u; pwd; umask; python -c 'print(\"é\")'; locale charmap; ps -o comm= -p $$; :"
    )
    assert told.split() == ["alice", "20000", "/home/alice", "0022", "é", "UTF-8", "bash"]
    # A session without a profile, a login shell and what starts in the container find the same programs.
    plain = desks.ssh("echo $PATH").strip()
    assert plain == docker("exec", f"{desks.name}-dev-{ALICE}", "printenv", "PATH").strip()
    assert desks.ssh("bash -lc 'echo $PATH'").strip() == plain
    assert docker("exec", f"{desks.name}-dev-{ALICE}", "bash", "-lc", "echo $PATH").strip() == plain
    watches = int(
        desks.ssh(
            "cat /proc/sys/fs/inotify/max_user_watches; for p in git rsync tar; do $p --version; done"
        ).split()[0]
    )
    assert watches >= 8192
    assert "/home/alice/.profile" in desks.ssh("ls $HOME/.profile")
    assert desks.ssh("df -k --output=size /dev/shm | tail -1").strip() == str(256 * 1024)


def test_prompt_greets_with_limits_and_with_where_data_goes(desks: Desks) -> None:
    argv = [*desks.client("alice", "ssh", "-tt"), ALICE]
    done = subprocess.run(argv, input="exit\n", capture_output=True, text=True, timeout=60, check=False)
    assert (
        f"{ALICE} on localhost: environment python, 768m of memory, all processors, 2048 processes."
        in done.stdout
    )
    assert "/home/alice  your home: stays, on localhost" in done.stdout
    assert "Projects: demo" in done.stdout
    assert f"alice@{ALICE}:~$" in done.stdout


def test_work_needs_no_variable_to_be_set(desks: Desks) -> None:
    done = desks.ssh("python -", given=WORK)
    assert done.splitlines()[-4:] == ["run 42.0", "artifact über", "database alice demo True", "object seen"]


def test_git_and_curl_find_the_platform_below_localhost(desks: Desks) -> None:
    address = f"https://{desks.name}.localhost:{desks.ports['https']}"
    desks.ssh("echo 'user-agent = mine' > ~/.curlrc; git config --global user.name alice")
    told = desks.ssh(f"curl --silent --show-error --fail {address}/ | grep -c '<html'; git config user.name")
    assert told == "1\nalice\n"
    refused = desks.try_ssh("alice", ALICE, f"git ls-remote {address}/none")
    assert refused.stderr == f"remote: Not found\nfatal: repository '{address}/none/' not found\n"


def test_project_has_an_environment_with_the_images_packages(desks: Desks) -> None:
    """As the page says, whose commands these are; nothing else can be installed into."""
    desks.ssh("uv venv --quiet --system-site-packages .venv")
    told = desks.ssh(
        ".venv/bin/python -c 'import pandas; print(pandas.__file__)'; command -v pip || echo none"
    )
    assert told.split() == ["/usr/local/lib/python3.13/dist-packages/pandas/__init__.py", "none"]


def test_who_has_no_project_has_no_logins_to_data(desks: Desks) -> None:
    logins = "wc -c < /run/dap/pgpass; wc -c < /run/dap/s3_credentials"
    told = desks.ssh(f"env | grep -E '^(PG|AWS_(ENDP|SHARED))' | sort; {logins}", user="bob")
    assert told.split() == ["PGSSLROOTCERT=/etc/ssl/certs/ca-certificates.crt", "0", "0"]


def test_files_go_by_sftp_and_rsync(desks: Desks, tmp_path: Path) -> None:
    source = tmp_path / "data"
    source.mkdir()
    (source / "größe.txt").write_text("1")
    rsync, shell = installed("rsync", "rsync"), " ".join(desks.client("alice"))
    for _ in range(2):
        done = subprocess.run(
            [rsync, "-a", "--stats", "-e", shell, f"{source}/", f"{ALICE}:synced/"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert "Number of regular files transferred: 0" in done.stdout
    batch = tmp_path / "batch"
    batch.write_text(f"put {source}/größe.txt sent.txt\nget synced/größe.txt {tmp_path}/back.txt\n")
    subprocess.run([*desks.client("alice", "sftp"), "-b", str(batch), ALICE], check=True, capture_output=True)
    assert (tmp_path / "back.txt").read_text() == "1"
    assert desks.ssh("cat sent.txt") == "1"


def test_ports_are_forwarded_in_all_three_ways(desks: Desks) -> None:
    here, there, back, proxy = free_ports(4)
    serve = f"python -m http.server --bind 127.0.0.1 {there} >/dev/null 2>&1"
    with socket.create_server(("127.0.0.1", back)) as listener:
        forwards = [
            *("-L", f"{here}:127.0.0.1:{there}", "-R", f"{back}:127.0.0.1:{back}", "-D", str(proxy)),
            *("-o", "ExitOnForwardFailure=yes"),
        ]
        with running([*desks.client("alice", "ssh", *forwards), ALICE, f"{serve} & echo up; wait"]) as client:
            assert client.stdout
            assert client.stdout.readline() == "up\n"
            wait_for(here)
            for options in (
                [f"http://127.0.0.1:{here}"],
                ["-x", f"socks5h://127.0.0.1:{proxy}", f"http://127.0.0.1:{there}"],
            ):
                fetch = [
                    "curl",
                    "--silent",
                    "--fail",
                    "--noproxy",
                    "",
                    "--retry",
                    "20",
                    "--retry-all-errors",
                    "--retry-delay",
                    "1",
                ]
                listing = subprocess.run(
                    [*fetch, *options], capture_output=True, text=True, check=True
                ).stdout
                assert "Directory listing" in listing
            assert desks.ssh(f"exec 3<>/dev/tcp/127.0.0.1/{back} && echo reached") == "reached\n"
            listener.settimeout(10)
            listener.accept()[0].close()


def test_agent_is_forwarded_where_it_is_asked_for(desks: Desks) -> None:
    started = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"SSH_AUTH_SOCK=([^;]+);.*?SSH_AGENT_PID=(\d+);", started, re.S)
    assert found
    environment = os.environ | {"SSH_AUTH_SOCK": found[1]}
    try:
        subprocess.run(["ssh-add", "-q", str(desks.keys["alice"])], env=environment, check=True)
        argv = [*desks.client("alice", "ssh", "-A"), ALICE, "ssh-add -l"]
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=True)
        assert "alice (ED25519)" in done.stdout
        assert desks.try_ssh("alice", ALICE, "ssh-add -l", "-a").returncode != 0
    finally:
        os.kill(int(found[2]), signal.SIGTERM)


# --- who gets in -----------------------------------------------------------------------------------------


def test_nobody_gets_in_with_another_key_or_to_another_user(desks: Desks) -> None:
    for user, container in (("bob", ALICE), ("alice", BOB), ("carol", ALICE)):
        refused = desks.try_ssh(user, container, "true")
        assert refused.returncode == 255
        assert "Permission denied (publickey)." in refused.stderr
    other = desks.try_ssh("alice", ALICE, "true", "-l", "root")
    assert "Permission denied (publickey)." in other.stderr
    # A server that the authority did not sign for this name is not taken for it.
    text = desks.ssh_config.read_text()
    wrong = desks.folder / "wrong_config"
    bobs = re.search(rf"Host {BOB} .*?Port (\d+)", text, re.S)
    assert bobs
    wrong.write_text(re.sub(r"Port \d+", f"Port {bobs[1]}", text))
    argv = desks.client("alice")
    argv[argv.index("-F") + 1] = str(wrong)
    done = subprocess.run([*argv, ALICE, "true"], capture_output=True, text=True, check=False)
    assert done.returncode == 255
    assert "Host key verification failed." in done.stderr


def test_from_inside_nothing_of_another_user_can_be_reached(desks: Desks) -> None:
    desks.ssh("echo private > notes.txt", user="bob")
    address = box_of(desks, BOB)["NetworkSettings"]["Networks"][f"{desks.name}-dev"]["IPAddress"]
    lax = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -p 2222"
    looks = {
        "ls -d /home/bob /scratch /var/lib/dap* /opt/dap* 2>/dev/null; true": "/scratch\n",
        f"{lax} bob@{address} true 2>&1 | tail -1": f"bob@{address}: Permission denied (publickey).\n",
        "tr '\\0' '\\n' < /proc/1/environ | grep -ci password; true": "0\n",
        "ls /var/run/docker.sock 2>&1 || true": (
            "ls: cannot access '/var/run/docker.sock': No such file or directory\n"
        ),
        "touch /usr/x 2>&1 || true": "touch: cannot touch '/usr/x': Read-only file system\n",
    }
    assert {command: desks.ssh(command) for command in looks} == looks
    home = desks.data / "homes" / "bob"
    assert (home.stat().st_uid, home.stat().st_mode & 0o777) == (20001, 0o700)


def test_containers_keep_the_rules_and_show_no_secret(desks: Desks) -> None:
    written = yaml.safe_load(desks.settings_file.read_text())
    secrets = SecretValues.of(desks).names
    for name, entry in zip((ALICE, BOB), written["dev_containers"], strict=True):
        box = box_of(desks, name)
        known = {
            "x-name": name,
            "x-data": str(desks.data),
            "x-ports": {("127.0.0.1", entry["port"])},
            "x-job": False,
            "x-folders": {str(desks.data / kind / entry["user"]) for kind in ("homes", "scratch")}
            | {str(desks.data / "shared/demo")},
        }
        reasons = {"group_add": "the user is a member of a project"} if name == ALICE else {}
        assert broken({**as_service(box), **known}, reasons) == []
        shown = json.dumps(box).encode()
        assert [name for value, name in secrets.items() if value in shown] == []
        assert box["State"]["Health"]["Status"] == "healthy"


# --- as time goes by -------------------------------------------------------------------------------------


def test_memory_that_runs_out_hurts_no_neighbour(desks: Desks) -> None:
    before = starts(desks)
    greedy = "python -c 'x = bytearray(2 * 1024**3); x[::4096] = b\"1\" * len(x[::4096])'"
    assert desks.ssh(f"{greedy}; echo $?").split()[-1] == "137"
    assert desks.ssh("echo there", user="bob") == "there\n"
    assert desks.ssh("echo there") == "there\n"
    assert starts(desks) == before


def test_deploy_leaves_running_containers_alone_until_they_are_made_anew(desks: Desks) -> None:
    before = starts(desks)
    desks.change_container(1, memory="300m")
    # The other one has crashed, which is no reason to leave it alone.
    docker("kill", f"{desks.name}-dev-{ALICE}")
    planned = desks.dap("plan")
    assert planned.returncode == 3
    assert f"Development containers\n  {ALICE}: development container started\n" in planned.stdout
    told = desks.must("deploy", "--no-verify")
    # The page that tells bob of his containers has the new limit.
    assert told.startswith("3 changes\n  localhost: nginx-proxy: ")
    assert f"\n  localhost: {ALICE}: development container started\n" in told
    assert f"{BOB} runs as it was made before. To bring it up to date, which ends what runs in it: " in told
    assert starts(desks)[BOB] == before[BOB]
    assert desks.ssh("echo there") == "there\n"
    listed = {one["name"]: one for one in json.loads(desks.must("dev", "list", "--json"))["containers"]}
    assert [(name, one["state"], one["outdated"]) for name, one in listed.items()] == [
        (ALICE, "running", False),
        (BOB, "running", True),
    ]
    desks.ssh("echo kept > kept.txt; echo lost > /tmp/lost", user="bob")
    refused = desks.dap("dev", "recreate", BOB)
    assert refused.returncode == 2
    assert "Lost are processes, connections, and what is in /tmp; home and /scratch stay." in refused.stderr
    desks.must("dev", "recreate", BOB, "--yes")
    # The same name, the same key: the client notices nothing.
    assert desks.ssh("cat kept.txt; ls /tmp/lost 2>&1; true", user="bob") == (
        "kept\nls: cannot access '/tmp/lost': No such file or directory\n"
    )
    assert starts(desks)[ALICE][0] == before[ALICE][0]
    assert box_of(desks, BOB)["HostConfig"]["Memory"] == 300 * 1024**2


def test_what_was_stopped_stays_so_until_it_is_started(desks: Desks) -> None:
    desks.must("dev", "stop", BOB)
    assert desks.deploy() == 0
    assert not box_of(desks, BOB)["State"]["Running"]
    desks.must("dev", "start", BOB)
    assert desks.ssh("echo there", user="bob") == "there\n"


def test_container_is_made_and_removed_at_once_and_the_home_stays(desks: Desks) -> None:
    before, (port,) = desks.settings_file.read_text(), free_ports(1)
    asked = ["dev", "create", "carol", "--environment", "python", "--memory", "128m", "--port", str(port)]
    told = desks.must(*asked)
    image = re.search(rf"carol-python runs on localhost, port {port}, from (dap/python:\S+)", told)
    assert image
    assert box_of(desks, "carol-python")["Config"]["Image"] == image[1]
    desks.configure_client()
    assert desks.try_ssh("carol", "carol-python", "echo mine > mine.txt; id -u").stdout == "20002\n"
    removed = desks.must("dev", "remove", "carol-python")
    home = desks.data / "homes" / "carol"
    assert removed == f"carol-python: development container removed\nThe home stays: {home} on localhost\n"
    assert yaml.safe_load(desks.settings_file.read_text()) == yaml.safe_load(before)
    assert (home / "mine.txt").read_text() == "mine\n"
    desks.must(*asked)
    assert desks.try_ssh("carol", "carol-python", "cat mine.txt").stdout == "mine\n"
    assert desks.dap("dev", "remove", "carol-python", "--with-home", stdin="carol\n").returncode == 2
    desks.must("dev", "remove", "carol-python", "--with-home", stdin="carol-python\n")
    assert not home.exists()


RULE = "error: 1 error in the configuration; nothing was changed:\n  {file}: dev_containers[2]."
HOST = "error: localhost: carol-python: {told}\n  next: correct this, then run the same command again\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"environment": "pyhton"},
            f"{RULE}environment = pyhton\n    is not an environment\n    did you mean python?\n",
        ),
        (
            {"name": BOB},
            f"{RULE}name = {BOB}\n    is also the name of dev_containers[1]\n    write a different name\n",
        ),
        (
            {"port": "{https}"},
            f"{RULE}port = {{https}}\n    is published by nginx-proxy.https already\n"
            "    write another number, or remove it\n",
        ),
        (
            {"memory": "4000g"},
            HOST.replace("{told}", "4096000 MiB of memory are wanted, and there are {memory}"),
        ),
        (
            {"port": "{busy}"},
            HOST.replace("{told}", "port {busy} cannot be published: Address already in use"),
        ),
    ],
)
def test_what_cannot_be_made_changes_nothing(desks: Desks, options: dict[str, str], message: str) -> None:
    before = desks.settings_file.read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as busy:
        known = {
            "file": desks.settings_file,
            "https": desks.ports["https"],
            "busy": busy.getsockname()[1],
            "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024**2,
        }
        written = {"environment": "python"} | options
        arguments = [f"--{key}={value.format_map(known)}" for key, value in written.items()]
        done = desks.dap("dev", "create", "carol", *arguments)
    assert (done.returncode, done.stderr) == (2, message.format_map(known))
    assert desks.settings_file.read_bytes() == before
    assert not (desks.root / "dev" / "carol-python").exists()
