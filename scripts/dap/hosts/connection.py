"""Connections to hosts: the command that makes one, and why one fails, in words an operator can act on.

Ansible passes on what ssh and sudo said, wrapped in sentences about itself. What helps is which machine was
meant, as whom, what ssh said, and the command to try it by hand.
"""

from __future__ import annotations

import getpass
import re
import shlex
from dataclasses import dataclass

from dap.configuration.inventory import Host

# What wraps ssh's own words.
_SSH_SAYS = re.compile(r"(?:be reached over ssh|to the host via ssh):\s*(?P<said>.+)", re.S)
# How the messages of Ansible itself begin; what a module says may quote whatever a build printed.
_ANSIBLES_OWN = ("Task failed", "Module result", "The module interpreter", "Failed to connect", "Timeout")


@dataclass(frozen=True)
class Trouble:
    """Why the platform cannot work on a host.

    Attributes:
        subject: what does not work: ``connection``, ``sudo``, ``Python``.
        value: with whom or what it was tried.
        reason: what was said.
        suggestion: what to do about it.
    """

    subject: str
    value: str
    reason: str
    suggestion: str

    def __str__(self) -> str:
        return f"{self.subject} = {self.value}\n    {self.reason}\n    {self.suggestion}"


def ssh_argv(host: Host) -> list[str]:
    """The command that logs in to a host as Ansible does, without the command to run there."""
    variables = host.variables
    argv = ["ssh"]
    if port := variables.get("ansible_port"):
        argv += ["-p", str(port)]
    if key := variables.get("ansible_ssh_private_key_file"):
        argv += ["-i", str(key)]
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        argv += shlex.split(str(variables.get(name) or ""))
    target = str(variables.get("ansible_host", host.name))
    user = variables.get("ansible_user")
    return [*argv, f"{user}@{target}" if user else target]


def explained(host: Host, hosts_file: str, message: str) -> str:
    """A failure's message for people; as it is where it is about anything but the connection.

    Args:
        hosts_file: the inventory's ``hosts.yml``, as the operator would open it.
        message: what Ansible said.
    """
    if not message.startswith(_ANSIBLES_OWN):
        return message
    trouble = _unreachable(host, hosts_file, message) or _no_rights(host, hosts_file, message)
    return str(trouble or _no_python(host, message) or message)


def _place(host: Host) -> str:
    """Machine, port and user of a connection, for people."""
    if host.is_local:
        return f"{getpass.getuser()} on this machine"
    user = host.variables.get("ansible_user")
    target = str(host.variables.get("ansible_host", host.name))
    port = host.variables.get("ansible_port", 22)
    return f"{f'{user}@' if user else ''}{target}, port {port}"


def _unreachable(host: Host, hosts_file: str, message: str) -> Trouble | None:
    found = _SSH_SAYS.search(message)
    if found is None:
        return None
    lines = [line for line in found["said"].splitlines() if line.strip()]
    said = re.sub(r"^(ssh|kex_exchange_identification): ", "", lines[-1].strip())
    command = shlex.join(ssh_argv(host))
    return Trouble(
        "connection",
        _place(host),
        f"cannot be reached: ssh says {said!r}",
        f"{_what_to_do(host, hosts_file, message)}; try it with: {command}",
    )


def _what_to_do(host: Host, hosts_file: str, said: str) -> str:
    """What most often helps against what ssh said."""
    below = f"below {host.name} in {hosts_file}"
    if "Could not resolve hostname" in said:
        return f"write ansible_host: <address> {below}, or correct the name"
    if "IDENTIFICATION HAS CHANGED" in said:
        target, port = host.variables.get("ansible_host", host.name), host.variables.get("ansible_port", 22)
        known = str(target) if port == 22 else f"[{target}]:{port}"
        return (
            "its host key is not the one from before: if the machine was installed anew, remove the old key"
            f" with ssh-keygen -R {shlex.quote(known)}, and otherwise find out who answers there"
        )
    if "Host key verification failed" in said:
        return "its host key is not known here: log in once by hand, compare the fingerprint, and answer yes"
    if "Permission denied" in said:
        keys = "ansible_user or ansible_ssh_private_key_file"
        return f"put your public key on it (ssh-copy-id), or correct {keys} {below}"
    correct = f"correct ansible_host or ansible_port {below}"
    if "Connection refused" in said:
        return f"start its ssh server, or {correct}"
    return f"see that it runs and that no firewall is in between, or {correct}"


def _no_rights(host: Host, hosts_file: str, message: str) -> Trouble | None:
    """Root's rights were refused."""
    below = f"below {host.name} in {hosts_file}"
    command = shlex.join([*([] if host.is_local else ssh_argv(host)), "sudo", "-n", "true"])
    root = "run dap as root" if host.is_local else f"connect as root (ansible_user: root {below})"
    if re.search(r"Missing sudo password|sudo: a password is required", message):
        return Trouble(
            "sudo",
            _place(host),
            "this user may not become root there, or only with a password",
            f"allow it without one in /etc/sudoers.d/, or {root}, or write ansible_become_password there, "
            f"encrypted with ansible-vault; try it with: {command}",
        )
    if re.search(r"Incorrect sudo password|sudo: \d+ incorrect password", message):
        return Trouble(
            "sudo",
            _place(host),
            "sudo does not take the password",
            f"correct ansible_become_password {below}",
        )
    if re.search(r"sudo(: command)?: (command )?not found", message):
        return Trouble(
            "sudo", _place(host), "sudo is not installed there", f"apt-get install sudo, or {root}"
        )
    if re.search(r"waiting for privilege escalation prompt", message):
        # So it ends, too, when the network is gone in the middle of a deploy.
        return Trouble(
            "connection",
            _place(host),
            "no answer came in time, neither from the host nor from sudo on it",
            f"see that it runs and can be reached, and that sudo asks nothing there; try it with: {command}",
        )
    said = re.search(r"sudo: .+|\S+ is not in the sudoers file", message)
    if said is None:
        return None
    return Trouble(
        "sudo",
        _place(host),
        f"root's rights are refused: {said[0]}",
        f"allow it in /etc/sudoers.d/, or {root}; try it with: {command}",
    )


def _no_python(host: Host, message: str) -> Trouble | None:
    found = re.search(r"The module interpreter '(?P<path>[^']+)' was not found", message)
    if found is None:
        return None
    return Trouble(
        "Python",
        found["path"],
        f"is not there on {host.name}",
        "install it (apt-get install python3), or remove ansible_python_interpreter",
    )
