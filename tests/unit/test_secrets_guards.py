"""What guards a secrets file: encryption, the lock, and the question whose data are on a host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dap.errors import RefusedError
from dap.secrets import Secret, SecretStore, ownership_conflict, store_lock

ID = "0b7c9f2e-3a41-4d4c-9a57-1f2e3d4c5b6a"
OTHER_ID = "9e107d9d-372b-4f2a-8e55-0a1b2c3d4e5f"
PASSWORD = "hunter2secret"
TOOL = Path(sys.executable).with_name("ansible-vault")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "secrets" / "local"
    path.mkdir(parents=True, mode=0o700)
    return path


def saved(folder: Path) -> SecretStore:
    store = SecretStore.load(folder, "local")
    store.platform_id = ID
    store._values["mlflow.password"] = Secret(PASSWORD)
    store.save()
    return store


# --- ansible-vault ---


@pytest.fixture
def password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "vault-password"
    path.write_text("correct horse\n")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(path))
    return path


def encrypted(folder: Path, *options: str) -> Path:
    path = saved(folder).path
    subprocess.run([TOOL, "encrypt", *options, str(path)], check=True, capture_output=True)
    assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;")
    return path


def test_an_encrypted_file_is_read_and_stays_encrypted(folder: Path, password: Path) -> None:
    path = encrypted(folder)
    before = path.read_bytes()
    store = SecretStore.load(folder, "local")
    assert store.peek("mlflow.password") == Secret(PASSWORD)
    assert not store.save()
    assert path.read_bytes() == before
    new = store.get("new.secret")
    assert store.save()
    assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;1.1;AES256\n")
    shown = subprocess.run([TOOL, "view", str(path)], check=True, capture_output=True, text=True)
    assert f"new.secret: {new.reveal()}\n" in shown.stdout


def test_values_before_are_encrypted_too(folder: Path, password: Path) -> None:
    path = encrypted(folder)
    store = SecretStore.load(folder, "local")
    store.replace("mlflow.password", Secret("the-new-one"))
    store.save()
    assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;1.1;AES256\n")
    assert SecretStore.load(folder, "local").previous("mlflow.password") == [Secret(PASSWORD)]


def test_the_label_of_an_encrypted_file_is_kept(folder: Path, password: Path) -> None:
    path = encrypted(folder, "--vault-id", f"prod@{password}", "--encrypt-vault-id", "prod")
    assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;1.2;AES256;prod\n")
    store = SecretStore.load(folder, "local")
    new = store.get("new.secret")
    store.save()
    assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;1.2;AES256;prod\n")
    assert SecretStore.load(folder, "local").peek("new.secret") == new


def test_the_password_may_come_from_a_program(folder: Path, password: Path) -> None:
    encrypted(folder)
    password.write_text("#!/bin/sh\necho correct horse\n")
    password.chmod(0o700)
    assert SecretStore.load(folder, "local").peek("mlflow.password") == Secret(PASSWORD)


WHERE = "set ANSIBLE_VAULT_PASSWORD_FILE to the file that holds the password, or to a program that prints it"


def test_an_encrypted_file_without_a_password_is_refused(
    folder: Path, password: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encrypted(folder)
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE")
    with pytest.raises(RefusedError) as caught:
        SecretStore.load(folder, "local")
    assert str(caught.value) == (
        f"{path} is encrypted with ansible-vault and no password is given\n  next: {WHERE}"
    )


def test_a_wrong_password_is_refused_and_nothing_is_written(folder: Path, password: Path) -> None:
    path = encrypted(folder)
    before = path.read_bytes()
    password.write_text("wrong\n")
    with pytest.raises(RefusedError) as caught:
        SecretStore.load(folder, "local")
    assert str(caught.value) == (
        f"{path} cannot be decrypted: the ansible-vault password is wrong, or the file is damaged\n"
        "  next: check the password that ANSIBLE_VAULT_PASSWORD_FILE gives, or restore the file from a backup"
    )
    assert path.read_bytes() == before


def test_a_missing_password_file_is_refused(folder: Path, password: Path) -> None:
    path = encrypted(folder)
    password.unlink()
    with pytest.raises(RefusedError) as caught:
        SecretStore.load(folder, "local")
    assert str(caught.value) == (
        f"no ansible-vault password for {path}: The vault password file {password} was not found\n"
        f"  next: {WHERE}"
    )


def test_a_failing_password_program_is_refused(folder: Path, password: Path) -> None:
    path = encrypted(folder)
    password.write_text("#!/bin/sh\nexit 3\n")
    password.chmod(0o700)
    with pytest.raises(RefusedError) as caught:
        SecretStore.load(folder, "local")
    assert caught.value.message == (
        f"no ansible-vault password for {path}: Vault password script {password} returned non-zero (3): None"
    )


@pytest.mark.parametrize("rest", ["", "1.1;AES256\n", "1.1;AES256\n313233zz\n", "9"])
def test_a_damaged_encrypted_file_is_refused(folder: Path, password: Path, rest: str) -> None:
    path = folder / "secrets.yml"
    path.write_text(f"$ANSIBLE_VAULT;{rest}")
    with pytest.raises(RefusedError) as caught:
        SecretStore.load(folder, "local")
    assert str(caught.value) == (
        f"{path} starts like a file of ansible-vault, but the rest is damaged\n"
        "  next: restore the file from a backup"
    )


def test_an_encrypted_file_cut_anywhere_is_never_taken(folder: Path, password: Path) -> None:
    path = encrypted(folder)
    raw = path.read_bytes()
    for end in range(15, len(raw) - 1, 97):
        path.write_bytes(raw[:end])
        with pytest.raises(RefusedError):
            SecretStore.load(folder, "local")


# --- the lock ---

HOLDER = """
import sys
from pathlib import Path
from dap.secrets import store_lock
with store_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_run_is_refused_until_the_first_one_ends(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(RefusedError) as caught, store_lock(folder, wait=0.1):
            pytest.fail("entered")
        assert str(caught.value) == (
            f"another dap run works on the inventory 'local' (process {holder.pid})\n"
            f"  next: wait until it has ended, or look at it: ps -fp {holder.pid}"
        )
        holder.kill()
    with store_lock(folder, wait=0.1):
        assert (folder / ".lock").read_text() == f"{os.getpid()}\n"
    with store_lock(folder, wait=0.1):
        assert (folder / ".lock").stat().st_mode & 0o777 == 0o600


def test_a_run_waits_for_one_that_is_about_to_end(folder: Path) -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            HOLDER.replace("sys.stdin.read()", "import time; time.sleep(0.3)"),
            str(folder),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "locked\n"
        with store_lock(folder, wait=30):
            assert (folder / ".lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_makes_the_folder(tmp_path: Path) -> None:
    with store_lock(tmp_path / "secrets" / "new"):
        assert (tmp_path / "secrets" / "new").stat().st_mode & 0o777 == 0o700


# --- whose data ---

GIVE_UP = "to give the data up, remove /data on host1"
OWNERSHIP: dict[str, tuple[bool, str | None, bool, str, str]] = {
    # name: (secrets file is there, marker, has data, message, next step)
    "nothing anywhere": (False, None, False, "", ""),
    "a host added to a platform": (True, None, False, "", ""),
    "the platform's own data": (True, f"{ID}\n", True, "", ""),
    "killed after the marker": (True, ID, False, "", ""),
    "data without marker, first deploy": (
        False,
        None,
        True,
        "holds data of unknown origin (there is no /data/.platform-id)",
        "move /data on host1 away, or set another data folder in platform.yml",
    ),
    "data without marker, later deploy": (
        True,
        None,
        True,
        "holds data of unknown origin (there is no /data/.platform-id)",
        "move /data on host1 away, or set another data folder in platform.yml",
    ),
    "secrets file missing": (
        False,
        OTHER_ID,
        True,
        f"holds the data of platform {OTHER_ID}, but the secrets file FOLDER/secrets.yml is missing",
        f"restore FOLDER from a backup; {GIVE_UP}",
    ),
    "secrets file missing, only the marker left": (
        False,
        OTHER_ID,
        False,
        f"holds the data of platform {OTHER_ID}, but the secrets file FOLDER/secrets.yml is missing",
        f"restore FOLDER from a backup; {GIVE_UP}",
    ),
    "foreign data": (
        True,
        OTHER_ID,
        True,
        f"holds the data of platform {OTHER_ID}, but FOLDER/secrets.yml is of platform {ID}",
        "restore the FOLDER that belongs to these data from a backup, or take host1 out of the inventory; "
        f"{GIVE_UP}",
    ),
}
DAMAGED = {
    "empty marker": (True, "", f"if the data belong to this platform, write {ID} into it; {GIVE_UP}"),
    "cut marker": (True, ID[:20], f"if the data belong to this platform, write {ID} into it; {GIVE_UP}"),
    "damaged marker, no secrets": (False, "\x00", f"restore FOLDER from a backup; {GIVE_UP}"),
}


def store_for(folder: Path, there: bool) -> SecretStore:
    if there:
        saved(folder)
    return SecretStore.load(folder, "local")


@pytest.mark.parametrize("case", OWNERSHIP)
def test_secrets_and_data_must_belong_together(folder: Path, case: str) -> None:
    there, marker, has_data, message, next_step = OWNERSHIP[case]
    conflict = ownership_conflict(store_for(folder, there), "host1", "/data", marker, has_data)
    expected = (
        f"host1: /data {message}\n  next: {next_step}".replace("FOLDER", str(folder)) if message else "None"
    )
    assert str(conflict) == expected
    assert conflict is None or conflict.exit_code == 2


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_marker_is_refused(folder: Path, case: str) -> None:
    there, marker, next_step = DAMAGED[case]
    conflict = ownership_conflict(store_for(folder, there), "host1", "/data", marker, True)
    assert str(conflict) == (f"host1: /data/.platform-id is damaged\n  next: {next_step}").replace(
        "FOLDER", str(folder)
    )
