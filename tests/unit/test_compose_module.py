"""Starting, provisioning and removing a Compose project, with output recorded from Compose 2.26."""

from __future__ import annotations

import base64
import errno
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.plugins import FakeDocker, load, run_module

RECORDED = Path(__file__).parent / "recorded"
HEALTHY = (RECORDED / "inspect-healthy.json").read_text(encoding="utf-8")
UNHEALTHY = (RECORDED / "inspect-unhealthy.json").read_text(encoding="utf-8")
BY_SERVICE = {item["Config"]["Labels"]["com.docker.compose.service"]: item for item in json.loads(HEALTHY)}
IDENTIFIERS = "".join(f"{item['Id']}\n" for item in BY_SERVICE.values())
HASH = {name: item["Config"]["Labels"]["com.docker.compose.config-hash"] for name, item in BY_SERVICE.items()}
HASHES = "".join(f"{name} {value}\n" for name, value in HASH.items())
ONLY_DB = json.dumps([BY_SERVICE["db"]])
RELOAD = [{"service": "web", "signal": "HUP", "paths": ["web/tls/", "web/sites.conf"]}]

engine = load("ansible.module_utils.dap_docker")
project_module = load("ansible.module_utils.dap_project")
running_module = load("ansible.module_utils.dap_compose_project")


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    """A Docker whose project runs, all of it healthy."""
    fake = FakeDocker(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}:{os.environ['PATH']}")
    fake.answer("ps *", IDENTIFIERS)
    fake.answer("inspect *", HEALTHY)
    fake.answer("ps * label=dap.jobs=dap", "")
    fake.answer("compose * up *")
    fake.answer("compose * config *", HASHES)
    # The recorded numbers may be those of other processes of this machine.
    monkeypatch.setattr(running_module, "send", lambda process, number: None)
    return fake


@pytest.fixture
def signals(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that were sent, each to a process."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(running_module, "send", lambda process, number: sent.append((process, number)))
    return sent


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "compose.yaml").touch()
    return folder


def compose(root: Path, **parameters: Any) -> dict[str, Any]:
    return run_module("dap_compose", project_directory=str(root), project="dap", **parameters)


def changed_recording(service: str, **values: str) -> str:
    """The recording of a healthy project in which one container has another identity, start or state."""
    item = json.loads(json.dumps(BY_SERVICE[service]))
    item["Id"] = values.get("identifier", item["Id"])
    item["State"]["StartedAt"] = values.get("started", item["State"]["StartedAt"])
    item["State"]["Status"] = values.get("status", item["State"]["Status"])
    return json.dumps([*(other for name, other in BY_SERVICE.items() if name != service), item])


def after_up(docker: FakeDocker, recording: str) -> None:
    """Let ``up`` turn the project into what a recording shows."""
    (docker.folder / "after").write_text(recording, encoding="utf-8")
    docker.answer("inspect *", then=f"cat {docker.folder}/now")
    (docker.folder / "now").write_text(HEALTHY, encoding="utf-8")
    docker.answer("compose * up *", then=f"cp {docker.folder}/after {docker.folder}/now")


def test_nothing_changed_when_the_containers_are_the_same_before_and_after(
    docker: FakeDocker, root: Path
) -> None:
    result = compose(root)

    assert not result["changed"] and result["changed_items"] == []
    assert docker.calls_of("up") == [
        f"compose --project-directory {root} -p dap up --detach --wait --wait-timeout 300 "
        "--no-build --pull never --quiet-pull --remove-orphans"
    ]
    assert not docker.calls_of("kill")


def test_only_the_named_services_are_started_and_orphans_stay_then(docker: FakeDocker, root: Path) -> None:
    (root / ".pending.json").write_text('["db/compose.yaml"]', encoding="utf-8")

    compose(root, services=["db"])

    (call,) = docker.calls_of("up")
    assert call.endswith(" --quiet-pull db")
    assert (root / ".pending.json").exists(), "what is due at the end of the deploy is still to come"


def test_named_services_that_run_well_are_left_alone(docker: FakeDocker, root: Path) -> None:
    result = compose(root, services=["db"])

    assert not result["changed"]
    assert not docker.calls_of("up")


