"""What a host tells of its GPUs, and how its engine is let hand them out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from module_utils import dap_gpus
from module_utils.dap_gpus import SpecError, driver_version, found_in, parsed, uuids_of
from tests.unit.platforms import executable
from tests.unit.plugins import FakeDocker, load, run_module

dap_cdi = load("modules.dap_cdi")
# As NVIDIA's tool writes it, with less of it.
SPEC = """\
---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: {folder}/nvidiactl
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - args:
    - nvidia-cdi-hook
    - create-symlinks
    - --link
    - ../libnvidia-allocator.so.1::/usr/lib/gbm/nvidia-drm_gbm.so
    hookName: createContainer
    path: {folder}/nvidia-cdi-hook
  mounts:
  - containerPath: /usr/lib/libcuda.so.550.54
    hostPath: {folder}/libcuda.so.550.54
    options:
    - ro
    - nosuid
devices:
- containerEdits:
    deviceNodes:
    - path: {folder}/nvidia0
    - hostPath: {folder}/card1
      path: /dev/dri/card0
  name: "0"
- containerEdits:
    deviceNodes: # both
    - path: {folder}/nvidia0
  name: GPU-8f2c
- name: 'all'
  containerEdits: {{}}
kind: nvidia.com/gpu
"""
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A host's files, all of which are there that the spec names."""
    for name in ("nvidiactl", "nvidia-cdi-hook", "libcuda.so.550.54", "nvidia0", "card1"):
        (tmp_path / name).touch()
    (tmp_path / "nvidia.yaml").write_text(SPEC.format(folder=tmp_path), encoding="utf-8")
    return tmp_path


def test_devices_are_read_from_a_spec_with_the_nodes_of_each(folder: Path) -> None:
    devices, unread = found_in([folder / "nvidia.yaml"])
    assert unread == {}
    assert devices == [
        {"name": f"nvidia.com/gpu={name}", "nodes": [f"{folder}/{node}" for node in nodes], "lacking": []}
        for name, nodes in (("0", ["nvidia0", "card1"]), ("GPU-8f2c", ["nvidia0"]), ("all", []))
    ]


@pytest.mark.parametrize("name", ["nvidiactl", "nvidia-cdi-hook", "libcuda.so.550.54"])
def test_what_the_driver_or_the_toolkit_no_longer_has_is_lacking_for_all(folder: Path, name: str) -> None:
    (folder / name).unlink()
    devices, _ = found_in([folder / "nvidia.yaml"])
    assert [device["lacking"] for device in devices] == [[f"{folder}/{name}"]] * 3


def test_gpu_whose_node_is_gone_lacks_it_and_the_others_do_not(folder: Path) -> None:
    (folder / "card1").unlink()
    devices, _ = found_in([folder / "nvidia.yaml"])
    assert [device["lacking"] for device in devices] == [[f"{folder}/card1"], [], []]


def test_spec_as_json_is_read_and_one_that_is_none_is_told(folder: Path) -> None:
    (folder / "b.json").write_text('{"kind": "acme.com/fpga", "devices": [{"name": "x"}]}')
    broken = {"c.json": "[]", "d.yaml": "kind: [a, {b: c}]\n", "e.yaml": "devices:\n- name: a\n"}
    for name, text in broken.items():
        (folder / name).write_text(text)
    files = dap_gpus.spec_files([str(folder), str(folder / "none")])
    devices, unread = found_in(files)
    assert [device["name"] for device in devices][-1] == "nvidia.com/gpu=all"
    assert devices[0]["name"] == "acme.com/fpga=x"
    assert unread == {
        f"{folder}/c.json": "it is no CDI spec",
        f"{folder}/d.yaml": "line 1 is not written as specs are",
        f"{folder}/e.yaml": "it is no CDI spec",
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        (
            "a: 1\nb:\n  c: x y\n  d:\n  - 1\n  -\n    e: f\n",
            {"a": "1", "b": {"c": "x y", "d": ["1", {"e": "f"}]}},
        ),
        ("a:\n- b: 1\n  c:\n    - 2\n- d\n", {"a": [{"b": "1", "c": ["2"]}, "d"]}),
        (
            "'a b': \"c: #\\t\" \nd: 'it''s'\ne: [x, y]\nf: []\n",
            {"a b": "c: #\t", "d": "it's", "e": ["x", "y"], "f": []},
        ),
        ("# one\na: b # two\nc:\n", {"a": "b", "c": ""}),
        ("- A=b:c\n- --d\n", ["A=b:c", "--d"]),
    ],
)
def test_yaml_is_read_as_far_as_specs_have_it(text: str, value: Any) -> None:
    assert parsed(text) == value


@pytest.mark.parametrize(
    "text", ["a: {b: c}\n", "a: |\n  b\n", "a: &b c\n", "a\n", "a: b\n  c: d\n", 'a: "b\n', "a: !b c\n"]
)
def test_yaml_that_specs_do_not_have_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match=r"^line \d is not written as specs are$"):
        parsed(text)


def test_versions_and_uuids_are_read_from_what_the_driver_says() -> None:
    told = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6\nGCC version:  12.2.0\n"
    opened = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.90.07  Release Build\n"
    assert [driver_version(text) for text in (told, opened, "")] == ["535.54.03", "550.90.07", ""]
    listed = (
        "GPU 0: NVIDIA A100 (UUID: GPU-8f2c)\n  MIG 1g.5gb Device 0: (UUID: MIG-1)\n"
        "GPU 1: NVIDIA A100 (UUID: GPU-77)\n"
    )
    assert uuids_of(listed) == {"0": "GPU-8f2c", "1": "GPU-77"}


