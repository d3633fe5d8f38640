"""Packages where another program is installing some: a machine that has just started does that by itself."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from dap.layout import ansible_dir
from tests.integration.platform import BIN

DPKG = """\
#!/bin/sh
/usr/bin/dpkg "$@"
code=$?
touch /var/lib/dpkg/tried
exit $code
"""
PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: packages, tasks_from: interrupted}
"""
# On package states of its own: a program that holds dpkg's lock until somebody has tried to take it.
SCRIPT = """
mount -t tmpfs none /var/lib/dpkg
mkdir /var/lib/dpkg/info /var/lib/dpkg/updates /var/lib/dpkg/triggers
touch /var/lib/dpkg/status /var/lib/dpkg/updates/0001
"$PYTHON" - <<'END' &
import fcntl, time
from pathlib import Path
with open("/var/lib/dpkg/lock-frontend", "w") as lock:
    fcntl.lockf(lock, fcntl.LOCK_EX)
    Path("/var/lib/dpkg/locked").touch()
    while not Path("/var/lib/dpkg/tried").exists():
        time.sleep(0.1)
END
while [ ! -e /var/lib/dpkg/locked ]; do sleep 0.1; done
PATH=$FOLDER:$PATH "$PLAYBOOK" --connection local --inventory localhost, "$1"
rmdir /var/lib/dpkg/updates
"""


def test_another_program_that_installs_packages_is_waited_for(tmp_path: Path) -> None:
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(PLAYBOOK, encoding="utf-8")
    (tmp_path / "dpkg").write_text(DPKG, encoding="utf-8")
    (tmp_path / "dpkg").chmod(0o755)
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(ansible_dir() / "ansible.cfg"),
        "ANSIBLE_INVENTORY_ENABLED": "ansible.builtin.host_list",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "FOLDER": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "PLAYBOOK": str(BIN / "ansible-playbook"),
        "PYTHON": str(BIN / "python"),
    }
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-euc", SCRIPT, "-", str(playbook)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED - RETRYING: [localhost]: Finish the interrupted installation" in done.stdout
    assert "changed=1" in done.stdout