def test_project_that_is_as_expected_is_left_alone(docker: FakeDocker, root: Path) -> None:
    result = compose(root, expected=["db", "web"])

    assert not result["changed"]
    assert not docker.calls_of("up")


@pytest.mark.parametrize(
    ("expected", "recording", "pending"),
    [
        (["db"], HEALTHY, "[]"),
        (["db", "web", "new"], HEALTHY, "[]"),
        (["db", "web"], changed_recording("db", status="exited"), "[]"),
        (["db", "web"], ONLY_DB, "[]"),
        (["db", "web"], HEALTHY, '["web/compose.yaml"]'),
    ],
)
def test_project_that_differs_is_brought_into_state(
    docker: FakeDocker, root: Path, expected: list[str], recording: str, pending: str
) -> None:
    (root / ".pending.json").write_text(pending, encoding="utf-8")
    docker.answer("inspect *", recording)

    compose(root, expected=expected)

    assert len(docker.calls_of("up")) == 1


def test_named_service_that_is_not_well_is_started(docker: FakeDocker, root: Path) -> None:
    docker.answer("inspect *", changed_recording("db", status="exited"))

    compose(root, services=["db"])

    assert len(docker.calls_of("up")) == 1


@pytest.mark.parametrize(
    ("recording", "expected"),
    [
        (changed_recording("web", identifier="f" * 64), {"recreated": ["web"]}),
        (changed_recording("db", started="2026-12-01T00:00:00Z"), {"restarted": ["db"]}),
        (ONLY_DB, {"removed": ["web"]}),
    ],
)
def test_what_happened_to_containers_is_told(
    docker: FakeDocker, root: Path, recording: str, expected: dict[str, list[str]]
) -> None:
    after_up(docker, recording)

    result = compose(root)

    lists = {name: result[name] for name in ("created", "recreated", "restarted", "removed") if result[name]}
    assert result["changed"] and lists == expected


def test_new_services_are_told_and_job_containers_do_not_count() -> None:
    containers = engine.parse_containers(HEALTHY)
    job = replace(containers[0], identifier="job", service="toolbox", number="", one_off=True)

    difference = project_module.compare([], [*containers, job])

    assert difference.result() == {
        "changed": True,
        "created": ["db", "web"],
        "recreated": [],
        "restarted": [],
        "removed": [],
    }


def test_a_service_is_signalled_when_its_files_changed_and_then_no_more(
    docker: FakeDocker, signals: list[tuple[int, int]], root: Path
) -> None:
    (root / ".pending.json").write_text('["web/tls/tls.crt"]', encoding="utf-8")

    first, second = compose(root, reload=RELOAD), compose(root, reload=RELOAD)

    assert signals == [(BY_SERVICE["web"]["State"]["Pid"], signal.SIGHUP)]
    # For the engine, a signal of its own is a wish to stop: the container would stay down after a crash.
    assert docker.calls_of("kill") == []
    assert first["changed"] and first["reloaded"] == ["web"]
    assert not second["changed"]


def test_signals_wait_until_all_services_are_started(docker: FakeDocker, root: Path) -> None:
    (root / ".pending.json").write_text('["web/tls/tls.crt"]', encoding="utf-8")

    assert compose(root, reload=RELOAD, services=["db"])["reloaded"] == []
    assert compose(root, reload=RELOAD)["reloaded"] == ["web"]


@pytest.mark.parametrize(
    ("changed", "signalled"),
    [
        (["web/tls/tls.key"], True),
        (["web/sites.conf"], True),
        (["web/sites.conf.d"], False),
        (["web/tlsx"], False),
        (["db/tls/tls.key"], False),
        ([], False),
    ],
)
def test_a_path_means_a_file_and_with_a_slash_all_below_it(changed: list[str], signalled: bool) -> None:
    expected = [("web", "HUP")] if signalled else []

    assert project_module.to_signal(RELOAD, changed, set()) == expected
    assert project_module.to_signal(RELOAD, changed, {"web"}) == []


def test_a_service_that_is_gone_is_not_signalled(docker: FakeDocker, root: Path) -> None:
    docker.answer("inspect *", ONLY_DB)

    assert compose(root, reload=RELOAD, changed_paths=["web/tls/a"])["reloaded"] == []


