"""Set the administrator's password while pgAdmin runs.

Standard input is JSON: ``password``, and ``previous``, a list of those that may be in force.
"""

from __future__ import annotations

import json
import sys

from accounts import app, ensure_administrator
from server import administrator


def main() -> None:
    """Set it; run again, it changes nothing."""
    given = json.load(sys.stdin)
    with app.test_request_context():
        ensure_administrator(administrator()[0], given["password"], given["previous"])


main()
