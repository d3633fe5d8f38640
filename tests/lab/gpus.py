"""A machine with GPUs that are none: devices of another kind, which a CDI spec names as NVIDIA's.

The driver's tool and the toolkit are stand-ins. The toolkit comes from a package source of the machine's own,
as an operator would add NVIDIA's.
"""

from __future__ import annotations

from collections.abc import Collection

from tests.lab.machine import Machine

GPU_HOST = "runner2"
# Two names for one device, as NVIDIA's tool writes them. What is behind them gives zeroes.
NAMES = {0: ("0", "GPU-a0"), 1: ("1", "GPU-a1"), 2: ("2", "GPU-a2")}
SPEC = "/etc/cdi/nvidia.yaml"
_LISTED, _USE, _TOOL = "/usr/local/share/gpus", "/usr/local/share/gpu-use", "/usr/local/bin/nvidia-smi"
# In a container, where the spec brings it, it is asked what the GPU does; on the machine, what there is.
_DRIVER = f"""\
#!/bin/sh
case "$*" in
"--query-gpu=utilization.gpu --format=csv,noheader,nounits")
  echo asked >>/tmp/asked
  use=$(cat {_USE})
  test "$use" != hangs || sleep 1000
  echo "$use" ;;
*) for one in $(cat {_LISTED}); do echo "GPU $one: Stand-in (UUID: GPU-a$one)"; done ;;
esac
"""
_TOOLKIT = f"""#!/bin/sh
set -eu
test "$1 $2" = "cdi generate"
{{
  printf -- '---\\ncdiVersion: 0.5.0\\ncontainerEdits:\\n  env:\\n'
  printf -- '  - NVIDIA_VISIBLE_DEVICES=void\\n  mounts:\\n'
  for one in {_TOOL} {_USE}; do
    printf -- '  - containerPath: %s\\n    hostPath: %s\\n' "$one" "$one"
    printf -- '    options:\\n    - ro\\n    - bind\\n'
  done
  echo 'devices:'
  for one in $(cat {_LISTED}); do
    for name in "$one" "GPU-a$one"; do
      printf -- '- containerEdits:\\n    deviceNodes:\\n    - path: /dev/dap-gpu%s\\n' "$one"
      printf -- '    env:\\n    - DAP_GPU_%s=here\\n  name: "%s"\\n' "$one" "$name"
    done
  done
  echo 'kind: nvidia.com/gpu'
}} > "${{3#--output=}}"
"""
_CONTROL = """\
Package: nvidia-container-toolkit
Version: 0
Architecture: all
Maintainer: the lab <root@localhost>
Description: stand-in
"""
_ARCHIVE, _SOURCE = "/srv/toolkit", "/etc/apt/sources.list.d/toolkit.list"


def without_cdi(machine: Machine) -> None:
    """Let an engine that is not there yet be one that hands out no devices unless it is told to."""
    machine.run("mkdir", "--parents", "/etc/docker")
    machine.write("/etc/docker/daemon.json", '{"features": {"cdi": false}, "log-level": "warn"}\n')


def give_gpus(machine: Machine) -> None:
    """Give a machine its devices, until it is switched off, with a driver; the toolkit can be had."""
    made = "; ".join(f"mknod --mode 666 /dev/dap-gpu{number} c 1 5" for number in NAMES)
    machine.run("sh", "-ec", f"mkdir --parents {_ARCHIVE}/package/DEBIAN {_ARCHIVE}/package/usr/bin; {made}")
    plug_in(machine, NAMES)
    use_gpus(machine, "0")
    machine.write(_TOOL, _DRIVER, 0o755)
    machine.write(f"{_ARCHIVE}/package/DEBIAN/control", _CONTROL)
    machine.write(f"{_ARCHIVE}/package/usr/bin/nvidia-ctk", _TOOLKIT, 0o755)
    machine.run("dpkg-deb", "--build", f"{_ARCHIVE}/package", f"{_ARCHIVE}/toolkit.deb")
    size = machine.run("stat", "--format", "%s", f"{_ARCHIVE}/toolkit.deb").strip()
    digest = machine.run("sha256sum", f"{_ARCHIVE}/toolkit.deb").split()[0]
    entry = f"{_CONTROL}Filename: ./toolkit.deb\nSize: {size}\nSHA256: {digest}\n"
    machine.write(f"{_ARCHIVE}/Packages", entry)
    machine.write(_SOURCE, f"deb [trusted=yes] file:{_ARCHIVE} ./\n")


def take_gpus(machine: Machine) -> None:
    """Leave the machine without driver, toolkit and spec."""
    machine.run("dpkg", "--purge", "nvidia-container-toolkit")
    machine.run("rm", "--recursive", SPEC, _ARCHIVE, _SOURCE, _LISTED, _USE, _TOOL)


def plug_in(machine: Machine, gpus: Collection[int]) -> None:
    """Let the machine have just these GPUs, as its driver sees it."""
    machine.write(_LISTED, "".join(f"{number}\n" for number in gpus))


def use_gpus(machine: Machine, use: str) -> None:
    """Let the driver say this of what a GPU has calculated; it may also be that it hangs."""
    machine.write(_USE, f"{use}\n")


def write_spec(machine: Machine) -> None:
    """Write the spec anew, as an operator is told to."""
    machine.run("nvidia-ctk", "cdi", "generate", f"--output={SPEC}")