def test_a_refused_signal_fails_and_is_sent_again_by_the_next_deploy(
    docker: FakeDocker, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".pending.json").write_text('["web/tls/tls.crt"]', encoding="utf-8")

    def gone(process: int, number: int) -> None:
        raise ProcessLookupError(errno.ESRCH, "No such process")

    monkeypatch.setattr(running_module, "send", gone)
    assert compose(root, reload=RELOAD)["msg"] == "web did not take signal HUP: No such process"
    assert (root / ".pending.json").exists()


def test_a_failure_names_each_bad_service_with_its_health_check_and_log(
    docker: FakeDocker, root: Path
) -> None:
    said = " Container dap-db  Waiting\ncontainer dap-db is unhealthy\n"
    docker.answer("compose * up *", error=said, status=1)
    docker.answer("inspect *", UNHEALTHY)
    docker.answer("logs --tail 15 *", "starting\n", error="disk full\n")
    (root / ".pending.json").write_text('["web/tls/tls.crt"]', encoding="utf-8")

    result = compose(root)

    assert result["failed"]
    assert result["msg"].splitlines() == [
        "1 of 2 services is not well:",
        "  db: running, but unhealthy",
        "    health check: no space left on device",
        "    | starting",
        "    | disk full",
        f"  log: {root}/log/up.log",
    ]
    assert (root / "log/up.log").read_text(encoding="utf-8") == said
    assert (root / ".pending.json").exists()


def test_what_the_engine_refused_is_said_beside_what_is_not_well_for_it(
    docker: FakeDocker, root: Path
) -> None:
    error = 'Error response from daemon: Conflict. The container name "/dap-db" is already in use'
    docker.answer("compose * up *", error=f" Container dap-db  Recreate\n{error}\n", status=1)
    docker.answer("inspect *", UNHEALTHY)
    docker.answer("logs *")

    assert compose(root)["msg"].splitlines()[:3] == [
        "1 of 2 services is not well:",
        f"  docker compose: {error}",
        "  db: running, but unhealthy",
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"status": "created"}, "not started; it waits for db"),
        ({"status": "created", "waits_for": ()}, "not started"),
        ({"status": "exited", "exit_code": 3}, "ended with exit status 3"),
        ({"status": "restarting", "exit_code": 1}, "starts again and again; last exit status 1"),
        ({"health": "starting"}, "running, starting"),
        ({"health": "unhealthy"}, "running, but unhealthy"),
        ({"status": "paused"}, "paused"),
    ],
)
def test_each_state_is_said_in_words(values: dict[str, Any], said: str) -> None:
    web = next(item for item in engine.parse_containers(HEALTHY) if item.service == "web")

    assert project_module.state_of(replace(web, **values)) == said


def test_the_cause_comes_before_those_that_wait_for_it() -> None:
    db, web = engine.parse_containers(UNHEALTHY)
    waiting = replace(web, name="a", service="a", status="created", health_output="")

    lines = project_module.describe_failure([waiting, db], {}, []).splitlines()

    assert lines[0] == "2 of 2 services are not well:"
    assert [line for line in lines if line.startswith("  ") and line[2] != " "] == [
        "  db: running, but unhealthy",
        "  a: not started; it waits for db",
    ]


def test_when_all_containers_are_well_the_words_of_compose_are_the_reason(
    docker: FakeDocker, root: Path
) -> None:
    error = "Error response from daemon: No such image: dap/alpha:9"
    docker.answer("compose * up *", error=f" Container dap-web  Recreate\n{error}\n", status=1)

    assert compose(root)["msg"] == f"docker compose: {error}\n  log: {root}/log/up.log"


def test_waiting_has_a_limit_although_compose_has_none(
    docker: FakeDocker, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load("ansible.module_utils.dap_compose_project"), "POLL_SECONDS", 0.1)
    process = docker.folder / "process"
    docker.answer("compose * up *", then=f"echo $$ > {process}; sleep 60")
    docker.answer("inspect *", UNHEALTHY)
    docker.answer("logs *")
    started = time.monotonic()

    result = compose(root, wait_seconds=1)

    assert result["msg"].startswith("1 of 2 services is not well:")
    assert time.monotonic() - started < 10
    with pytest.raises(ProcessLookupError):
        os.kill(int(process.read_text(encoding="utf-8")), signal.SIGCONT)


