"""The secrets file: nothing leaks, nothing is lost, and nothing doubtful is taken."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dap import files
from dap.errors import DapError, RefusedError
from dap.secrets import Secret, SecretStore
from dap.secrets import format as secrets_format

ID = "0b7c9f2e-3a41-4d4c-9a57-1f2e3d4c5b6a"
GOOD = f"""\
format: 1
inventory: local
platform_id: {ID}
ca_fingerprint: ''
values:
  minio.root_password: Kq3vT8
  mlflow.database_password: hunter2secret
...
"""
RESTORE = "restore the file from a backup"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "secrets" / "local"
    path.mkdir(parents=True, mode=0o700)
    return path


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "secrets.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o600)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- the type ---


def test_a_secret_shows_itself_nowhere_but_in_reveal(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret("hunter2secret")
    logging.getLogger("dap").warning("password %s %r", secret, [secret])
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret:>20}",
        "{}".format(secret),  # noqa: UP032
        str({"a": secret}),
        caplog.text,
    ]
    assert not [text for text in shown if "hunter2secret" in text]
    assert f"{secret:>20}" == "***"
    assert secret.reveal() == "hunter2secret"
    assert not hasattr(secret, "__dict__")


def test_secrets_compare_by_value_and_hash_alike() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("päß") == Secret("päß")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_a_secret_is_not_written_by_accident() -> None:
    secret = Secret("hunter2secret")
    with pytest.raises(TypeError, match=r"^Object of type Secret is not JSON serializable$"):
        json.dumps({"password": secret})
    with pytest.raises(TypeError, match=r"^a Secret cannot be pickled$"):
        pickle.dumps(secret)
    with pytest.raises(yaml.representer.RepresenterError):
        yaml.safe_dump({"password": secret})
    with pytest.raises(TypeError, match=r"^a Secret cannot be pickled$"):
        yaml.dump({"password": secret})
    with pytest.raises(AttributeError, match=r"^a Secret cannot be changed$"):
        secret._value = "other"
    assert copy.deepcopy([secret]) == [secret]


# --- reading and writing ---


def test_a_missing_file_gives_a_new_store_and_writes_nothing(tmp_path: Path) -> None:
    first = SecretStore.load(tmp_path / "local", "local")
    second = SecretStore.load(tmp_path / "local", "local")
    assert first.is_new
    assert secrets_format.is_uuid(first.platform_id)
    assert first.platform_id != second.platform_id
    assert not list(tmp_path.iterdir())


def test_what_was_saved_is_read_back(folder: Path) -> None:
    store = SecretStore.load(folder, "local")
    password, key = store.get("mlflow.database_password"), store.access_key("mlflow.s3_access_key")
    store.ca_fingerprint = "ab" * 32
    assert store.save()
    again = SecretStore.load(folder, "local")
    assert not again.is_new
    assert again.platform_id == store.platform_id
    assert again.ca_fingerprint == "ab" * 32
    assert again.all_values() == {"mlflow.database_password": password, "mlflow.s3_access_key": key}
    assert not again.save()


def test_the_file_has_a_header_sorted_keys_and_an_end(folder: Path) -> None:
    store = SecretStore(written(folder, GOOD), "local")
    store.platform_id = ID
    store._values = {"b.two": Secret("2"), "a.one": Secret("1")}
    text = store._text().decode()
    assert text.startswith(
        "# The secrets of the inventory 'local'. Keep a copy of this folder in a safe place:"
    )
    assert text.endswith(
        f"format: 1\ninventory: local\nplatform_id: {ID}\nca_fingerprint: ''\n"
        "values:\n  a.one: '1'\n  b.two: '2'\n...\n"
    )


def test_the_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o000)
    try:
        store = SecretStore.load(tmp_path / "secrets" / "local", "local")
        store.save()
    finally:
        os.umask(old)
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("length", [16, 40, 64])
def test_generated_values_are_safe_in_any_file(tmp_path: Path, length: int) -> None:
    store = SecretStore.load(tmp_path, "local")
    values = [store.get(f"service.secret{number}", length).reveal() for number in range(20)]
    assert all(re.fullmatch(f"[A-Za-z0-9]{{{length}}}", value) for value in values)
    assert len(set(values)) == 20
    assert re.fullmatch(r"[A-Z0-9]{20}", store.access_key("service.key").reveal())


@pytest.mark.parametrize("blank", ["", "''", "'  '", "null", "~"])
def test_only_blanks_are_filled(folder: Path, blank: str) -> None:
    written(folder, GOOD.replace("Kq3vT8", blank))
    store = SecretStore.load(folder, "local")
    assert store.peek("minio.root_password") is None
    assert len(store.get("minio.root_password").reveal()) == 40
    assert store.get("mlflow.database_password").reveal() == "hunter2secret"
    assert store.peek("mlflow.none") is None
    assert set(store.all_values()) == {"minio.root_password", "mlflow.database_password"}


def test_values_of_the_operator_survive_being_written(folder: Path) -> None:
    values = {
        "a.b": "with: colon # and 'quotes' \"both\"",
        "a.c": "0123",
        "a.d": "päßwörd\nline\ttab",
        "a.e": "yes",
    }
    store = SecretStore.load(folder, "local")
    store._values = {key: Secret(value) for key, value in values.items()}
    store.save()
    again = SecretStore.load(folder, "local")
    assert {key: secret.reveal() for key, secret in again.all_values().items()} == values


@pytest.mark.parametrize("key", ["password", "a..b", ".a", "a.", "a b.c", "a.b\nc.d", ""])
def test_a_bad_key_is_a_programming_error(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="not a key of a secret"):
        SecretStore.load(tmp_path, "local").get(key)


def test_nothing_is_written_when_nothing_changed(folder: Path) -> None:
    path = written(folder, GOOD)
    before = path.stat()
    store = SecretStore.load(folder, "local")
    store.get("minio.root_password")
    assert not store.save()
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_change_by_somebody_else_is_not_overwritten(folder: Path) -> None:
    path = written(folder, GOOD)
    store = SecretStore.load(folder, "local")
    store.get("new.secret")
    path.write_text(GOOD.replace("Kq3vT8", "edited"))
    with pytest.raises(DapError) as caught:
        store.save()
    assert str(caught.value) == (
        f"{path} was changed by somebody else since it was read; nothing was written\n"
        "  next: run the same command again"
    )
    assert path.read_text() == GOOD.replace("Kq3vT8", "edited")


def test_a_file_that_appeared_meanwhile_is_not_overwritten(folder: Path) -> None:
    store = SecretStore.load(folder, "local")
    path = written(folder, GOOD)
    with pytest.raises(DapError, match="was changed by somebody else since it was read"):
        store.save()
    assert path.read_text() == GOOD


def test_a_link_to_the_file_stays_a_link(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "mount.yml"
    target.write_text(GOOD)
    target.chmod(0o640)
    (folder / "secrets.yml").symlink_to(target)
    store = SecretStore.load(folder, "local")
    store.get("new.secret")
    store.save()
    assert (folder / "secrets.yml").is_symlink()
    assert "new.secret" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o600


# --- values before ---


def test_a_replaced_value_is_kept_in_the_file_until_it_is_settled(folder: Path) -> None:
    path = written(folder, GOOD)
    store = SecretStore.load(folder, "local")
    store.replace("minio.root_password", Secret("second"))
    store.replace("minio.root_password", Secret("third"))
    store.replace("minio.root_password", Secret("third"))
    store.replace("new.secret", Secret("first"))
    assert store.save()
    assert path.read_text().endswith("previous:\n  minio.root_password:\n  - Kq3vT8\n  - second\n...\n")
    again = SecretStore.load(folder, "local")
    assert again.peek("minio.root_password") == Secret("third")
    assert again.previous("minio.root_password") == [Secret("second"), Secret("Kq3vT8")]
    assert again.previous("new.secret") == []
    assert again.pending() == ["minio.root_password"]
    assert "Kq3vT8" not in repr(again._previous)
    again.settle(["minio.root_password", "new.secret"])
    assert again.save()
    assert "previous" not in path.read_text()
    assert "Kq3vT8" not in path.read_text()


def test_a_value_that_is_taken_back_is_none_before(folder: Path) -> None:
    written(folder, GOOD)
    store = SecretStore.load(folder, "local")
    store.replace("minio.root_password", Secret("second"))
    store.replace("minio.root_password", Secret("Kq3vT8"))
    assert store.previous("minio.root_password") == [Secret("second")]


def test_a_rotated_value_is_generated_once(folder: Path) -> None:
    written(folder, GOOD.replace("hunter2secret", "''"))
    store = SecretStore.load(folder, "local")
    assert store.rotate("minio.root_password", 30)
    made = store.get("minio.root_password")
    assert re.fullmatch("[A-Za-z0-9]{30}", made.reveal())
    assert not store.rotate("minio.root_password", 30)
    assert store.get("minio.root_password") == made
    assert not store.rotate("mlflow.database_password")
    assert not store.rotate("not.there")
    assert store.pending() == ["minio.root_password"]


@pytest.mark.parametrize("key", ["password", "a b.c", ""])
def test_a_value_for_a_bad_key_is_a_programming_error(folder: Path, key: str) -> None:
    with pytest.raises(ValueError, match="not a key of a secret"):
        SecretStore.load(folder, "local").replace(key, Secret("value"))


# --- interrupted writes ---


def test_an_exception_in_the_middle_of_a_write_keeps_the_old_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(folder, GOOD)
    store = SecretStore.load(folder, "local")
    store.get("new.secret")

    def fail(source: object, target: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            store.save()
    assert contents(folder) == {"secrets.yml": GOOD.encode()}
    assert store.save()
    assert SecretStore.load(folder, "local").peek("new.secret") == store.peek("new.secret")
    assert [item.name for item in folder.iterdir()] == [path.name]


def test_a_kill_in_the_middle_of_a_write_keeps_the_old_file(folder: Path) -> None:
    written(folder, GOOD)
    program = """
