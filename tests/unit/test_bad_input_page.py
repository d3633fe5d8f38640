"""The page of messages: none is left out, each says what to do, and texts are what operators see."""

from __future__ import annotations

import builtins
import re
from pathlib import Path

import pytest

from dap import layout
from dap.reference.messages import Message, UnreadableMessageError, find_messages
from dap.reference.source import own_modules
from dap.reference.troubleshooting import (
    advice_on,
    all_messages,
    area_of,
    entries,
    troubleshooting_page,
    unused_advice,
)
from tests.unit.platforms import tree_of

HEAD = "from dap.errors import DapError, Finding, RefusedError\n"


def messages_of(folder: Path, source: str) -> set[tuple[str, str]]:
    """The messages of a module with this source, each with what to do."""
    tree_of(
        folder,
        {
            "made_up.py": HEAD + source,
            "errors.py": "class DapError(Exception): ...\nclass RefusedError(DapError): ...\n",
        },
    )
    return {(one.text, one.next_step) for one in find_messages({"dap": folder}).messages}


# --- the program as it is ---


def test_every_place_that_refuses_is_on_the_page() -> None:
    """Searched for once more in the text of the files."""
    maker = re.compile(
        r"\braise (?!ConfigurationError|PydanticCustomError|ConstructorError)([A-Z]\w*Error)\("
    )
    own = {place.rpartition(":")[0] for place, count in all_messages().places.items() if count}
    passed_on = {place.rpartition(":")[0] for place, count in all_messages().places.items() if not count}
    looked_at, missing = 0, []
    for package, folder in own_modules(layout.ROOT).items():
        for file in folder.rglob("*.py"):
            parts = [part for part in file.relative_to(folder).with_suffix("").parts if part != "__init__"]
            module = ".".join([package, *parts])
            for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
                found = maker.search(line)
                if not found or hasattr(builtins, found[1]) or module.startswith("dap.reference"):
                    continue
                looked_at += 1
                if f"{module}:{number}" not in own | passed_on:
                    missing.append(f"{module}:{number}: {line.strip()}")
    assert looked_at > 80
    assert missing == []
    # Places that only hand on what another says are few.
    assert len(passed_on) < len(own) / 8


def test_every_message_says_what_to_do() -> None:
    silent = [
        (message.module, message.text)
        for message in sorted(all_messages().messages)
        if not (message.next_step or advice_on(message.text, message.module))
    ]
    assert silent == []


def test_advice_fits_messages_that_there_are() -> None:
    assert unused_advice() == []


@pytest.mark.parametrize(
    ("area", "text", "step"),
    [
        ("Configuration", "is not a port number (1 to 65535)", "write a number such as {example}"),
        (
            "Secrets",
            "<path> is encrypted with ansible-vault and no password is given",
            "set ANSIBLE_VAULT_PASSWORD_FILE to the file that holds the password, "
            "or to a program that prints it",
        ),
        (
            "Certificates",
            "the key does not belong to the certificate",
            "name the key that the certificate was made for",
        ),
        (
            "Hosts",
            "port <port> = in use by <owner>: <service> is to be published there (<address>:<port>)",
            "stop that program, or choose another port or listen address in the configuration",
        ),
        (
            "Docker and images",
            "Docker is installed as a snap, which cannot reach the platform's folders",
            "remove it (snap remove docker); the deploy then installs the packaged engine",
        ),
        (
            "Verification",
            "<url> answered a stranger with <stranger>, not 401",
            "dap status shows what does not run, dap logs <service> why; dap deploy heals what has drifted",
        ),
    ],
)
def test_messages_stand_in_their_areas_with_what_to_do(area: str, text: str, step: str) -> None:
    assert step in entries()[area][text]


def test_no_message_is_twice_on_the_page() -> None:
    page = " ".join(troubleshooting_page().split())
    told = re.findall(r"(?:^| )- `([^`]+)`", page)
    assert len(told) > 300
    for area in re.split(r" ## ", page)[1:]:
        there = re.findall(r" - `([^`]+)`", area)
        assert sorted(there) == sorted(set(there))


