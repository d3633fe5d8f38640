"""What jobs have left on runner hosts: of a runner that was killed nobody else removes the containers."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta

from dap.configuration.inventory import Host
from dap.containers import argv_on
from dap.errors import DapError
from dap.site import Site

_LABEL = "dap.jobs"
_VOLUMES = '{{range .Mounts}}{{if eq .Type "volume"}}{{.Name}} {{end}}{{end}}'
_LIMIT_S = 120


def clean(site: Site, host: Host, age: timedelta) -> tuple[int, int]:
    """Remove the containers of jobs that are older, with what they kept their files in.

    Returns:
        How many containers and volumes have gone.

    Raises:
        DapError: the host's engine cannot be asked, or refuses.
    """
    label = f"label={_LABEL}={site.platform.platform_name}"
    listed = _docker(site, host, "ps", "--all", "--filter", label, "--format", "{{.ID}} {{.CreatedAt}}")
    limit = datetime.now(UTC) - age
    old = [line.split()[0] for line in listed.splitlines() if made_at(line.partition(" ")[2]) < limit]
    if not old:
        return 0, 0
    volumes = sorted({*_docker(site, host, "inspect", "--format", _VOLUMES, *old).split()})
    _docker(site, host, "rm", "--force", "--volumes", *old)
    if volumes:
        _docker(site, host, "volume", "rm", "--force", *volumes)
    return len(old), len(volumes)


def made_at(text: str) -> datetime:
    """The time that ``docker ps`` writes as ``2026-11-22 00:41:25 +0000 UTC``."""
    return datetime.strptime(" ".join(text.split()[:3]), "%Y-%m-%d %H:%M:%S %z")


def _docker(site: Site, host: Host, *arguments: str) -> str:
    again = f"dap -e {site.inventory.name} status"
    argv = argv_on(host, ["docker", *arguments])
    try:
        done = subprocess.run(  # noqa: S603  our own argv, no shell
            argv, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DapError(f"{host.name}: what jobs have left cannot be looked at: {error}", again) from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise DapError(f"{host.name}: what jobs have left cannot be removed: {reason}", again)
    return done.stdout
