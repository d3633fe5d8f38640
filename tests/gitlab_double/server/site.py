"""The double's place: where it keeps what, and under which names it is reached."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

VERSION = "19.4.1"
REVISION = "0a1b2c3d4e5"


@dataclass(frozen=True)
class Site:
    """Taken from the rendered ``gitlab.rb``, less all that is secret."""

    data: Path
    external_url: str
    registry_url: str
    ssh_port: int = 22
    listen_port: int = 80

    @property
    def host(self) -> str:
        return urlsplit(self.external_url).hostname or ""

    @property
    def registry_host(self) -> str:
        return urlsplit(self.registry_url).hostname or ""

    @property
    def registry_address(self) -> str:
        """Host and port as image names begin."""
        return urlsplit(self.registry_url).netloc

    @property
    def repositories(self) -> Path:
        return self.data / "git-data"

    @property
    def state(self) -> Path:
        """What the double itself keeps, in a folder of the user that it runs as."""
        return self.data / "double"

    @property
    def database(self) -> Path:
        return self.state / "double.sqlite3"

    def write(self) -> None:
        texts = {key: str(value) if key == "data" else value for key, value in asdict(self).items()}
        self.state.mkdir(exist_ok=True)
        (self.state / "site.json").write_text(json.dumps(texts), encoding="utf-8")

    @classmethod
    def read(cls, data: Path) -> Site:
        values = json.loads((data / "double" / "site.json").read_text(encoding="utf-8"))
        return cls(**values | {"data": data})

    @classmethod
    def configured(cls, data: Path) -> Site:
        """As ``gitlab-ctl reconfigure`` found it in ``gitlab.rb``."""
        settings = json.loads((data / "configuration.json").read_text(encoding="utf-8"))
        rails = settings["gitlab_rails"]
        return cls(
            data=data,
            external_url=settings["external_url"].rstrip("/"),
            registry_url=settings["registry_external_url"].rstrip("/"),
            ssh_port=rails.get("gitlab_shell_ssh_port", 22),
            listen_port=rails["nginx"]["listen_port"],
        )
