"""Making a bundle on the machine that the program runs on."""

from __future__ import annotations

import subprocess
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from dap.bundle import saved, wheels
from dap.bundle.archive import Bundle, Writer, read_in_chunks
from dap.bundle.supply import PACKAGES
from dap.configuration.inventory import Host
from dap.deployment import watched
from dap.deployment.outcome import open_log
from dap.deployment.preflight import facts_of
from dap.deployment.progress import Progress
from dap.errors import DapError, Problems
from dap.files import replaced, required, temporary_folder
from dap.hosts import playbook_variables
from dap.hosts.ansible import Run
from dap.images.builds import Images
from dap.images.making import images_of, make_images
from dap.layout import cache_dir, shown
from dap.services import choices
from dap.site import Site

HERE = Host("localhost", frozenset({"service_host"}), {"ansible_connection": "local"})
_PLAN = {"service_host": {"hosts": {HERE.name: dict(HERE.variables)}}}


@dataclass
class Creation:
    """A run of ``dap bundle create``.

    Attributes:
        releases: whose packages the bundle has; that of this machine if empty.
        left_out: services whose images it does not have, and why.
    """

    site: Site
    path: Path
    releases: Sequence[str]
    progress: Progress
    left_out: dict[str, str] = field(default_factory=dict)
    log: Path = Path()

    def run(self) -> Bundle:
        """Make the bundle; the file is there when it is whole.

        Raises:
            DapError: an image or a package cannot be had, or there is no room.
        """
        self.log = open_log(self.site.inventory.name, "bundle")
        with replaced(self.path) as file, temporary_folder(self.log.parent) as folder:
            hosts_file = folder / "hosts.yml"
            hosts_file.write_text(yaml.safe_dump(_PLAN), encoding="utf-8")
            here = replace(self.site.inventory, hosts=(HERE,), hosts_file=hosts_file)
            self.site = replace(self.site, inventory=here)
            references = self._make_images()
            made = self._fetch_packages(folder)
            found = self._fetch_wheels(made)
            with self.progress.step("Bundle"):
                self._write(file, references, made, folder / PACKAGES, found)
        return Bundle.in_file(self.path)

    @property
    def _root(self) -> Path:
        """Where the logs of builds stay: this machine need not be a host of the platform.

        Not beside the secrets: it is root's, and open.
        """
        return cache_dir() / saved.FOLDER

    def _play(self, playbook: str, variables: dict[str, Any]) -> Run:
        own = playbook_variables.of_platform(self.site) | {"root": str(self._root)} | variables
        return watched.play(playbook, self.site.inventory, own, self.progress, log=self.log)

    def _make_images(self) -> list[str]:
        """Have all images on this machine's engine; what they are called."""
        problems = Problems()
        with self.progress.step("Images to be had"):
            self._leave_out(images_of(self.site), problems)
            problems.refuse()
        every = images_of(self.site)
        make_images(
            self.site, every.builds, self.progress, log=self.log, fetched=every.pulls, root=self._root
        )
        names = [*(build.tag for build in every.builds), *(pull.reference for pull in every.pulls)]
        return list(dict.fromkeys(names))

    def _leave_out(self, every: Images, problems: Problems) -> None:
        """Leave out services that may be left out, and whose images no registry has."""
        platform = self.site.platform
        wanted = {
            **{"ports": [], "memory_required_mib": 0, "disk_required_gib": 0},
            "images": playbook_variables.of_pulls(self.site, every.pulls),
        }
        authorities = [
            required(self.site.inventory.resolve(path)).decode() for path in platform.trust.extra_cas
        ]
        run = self._play("preflight", {"hosts": {HERE.name: wanted}, "ca_certificates": authorities})
        lacking = facts_of(run)[HERE.name].images
        file = shown(self.site.inventory.platform_file)
        for pull in every.pulls:
            reason = lacking.get(pull.name, "")
            if "@" in pull.reference:
                reason = "what is named by its digest loses that name in a file; name it by a tag"
            for service in sorted(pull.users) if reason else ():
                if choices.choice(self.site.services[service], platform.services) == "auto":
                    self.left_out[service] = f"its image {pull.reference} cannot be had: {reason}"
                else:
                    problems.add(
                        f"{file}: services.{service} = {pull.reference}\n    cannot be put into a bundle:"
                        f" {reason}\n    correct that, or write services.{service}.enabled: false"
                    )
        with problems.gathered():
            self.site = self.site.without(self.left_out)

    def _fetch_packages(self, folder: Path) -> dict[str, Any]:
        """Have the packages below ``folder``; as the module ``dap_repository`` tells."""
        # The other folder of logs is root's.
        root = cache_dir() / PACKAGES
        variables = {
            "root": str(root),
            "packages": str(folder / PACKAGES),
            "kept": str(cache_dir() / PACKAGES),
            "logs": str(root / "log"),
            "releases": list(self.releases),
        }
        with self.progress.step("Packages"):
            run = self._play("bundle", variables)
        return dict(next(iter(run.results.values())))

    def _fetch_wheels(self, made: Mapping[str, Any]) -> list[Path]:
        environment = playbook_variables.of_platform(self.site)["build_environment"]
        with self.progress.step("Wheels"):
            return [
                path
                for release in made["releases"]
                for path in wheels.download(
                    cache_dir() / wheels.FOLDER, release, made["architecture"], environment, self.log
                )
            ]

    def _write(
        self,
        file: BinaryIO,
        references: Sequence[str],
        made: Mapping[str, Any],
        folder: Path,
        found: Sequence[Path],
    ) -> None:
        """Write the bundle.

        Args:
            folder: the packages, by release.
            found: the wheels.
        """
        writer = Writer(file)
        for path in found:
            _add(writer, f"{wheels.FOLDER}/{path.name}", path)
        for release, packages in made["releases"].items():
            for name in packages["files"]:
                _add(writer, f"{PACKAGES}/{release}/{name}", folder / release / name)
        images = self._save(writer, references)
        writer.finish(
            {
                "created": datetime.now(UTC).isoformat(timespec="seconds"),
                "architecture": made["architecture"],
                "packages": {release: one["names"] for release, one in made["releases"].items()},
                "images": images,
            }
        )

    def _save(self, writer: Writer, references: Sequence[str]) -> dict[str, dict[str, Any]]:
        def told(count: int) -> None:
            self.progress.waiting_for(f"{len(references)} images, {count / 1e9:.1f} GB packed")

        argv = ["docker", "save", *references]
        images: dict[str, dict[str, Any]] = {}
        with (
            _ticking(self.progress),
            subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,  # noqa: S603  no shell
        ):
            assert process.stdout and process.stderr  # noqa: S101  they are pipes
            # What has stopped in the middle says so itself.
            with suppress(tarfile.ReadError):
                images = saved.keep(process.stdout, writer, told)
            words = process.stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        lacking = [one for one in references if saved.plain(one) not in images]
        if process.returncode or lacking:
            said = words[0] if words else f"it ended without {', '.join(lacking)}"
            raise DapError(
                f"docker save cannot write the images: {said}",
                "run dap as root, or as a user who may talk to the Docker engine",
                log=self.log,
            )
        return images


def _add(writer: Writer, name: str, path: Path) -> None:
    with path.open("rb") as file:
        writer.add(name, read_in_chunks(file))


@contextmanager
def _ticking(progress: Progress) -> Iterator[None]:
    """Show that time passes while the body runs."""
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(0.1):
            progress.tick()

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
