"""``dap runner`` and ``dap pipeline``: what runs the jobs of GitLab, and running some."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dap.gitlab.api import GitlabApi
    from dap.gitlab.ci import KnownRunner
    from dap.site import Site

names_argument = click.argument("names", nargs=-1, required=True, metavar="RUNNER...")


@click.group()
def runner() -> None:
    """What runs the jobs of GitLab's pipelines.

    A RUNNER is `<host>/<name>` as `dap runner list` shows it, or a host for all that are there.
    """


@runner.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def runner_list(inventory: str, as_json: bool) -> None:
    """Show the platform's runners, whether GitLab hears from them, and how many jobs they run."""
    from dap import summary
    from dap.gitlab.ci import known_runners

    with _gitlab(inventory) as (site, api):
        found = known_runners(site, api)
    if as_json:
        click.echo(json.dumps([one.as_json() for one in found], indent=2))
    else:
        click.echo(summary.of_runners(found))


@runner.command("pause")
@names_argument
@click.pass_obj
def runner_pause(inventory: str, names: Sequence[str]) -> None:
    """Let runners take no new jobs; those that run go on."""
    from dap.gitlab import ci

    with _chosen(inventory, names) as (api, runners):
        ci.pause(api, runners, True)
    _tell("paused", runners)


@runner.command("resume")
@names_argument
@click.pass_obj
def runner_resume(inventory: str, names: Sequence[str]) -> None:
    """Let paused runners take jobs again."""
    from dap.gitlab import ci

    with _chosen(inventory, names) as (api, runners):
        ci.pause(api, runners, False)
    _tell("takes jobs", runners)


@runner.command("drain")
@names_argument
@click.option("--limit", default=3600, show_default=True, help="Seconds to wait at most.")
@click.pass_obj
def runner_drain(inventory: str, names: Sequence[str], limit: int) -> None:
    """Pause runners and wait until their jobs have ended, for work on their hosts."""
    from dap.gitlab import ci

    with _chosen(inventory, names) as (api, runners):
        ci.drain(api, runners, limit, lambda text: click.echo(text, err=True))
    _tell("paused, no jobs", runners)


@runner.command("remove")
@names_argument
@click.pass_obj
def runner_remove(inventory: str, names: Sequence[str]) -> None:
    """Remove runners from GitLab, such as those of a host that is broken.

    The next deploy makes them anew, unless their host or their entry in the configuration is gone.
    """
    from dap.gitlab import ci

    with _chosen(inventory, names) as (api, runners):
        ci.remove(api, runners)
    _tell("removed", runners)


@runner.command("clean")
@click.option("--hours", default=24, show_default=True, help="Age from which on something is left over.")
@click.pass_obj
def runner_clean(inventory: str, hours: int) -> None:
    """Remove what jobs have left on the runner hosts, before it is old enough to go by itself.

    Containers and volumes of jobs that are over, such as those of a runner that was killed, and images that
    were pulled for jobs. A job that runs, and has not exceeded its time, is let run.
    """
    from dap.gitlab.leftovers import clean
    from dap.site import load_site

    site = load_site(inventory)
    for host in site.inventory.runner_hosts:
        gone = clean(site, host, hours)
        kinds = f"{gone.containers} containers, {gone.volumes} volumes and {gone.images} images"
        click.echo(f"{host.name}: {kinds} removed")


@click.group()
def pipeline() -> None:
    """Pipelines of GitLab's projects."""


@pipeline.command("run")
@click.argument("project")
@click.option("--ref", default="", metavar="BRANCH", help="Branch or tag; the default branch without it.")
@click.pass_obj
def pipeline_run(inventory: str, project: str, ref: str) -> None:
    """Start a pipeline of PROJECT (`group/name`), follow its jobs, and end as it ends.

    Exit code 0 if it succeeds, 1 if it fails. Interrupting this does not end the pipeline.
    """
    from dap.gitlab import ci

    with _gitlab(inventory) as (_, api):
        started = ci.start(api, project, ref)
        click.echo(f"{started.url}", err=True)
        state = ""
        for line in ci.follow(api, started):
            if state:
                click.echo(state)
            state = line
    click.echo(f"pipeline: {state}")
    if state != "success":
        sys.exit(1)


@contextmanager
def _gitlab(inventory: str) -> Iterator[tuple[Site, GitlabApi]]:
    from dap.gitlab.api import GitlabApi
    from dap.site import load_site
    from dap.status import place_of

    site = load_site(inventory)
    with GitlabApi(place_of(site)) as api:
        yield site, api


@contextmanager
def _chosen(inventory: str, names: Sequence[str]) -> Iterator[tuple[GitlabApi, list[KnownRunner]]]:
    from dap.gitlab import ci

    with _gitlab(inventory) as (site, api):
        yield api, ci.chosen(site, ci.known_runners(site, api), names)


def _tell(what: str, runners: Sequence[KnownRunner]) -> None:
    for one in runners:
        click.echo(f"{one.name}: {what}")