def test_what_it_waits_for_can_be_read_while_it_waits(
    docker: FakeDocker, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load("ansible.module_utils.dap_compose_project"), "POLL_SECONDS", 0.1)
    progress, seen = root / "log/progress", docker.folder / "seen"
    until_seen = f"for i in $(seq 100); do cp {progress} {seen} 2>/dev/null && break; sleep 0.1; done"
    docker.answer("compose * up *", then=until_seen)
    docker.answer("inspect *", UNHEALTHY)

    compose(root)

    assert seen.read_text(encoding="utf-8").strip().endswith("waiting for db")
    assert not progress.exists()


def test_check_mode_finds_no_change_where_there_is_none(docker: FakeDocker, root: Path) -> None:
    result = compose(root, check=True)

    assert not result["changed"] and result["changed_items"] == []
    assert not docker.calls_of("up")


def test_check_mode_tells_what_up_would_do(docker: FakeDocker, root: Path) -> None:
    docker.answer("inspect *", changed_recording("db", status="exited"))
    docker.answer("compose * config --hash *", f"db {HASH['db']}\nweb {'0' * 64}\nnew {'1' * 64}\n")
    docker.answer("compose * config --format json", configuration(db={}, web={}, new={}))

    result = compose(root, check=True)

    assert (result["created"], result["recreated"], result["restarted"]) == (["new"], ["web"], ["db"])
    assert result["changed_items"] == [
        "new: container created",
        "web: container recreated",
        "db: container restarted",
    ]
    docker.answer("compose * config --hash *", f"db {HASH['db']}\n")
    assert compose(root, check=True)["removed"] == ["web"]


def configuration(**services: dict[str, Any]) -> str:
    """What Compose prints of the files."""
    return json.dumps({"name": "dap", "services": services})


def planned(**files: str) -> list[dict[str, str]]:
    """Compose files as they would be, by service; the project's own includes them."""
    project = json.dumps({"name": "dap", "include": [f"{name}/compose.yaml" for name in files]})
    contents = {"compose.yaml": project, **{f"{name}/compose.yaml": text for name, text in files.items()}}
    return [
        {"path": path, "content": base64.b64encode(text.encode()).decode()} for path, text in contents.items()
    ]


def test_check_mode_asks_about_the_files_as_they_would_be(docker: FakeDocker, root: Path) -> None:
    kept = docker.folder / "asked.json"
    docker.answer("compose * -f * config --hash *", HASHES, then=f'shift 5; shift; cat "$1" > {kept}')

    result = compose(root, check=True, planned_files=planned(web="services: {}"))

    assert not result["changed"]
    (call,) = docker.calls_of("--hash")
    folder = Path(call.split()[6]).parent
    assert json.loads(kept.read_text(encoding="utf-8")) == {
        "name": "dap",
        "include": [{"path": f"{folder}/web/compose.yaml", "project_directory": f"{root}/web"}],
    }
    assert not folder.exists(), "what is asked about holds no secret, and still does not stay"


def test_check_mode_says_why(docker: FakeDocker, root: Path) -> None:
    docker.answer("inspect *", changed_recording("db", status="exited"))
    hashes = f"db {HASH['db']}\nweb {'0' * 64}\nnew {'1' * 64}\nback {'2' * 64}\n"
    docker.answer("compose * config --hash *", hashes)
    docker.answer("compose * config --format json", configuration(db={}, web={"cpus": 1}, back={}))
    coming = configuration(db={}, web={"cpus": 2}, back={}, new={})
    docker.answer("compose * -f * config --format json", coming)

    result = compose(root, check=True, planned_files=planned(web="services: {}"))

    assert result["dap"]["containers"] == [
        {"service": "back", "action": "created", "reasons": ["its container is missing"]},
        {"service": "new", "action": "created", "reasons": ["new"]},
        {"service": "web", "action": "recreated", "reasons": ["CPUs 1 → 2"]},
        {"service": "db", "action": "restarted", "reasons": ["ended with exit status 0"]},
    ]


