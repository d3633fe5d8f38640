"""What jobs have left on runner hosts: their cleaner removes it by itself, and here when it is asked to."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass

from dap.configuration.inventory import Host
from dap.containers import argv_on
from dap.errors import DapError
from dap.site import Site

_CLEANER = ("python3", "-I", "/usr/local/bin/cleaner", "--once")
_LIMIT_S = 300


@dataclass(frozen=True)
class Gone:
    """How much was removed."""

    containers: int
    volumes: int
    images: int


def clean(site: Site, host: Host, hours: int) -> Gone:
    """Remove what is older: containers of jobs, their volumes, and images that were pulled for jobs.

    Raises:
        DapError: no cleaner runs anywhere, the host cannot be asked, or its engine refuses.
    """
    cleaner = next(iter(site.providers("cleaner")), None)
    if cleaner is None:
        raise DapError(
            "the service that removes what jobs have left is switched off",
            "take runner-cleaner.enabled out of services in platform.yml, then deploy",
        )
    container = f"{site.platform.platform_name}-{cleaner.name}"
    argv = argv_on(host, ["docker", "exec", container, *_CLEANER, "--hours", str(hours)])
    again = f"dap -e {site.inventory.name} status"
    try:
        done = subprocess.run(  # noqa: S603  our own argv, no shell
            argv, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DapError(f"{host.name}: what jobs have left cannot be looked at: {error}", again) from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise DapError(f"{host.name}: what jobs have left cannot be removed: {reason}", again)
    return Gone(**json.loads(done.stdout))
