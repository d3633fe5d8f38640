"""Making a site's images without deploying it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dap.deployment import watched
from dap.deployment.progress import Progress
from dap.files import temporary_folder, write_temporary
from dap.hosts import playbook_variables
from dap.hosts.ansible import Run
from dap.images.builds import Build, Images, Pull, pulls, resolve
from dap.site import Site


def images_of(site: Site, *, every_environment: bool = False) -> Images:
    """The images of all services that run, and of the environments that hosts run, or of all environments."""
    settings = site.platform.services
    chosen = {name: own.image for name, own in settings.items() if own.image}
    chosen |= {f"{name}.{key}": one for name, own in settings.items() for key, one in own.images.items()}
    environments = site.known_environments if every_environment else site.environments
    references, builds = resolve(site.services, chosen, site.external, environments)
    fetched = pulls(references, builds, site.platform.mirrors.registry)
    return Images(references, builds, fetched, frozenset(environments), frozenset(site.job_environments))


@contextmanager
def staged(builds: Sequence[Build], parent: Path) -> Iterator[Path]:
    """The build contexts as files, for the hosts that lack an image."""
    with temporary_folder(parent) as staging:
        for build in builds:
            write_temporary(staging / f"{build.name}.tar", build.context)
        yield staging


def make_images(
    site: Site,
    builds: Sequence[Build],
    progress: Progress,
    *,
    log: Path,
    fetched: Sequence[Pull] = (),
    root: Path | None = None,
) -> Run:
    """Build and pull images on the service host, where they are missing; with Docker, if that is missing.

    Args:
        fetched: those to pull.
        root: folder for logs there; the platform's if None.
    """
    with staged(builds, log.parent) as staging:
        own = playbook_variables.of_builds(site, builds)
        own["pulled_images"] = playbook_variables.of_pulls(site, fetched)
        variables = playbook_variables.of_platform(site) | {
            "staging": str(staging),
            "hosts": {site.inventory.service_host.name: own},
        }
        if root:
            variables["root"] = str(root)
        with progress.step("Images"):
            return watched.play("images", site.inventory, variables, progress, log=log)
