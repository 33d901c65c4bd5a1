"""What the machine is. No name of a host or user."""

import platform
import sys
from functools import lru_cache
from pathlib import Path


def cpu(threads: int) -> str:
    """Name the CPU, and how many threads of it are used."""
    return f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"


@lru_cache(maxsize=1)
def processor() -> str:
    """Name the model of the CPU."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
