"""What a host has of GPUs, as it tells itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dap.configuration.gpus import KIND

# Of a device that stands for all of its kind.
ALL = "all"
_BY_UUID = ("GPU-", "MIG-")


@dataclass(frozen=True)
class Device:
    """A device of a CDI spec.

    Attributes:
        name: kind and name.
        nodes: its files below /dev; two devices with the same are one.
        lacking: files that it needs, and that are not there.
    """

    name: str
    nodes: frozenset[str]
    lacking: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Its vendor and class."""
        return self.name.partition("=")[0]

    @property
    def stands_for_all(self) -> bool:
        """Whether it is all devices of its kind."""
        return self.name == f"{self.kind}={ALL}"

    def overlaps(self, other: Device) -> bool:
        """Whether who has one has the other, too, or a part of it."""
        if not self.nodes or not other.nodes:
            together = self.stands_for_all or other.stands_for_all
            return self.name == other.name or (together and self.kind == other.kind)
        # Parts of one GPU have its node in common, and each another one besides.
        return self.nodes <= other.nodes or other.nodes <= self.nodes


@dataclass(frozen=True)
class Found:
    """What a host has.

    Attributes:
        engine: the version of its engine; empty where none answers.
        cdi: whether that hands devices out.
        unread: specs that cannot be read, and why.
        driver: the version of NVIDIA's driver.
        complaint: what is wrong with that.
        toolkit: whether NVIDIA's toolkit is installed.
        uuids: of NVIDIA's GPUs, by index.
        held: the devices that development containers run with, by container.
    """

    engine: str
    cdi: bool
    devices: tuple[Device, ...] = ()
    unread: Mapping[str, str] = field(default_factory=dict)
    driver: str = ""
    complaint: str = ""
    toolkit: bool = False
    uuids: Mapping[str, str] = field(default_factory=dict)
    held: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Found:
        """From what the module ``dap_gpus`` says on the host."""
        devices = [
            Device(one["name"], frozenset(one["nodes"]), tuple(one["lacking"])) for one in told["devices"]
        ]
        return cls(**{**told, "devices": tuple(devices)})

    def device(self, name: str) -> Device | None:
        """The device of a name; None where there is none."""
        return next((one for one in self.devices if one.name == name), None)

    def holder(self, device: Device, other_than: str) -> str:
        """A development container that runs with a device or a part of it; empty for none.

        Args:
            other_than: one that does not count.
        """
        for name, devices in self.held.items():
            there = [self.device(one) for one in devices]
            if name != other_than and any(one and one.overlaps(device) for one in there):
                return name
        return ""

    @property
    def single(self) -> list[Device]:
        """The GPUs of the usual kind, each once: by its UUID where the spec has that."""
        of_kind = [one for one in self.devices if one.kind == KIND and not one.stands_for_all]
        groups: dict[object, list[Device]] = {}
        for one in of_kind:
            groups.setdefault(one.nodes or one.name, []).append(one)
        return [
            next((one for one in same if one.name.partition("=")[2].startswith(_BY_UUID)), same[0])
            for same in groups.values()
        ]

    def uuid(self, device: Device) -> str:
        """The UUID of a GPU; empty where it is not known."""
        same = [one.name.partition("=")[2] for one in self.devices if one.nodes and one.nodes == device.nodes]
        names = [device.name.partition("=")[2], *same]
        written = next((name for name in names if name.startswith(_BY_UUID)), "")
        return written or next((self.uuids[name] for name in names if name in self.uuids), "")
