"""What a host lacks to trust a platform's certificate authorities; shared by those who look and who do."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .dap_certificates import strays, untrusted, wanted_files
from .dap_probe import text_of

FOLDER = Path("/usr/local/share/ca-certificates")
STORE = Path("/etc/ssl/certs")
REGISTRIES = Path("/etc/docker/certs.d")


@dataclass(frozen=True)
class Plan:
    """What is to be done in a folder: files to write, by name, and names of files to remove."""

    folder: Path
    new: dict[str, str]
    removed: list[str]


def names_in(folder: Path) -> list[str]:
    """File names in a folder; none when it does not exist. Dangling links count."""
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


def planned(folder: Path, wanted: dict[str, str], name: str) -> Plan:
    """What a folder lacks of the ``wanted`` files, and what in it is no longer wanted."""
    new = {file: pem for file, pem in wanted.items() if text_of(str(folder / file)) != pem}
    stems = {file.rsplit(".", 1)[0] for file in wanted}
    return Plan(folder, new, strays(name, stems, names_in(folder)))


def registry_plans(folder: Path, registries: list[str], wanted: dict[str, str], name: str) -> list[Plan]:
    """The same for the folders of container registries, also of those that this platform no longer has."""
    others = [entry for entry in names_in(folder) if entry not in registries and (folder / entry).is_dir()]
    plans = [planned(folder / registry, wanted, name) for registry in registries]
    plans += [planned(folder / other, {}, name) for other in sorted(others)]
    return [plan for plan in plans if plan.new or plan.removed]


@dataclass(frozen=True)
class Lack:
    """What is to be done until a host trusts the authorities.

    Attributes:
        authorities: in the folder of the host's own authorities.
        registries: in Docker's folders, one for each registry where something is to be done.
        left_over: links in the store to authorities that are gone.
        untrusted: whether the bundle of the store lacks one.
    """

    authorities: Plan
    registries: list[Plan]
    left_over: list[str]
    untrusted: bool

    @property
    def nothing(self) -> bool:
        """Whether the host trusts them already, and no other of this platform."""
        plan = self.authorities
        return not (plan.new or plan.removed or self.registries or self.left_over or self.untrusted)


def lack_of(
    name: str,
    certificates: list[str],
    registries: list[str],
    *,
    folder: Path = FOLDER,
    store: Path = STORE,
    registry_folder: Path = REGISTRIES,
) -> Lack:
    """Compare a host with what it has to trust.

    Args:
        name: of the platform.
        certificates: PEM texts of the authorities.
        registries: container registries, as ``name:port``, that Docker has to trust by them.

    Raises:
        ValueError: one of the texts holds no certificate.
    """
    wanted = wanted_files(name, certificates)
    return Lack(
        planned(folder, wanted, name),
        registry_plans(registry_folder, registries, wanted, name),
        # What an interrupted run left undone shows in the store: a link to a removed one, or a missing one.
        planned(store, wanted, name).removed,
        bool(untrusted(text_of(str(store / "ca-certificates.crt")), wanted)),
    )
