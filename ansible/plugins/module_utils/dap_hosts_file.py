"""The block of a platform's names in a host's list of names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

PATH = Path("/etc/hosts")


def text_of_list(path: Path) -> str:
    """The list, whatever its encoding; empty where there is none."""
    return path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""


def block_of(names: Sequence[str], address: str, extra: Mapping[str, str]) -> str:
    """The lines between the markers; empty for no names."""
    lines = [f"{address} {name}\n" for name in sorted(set(names))]
    return "".join([*lines, *(f"{extra[name]} {name}\n" for name in sorted(extra))])


def with_block(text: str, platform: str, block: str) -> str:
    """The list with this block in place of the platform's old one, at the end where it had none."""
    title = f"{platform}: names of the data analysis platform"
    begin, end = f"# BEGIN {title}\n", f"# END {title}\n"
    marked = f"{begin}{block}{end}" if block else ""
    old = re.compile(rf"^{re.escape(begin)}.*?^{re.escape(end)}", re.DOTALL | re.MULTILINE)
    if old.search(text):
        return old.sub(lambda _: marked, text, count=1)
    return (text if text.endswith("\n") or not text else f"{text}\n") + marked
