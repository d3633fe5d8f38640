"""What a measured number or time says of the machine that it was measured on."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def description() -> str:
    """Processors, memory and kernel, in words; no name of the machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    kernel = f"{platform.system()} {platform.release().partition('-')[0]}"
    return f"{os.cpu_count()} processors ({_processor()}), {memory:.0f} GiB of memory, {kernel}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.machine()
