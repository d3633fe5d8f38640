"""A machine with GPUs that are none: devices of another kind, which a CDI spec names as NVIDIA's."""

from __future__ import annotations

from collections.abc import Collection

from tests.lab.machine import Machine

GPU_HOST = "runner2"
# Two names for one device, as NVIDIA's tool writes them. What is behind them gives zeroes.
NAMES = {0: ("0", "GPU-a0"), 1: ("1", "GPU-a1"), 2: ("2", "GPU-a2")}
SPEC = "/etc/cdi/nvidia.yaml"


def without_cdi(machine: Machine) -> None:
    """Let an engine that is not there yet be one that hands out no devices unless it is told to."""
    machine.run("mkdir", "--parents", "/etc/docker")
    machine.write("/etc/docker/daemon.json", '{"features": {"cdi": false}, "log-level": "warn"}\n')


def give_devices(machine: Machine) -> None:
    """Give a machine its devices, until it is switched off."""
    made = "; ".join(f"mknod --mode 666 /dev/dap-gpu{number} c 1 5" for number in NAMES)
    machine.run("sh", "-ec", f"mkdir --parents /etc/cdi; {made}")
    write_spec(machine)


def write_spec(machine: Machine, without: Collection[int] = ()) -> None:
    """Write the spec, as NVIDIA's tool does; without devices that were taken out of the machine."""
    lines = [
        "---",
        "cdiVersion: 0.5.0",
        "containerEdits:",
        "  env:",
        "  - NVIDIA_VISIBLE_DEVICES=void",
        "devices:",
    ]
    for number, names in NAMES.items():
        for name in names if number not in without else ():
            lines += [
                *("- containerEdits:", "    deviceNodes:", f"    - path: /dev/dap-gpu{number}"),
                *("    env:", f"    - DAP_GPU_{number}=here", f'  name: "{name}"'),
            ]
    machine.write(SPEC, "\n".join([*lines, "kind: nvidia.com/gpu", ""]))