def test_what_is_written_can_be_read_as_markdown() -> None:
    page = troubleshooting_page()
    outside = re.sub(r"`[^`]*`|<!--.*?-->", "", page)
    assert re.findall(r"(?<!\\)<\w[^>]*>", outside) == []
    assert [line for line in page.splitlines() if len(line) > 110 and " " in line.strip(" -`")[:100]] == []


def test_every_module_has_its_area() -> None:
    assert area_of("dap.secrets.vault") == "Secrets"
    assert area_of("dap.something_new") == "The command line"
    assert area_of("plugins.modules.dap_docker_plan") == "Docker and images"
    assert area_of("plugins.modules.dap_new") == "Hosts"


# --- how a text is worked out ---


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('raise DapError("no room", "make some")', {("no room", "make some")}),
        (
            "LIMIT = 5\ndef f(path):\n"
            '    raise DapError(f"{path} has {len(path)} of {LIMIT}", next_step="cut it")',
            {("<path> has <number> of 5", "cut it")},
        ),
        (
            'def f(x):\n    near = g(x)\n    hint = f"did you mean {near}?" if near else "remove it"\n'
            '    raise RefusedError(f"{x!r} is unknown", hint)',
            {("<x> is unknown", "did you mean <near>?"), ("<x> is unknown", "remove it")},
        ),
        (
            'def f(a):\n    if a:\n        what = "is hot"\n        return DapError(what, "cool it")\n'
            '    what = "is cold"\n    return DapError(what, "heat it")',
            {("is hot", "cool it"), ("is cold", "heat it")},
        ),
        (
            'def refused(what, folder):\n    return RefusedError(what, f"restore {folder}")\n'
            'def f(p, d):\n    raise refused(f"{p} is gone", d)\n'
            'def g(p, d):\n    raise refused("nothing is there", d)',
            {("<p> is gone", "restore <folder>"), ("nothing is there", "restore <folder>")},
        ),
        (
            "def number(noun, low):\n    def check(value):\n"
            '        raise DapError(f"{value} is not {noun} from {low}", "write one")\n    return check\n'
            'check_port = number("a port", 1)\ncheck_age = number("an age", 0)',
            {("<value> is not a port from 1", "write one"), ("<value> is not an age from 0", "write one")},
        ),
        (
            'def size(b) -> str:\n    return f"{b} GiB"\n'
            'def f(b):\n    raise DapError(f"needs {size(b)}", "buy some")',
            {("needs <b> GiB", "buy some")},
        ),
        (
            'def f(text):\n    return Finding("a", "b", "c", text.reason, text.suggestion)\n'
            'raise DapError("else", "x")',
            {("else", "x")},
        ),
    ],
)
def test_texts_are_worked_out_from_the_source(
    tmp_path: Path, source: str, expected: set[tuple[str, str]]
) -> None:
    assert messages_of(tmp_path, source) == expected


def test_text_that_cannot_be_worked_out_is_an_error_and_not_left_out(tmp_path: Path) -> None:
    with pytest.raises(UnreadableMessageError) as caught:
        messages_of(tmp_path, "def f(table, key):\n    raise DapError(table[key].lower(), 'x')")
    assert str(caught.value) == "dap.made_up:3: table[key].lower() cannot be worked out"


def test_errors_of_a_hosts_modules_count_and_mistakes_of_the_program_do_not(tmp_path: Path) -> None:
    source = 'def f(x):\n    raise ValueError(f"{x} is no date")\n'
    tree_of(tmp_path, {"here/one.py": source, "there/two.py": source})
    found = find_messages({"dap": tmp_path / "here", "plugins": tmp_path / "there"}).messages
    assert found == {Message("<x> is no date", "", "plugins.two")}
