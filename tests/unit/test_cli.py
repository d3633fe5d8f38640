"""The command line's answers: exit codes, JSON, errors with what to do next. No host is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dap import __version__
from dap.cli import main
from dap.credentials import Credentials
from dap.layout import compose_dir
from dap.secrets import SecretStore
from dap.services.manifest import find_folders, load_services
from dap.site import load_site
from tests.unit.inventories import GOOD_PLATFORM, InventoryFolder
from tests.unit.platforms import executable, loaded_ansible

LOGINS = f"{GOOD_PLATFORM}users: [{{name: ada}}]\nprojects: [{{name: demo}}]\n"
STAY_UP = [
    name
    for name, service in load_services(find_folders([compose_dir()])).items()
    if service.manifest.provides not in ("jobs", "images", "runner", "cleaner")
    and not service.manifest.off_by_default
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InventoryFolder:
    """An inventory ``site``, and programs of the test in front of all others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAP_INVENTORIES", str(tmp_path / "inventories"))
    monkeypatch.setenv("DAP_SECRETS", str(tmp_path / "secrets"))
    monkeypatch.setenv("DAP_INVENTORY", "site")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    # Whoever is not root reaches the engine by sudo.
    executable(tmp_path / "bin" / "sudo", '#!/bin/sh\nshift\nexec "$@"\n')
    executable(tmp_path / "bin" / "docker", "#!/bin/sh\necho 'no engine here' >&2\nexit 1\n")
    folder = InventoryFolder(tmp_path)
    folder.write()
    return folder


def dap(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(main, list(arguments), input=answer)


def deployed(folder: InventoryFolder) -> None:
    """Secrets as a first deploy leaves them."""
    path = folder.root / "secrets" / "site"
    path.mkdir(parents=True, mode=0o700)
    store = SecretStore.load(path, "site")
    list(Credentials(load_site("site"), store).logins())
    store.save()


def engine_with(folder: InventoryFolder, **states: tuple[str, str]) -> None:
    """A ``docker`` that reports these containers: service to (state, status)."""
    lines = [
        json.dumps({"service": name.replace("_", "-"), "state": state, "status": status, "image": "dap/x:1"})
        for name, (state, status) in states.items()
    ]
    answer = folder.root / "answer"
    answer.write_text("".join(f"{line}\n" for line in lines))
    executable(folder.root / "bin" / "docker", f"#!/bin/sh\ncat {answer}\n")


def all_well(folder: InventoryFolder, **others: tuple[str, str]) -> None:
    up = {name.replace("-", "_"): ("running", "Up 2 minutes (healthy)") for name in STAY_UP}
    engine_with(folder, **(up | others))


def preflight_says(
    folder: InventoryFolder, monkeypatch: pytest.MonkeyPatch, *findings: dict[str, str]
) -> None:
    """An ansible-playbook that finds this out about the host."""
    facts = {
        "memory_mib": 16000,
        "cpus": 4,
        "epoch": time.time(),
        "platform_id": None,
        "has_data": False,
        "ready": ["docker", "trust", "names"],
    }
    result = {"facts": facts, "findings": findings}
    event = json.dumps({"event": "ok", "host": "localhost", "task": "Look", "dap": result})
    events = folder.root / "events"
    events.write_text(f"{event}\n")
    script = f"import os; open(os.environ['DAP_EVENTS'], 'a').write(open({str(events)!r}).read())"
    loaded_ansible(folder.root, monkeypatch).write_text(script, encoding="utf-8")


# --- exit codes ------------------------------------------------------------------------------------------


def test_version_is_told() -> None:
    result = dap("--version")
    assert (result.exit_code, result.stdout) == (0, f"dap, version {__version__}\n")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_the_verbs_in_the_order_of_use(option: str) -> None:
    result = dap(option)
    assert result.exit_code == 0
    listed = result.stdout.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed][:4] == ["init", "check", "plan", "deploy"]