import os, signal, sys
from pathlib import Path
from dap import files
from dap.secrets import SecretStore
store = SecretStore.load(Path(sys.argv[1]), "local")
store.get("new.secret")
files.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
store.save()
"""
    killed = subprocess.run([sys.executable, "-c", program, str(folder)], check=False)
    assert killed.returncode == -signal.SIGKILL
    left = [item for item in folder.iterdir() if item.name != "secrets.yml"]
    assert len(left) == 1
    assert left[0].stat().st_mode & 0o777 == 0o600
    store = SecretStore.load(folder, "local")
    assert contents(folder) == {"secrets.yml": GOOD.encode()}
    assert set(store.all_values()) == {"minio.root_password", "mlflow.database_password"}


def test_the_temporary_file_of_a_living_writer_is_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(folder, GOOD)
    store = SecretStore.load(folder, "local")
    store.get("new.secret")
    replace = os.replace

    def other_run_loads_just_now(source: Path, target: Path) -> None:
        SecretStore.load(folder, "local")
        replace(source, target)

    monkeypatch.setattr(os, "replace", other_run_loads_just_now)
    assert store.save()
    assert SecretStore.load(folder, "local").peek("new.secret") is not None


def test_a_full_disk_is_told_and_keeps_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(folder, GOOD)
    store = SecretStore.load(folder, "local")
    store.get("new.secret")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DapError) as caught:
        store.save()
    assert str(caught.value) == (
        f"cannot write {path}: No space left on device\n"
        f"  next: make room or correct the permissions of {folder}"
    )
    assert contents(folder) == {"secrets.yml": GOOD.encode()}


# --- refusals ---

REFUSALS: dict[str, tuple[str | bytes, str, str]] = {
    "not YAML": (
        GOOD.replace("Kq3vT8", "'Kq3vT8"),
        " is not valid YAML (line 8, column 1)",
        f"correct it there, or {RESTORE}",
    ),
    "an alias that quotes a value": (
        GOOD.replace("Kq3vT8", "*Kq3vT8"),
        " is not valid YAML (line 6, column 24)",
        f"correct it there, or {RESTORE}",
    ),
    "a tag": (
        GOOD.replace("Kq3vT8", "!vault Kq3vT8"),
        " is not valid YAML (line 6, column 24)",
        f"correct it there, or {RESTORE}",
    ),
    "a key twice": (
        GOOD.replace("minio.root_password", "mlflow.database_password"),
        " is not valid YAML (line 7, column 3): key written twice",
        f"correct it there, or {RESTORE}",
    ),
    "a date that does not exist": (
        GOOD.replace("Kq3vT8", "2024-13-45"),
        " is not valid YAML",
        RESTORE,
    ),
    "control characters": (
        GOOD.replace("Kq3vT8", "\x00"),
        " is not valid YAML",
        f"correct it there, or {RESTORE}",
    ),
    "not text": (b"\xff\xfe\x00binary", " is not a text file", RESTORE),
    "empty": ("", " is empty or holds no keys", RESTORE),
    "comments only": ("# nothing\n", " is empty or holds no keys", RESTORE),
    "a list": ("- format: 1\n", " is empty or holds no keys", RESTORE),
    "cut after a value": (
        GOOD[: GOOD.index("hunter2secret") + 7],
        " is cut off: its last line is not '...'",
        RESTORE,
    ),
    "cut before a key": (
        GOOD[: GOOD.index("  mlflow")],
        " is cut off: its last line is not '...'",
        RESTORE,
    ),
    "newer format": (
        GOOD.replace("format: 1", "format: 2\nsurprise: yes"),
        " has the format 2; this dap knows format 1",
        f"use the dap that wrote it, or {RESTORE}",
    ),
    "format true": (
        GOOD.replace("format: 1", "format: true"),
        " has the format True; this dap knows format 1",
        f"use the dap that wrote it, or {RESTORE}",
    ),
    "no format": (
        GOOD.replace("format: 1\n", ""),
        " has the format None; this dap knows format 1",
        f"use the dap that wrote it, or {RESTORE}",
    ),
    "unknown keys": (
        GOOD.replace("values:", "valeus: {}\nabc: 1\nvalues:"),
        " has unknown keys: abc, valeus",
        "remove them; known are format, inventory, platform_id, ca_fingerprint, values, previous",
    ),
    "no inventory": (
        GOOD.replace("inventory: local\n", ""),
        " does not say which inventory it belongs to",
        RESTORE,
    ),
    "another inventory": (
        GOOD.replace("inventory: local", "inventory: prod"),
        " belongs to the inventory 'prod', not to 'local'",
        "put the secrets of 'local' there; if the inventory was renamed, "
        "write 'inventory: local' in that file",
    ),
    "no platform_id": (
        GOOD.replace(f"platform_id: {ID}\n", ""),
        " has no valid platform_id (a UUID)",
        RESTORE,
    ),
    "platform_id not a UUID": (
        GOOD.replace(ID, "platform-1"),
        " has no valid platform_id (a UUID)",
        RESTORE,
    ),
    "no ca_fingerprint": (
        GOOD.replace("ca_fingerprint: ''\n", ""),
        " has no valid ca_fingerprint (64 hexadecimal digits, or '')",
        RESTORE,
    ),
    "short ca_fingerprint": (
        GOOD.replace("''", "abcdef"),
        " has no valid ca_fingerprint (64 hexadecimal digits, or '')",
        RESTORE,
    ),
    "no values": (
        GOOD[: GOOD.index("values")] + "...\n",
        " has no values (a mapping)",
        RESTORE,
    ),
    "values null": (
        GOOD[: GOOD.index("values")] + "values:\n...\n",
        " has no values (a mapping)",
        RESTORE,
    ),
    "values that are not text": (
        GOOD.replace("Kq3vT8", "123456").replace("hunter2secret", "[a, b]"),
        " has values that are not text: minio.root_password, mlflow.database_password",
        "write them in quotes",
    ),
    "previous values that are no lists": (
        GOOD.replace("...", "previous:\n  minio.root_password: hunter2before\n..."),
        " has previous values that are not lists of text",
        RESTORE,
    ),
    "previous values that are not text": (
        GOOD.replace("...", "previous:\n  minio.root_password: [1]\n..."),
        " has previous values that are not lists of text",
        RESTORE,
    ),
    "no previous values": (
        GOOD.replace("...", "previous:\n..."),
        " has previous values that are not lists of text",
        RESTORE,
    ),
    "a key that is not text": (
        GOOD.replace("minio.root_password", "42"),
        " has values that are not text: 42",
        "write them in quotes",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_doubtful_file_is_refused_and_nothing_is_written(folder: Path, case: str) -> None:
    text, message, next_step = REFUSALS[case]
    path = written(folder, text)
    folder.chmod(0o755)
    before = contents(folder)
    with pytest.raises(RefusedError) as caught:
        SecretStore.load(folder, "local")
    assert str(caught.value) == f"{path}{message}\n  next: {next_step}"
    assert caught.value.exit_code == 2
    assert contents(folder) == before
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("case", REFUSALS)
def test_no_refusal_quotes_a_value_even_in_its_cause(folder: Path, case: str) -> None:
    written(folder, REFUSALS[case][0])
    with pytest.raises(RefusedError) as caught:
        SecretStore.load(folder, "local")
    assert caught.value.__cause__ is None
    assert not re.search("hunter2|Kq3vT8", str(caught.value))


@pytest.mark.parametrize("end", range(1, len(GOOD) - 2, 7))
def test_a_file_cut_anywhere_is_never_taken(folder: Path, end: int) -> None:
    written(folder, GOOD[:end])
    with pytest.raises(RefusedError):
        SecretStore.load(folder, "local")


def test_a_file_that_cannot_be_read_is_refused(folder: Path) -> None:
    path = folder / "secrets.yml"
    path.mkdir()
    with pytest.raises(RefusedError) as caught:
        SecretStore.load(folder, "local")
    assert str(caught.value) == (
        f"{path} cannot be read: Is a directory\n"
        "  next: run dap as the user who owns it, or correct its permissions"
    )


def test_a_file_of_somebody_else_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(folder, GOOD)

    def forbid(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "read", forbid)
    with pytest.raises(RefusedError) as caught:
        SecretStore.load(folder, "local")
    assert str(caught.value) == (
        f"{path} cannot be read: Permission denied\n"
        "  next: run dap as the user who owns it, or correct its permissions"
    )


@pytest.mark.parametrize("name", ["local", "local/secrets.yml"])
def test_a_link_into_the_void_makes_no_new_secrets(tmp_path: Path, name: str) -> None:
    link = tmp_path / name
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("/mnt/not-mounted")
    with pytest.raises(RefusedError) as caught:
        SecretStore.load(tmp_path / "local", "local")
    assert str(caught.value) == (
        f"{link} is a link to /mnt/not-mounted, which does not exist\n  next: mount or restore that place"
    )


# --- modes ---


def test_open_files_are_closed_and_told(folder: Path) -> None:
    path = written(folder, GOOD)
    (folder / "tls").mkdir()
    modes = {
        folder: 0o755,
        path: 0o644,
        folder / "tls": 0o750,
        folder / "ca.key": 0o640,
        folder / "ca.crt": 0o644,
    }
    for item, mode in modes.items():
        item.touch()
        item.chmod(mode)
    store = SecretStore.load(folder, "local")
    assert store.repairs == [
        f"{folder}: mode 0755 was open to other users, now 0700",
        f"{folder}/ca.key: mode 0640 was open to other users, now 0600",
        f"{folder}/secrets.yml: mode 0644 was open to other users, now 0600",
        f"{folder}/tls: mode 0750 was open to other users, now 0700",
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    assert (folder / "ca.crt").stat().st_mode & 0o777 == 0o644
    assert SecretStore.load(folder, "local").repairs == []


def test_a_mode_that_cannot_be_changed_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(folder, GOOD)
    path.chmod(0o644)

    def forbid(self: Path, mode: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", forbid)
    with pytest.raises(RefusedError) as caught:
        SecretStore.load(folder, "local")
    assert str(caught.value) == (
        f"{path} is open to other users (mode 0644) and cannot be closed: Operation not permitted\n"
        f"  next: sudo chmod 600 {path}"
    )
