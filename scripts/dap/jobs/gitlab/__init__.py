"""What is set up in a GitLab that runs: settings, users, groups, CI variables, examples, runners.

GitLab's client library is loaded only when there is a GitLab: that takes a while.
"""

from __future__ import annotations

from typing import Any

from ..report import Report


def provision(server: dict[str, Any], report: Report) -> None:
    """Bring ``server`` into the desired state.

    What is missing is made. What people have changed stays where it is theirs to change: names, addresses,
    higher roles, more members, keys and variables of their own.

    Raises:
        LaterError: it does not accept the platform's token yet.
        GitlabError: it does not answer, or refuses something.
    """
    from . import client, groups, people, runners, settings, variables

    api = client.connect(server, report)
    with client.refusals("settings"):
        settings.provision(api, server, report)
    ids = people.provision(api, server, report)
    with client.refusals("CI variables"):
        variables.provision(api.variables, server["service"], server["variables"], report)
    groups.provision(api, server, ids, report)
    with client.refusals("runners"):
        runners.provision(api, server, report)
