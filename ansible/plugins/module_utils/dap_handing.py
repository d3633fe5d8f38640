"""Handing images on from one host to the others through the platform's own registry."""

from __future__ import annotations

import base64
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .dap_build import BuildError, normal_tag, remove_old, run_patiently, said_every_second
from .dap_docker import DockerError, Progress, Run, elapsed, tail

# Images for data science have some gigabytes; over a slow line that takes its time.
SECONDS = 3600
# Tags of each image that stay on the host.
KEEP = 2


@dataclass(frozen=True)
class Handed:
    """An image that goes from one host to others.

    Attributes:
        name: its log is named after it.
        reference: what it is called on the hosts.
        source: what it is called in the registry.
    """

    name: str
    reference: str
    source: str


@dataclass(frozen=True)
class Login:
    """The account at the registry that images go through."""

    registry: str
    user: str
    password: str


@contextlib.contextmanager
def logged_in(login: Login) -> Iterator[Path]:
    """A folder for ``docker --config`` with a login, which is gone afterwards; nothing is in argv."""
    with tempfile.TemporaryDirectory(prefix="dap-login-") as folder:
        secret = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
        # The folder is its owner's alone, and so is all that is in it.
        Path(folder, "config.json").write_text(
            json.dumps({"auths": {login.registry: {"auth": secret}}}), encoding="utf-8"
        )
        yield Path(folder)


@dataclass(frozen=True)
class Handing:
    """One host's part: bringing images into the registry, or fetching them from there.

    Attributes:
        logs: folder for a log of each image.
        run: runs Docker.
        pauses: seconds to wait before each further try when the network failed.
    """

    login: Login
    logs: Path
    run: Run
    pauses: Sequence[float]

    def lacking(self, images: Sequence[Handed]) -> list[Handed]:
        """Those of the images that are not on this host."""
        listed = self.run(["image", "ls", "--format", "{{.Repository}}:{{.Tag}}"])
        if listed.returncode:
            raise DockerError(f"the images cannot be listed: {listed.last_words}")
        present = set(listed.stdout.split())
        return [image for image in images if normal_tag(image.reference) not in present]

    def push(self, images: Sequence[Handed], progress: Progress) -> None:
        """Bring images of this host into the registry; what is there already is not sent again.

        Raises:
            BuildError: one cannot be brought there.
        """
        with logged_in(self.login) as config:
            for image in images:
                self._tag(image.reference, image.source)
                try:
                    self._transfer("push", image, config, progress)
                finally:
                    self.run(["image", "rm", image.source])

    def pull(self, images: Sequence[Handed], progress: Progress) -> None:
        """Fetch images from the registry, and give them the names that they have on every host.

        Raises:
            BuildError: one cannot be fetched.
        """
        with logged_in(self.login) as config:
            for image in images:
                self._transfer("pull", image, config, progress)
                self._tag(image.source, image.reference)
                # Only the name goes; what it stands for has another one now.
                self.run(["image", "rm", image.source])
                remove_old(image.name, image.reference, KEEP, self.run)

    def _tag(self, there: str, new: str) -> None:
        tagged = self.run(["tag", there, new])
        if tagged.returncode:
            raise BuildError(f"image {there} cannot be named {new}: {tagged.last_words}")

    def _transfer(self, action: str, image: Handed, config: Path, progress: Progress) -> None:
        log, started = self.logs / f"{action}-{image.name}.log", time.monotonic()
        doing = {"push": f"handing {image.reference} on", "pull": f"fetching {image.reference}"}[action]
        with said_every_second(progress, lambda: f"{doing}: {elapsed(started)}"):
            argv = ["docker", "--config", str(config), action, image.source]
            if run_patiently(argv, log, timeout=SECONDS, pauses=self.pauses):
                said = (tail(log, 1) or ["it said nothing"])[0].strip()
                failed = {"push": "be brought to", "pull": "be fetched from"}[action]
                raise BuildError(
                    f"image {image.reference} cannot {failed} the platform's registry"
                    f" {self.login.registry}: {said}\n  log: {log}"
                )
