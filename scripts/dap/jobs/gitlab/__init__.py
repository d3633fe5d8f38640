"""What is set up in a GitLab that runs.

GitLab's client library is loaded only when there is a GitLab: that takes a third of a second.
"""

from __future__ import annotations

from typing import Any

from ..report import Report


def provision(server: dict[str, Any], report: Report) -> None:
    """Bring ``server`` into the desired state.

    Raises:
        LaterError: it does not accept the platform's token yet.
        GitlabError: it does not answer, or refuses something.
    """
    from .client import connect

    connect(server, report)
