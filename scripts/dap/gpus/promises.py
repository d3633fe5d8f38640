"""Which GPUs are promised to whom: those that are named, those of before, or else the next free ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dap.configuration.gpus import KIND, full_name
from dap.configuration.wording import Wording
from dap.deployment import records
from dap.errors import Finding
from dap.gpus.claims import Claim, claims_of, twice
from dap.gpus.found import Device, Found
from dap.layout import shown
from dap.site import Site

_FILE = "gpus.json"
_NEWEST_WITHOUT_CDI = 24
_WRITE_SPEC = "sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
_PAGE = "see docs/how-to/use-gpus.md"


def recall(site: Site) -> dict[str, tuple[str, ...]]:
    """What was promised, by the key of each claim: in this run, else in an earlier one."""
    if site.gpus is not None:
        return dict(site.gpus)
    known = records.recall(site.inventory.name, _FILE)
    return {key: tuple(devices.split(",")) for key, devices in known.items()}


def remember(site: Site) -> None:
    """Keep what is promised."""
    if site.gpus is not None:
        entries = {key: ",".join(devices) for key, devices in site.gpus.items()}
        records.remember(site.inventory.name, _FILE, entries)


def of_key(site: Site, key: str, wanted: int | tuple[str, ...]) -> tuple[str, ...]:
    """The devices, by their CDI names, that a claim is promised; none where that is not known yet.

    Args:
        key: of the claim.
        wanted: as it is written.
    """
    if isinstance(wanted, int):
        return recall(site).get(key, ())
    return tuple(dict.fromkeys(map(full_name, wanted)))


def settle(site: Site, found: Mapping[str, Found]) -> tuple[Site, dict[str, list[Finding]]]:
    """The site in which every claim on these hosts has its devices, and what cannot be promised, by claim.

    Args:
        found: what hosts have; others keep what they were promised.
    """
    claims, known = claims_of(site), recall(site)
    given = {claim.key: known[claim.key] for claim in claims if claim.key in known}
    findings: dict[str, list[Finding]] = {}
    for host, has in found.items():
        promises = _Promises(site, has, known)
        promised = promises.of([claim for claim in claims if claim.host == host])
        given |= {key: devices for key, devices in promised.items() if key not in promises.findings}
        findings |= promises.findings
    return replace(site, gpus=given), findings


def unusable(host: str, kind: str, found: Found) -> Wording | None:
    """Why a host gives nobody a device of a kind, and what to do about it; None where it does."""
    major = found.engine.partition(".")[0]
    if major.isdigit() and int(major) <= _NEWEST_WITHOUT_CDI:
        return Wording(
            f"{host} has Docker {found.engine}, and containers get devices by CDI, which that does not know",
            f"upgrade Docker on {host} to 25 or newer, or name another host",
        )
    if any(device.kind == kind for device in found.devices):
        return _driver_trouble(host, found.complaint) if kind == KIND and found.complaint else None
    for path, why in found.unread.items():
        return Wording(f"{path} on {host} cannot be read: {why}", f"write it anew there: {_WRITE_SPEC}")
    reason = f"no CDI spec on {host} names any {kind}"
    if kind != KIND:
        return Wording(reason, "put the spec of its vendor into /etc/cdi there")
    if not found.driver:
        return Wording(reason, f"install NVIDIA's driver and container toolkit there: {_PAGE}")
    if not found.toolkit:
        return Wording(
            reason, f"write gpus.prepare: true, or install NVIDIA's container toolkit there: {_PAGE}"
        )
    return Wording(reason, f"write one there: {_WRITE_SPEC}")


def _driver_trouble(host: str, complaint: str) -> Wording:
    reason = f"NVIDIA's driver does not work on {host}: {complaint}"
    if "mismatch" in complaint:
        return Wording(reason, f"reboot {host}: its driver was updated after it had been loaded")
    return Wording(reason, "see to the driver there until nvidia-smi is content")


@dataclass
class _Promises:
    """What is promised of one host."""

    site: Site
    found: Found
    known: Mapping[str, tuple[str, ...]]
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    taken: list[tuple[Claim, Device]] = field(default_factory=list)

    def of(self, claims: Sequence[Claim]) -> dict[str, tuple[str, ...]]:
        """The devices of each claim; of one that cannot have them nothing."""
        usable = [claim for claim in claims if self._is_usable(claim)]
        given: dict[str, list[Device]] = {}
        # What somebody has stays with them, and what is named is not given to who just wants any.
        counted = [claim for claim in usable if isinstance(claim.wanted, int)]
        for claim in counted:
            if devices := self._as_before(claim):
                given[claim.key] = devices
        for claim in usable:
            if isinstance(claim.wanted, tuple):
                given[claim.key] = self._named(claim, claim.wanted)
        for claim in counted:
            if claim.key not in given:
                given[claim.key] = self._free(claim, claim.wanted)  # type: ignore[arg-type]
        return {key: tuple(device.name for device in devices) for key, devices in given.items()}

    def _is_usable(self, claim: Claim) -> bool:
        names = claim.wanted if isinstance(claim.wanted, tuple) else (f"{KIND}=",)
        for kind in dict.fromkeys(name.partition("=")[0] for name in names):
            if trouble := unusable(claim.host, kind, self.found):
                self._refuse(claim, self._written(claim), trouble.reason, trouble.suggestion)
                return False
        return True

    @staticmethod
    def _written(claim: Claim) -> str:
        wanted = claim.wanted
        return str(wanted) if isinstance(wanted, int) else ", ".join(map(claim.written_as, wanted))

    def _refuse(self, claim: Claim, value: str, reason: str, suggestion: str) -> None:
        file = shown(self.site.inventory.platform_file)
        self._note(claim, Finding(file, f"{claim.where}.gpus", value, reason, suggestion))

    def _refuse_lacking(self, claim: Claim, value: str, device: Device) -> None:
        reason = f"{device.name} needs {device.lacking[0]}, which {claim.host} does not have"
        advice = f"load its driver there; or write the spec anew: {_WRITE_SPEC}"
        self._refuse(claim, value, reason, advice)

    def _note(self, claim: Claim, finding: Finding) -> None:
        self.findings.setdefault(claim.key, []).append(finding)

    def _take(self, claim: Claim, devices: Iterable[Device]) -> list[Device]:
        listed = list(devices)
        self.taken += [(claim, device) for device in listed]
        return listed

    def _owner(self, claim: Claim, device: Device) -> Claim | None:
        """Who has a device, or a part of it, that does not share it with a claim."""
        return next(
            (
                other
                for other, held in self.taken
                if held.overlaps(device) and (other is claim or not (other.shared and claim.shared))
            ),
            None,
        )

    def _holder(self, claim: Claim, device: Device) -> str:
        """The development container that a device would be taken from while it runs; empty for none."""
        name = "" if claim.shared or not claim.at_once else self.found.holder(device, claim.key)
        # One that is no longer configured goes in the same deploy.
        return name if any(box.name == name for box in self.site.dev_containers) else ""

    def _as_before(self, claim: Claim) -> list[Device]:
        before = [self.found.device(name) for name in self.known.get(claim.key, ())]
        devices = [one for one in before if one and not one.lacking and not self._owner(claim, one)]
        return self._take(claim, devices) if len(devices) == len(before) == claim.wanted else []

    def _named(self, claim: Claim, names: Sequence[str]) -> list[Device]:
        devices = []
        for name in names:
            device = self.found.device(name)
            written = claim.written_as(name)
            if device is None:
                kind = name.partition("=")[0]
                there = [claim.written_as(one.name) for one in self.found.devices if one.kind == kind]
                advice = (
                    f"write one of: {', '.join(there)}; or, where it is there, the spec anew: {_WRITE_SPEC}"
                )
                self._refuse(claim, written, f"is not a device of {claim.host}", advice)
            elif device.lacking:
                self._refuse_lacking(claim, written, device)
            elif (owner := self._owner(claim, device)) and owner is not claim:
                self._note(claim, twice(self.site, claim, name, owner))
            elif name := self._holder(claim, device):
                reason = f"is still that of {name}, which runs with it on {claim.host}"
                again = f"dap -e {self.site.inventory.name} dev recreate {name}"
                advice = f"run {again}, or write a different device"
                self._refuse(claim, written, reason, advice)
            elif owner is None:
                devices.append(device)
                self.taken.append((claim, device))
        return devices

    def _free(self, claim: Claim, count: int) -> list[Device]:
        def users(device: Device) -> int:
            running = bool(self.found.holder(device, claim.key))
            return running + sum(held.overlaps(device) for _, held in self.taken)

        whole = [one for one in self.found.single if not one.lacking]
        chosen: list[Device] = []
        for device in sorted(whole, key=users):
            usable = not self._owner(claim, device) and not self._holder(claim, device)
            if len(chosen) < count and usable:
                chosen += self._take(claim, [device])
        broken = [one for one in self.found.single if one.lacking]
        if len(chosen) < count <= len(chosen) + len(broken):
            self._refuse_lacking(claim, str(count), broken[0])
        elif len(chosen) < count:
            every, free = len(self.found.single), len(chosen)
            reason = f"is more than the {free} that nobody else is promised, of the {every} of {claim.host}"
            advice = "write fewer, gpus_shared: true at all who are to share, or another host"
            self._refuse(claim, str(count), reason, advice)
        return chosen
