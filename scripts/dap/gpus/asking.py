"""Asks hosts for their GPUs without a deploy: one connection for each."""

from __future__ import annotations

from dap.configuration.inventory import Host
from dap.gpus.found import Found
from dap.hosts import scripts
from dap.layout import ansible_dir


def ask(inventory: str, host: Host) -> Found:
    """What a host has of GPUs.

    Raises:
        DapError: it cannot be asked.
    """
    script = ansible_dir() / "plugins" / "module_utils" / "dap_gpus.py"
    modules = {script.stem: script}
    return Found.of(scripts.told_by(inventory, host, modules, {}, "its GPUs cannot be looked at")["gpus"])
