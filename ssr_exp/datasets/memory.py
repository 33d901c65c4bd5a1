"""How much memory this process may still take, of the machine and of a device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import torch

KIB, MIB, GIB = 2**10, 2**20, 2**30


def in_words(count: float) -> str:
    """Write a number of bytes as MiB or GiB."""
    return f"{count / MIB:,.1f} MiB" if count < 100 * MIB else f"{count / GIB:,.1f} GiB"


def free_on(device: torch.device) -> int:
    """Return how many bytes are free on a device that trains."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    return free_bytes()


def free_bytes(system: Path = Path("/")) -> int:
    """Return how many bytes are free: of the machine, and of each group that limits this process.

    What only repeats the disk counts as free. Where nothing says it, half of the machine's is.

    Args:
        system: the root of the file system.
    """
    return min(_limits(system, is_used=True), default=_physical() // 2)


def most_bytes(system: Path = Path("/")) -> int:
    """Return how many bytes a process can have at most, if no other takes any: with swap space.

    Args:
        system: the root of the file system.
    """
    swap = _fields(system / "proc/meminfo").get("SwapTotal:", 0) * KIB
    return min(_limits(system, is_used=False), default=_physical()) + swap


def _limits(system: Path, *, is_used: bool) -> list[int]:
    """List what the machine and each group gives, without what is in use if `is_used`."""
    return [*_machine(system / "proc/meminfo", is_used=is_used), *_groups(system, is_used=is_used)]


def _physical() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _machine(meminfo: Path, *, is_used: bool) -> Iterator[int]:
    fields, name = _fields(meminfo), "MemAvailable:" if is_used else "MemTotal:"
    if name in fields:
        yield fields[name] * KIB


def _groups(system: Path, *, is_used: bool) -> Iterator[int]:
    """List what is free in the control groups of this process, of either version."""
    above = system / "sys/fs/cgroup"
    names = {"": "", "memory": ""}  # of the group by version: in a container it is the root
    for line in _text(system / "proc/self/cgroup").splitlines():
        _, kinds, name = line.split(":", 2)
        names |= {kind: name for kind in kinds.split(",") if kind in names}
    for kind, limit, used, cache in (
        ("", "memory.max", "memory.current", "inactive_file"),
        ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        top = above / kind
        group = top / names[kind].lstrip("/")
        for folder in (group, *group.parents, top):
            most = _text(folder / limit).strip()
            if folder.is_relative_to(top) and most.isdecimal():
                in_use = int(_text(folder / used).strip() or 0)
                in_use -= _fields(folder / "memory.stat").get(cache, 0)
                yield max(0, int(most) - in_use) if is_used else int(most)


def _fields(path: Path) -> dict[str, int]:
    rows = (line.split() for line in _text(path).splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
