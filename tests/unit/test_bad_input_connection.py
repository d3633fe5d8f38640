"""What Ansible, ssh and sudo said of a host becomes what the operator reads (recorded answers)."""

from __future__ import annotations

from typing import Any

import pytest

from dap.hosts.connection import explained, ssh_argv
from tests.unit.platforms import host_with

HOSTS_FILE = "inventories/team/hosts.yml"
NO_SSH = (
    'Task failed: Data could not be sent to remote host "192.0.2.10". '
    "Make sure this host can be reached over ssh: "
)
CHANGED = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Host key for [192.0.2.10]:2222 has changed and you have requested strict checking.
Host key verification failed.
"""
NO_SUDO = "Module result deserialization failed: No start of json char found\n"
ADMIN = {"ansible_host": "192.0.2.10", "ansible_user": "admin"}
BELOW = f"below alpha in {HOSTS_FILE}"
ROOT = f"connect as root (ansible_user: root {BELOW})"


def told(message: str, **variables: Any) -> list[str]:
    """The lines that an operator reads about the host ``alpha``."""
    return explained(host_with(**variables), HOSTS_FILE, message).splitlines()


@pytest.mark.parametrize(
    ("said", "quoted", "what_to_do"),
    [
        (
            "ssh: connect to host 192.0.2.10 port 22: Connection refused",
            "connect to host 192.0.2.10 port 22: Connection refused",
            f"start its ssh server, or correct ansible_host or ansible_port {BELOW}",
        ),
        (
            "ssh: connect to host 192.0.2.10 port 22: Connection timed out",
            "connect to host 192.0.2.10 port 22: Connection timed out",
            "see that it runs and that no firewall is in between, "
            f"or correct ansible_host or ansible_port {BELOW}",
        ),
        (
            "ssh: Could not resolve hostname alpha: Name or service not known",
            "Could not resolve hostname alpha: Name or service not known",
            f"write ansible_host: <address> {BELOW}, or correct the name",
        ),
        (
            "admin@192.0.2.10: Permission denied (publickey,password).",
            "admin@192.0.2.10: Permission denied (publickey,password).",
            "put your public key on it (ssh-copy-id), "
            f"or correct ansible_user or ansible_ssh_private_key_file {BELOW}",
        ),
        (
            "Host key verification failed.",
            "Host key verification failed.",
            "its host key is not known here: log in once by hand, compare the fingerprint, and answer yes",
        ),
    ],
)
def test_host_that_cannot_be_reached_is_told_with_the_command_to_try(
    said: str, quoted: str, what_to_do: str
) -> None:
    assert told(NO_SSH + said, **ADMIN) == [
        "connection = admin@192.0.2.10, port 22",
        f"    cannot be reached: ssh says '{quoted}'",
        f"    {what_to_do}; try it with: ssh admin@192.0.2.10",
    ]


def test_changed_host_key_is_not_taken_for_an_unknown_one() -> None:
    assert told(NO_SSH + CHANGED, **ADMIN, ansible_port=2222) == [
        "connection = admin@192.0.2.10, port 2222",
        "    cannot be reached: ssh says 'Host key verification failed.'",
        "    its host key is not the one from before: if the machine was installed anew, remove the old key "
        "with ssh-keygen -R '[192.0.2.10]:2222', and otherwise find out who answers there; "
        "try it with: ssh -p 2222 admin@192.0.2.10",
    ]


def test_silence_is_not_taken_for_a_refusal_of_rights() -> None:
    assert told("Task failed: Timeout (22s) waiting for privilege escalation prompt: ", **ADMIN) == [
        "connection = admin@192.0.2.10, port 22",
        "    no answer came in time, neither from the host nor from sudo on it",
        "    see that it runs and can be reached, and that sudo asks nothing there; try it with: "
        "ssh admin@192.0.2.10 sudo -n true",
    ]


@pytest.mark.parametrize(
    ("message", "reason", "suggestion"),
    [
        (
            "Task failed: Missing sudo password",
            "this user may not become root there, or only with a password",
            f"allow it without one in /etc/sudoers.d/, or {ROOT}, or write ansible_become_password there, "
            "encrypted with ansible-vault; try it with: ssh admin@192.0.2.10 sudo -n true",
        ),
        (
            "Task failed: Incorrect sudo password",
            "sudo does not take the password",
            f"correct ansible_become_password {BELOW}",
        ),
        (
            f"{NO_SUDO}/bin/sh: 1: sudo: not found",
            "sudo is not installed there",
            f"apt-get install sudo, or {ROOT}",
        ),
        (
            f"{NO_SUDO}sudo: sorry, you must have a tty to run sudo",
            "root's rights are refused: sudo: sorry, you must have a tty to run sudo",
            f"allow it in /etc/sudoers.d/, or {ROOT}; try it with: ssh admin@192.0.2.10 sudo -n true",
        ),
        (
            f"{NO_SUDO}admin is not in the sudoers file.",
            "root's rights are refused: admin is not in the sudoers file",
            f"allow it in /etc/sudoers.d/, or {ROOT}; try it with: ssh admin@192.0.2.10 sudo -n true",
        ),
    ],
)
def test_refused_sudo_is_told_with_the_ways_out(message: str, reason: str, suggestion: str) -> None:
    assert told(message, **ADMIN) == [
        "sudo = admin@192.0.2.10, port 22",
        f"    {reason}",
        f"    {suggestion}",
    ]


def test_refused_sudo_on_this_machine_needs_no_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dap.hosts.connection.getpass.getuser", lambda: "ada")
    assert told("Task failed: Missing sudo password", ansible_connection="local") == [
        "sudo = ada on this machine",
        "    this user may not become root there, or only with a password",
        "    allow it without one in /etc/sudoers.d/, or run dap as root, or write ansible_become_password "
        "there, encrypted with ansible-vault; try it with: sudo -n true",
    ]


def test_missing_python_is_told() -> None:
    message = (
        "The module interpreter '/usr/bin/python3' was not found.\n/bin/sh: 1: /usr/bin/python3: not found"
    )
    assert told(message, **ADMIN) == [
        "Python = /usr/bin/python3",
        "    is not there on alpha",
        "    install it (apt-get install python3), or remove ansible_python_interpreter",
    ]


def test_what_a_module_says_stays_as_it_is_whatever_it_quotes() -> None:
    message = "app: docker build ended with status 1\n  sudo: not found"
    assert told(message, **ADMIN) == message.splitlines()


def test_command_to_try_is_the_connection_that_ansible_makes() -> None:
    host = host_with(
        ansible_host="192.0.2.10",
        ansible_port=2222,
        ansible_user="admin",
        ansible_ssh_private_key_file="~/.ssh/team",
        ansible_ssh_common_args="-J 'jump host'",
    )
    assert ssh_argv(host) == [
        *("ssh", "-p", "2222", "-i", "~/.ssh/team"),
        *("-J", "jump host", "admin@192.0.2.10"),
    ]
