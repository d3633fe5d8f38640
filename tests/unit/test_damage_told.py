"""What is said of files that were damaged in ways that programs trip over, in full."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dap.errors import DapError
from dap.secrets.vault import PASSWORD_VARIABLE
from tests.unit.inputs import PASSWORD_FILE, inputs

HEAD = "1 error in the configuration; nothing was changed:\n  "
ALIASES = b"a0: &a0 {x: 1}\n" + b"".join(
    b"a%d: &a%d {<<: [*a%d, *a%d]}\n" % (n, n, n - 1, n - 1) for n in range(1, 31)
)
NOTED = "\n  next: restore it from a backup, or remove it: the next deploy notes anew what it finds"
NUMBERED = (
    "\n  next: restore it from a backup; without one, write each user's uid into platform.yml, as"
    " ls -ln shows it in the folder of the homes, before you remove it"
)
COPY = "\n  next: copy it over again, and compare both copies: sha256sum FILE"
MANUAL = "\n  next: write it as Compose's manual shows"
OWNER = "\n  next: run dap as the user who owns it, or correct its permissions"
OWN = "inventories/team/compose/guestbook"
FRAGMENT = f"{OWN}/compose.yaml.j2: "
NUMBERS = "secrets/team/dev_containers.json cannot be read: "
CONFIG = json.loads(inputs()["bundle"].document)["images"]["dap/base:1"]["config"]


def content(text: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text)


def listed(**changed: object) -> Callable[[Path], object]:
    """A bundle whose list says something else."""
    one = inputs()["bundle"]
    assert one.dump
    return content(one.dump({**json.loads(one.document), **changed}))


def changed(before: bytes, after: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes().replace(before, after))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (
            "hosts",
            pipe,
            HEAD + "inventories/team/hosts.yml\n"
            "    cannot be read (Not a file)\n"
            "    make it a text file that you can read",
        ),
        (
            "hosts",
            content(b"[" * 1200),
            HEAD + "inventories/team/hosts.yml\n"
            "    is nested deeper than 100 levels\n"
            "    write it with fewer brackets or dashes in each other",
        ),
        (
            "hosts",
            content(ALIASES),
            HEAD + "inventories/team/hosts.yml\n"
            "    stands for more than 100000 values, as its aliases name each other\n"
            "    write the values without the aliases",
        ),
        (
            "secrets",
            content(ALIASES),
            "{here}/secrets/team/secrets.yml is not valid YAML\n  next: restore the file from a backup",
        ),
        ("secrets", pipe, "{here}/secrets/team/secrets.yml cannot be read: Not a file" + OWNER),
        (
            "lock of the secrets",
            pipe,
            "cannot write {here}/secrets/team/.lock: Not a file\n"
            "  next: correct the permissions of {here}/secrets/team; what is no file there may be removed",
        ),
        (
            "trusted CAs",
            changed(b"-----BEGIN", b"\xe9\n-----BEGIN"),
            HEAD + "inventories/team/group_vars/all/platform.yml: trust.extra_cas[0] = site-ca.pem\n"
            "    cannot be read (not UTF-8)\n"
            "    make it a text file that you can read",
        ),
        (
            "CA at a look",
            content(b"-----BEGIN CERTIFICATE-----\n"),
            "{here}/secrets/team/ca.crt is damaged\n"
            "  next: restore {here}/secrets/team/ca.crt and ca.key from a backup; "
            "for a new CA, which every user has to trust anew, "
            "remove both and write ca_fingerprint: '' in {here}/secrets/team/secrets.yml",
        ),
        (
            "certificate at a look",
            content(b""),
            "{here}/secrets/team/tls/portal.crt is damaged\n"
            "  next: dap -e team deploy issues it anew, or says what is wrong with it",
        ),
        (
            "numbers",
            content(b'{"uid ada": "0"}'),
            NUMBERS + "uid ada is 0, and no number from 1000 to 59999" + NUMBERED,
        ),
        (
            "numbers",
            content(b'{"gid demo": "many"}'),
            NUMBERS + "gid demo is many, and no number from 70000 to 2147483647" + NUMBERED,
        ),
        (
            "numbers",
            content(b'{"uid ada": "20001", "uid bob": "20001"}'),
            NUMBERS + "ada and bob have the same uid, 20001" + NUMBERED,
        ),
        (
            "numbers",
            content(b'{"uidada": "20001"}'),
            NUMBERS + "uidada is nothing that is noted there" + NUMBERED,
        ),
        (
            "digests",
            content(b'{"git:1": 7}'),
            "secrets/team/image_digests.json cannot be read: git:1 is no text" + NOTED,
        ),
        (
            "digests",
            content(b"\xff"),
            "secrets/team/image_digests.json cannot be read: it is not UTF-8" + NOTED,
        ),
        (
            "GPUs",
            content(b"[" * 1200),
            "secrets/team/gpus.json cannot be read: it is nested too deeply" + NOTED,
        ),
        ("bundle", pipe, "{here}/team.bundle cannot be read: Not a file" + OWNER),
        (
            "bundle",
            listed(members={}),
            f"{{here}}/team.bundle is damaged: {CONFIG} of dap/base:1 is not listed" + COPY,
        ),
        (
            "bundle",
            listed(created=None),
            "{here}/team.bundle is damaged: bundle.json does not say what it should at created" + COPY,
        ),
        (
            "bundle",
            listed(packages={"trixie": "docker.io"}),
            "{here}/team.bundle is damaged: bundle.json does not say what it should at packages.trixie"
            + COPY,
        ),
        (
            "template",
            content(b"\xff"),
            f"{{here}}/{OWN}/config/app.conf.j2: is not UTF-8\n  next: write it as a text file",
        ),
        (
            "template",
            content(b"{{ 1 + 'a' }}"),
            f"{{here}}/{OWN}/config/app.conf.j2: unsupported operand type(s) for +: 'int' and 'str'\n"
            "  next: correct the template",
        ),
        (
            "fragment",
            content(b"services: {guestbook: }\n"),
            FRAGMENT + "services.guestbook is not a mapping" + MANUAL,
        ),
        (
            "fragment",
            content(b"services: {guestbook: {volumes: /srv}}\n"),
            FRAGMENT + "services.guestbook.volumes is not a list" + MANUAL,
        ),
        (
            "fragment",
            content(b"services: {guestbook: {volumes: [7]}}\n"),
            FRAGMENT + "services.guestbook.volumes has something that is no mount" + MANUAL,
        ),
        (
            "fragment",
            content(b"services: {guestbook: {tmpfs: [{}]}}\n"),
            FRAGMENT + "services.guestbook.tmpfs has something that is no path" + MANUAL,
        ),
        (
            "fragment",
            content(b"services: {guestbook: {healthcheck: {test: 1}}}\n"),
            FRAGMENT + "services.guestbook.healthcheck.test is not a list" + MANUAL,
        ),
        (
            "fragment",
            content(ALIASES),
            FRAGMENT + "what it renders to is not YAML: stands for more than 100000 values, "
            "as its aliases name each other\n  next: correct the template at the line that is named; "
            "{{ … }} in a value often wants quotes around it",
        ),
    ],
)
def test_damage_is_told_in_full(
    name: str, damage: Callable[[Path], object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAP_INVENTORIES", str(tmp_path / "inventories"))
    monkeypatch.setenv("DAP_SECRETS", str(tmp_path / "secrets"))
    monkeypatch.setenv(PASSWORD_VARIABLE, str(tmp_path / PASSWORD_FILE))
    monkeypatch.chdir(tmp_path)
    one = inputs()[name]
    damage(one.written(tmp_path))
    with pytest.raises(DapError) as caught:
        one.load(tmp_path)
    assert str(caught.value).replace(str(tmp_path), "{here}") == message