@pytest.fixture
def docker(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker(folder / "bin")
    monkeypatch.setenv("PATH", f"{fake.folder}:/usr/bin:/bin")
    monkeypatch.setattr(dap_gpus, "SEARCH_PATH", "")
    monkeypatch.setattr(dap_gpus, "FOLDERS", (str(folder),))
    fake.answer("ps *")
    fake.answer("info *", json.dumps({"ServerVersion": "26.1.5", "CDISpecDirs": []}))
    return fake


def test_host_tells_of_engine_driver_and_toolkit(docker: FakeDocker, folder: Path) -> None:
    told = dap_gpus.answer({})["gpus"]
    assert {key: told[key] for key in ("engine", "cdi", "driver", "complaint", "toolkit", "uuids")} == {
        **{"engine": "26.1.5", "cdi": False, "driver": "", "complaint": "", "toolkit": False, "uuids": {}},
    }
    assert len(told["devices"]) == 3
    docker.answer("info *", json.dumps({"ServerVersion": "29.1.3", "CDISpecDirs": [str(folder / "none")]}))
    executable(folder / "bin" / "nvidia-ctk", "#!/bin/sh\n")
    executable(folder / "bin" / "nvidia-smi", f"#!/bin/sh\necho '{MISMATCH}'\nexit 18\n")
    told = dap_gpus.look()
    assert (told["cdi"], told["complaint"], told["toolkit"], told["devices"]) == (True, MISMATCH, True, [])
    executable(folder / "bin" / "nvidia-smi", "#!/bin/sh\necho 'GPU 0: NVIDIA A100 (UUID: GPU-8f2c)'\n")
    assert (dap_gpus.look()["complaint"], dap_gpus.look()["uuids"]) == ("", {"0": "GPU-8f2c"})
    docker.answer("ps *", "one\ntwo\n")
    requests = json.dumps([{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0"]}])
    docker.answer("inspect *", f'"ada-python" {requests}\n"bob-python" null\n')
    assert dap_gpus.look()["held"] == {"ada-python": ["nvidia.com/gpu=0"]}
    # Before there is an engine.
    docker.answer("info *", error="Cannot connect", status=1)
    assert [dap_gpus.look()[key] for key in ("engine", "cdi")] == ["", False]


# --- the engine ------------------------------------------------------------------------------------------


@pytest.fixture
def restarted(docker: FakeDocker, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often the engine was restarted, and the init system by which."""
    found: list[str] = []
    monkeypatch.setattr(dap_cdi, "init_system", lambda: "systemd")
    monkeypatch.setattr(dap_cdi, "restart", lambda module, init: found.append(init))
    # The modules' own copy of what modules share.
    monkeypatch.setattr(load("ansible.module_utils.dap_gpus"), "SEARCH_PATH", "")
    return found


def test_engine_that_hands_out_nothing_is_told_to_and_keeps_its_settings(
    restarted: list[str], folder: Path
) -> None:
    file = folder / "etc" / "daemon.json"
    file.parent.mkdir()
    file.write_text('{"log-level": "warn", "features": {"buildkit": true, "cdi": false}}')
    file.chmod(0o600)
    changes = [f"{file}: CDI switched on", "Docker restarted to hand out devices by CDI"]
    planned = run_module("dap_cdi", settings=str(file), check=True)
    assert (planned["changed"], planned["changed_items"], restarted) == (True, changes, [])
    assert "false" in file.read_text()
    result = run_module("dap_cdi", settings=str(file))
    assert (result["changed_items"], result["detached"], restarted) == (changes, False, ["systemd"])
    assert json.loads(file.read_text()) == {"log-level": "warn", "features": {"buildkit": True, "cdi": True}}
    assert file.stat().st_mode & 0o777 == 0o600


def test_engine_without_settings_gets_a_file_of_them(restarted: list[str], folder: Path) -> None:
    file = folder / "docker" / "daemon.json"
    assert run_module("dap_cdi", settings=str(file))["changed"]
    assert (json.loads(file.read_text()), file.stat().st_mode & 0o777) == ({"features": {"cdi": True}}, 0o644)


def test_engine_that_hands_out_devices_is_left_alone(
    docker: FakeDocker, restarted: list[str], folder: Path
) -> None:
    docker.answer("info *", json.dumps({"ServerVersion": "29.1.3", "CDISpecDirs": ["/etc/cdi"]}))
    result = run_module("dap_cdi", settings=str(folder / "daemon.json"))
    assert (result["changed"], restarted, (folder / "daemon.json").exists()) == (False, [], False)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{broken", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("[]", "it holds no settings of an engine"),
        ('{"features": 1}', "it holds no settings of an engine"),
    ],
)
def test_settings_that_are_none_stay_as_they_are(
    restarted: list[str], folder: Path, text: str, why: str
) -> None:
    file = folder / "daemon.json"
    file.write_text(text)
    result = run_module("dap_cdi", settings=str(file))
    assert (result["failed"], result["msg"], restarted) == (
        True,
        f"CDI cannot be switched on in {file}: {why}. Correct that file",
        [],
    )
    assert file.read_text() == text
