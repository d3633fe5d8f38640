"""Inventories for the tests of their checks, and the recorded refusals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dap.configuration.inventory import Inventory, load_inventory

SERVICES = ("mlflow", "minio", "nginx-proxy", "pgadmin", "portal", "postgres-data", "postgres-service")
PLATFORM_FILE = "inventories/site/group_vars/all/platform.yml"
HOSTS_FILE = "inventories/site/hosts.yml"
GOOD_PLATFORM = "domain: dap.example.com\n"
GOOD_HOSTS = "all: {children: {service_host: {hosts: {localhost: {ansible_connection: local}}}}}\n"
WHOLE_FILE = "(whole file)"


@dataclass(frozen=True)
class InventoryFolder:
    """An inventory `site` below the current folder; files with None as content are left out."""

    root: Path

    @property
    def site(self) -> Path:
        return self.root / "inventories" / "site"

    def write(self, platform: str | None = GOOD_PLATFORM, hosts: str | None = GOOD_HOSTS) -> None:
        for name, content in ((PLATFORM_FILE, platform), (HOSTS_FILE, hosts)):
            file = self.root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                file.write_text(content, encoding="utf-8")

    def load(self, platform: str | None = GOOD_PLATFORM, hosts: str | None = GOOD_HOSTS) -> Inventory:
        self.write(platform, hosts)
        return load_inventory("site", SERVICES)


@dataclass(frozen=True)
class Refusal:
    """A recorded case: what is written and the finding it ends in."""

    written: str
    place: str
    reason: str
    suggestion: str

    def message(self, file: str) -> str:
        """The whole text of the error."""
        return whole_message((f"{file}{self.place}", self.reason, self.suggestion))


def whole_message(*findings: tuple[str, str, str]) -> str:
    """The whole text of an error with these findings: file with place and value, reason, suggestion."""
    count = f"{len(findings)} error{'' if len(findings) == 1 else 's'}"
    told = [f"  {place}\n    {reason}\n    {suggestion}" for place, reason, suggestion in findings]
    return "\n".join([f"{count} in the configuration; nothing was changed:", *told])


def recorded(name: str) -> list[Refusal]:
    """The cases of a file in the folder `refusals`."""
    text = (Path(__file__).parent / "refusals" / name).read_text(encoding="utf-8")
    return [_refusal(block) for block in text.split("\n\n") if block.startswith(">")]


def _refusal(block: str) -> Refusal:
    lines = block.rstrip("\n").split("\n")
    written = "".join(f"{line[2:]}\n" for line in lines if line.startswith(">"))
    place, reason, suggestion = (line.strip() for line in lines if not line.startswith(">"))
    return Refusal(written, "" if place == WHOLE_FILE else f": {place}", reason, suggestion)