@pytest.mark.parametrize("verb", [(), ("image",), ("ca",)])
def test_group_without_a_verb_shows_its_help_and_is_refused(verb: tuple[str, ...]) -> None:
    result = dap(*verb)
    assert result.exit_code == 2
    assert "Usage:" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["deplyo"], "No such command 'deplyo'"),
        (["deploy", "--force"], "No such option '--force'"),
        (["status", "more"], "Got unexpected extra argument (more)"),
        (["logs"], "Missing argument 'SERVICE'"),
        (["logs", "mlflow", "-n", "many"], "'many' is not a valid integer"),
        (["completion", "tcsh"], "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ],
)
def test_wrong_usage_is_refused(arguments: list[str], said: str) -> None:
    result = dap(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert said in result.stderr


@pytest.mark.parametrize(
    "verb", [["check"], ["deploy"], ["status"], ["verify"], ["credentials"], ["destroy"], ["logs", "mlflow"]]
)
def test_wrong_configuration_is_refused_by_every_verb(folder: InventoryFolder, verb: list[str]) -> None:
    folder.write("domain: https://dap.example.com\nprots: {https: 8443}\n")
    result = dap(*verb)
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    file = "inventories/site/group_vars/all/platform.yml"
    assert result.stderr == (
        "error: 2 errors in the configuration; nothing was changed:\n"
        f"  {file}: domain = https://dap.example.com\n    is a URL, not a domain\n    write dap.example.com\n"
        f"  {file}: prots = {{https: …}}\n    is not a key of this file\n    did you mean ports?\n"
    )
    assert not (folder.root / "secrets").exists()


def test_unknown_inventory_is_refused_with_the_nearest_name(folder: InventoryFolder) -> None:
    result = dap("-e", "sites", "status")
    assert result.exit_code == 2
    assert "did you mean site?" in result.stderr


def test_option_counts_more_than_the_environment(
    folder: InventoryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAP_INVENTORY", "elsewhere")
    all_well(folder)
    assert dap("status").exit_code == 2
    assert dap("-e", "site", "status").exit_code == 0


def test_engine_that_cannot_be_asked_is_a_failure_with_a_next_step(folder: InventoryFolder) -> None:
    result = dap("status")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: localhost: Docker cannot be asked: no engine here\n  next: dap ")


# --- status ----------------------------------------------------------------------------------------------


def test_status_is_0_when_all_is_well(folder: InventoryFolder) -> None:
    all_well(folder)
    result = dap("status")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0].split() == ["HOST", "SERVICE", "STATE", "SINCE", "IMAGE"]
    assert all(name in result.stdout for name in STAY_UP)


@pytest.mark.parametrize(
    "state", [("running", "Up 3 minutes (unhealthy)"), ("exited", "Exited (1) 2 minutes ago")]
)
def test_status_is_1_when_something_is_not_well(folder: InventoryFolder, state: tuple[str, str]) -> None:
    all_well(folder, mlflow=state)
    assert dap("status").exit_code == 1


def test_status_as_json_names_what_is_missing(folder: InventoryFolder) -> None:
    engine_with(folder, mlflow=("running", "Up 2 minutes (healthy)"))
    result = dap("status", "--json")
    assert result.exit_code == 1
    answer: dict[str, Any] = json.loads(result.stdout)
    assert answer["ok"] is False
    assert [entry["service"] for entry in answer["containers"]] == ["mlflow"]
    missing = {entry["service"] for entry in answer["missing"]}
    assert missing == set(STAY_UP) - {"mlflow"}


def test_status_as_json_of_a_platform_that_is_well(folder: InventoryFolder) -> None:
    all_well(folder)
    answer = json.loads(dap("status", "--json").stdout)
    assert (answer["ok"], answer["missing"], len(answer["containers"])) == (True, [], len(STAY_UP))


# --- check -----------------------------------------------------------------------------------------------

WARNING = {
    "severity": "warning",
    "subject": "memory",
    "value": "1500 MiB",
    "reason": "is little",
    "suggestion": "add memory",
}


def test_check_tells_warnings_and_is_content(
    folder: InventoryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    preflight_says(folder, monkeypatch, WARNING)
    result = dap("check")
    assert (result.exit_code, result.stdout) == (
        0,
        "Inventory site: configuration and hosts are in order.\n",
    )
    assert "warning: localhost: memory = 1500 MiB\n    is little\n    add memory\n" in result.stderr


def test_check_as_json_is_json_and_nothing_else(
    folder: InventoryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    preflight_says(folder, monkeypatch, WARNING)
    result = dap("check", "--json")
    assert result.exit_code == 0
    answer = json.loads(result.stdout)
    assert answer["ok"] is True
    assert answer["warnings"] == ["localhost: memory = 1500 MiB\n    is little\n    add memory"]


def test_check_refuses_a_host_that_will_not_do(
    folder: InventoryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    preflight_says(folder, monkeypatch, WARNING | {"severity": "error"})
    result = dap("check")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert "localhost: memory = 1500 MiB\n    is little\n    add memory" in result.stderr


# --- credentials -----------------------------------------------------------------------------------------


def test_credentials_before_the_first_deploy_are_refused(folder: InventoryFolder) -> None:
    result = dap("credentials")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert result.stderr == (
        "error: inventory site has no secrets yet: it was never deployed from here\n"
        "  next: dap -e site deploy\n"
    )


def test_credentials_as_json_name_every_login(folder: InventoryFolder) -> None:
    folder.write(LOGINS)
    deployed(folder)
    result = dap("credentials", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    logins: list[dict[str, str]] = json.loads(result.stdout)
    assert {(login["what"], login["user"]) for login in logins} >= {
        ("Platform login", "admin"),
        ("Platform login", "ada"),
        ("pgAdmin", "admin@dap.example.com"),
        ("Project demo: database", "demo"),
    }
    assert all(set(login) == {"what", "url", "user", "secret"} and login["secret"] for login in logins)


def test_credentials_of_what_is_not_deployed_yet_are_refused(folder: InventoryFolder) -> None:
    deployed(folder)
    folder.write(LOGINS)
    result = dap("credentials")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert result.stderr == (
        "error: user.ada.password has no value yet: the configuration was changed since the last deploy\n"
        "  next: dap -e site deploy\n"
    )


def test_credentials_as_a_table_are_the_same(folder: InventoryFolder) -> None:
    deployed(folder)
    secret = json.loads(dap("credentials", "--json").stdout)[0]["secret"]
    assert secret in dap("credentials").stdout


# --- logs ------------------------------------------------------------------------------------------------


def test_log_is_that_of_the_container(folder: InventoryFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda _, argv: called.append(argv))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert dap("logs", "mlflow", "-f", "-n", "7").exit_code == 0
    assert called == [["docker", "logs", "--tail", "7", "--timestamps", "--follow", "dap-mlflow"]]


@pytest.mark.parametrize(("service", "hint"), [("mlfow", "did you mean mlflow?"), ("xyz", "there are: ")])
def test_unknown_service_is_refused_with_the_nearest_name(
    folder: InventoryFolder, service: str, hint: str
) -> None:
    result = dap("logs", service)
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert result.stderr.startswith(
        f"error: {service!r} is not a running service of inventory site\n  next: {hint}"
    )


# --- rotate and secret set -------------------------------------------------------------------------------


def test_what_can_be_rotated_is_listed_with_who_starts_anew(folder: InventoryFolder) -> None:
    folder.write(LOGINS)
    deployed(folder)
    rows = [line.split() for line in dap("rotate", "--list").stdout.splitlines()]
    assert rows[0] == ["SECRET", "WHAT", "STARTS", "ANEW", "PENDING"]
    assert ["user.ada.password", "Platform", "login:", "ada", "-"] in rows
    assert ["minio.root_password", "MinIO:", "root", "password", "minio"] in rows
    listed = json.loads(dap("rotate", "--list", "--json").stdout)
    assert [entry["secret"] for entry in listed] == [row[0] for row in rows[1:]]
    assert not any(entry["pending"] for entry in listed)


def test_rotating_nothing_is_wrong_usage(folder: InventoryFolder) -> None:
    result = dap("rotate")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert result.stderr.endswith(
        "Error: name secrets, or all; they are listed by: dap -e site rotate --list\n"
    )


def test_unknown_secret_is_refused_before_anything_is_touched(folder: InventoryFolder) -> None:
    deployed(folder)
    before = (folder.root / "secrets" / "site" / "secrets.yml").read_bytes()
    result = dap("rotate", "user.admin.pasword")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert result.stderr == (
        "error: 'user.admin.pasword' is not a secret that can be rotated\n"
        "  next: did you mean user.admin.password?\n"
    )
    assert (folder.root / "secrets" / "site" / "secrets.yml").read_bytes() == before


def test_rotation_that_preflight_refuses_has_changed_nothing(
    folder: InventoryFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed(folder)
    before = (folder.root / "secrets" / "site" / "secrets.yml").read_bytes()
    preflight_says(folder, monkeypatch, WARNING | {"severity": "error"})
    result = dap("rotate", "user.admin.password")
    assert result.exit_code == 2
    assert "localhost: memory = 1500 MiB" in result.stderr
    assert (folder.root / "secrets" / "site" / "secrets.yml").read_bytes() == before


@pytest.mark.parametrize("line_end", ["", "\n", "\r\n"])
def test_value_is_read_from_standard_input_and_not_shown(folder: InventoryFolder, line_end: str) -> None:
    deployed(folder)
    result = dap("secret", "set", "user.admin.password", answer=f"correct-horse-battery{line_end}")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "Stored user.admin.password. Next: dap -e site deploy\n"
    store = SecretStore.load(folder.root / "secrets" / "site", "site")
    assert store.get("user.admin.password").reveal() == "correct-horse-battery"
    assert store.pending() == ["user.admin.password"]


def test_value_that_cannot_be_one_is_refused(folder: InventoryFolder) -> None:
    deployed(folder)
    result = dap("secret", "set", "user.admin.password", answer="correct-horse\nbattery-staple\n")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert result.stderr == (
        "error: the value for user.admin.password has a line end or another control character in it\n"
        "  next: give one line of text\n"
    )


def test_credentials_say_what_may_not_be_in_use_yet(folder: InventoryFolder) -> None:
    deployed(folder)
    dap("secret", "set", "user.admin.password", answer="correct-horse-battery")
    result = dap("credentials")
    assert "correct-horse-battery" in result.stdout
    assert result.stderr == (
        "warning: user.admin.password has a new value that may not be in use everywhere yet; "
        "dap -e site deploy brings it there\n"
    )


def test_secrets_that_others_could_read_are_closed_and_told(folder: InventoryFolder) -> None:
    deployed(folder)
    file = folder.root / "secrets" / "site" / "secrets.yml"
    file.chmod(0o644)
    result = dap("credentials")
    assert result.exit_code == 0
    assert result.stderr == f"warning: {file}: mode 0644 was open to other users, now 0600\n"
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "verb", [["credentials"], ["rotate", "--list"], ["secret", "set", "user.admin.password"]]
)
def test_secrets_that_cannot_be_decrypted_are_refused_by_every_verb(
    folder: InventoryFolder, monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    deployed(folder)
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE", raising=False)
    file = folder.root / "secrets" / "site" / "secrets.yml"
    file.write_text("$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    result = dap(*verb, answer="correct-horse-battery")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert result.stderr == (
        f"error: {file} is encrypted with ansible-vault and no password is given\n"
        "  next: set ANSIBLE_VAULT_PASSWORD_FILE to the file that holds the password, or to a program that "
        "prints it\n"
    )


# --- the others ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["", "yes\n", "Site\n"])
def test_data_are_removed_only_when_the_name_is_typed(folder: InventoryFolder, answer: str) -> None:
    deployed(folder)
    result = dap("destroy", "--data", answer=answer)
    assert result.exit_code == 2
    assert "This removes ALL DATA in /var/lib/dap on localhost" in result.stderr
    assert (folder.root / "secrets" / "site").is_dir()


def test_wrong_answer_says_that_nothing_was_changed(folder: InventoryFolder) -> None:
    result = dap("destroy", "--data", answer="no\n")
    assert result.stderr.endswith(
        "error: not confirmed; nothing was changed\n"
        "  next: dap -e site destroy --data, or with --yes where nobody can type\n"
    )


def test_unknown_image_is_refused(folder: InventoryFolder) -> None:
    result = dap("image", "build", "mlfow")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert result.stderr.startswith("error: 'mlfow' has no image to build\n  next: ")


def test_authority_before_the_first_deploy_is_refused(folder: InventoryFolder) -> None:
    result = dap("ca", "export")
    assert (result.exit_code, result.stdout) == (2, ""), result.stderr
    assert "does not exist: the CA is made by the first deploy\n  next: dap -e site deploy\n" in result.stderr


def test_platform_with_the_operators_certificate_has_no_authority(folder: InventoryFolder) -> None:
    for name in ("site.pem", "site.key"):
        (folder.site / name).write_text("read at deploy, not here")
    folder.write(f"{GOOD_PLATFORM}tls: {{mode: files, certificate: site.pem, key: site.key}}\n")
    result = dap("ca", "export")
    assert result.exit_code == 2
    assert "uses the operator's own certificate" in result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_for_the_program(shell: str) -> None:
    result = dap("completion", shell)
    assert result.exit_code == 0
    assert f"_DAP_COMPLETE={shell}_complete" in result.stdout


def test_completion_script_is_valid_bash() -> None:
    script = dap("completion", "bash").stdout
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_comes_before_any_heavy_module() -> None:
    code = (
        "import sys, dap.cli; print(*(set(sys.modules) & {'ansible', 'cryptography', 'httpx', 'pydantic'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
