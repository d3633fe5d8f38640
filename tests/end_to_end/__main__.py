"""``python -m tests.end_to_end URL GROUP [--ca FILE]``: the token is read from the standard input."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.end_to_end.pipeline import EndToEndError, connect, run


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.end_to_end",
        description="Pushes the example pipeline into a new project, follows it, and removes the project.",
        epilog="The token of a user who may make projects in the group is read from the standard input.",
    )
    parser.add_argument("url", help="address of GitLab, such as https://gitlab.dap.example.com")
    parser.add_argument("group", help="path of a group whose jobs get the variables of a project")
    parser.add_argument("--ca", type=Path, help="PEM file with the platform's CA")
    given = parser.parse_args()
    try:
        outcome = run(connect(given.url, sys.stdin.readline().strip(), given.ca), given.group, given.ca)
    except EndToEndError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print(outcome.summary)
    print(f"first line after {outcome.first_line_s:.1f} s, end after {outcome.seconds:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