def test_check_mode_names_the_files_that_a_killed_deploy_left_unannounced(
    docker: FakeDocker, root: Path
) -> None:
    (root / ".pending.json").write_text(
        '["web/compose.yaml", "web/config/a", "db/config/b"]', encoding="utf-8"
    )
    docker.answer("compose * config --hash *", f"db {HASH['db']}\nweb {'0' * 64}\n")
    docker.answer("compose * config --format json", configuration(db={}, web={}))

    (change,) = compose(root, check=True)["dap"]["containers"]

    assert change == {"service": "web", "action": "recreated", "reasons": ["config/a"]}


def test_only_some_services_are_started_and_told_and_the_rest_stays_pending(
    docker: FakeDocker, root: Path
) -> None:
    (root / ".pending.json").write_text('["web/tls/tls.crt", "db/compose.yaml"]', encoding="utf-8")

    result = compose(root, services=["web"], alone=True, reload=RELOAD)

    (call,) = docker.calls_of("up")
    assert call.endswith(" --quiet-pull web")
    assert result["reloaded"] == ["web"]
    assert json.loads((root / ".pending.json").read_text(encoding="utf-8")) == ["db/compose.yaml"]
    assert sorted(path.name for path in root.iterdir()) == [".pending.json", "compose.yaml", "log"]
    assert not compose(root, services=["web"], alone=True, reload=RELOAD)["changed"]


def test_check_mode_looks_at_only_some_services(docker: FakeDocker, root: Path) -> None:
    docker.answer("compose * config --hash *", f"db {'0' * 64}\nweb {'0' * 64}\n")
    docker.answer("compose * config --format json", configuration(db={}, web={}))

    result = compose(root, check=True, services=["web"], alone=True)

    assert (result["recreated"], result["removed"]) == (["web"], [])


def test_a_service_that_was_started_earlier_in_the_run_is_not_told(docker: FakeDocker, root: Path) -> None:
    assert compose(root, reload=RELOAD, changed_paths=["web/tls/a"], touched=["web"])["reloaded"] == []


def test_check_mode_believes_the_files_that_would_change(docker: FakeDocker, root: Path) -> None:
    docker.answer("compose * config --format json", configuration(web={}))
    result = compose(root, check=True, changed_paths=["web/tls/tls.crt"], reload=RELOAD)

    assert result["changed"]
    assert result["dap"]["containers"] == [
        {"service": "web", "action": "reloaded", "reasons": ["tls/tls.crt"]}
    ]


def test_check_mode_names_a_broken_compose_file(docker: FakeDocker, root: Path) -> None:
    docker.answer("compose version", "2.26")
    docker.answer("compose * config *", error="yaml: line 3: did not find expected key\n", status=15)

    assert compose(root, check=True)["msg"] == "docker compose: yaml: line 3: did not find expected key"


def test_check_mode_names_a_file_that_would_be_broken_by_its_coming_place(
    docker: FakeDocker, root: Path
) -> None:
    docker.answer("compose version", "2.26")
    docker.answer("compose * config *", then='echo "parsing ${7%/*}/web/compose.yaml: bad" >&2', status=15)

    result = compose(root, check=True, planned_files=planned(web="services: {"))

    assert result["msg"] == f"docker compose: parsing {root}/web/compose.yaml: bad"


def test_everything_is_created_where_compose_is_still_to_be_installed(docker: FakeDocker, root: Path) -> None:
    docker.answer("compose *", error="docker: 'compose' is not a docker command.\n", status=1)

    result = compose(root, check=True, expected=["db"])

    assert [item["action"] for item in result["dap"]["containers"]] == ["created"]


def job(root: Path, **parameters: Any) -> dict[str, Any]:
    return compose(root, state="run", arguments=["toolbox", "provision"], **parameters)


def test_a_job_tells_what_it_changed(docker: FakeDocker, root: Path) -> None:
    docker.answer("compose * run *", 'working\n{"changed": ["bucket mlflow"], "ok": 7}\n', error="words\n")

    result = job(root)

    assert (result["changed"], result["changes"], result["ok"]) == (True, ["bucket mlflow"], 7)
    assert docker.calls_of("run") == [
        f"compose --project-directory {root} -p dap run --rm --no-deps -T toolbox provision"
    ]


