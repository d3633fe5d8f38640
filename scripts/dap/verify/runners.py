"""Whether GitLab hears from the runners."""

from __future__ import annotations

import time
from collections.abc import Iterator

from dap.gitlab.api import GitlabApi
from dap.gitlab.runners import all_runners
from dap.services.manifest import Service
from dap.verify import Place, check, expect

# After its first deploy a runner reads its token within seconds.
_LIMIT_S, _PAUSE_S = 30, 1.0


@check
def runners(place: Place, service: Service) -> Iterator[str]:
    """GitLab hears from the runners of every host."""
    wanted = {runner.description for runner in all_runners(place.site)}
    deadline = time.monotonic() + _LIMIT_S
    with GitlabApi(place) as api:
        while True:
            found = {one["description"]: one["status"] for one in api.every("/runners/all")}
            silent = sorted(name for name in wanted if found.get(name) != "online")
            if not silent or time.monotonic() > deadline:
                break
            time.sleep(_PAUSE_S)
    states = ", ".join(f"{name} is {found.get(name, 'not there')}" for name in silent)
    expect(not silent, f"GitLab does not hear from all runners: {states}")
    yield f"{len(wanted)} online"
