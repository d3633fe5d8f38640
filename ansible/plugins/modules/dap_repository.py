#!/usr/bin/python
"""Makes apt repositories of Docker's packages with all that they depend on, for hosts without a network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dap_build import BuildError, said_every_second
from ansible.module_utils.dap_docker import Progress, elapsed
from ansible.module_utils.dap_probe import apt_sources, os_release, output_of
from ansible.module_utils.dap_repository import (
    RELEASES,
    Repository,
    RepositoryError,
    kept_folder,
    sources_of,
    wanted_packages,
)

DOCUMENTATION = """
module: dap_repository
short_description: Make apt repositories of Docker's packages with all that they depend on
description:
  - Neither the machine's packages nor its apt are touched, and no rights are needed.
author: The authors of the data analysis platform
options:
  folder: {type: path, required: true, description: Gets a folder for each release.}
  kept: {type: path, required: true, description: Keeps what was fetched for the next time.}
  logs: {type: path, required: true, description: "Folder for logs, and for a line about the work."}
  releases: {type: list, elements: str, default: [], description: "Codenames; this machine's without any."}
  environment: {type: dict, default: {}, description: "Mirrors and proxies, by the names of their variables."}
"""

RETURN = """
dap:
  description: >-
    Holds C(architecture) and C(releases): for each C(files) in its folder, and C(names) of the packages that
    were asked for.
  type: dict
  returned: success
"""


def make(params: dict[str, Any]) -> dict[str, Any]:
    """Make the repositories.

    Raises:
        RepositoryError: packages cannot be had.
    """
    system = os_release()
    logs = Path(params["logs"])
    environment = {name: str(value) for name, value in params["environment"].items() if value}
    made = {}
    for release in params["releases"] or [system.get("VERSION_CODENAME", "")]:
        if release not in RELEASES:
            raise RepositoryError(f"{release or 'this system'} is none of {', '.join(RELEASES)}")
        sources = sources_of(release, system, apt_sources(), environment)
        names, started = wanted_packages(release), time.monotonic()
        with (
            kept_folder(Path(params["kept"], release)) as kept,
            Progress(logs / "progress") as progress,
            said_every_second(progress, lambda: f"packages of {release}: {elapsed(started)}"),  # noqa: B023
        ):
            repository = Repository(kept, release, sources, environment)
            repository.download(names, logs)
            made[release] = {
                "files": repository.write(Path(params["folder"], release)),
                "names": list(names),
            }
    return {"architecture": output_of("dpkg", "--print-architecture"), "releases": made}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "kept": {"type": "path", "required": True},
            "logs": {"type": "path", "required": True},
            "releases": {"type": "list", "elements": "str", "default": []},
            "environment": {"type": "dict", "default": {}},
        },
    )
    try:
        made = make(module.params)
    except (RepositoryError, BuildError, OSError) as error:
        module.fail_json(msg=str(error))
        return
    module.exit_json(changed=False, dap=made)


if __name__ == "__main__":
    main()