def test_a_job_that_changed_nothing_is_no_change(docker: FakeDocker, root: Path) -> None:
    docker.answer("compose * run *", '{"changed": [], "ok": 8}')

    assert not job(root)["changed"]


def test_a_job_in_check_mode_only_checks(docker: FakeDocker, root: Path) -> None:
    docker.answer("compose * run *", '{"changed": ["role dap"], "ok": 7}')

    assert job(root, check=True)["changed"]
    assert docker.calls_of("run")[0].endswith(" toolbox provision --check")


def test_a_job_is_given_what_it_has_to_bring_about(docker: FakeDocker, root: Path) -> None:
    read = docker.folder / "read"
    docker.answer("compose * run *", '{"changed": [], "ok": 1}', then=f"cat > {read}")
    state = json.dumps({"postgres": [{"service": "db", "password": "secret"}]})

    job(root, job_input=base64.b64encode(state.encode()).decode())

    assert docker.calls_of("run")[0].endswith(" toolbox provision --state -")
    assert json.loads(read.read_text(encoding="utf-8")) == json.loads(state)


def test_a_job_in_check_mode_asks_the_servers_that_run(docker: FakeDocker, root: Path) -> None:
    read = docker.folder / "read"
    docker.answer("inspect *", changed_recording("db", status="exited"))
    answer = {"changed": ["bucket"], "ok": 1, "asked": ["web", "outside"], "unasked": {}}
    docker.answer("compose * run *", json.dumps(answer), then=f"cat > {read}")
    state = {"postgres": [{"service": "db"}], "s3": [{"service": "web"}, {"service": "outside"}]}

    result = job(
        root,
        check=True,
        expected=["db", "web"],
        job_input=base64.b64encode(json.dumps(state).encode()).decode(),
    )

    assert json.loads(read.read_text(encoding="utf-8")) == {**state, "postgres": []}
    assert result["dap"] == {
        "containers": [],
        "provisioning": ["bucket"],
        "asked": ["web", "outside"],
        "unasked": {"db": "does not run"},
        "renew": [],
        "sealed": "",
    }
    assert not docker.calls_of("up")


TOKEN = {
    "key": "web.api_token",
    "service": "web",
    "command": ["app-admin", "set-token"],
    "input": base64.b64encode(b"the-token").decode(),
    "secret": "the-token",
    "change": "web: api_token set",
}


def wanting(*wants: str, **more: Any) -> str:
    return json.dumps({"changed": [], "ok": 1, "wants": wants, **more}) + "\n"


def test_a_token_that_a_job_wants_is_made_and_the_job_run_again(docker: FakeDocker, root: Path) -> None:
    made = docker.folder / "made"
    first, second = wanting("web.api_token").strip(), wanting(renew=["web.other"]).strip()
    docker.answer("compose * run *", then=f"[ -e {made} ] && echo '{second}' || echo '{first}'")
    docker.answer("exec *", then=f"cat > {made}")

    result = job(root, commands=[TOKEN, {**TOKEN, "key": "db.api_token", "service": "db"}])

    assert (result["changed"], result["changes"]) == (True, ["web: api_token set"])
    assert result["dap"]["renew"] == ["web.other"]
    assert made.read_text(encoding="utf-8") == "the-token"
    assert docker.calls_of("exec") == [f"exec --interactive {BY_SERVICE['web']['Id']} app-admin set-token"]
    assert len(docker.calls_of("run")) == 2


def test_a_job_says_what_it_is_doing_while_it_does_it(docker: FakeDocker, root: Path) -> None:
    # The job looks at the file that people watch: what it has said stands there, and nothing else.
    seen, shown = docker.folder / "seen", root / "log" / "progress"
    waits = f"until grep -q users {shown} 2>/dev/null; do sleep 0.01; done; cat {shown} > {seen}"
    says = "echo 'a warning' >&2; echo 'progress: GitLab: users' >&2"
    docker.answer("compose * run *", then=f"{says}; {waits}; echo 'gone' >&2", status=1)

    assert job(root)["msg"] == "toolbox ended with status 1:\n  a warning\n  gone"
    assert seen.read_text(encoding="utf-8") == "GitLab: users\n"
    assert not shown.exists()


