"""Whatever becomes of a file that `dap` reads, it is refused by its name or does no harm.

There is never a traceback, nothing is run or asked on any host, and nothing in the folder of the secrets is
lost. A few hundred cases, always the same ones; ``DAP_EXAMPLES=1000`` tries that many new ones of each file.
"""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dap.errors import EXIT_FAILED, EXIT_REFUSED, ConfigurationError, DapError
from dap.secrets.vault import PASSWORD_VARIABLE
from tests.unit.damage import CONTENTS, KINDS, Damage, bytes_of, tree_of
from tests.unit.inputs import PASSWORD_FILE, SECRET, SECRETS, Input, everything, inputs

EXAMPLES = int(os.environ.get("DAP_EXAMPLES", "0"))
NOBODY = 65534
# Longer than the longest list of findings, and far from what a file may hold.
LONGEST = 20_000


@pytest.fixture(autouse=True)
def nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program is started and nobody is called: that is how hosts are changed."""

    def forbid(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"is asked: {arguments}")

    monkeypatch.setattr(subprocess.Popen, "__init__", forbid)
    monkeypatch.setattr(socket.socket, "connect", forbid)
    monkeypatch.setattr(os, "execvp", forbid)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The place for the folders of all cases, which anybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        # The same for all cases: a fixture is made once for all of them.
        here = place / "case"
        monkeypatch.setenv("DAP_INVENTORIES", str(here / "inventories"))
        monkeypatch.setenv("DAP_SECRETS", str(here / "secrets"))
        monkeypatch.setenv(PASSWORD_VARIABLE, str(here / PASSWORD_FILE))
        monkeypatch.chdir(place)
        yield place


def damages(name: str) -> st.SearchStrategy[Damage]:
    """What may become of a file."""
    one = inputs()[name]
    kinds = [kind for kind in KINDS if not (one.piped and kind.what == "a pipe")]
    every = [
        st.sampled_from(kinds),
        st.sampled_from(CONTENTS),
        bytes_of(one.content, [*everything().values()]),
    ]
    if one.dump:
        every.append(tree_of(one.document or one.content, one.dump))
    return st.one_of(every)


def kept(folder: Path) -> dict[str, bytes | int]:
    """All that is in the folder of the secrets: contents of files, modes of what is none."""
    return {
        str(path): path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else path.lstat().st_mode
        for path in sorted((folder / SECRETS).rglob("*"))
    }


def refusal(one: Input, folder: Path) -> DapError | None:
    """How the file is refused; None where it is taken. Anything else that goes wrong goes through."""
    try:
        one.load(folder)
    except DapError as error:
        return error
    return None


def judge(one: Input, error: DapError, damage: Damage) -> None:
    """A refusal says what it is about and what to do, and shows no secret."""
    text = str(error)
    assert error.exit_code in (EXIT_FAILED, EXIT_REFUSED)
    assert any(name in text for name in one.names), (damage, text)
    assert isinstance(error, ConfigurationError) or error.next_step, text
    assert len(text) < LONGEST, damage
    assert SECRET not in text


@pytest.mark.parametrize("name", inputs())
@pytest.mark.timeout(600)
def test_damaged_file_is_refused_by_name_or_does_no_harm(name: str, place: Path) -> None:
    one, case = inputs()[name], place / "case"

    @settings(
        max_examples=EXAMPLES or 16,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damages(name))
    def holds(damage: Damage) -> None:
        damage.do(one.restored(case))
        before = kept(case)
        if error := refusal(one, case):
            judge(one, error, damage)
        if not one.replaced:
            assert kept(case) == before

    one.written(case)
    holds()


@pytest.mark.parametrize("name", inputs())
def test_file_that_may_not_be_read_is_refused_by_name(name: str, place: Path) -> None:
    """Once it was there for all: so nothing is wrong with it but that."""
    one, case = inputs()[name], place / "case"
    case.mkdir()
    file = one.written(case)
    assert refusal(one, case) is None
    file.chmod(0)
    before = kept(case)
    for path in (case, *case.rglob("*")):
        os.chown(path, NOBODY if os.geteuid() == 0 else -1, -1)
    if os.geteuid() == 0:
        os.seteuid(NOBODY)
        try:
            error = refusal(one, case)
        finally:
            os.seteuid(0)
    else:
        error = refusal(one, case)
    assert error is not None
    judge(one, error, Damage("may not be read", lambda path: None))
    file.chmod(0o600)
    assert kept(case) == before