def test_a_token_that_stays_refused_is_a_failure(docker: FakeDocker, root: Path) -> None:
    docker.answer("compose * run *", wanting("web.api_token"))
    docker.answer("exec *")

    assert job(root, commands=[TOKEN])["msg"] == "web.api_token: not accepted, although it was just set"


def test_a_token_is_not_made_in_check_mode(docker: FakeDocker, root: Path) -> None:
    docker.answer("compose * run *", wanting("web.api_token", unasked={"web": "its token is not made yet"}))

    result = job(root, check=True, commands=[TOKEN])

    assert result["dap"]["provisioning"] == ["web: api_token set"]
    assert result["dap"]["unasked"] == {"web": "its token is not made yet"}
    assert not docker.calls_of("exec")


@pytest.mark.parametrize("case", ["nothing is deployed", "nothing runs"])
def test_a_job_in_check_mode_is_not_run_where_nobody_could_answer(
    docker: FakeDocker, root: Path, case: str
) -> None:
    docker.answer("ps *", "")
    if case == "nothing is deployed":
        (root / "compose.yaml").unlink()
    state = base64.b64encode(b'{"postgres": [{"service": "db"}]}').decode()

    result = job(root, check=True, services=["db"], job_input=state)

    assert result["dap"]["unasked"] == {"db": "does not run"}
    assert not docker.calls_of("run")


def test_a_job_that_fails_in_check_mode_says_why_and_is_no_failure(docker: FakeDocker, root: Path) -> None:
    docker.answer("compose * run *", error="No such image: dap/toolbox:1\n", status=1)

    result = job(root, check=True)

    assert "failed" not in result
    assert result["dap"]["reason"] == "toolbox ended with status 1:\n  No such image: dap/toolbox:1"


def test_a_failed_job_shows_its_last_words(docker: FakeDocker, root: Path) -> None:
    docker.answer("compose * run *", error=" Container x  Created\nconnection refused\n", status=4)

    assert job(root)["msg"] == "toolbox ended with status 4:\n  connection refused"


@pytest.mark.parametrize("output", ["", "done\n", "[]\n", '{"changed": 3, "ok": 1}\n', '{"changed": []}\n'])
def test_a_job_without_a_summary_fails(docker: FakeDocker, root: Path, output: str) -> None:
    docker.answer("compose * run *", output)

    said = output.strip() or "nothing"
    assert job(root)["msg"] == f"toolbox should end with a summary in JSON, but wrote: {said}"


def test_a_container_that_a_killed_deploy_was_about_to_put_in_place_is_removed_first(
    docker: FakeDocker, root: Path
) -> None:
    half = {**BY_SERVICE["db"], "Id": "half", "Name": f"/{BY_SERVICE['db']['Id'][:12]}_dap-db"}
    half["State"] = {**half["State"], "Status": "created"}
    docker.answer("inspect *", json.dumps([*BY_SERVICE.values(), half]))
    docker.answer("rm *")

    compose(root)

    verbs = [call for call in docker.calls if call.startswith("rm ") or " up " in call]
    assert verbs[0] == "rm --force half" and " up " in verbs[1]


def test_a_job_left_over_from_a_killed_deploy_is_removed_first(docker: FakeDocker, root: Path) -> None:
    left = {**BY_SERVICE["db"], "Id": "left", "Name": "/dap-toolbox-run-1", "Config": {"Labels": {}}}
    left["Config"]["Labels"] = {"com.docker.compose.oneoff": "True", "com.docker.compose.service": "toolbox"}
    docker.answer("inspect *", json.dumps([*BY_SERVICE.values(), left]))
    docker.answer("rm *")
    docker.answer("compose * run *", '{"changed": [], "ok": 0}')

    job(root)

    verbs = [call for call in docker.calls if call.startswith("rm ") or " run " in call]
    assert verbs[0] == "rm --force left" and " run " in verbs[1]


def remove(root: Path, **parameters: Any) -> dict[str, Any]:
    return compose(root, state="absent", **parameters)


def test_removal_goes_by_labels_so_that_it_needs_no_files(docker: FakeDocker, tmp_path: Path) -> None:
    docker.answer("network ls *", "abc\n")
    docker.answer("compose * down *", then=f"touch {docker.folder}/down")
    docker.answer("ps *", then=f"test -e {docker.folder}/down || printf '{IDENTIFIERS.splitlines()[0]}\\n'")
    docker.answer("network rm *")

    result = remove(tmp_path / "gone")

    assert result["changed"] and result["removed"] == ["db", "web"]
    assert docker.calls_of("down") == ["compose --project-directory / -p dap down --remove-orphans"]
    assert docker.calls_of("network", "rm") == ["network rm abc"]


def test_removal_ends_jobs_before_it_waits_for_their_runner(docker: FakeDocker, root: Path) -> None:
    docker.answer("network ls *")
    docker.answer("compose * down *", then=f"touch {docker.folder}/down")
    docker.answer("ps * label=dap.jobs=dap", then=f"test -e {docker.folder}/down || echo job1 job2")
    docker.answer("inspect --format *", "files1 \nfiles1 files2 \n")
    docker.answer("rm *")
    docker.answer("volume rm *")

    remove(root)

    order = [
        call for call in docker.calls if call.startswith(("rm --force --volumes", "volume rm", "compose"))
    ]
    assert order == [
        "rm --force --volumes job1 job2",
        "volume rm --force files1 files2",
        "compose --project-directory / -p dap down --remove-orphans",
    ]


def test_removal_takes_what_compose_leaves(docker: FakeDocker, root: Path) -> None:
    docker.answer("network ls *")
    docker.answer("compose * down *", error="it stumbled\n", status=1)
    docker.answer("rm *")

    remove(root)

    assert docker.calls_of("rm", *IDENTIFIERS.split())


def test_removal_changes_nothing_where_nothing_is(docker: FakeDocker, root: Path) -> None:
    docker.answer("ps *")
    docker.answer("network ls *")

    assert not remove(root)["changed"]
    assert not docker.calls_of("down")


def test_removal_in_check_mode_only_tells(docker: FakeDocker, root: Path) -> None:
    docker.answer("network ls *", "abc\n")

    assert remove(root, check=True)["changed"]
    assert not docker.calls_of("down")


def test_removal_works_without_an_engine_and_warns_when_it_only_sleeps(
    docker: FakeDocker, root: Path
) -> None:
    error = (
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
    )
    docker.answer("ps *", error=error, status=1)

    result = remove(root)

    assert not result["changed"]
    assert "containers of dap would be back when it starts" in str(result["warnings"])


def test_removal_fails_when_the_engine_refuses(docker: FakeDocker, root: Path) -> None:
    docker.answer("ps *", error="permission denied while trying to connect\n", status=1)

    assert "permission denied" in remove(root)["msg"]
    assert "permission denied" in compose(root, check=True)["msg"]


def test_without_docker_there_is_nothing_to_remove_all_to_start_and_an_error_to_report(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load("modules.dap_compose"), "search_path", lambda: str(tmp_path))
    monkeypatch.setattr(engine, "search_path", lambda: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    assert not remove(root)["changed"] and "warnings" not in remove(root)
    coming = compose(root, check=True, expected=["db", "web"])
    assert [item["service"] for item in coming["dap"]["containers"]] == ["db", "web"]
    assert compose(root)["msg"] == "Docker is not installed"


@pytest.mark.parametrize(
    ("parameters", "run"),
    [
        ({"expected": sorted(BY_SERVICE)}, "toolbox all"),
        ({"expected": ["db"]}, "toolbox provision"),
        ({"expected": sorted(BY_SERVICE), "changed_paths": ["web/compose.yaml"]}, "toolbox provision"),
    ],
)
def test_a_job_does_everything_at_once_where_nothing_is_to_be_started(
    docker: FakeDocker, root: Path, parameters: dict[str, Any], run: str
) -> None:
    docker.answer("compose * run *", '{"changed": [], "ok": 1, "complete": true}')

    result = job(root, settled_arguments=["toolbox", "all"], **parameters)

    assert result["complete"]
    assert docker.calls_of("run")[0].endswith(f" {run}")
