"""What is free is the least of what the machine and the groups of a process leave."""

from __future__ import annotations

from pathlib import Path

import pytest

from ssr_exp.datasets.memory import free_bytes, most_bytes

GIB = 2**30


def write(root: Path, **files: object) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine of 64 GiB, 60 of them free."""
    return write(
        tmp_path, proc__meminfo=f"MemTotal: {64 * 2**20} kB\nMemAvailable: {60 * 2**20} kB"
    )


def test_without_groups_it_is_what_the_machine_has(machine: Path) -> None:
    assert free_bytes(machine) == 60 * GIB


def test_at_most_it_is_all_of_the_machine_with_its_swap_space(machine: Path) -> None:
    assert most_bytes(machine) == 64 * GIB
    total, swap = f"MemTotal: {64 * 2**20} kB", f"SwapTotal: {4 * 2**20} kB\nSwapFree: 0 kB"
    write(machine, proc__meminfo=f"{total}\nMemAvailable: {60 * 2**20} kB\n{swap}")
    assert most_bytes(machine) == 68 * GIB
    assert free_bytes(machine) == 60 * GIB


def test_where_nothing_says_it_half_is_free_and_all_may_be_had(tmp_path: Path) -> None:
    assert most_bytes(tmp_path) // 2 == free_bytes(tmp_path) > 0


def test_a_container_leaves_what_its_limit_does_without_the_cache(machine: Path) -> None:
    write(machine, **{"sys__fs__cgroup__memory.max": 8 * GIB})
    write(machine, **{"sys__fs__cgroup__memory.current": 6 * GIB})
    assert free_bytes(machine) == 2 * GIB
    write(machine, **{"sys__fs__cgroup__memory.stat": f"anon 9\ninactive_file {GIB}"})
    assert (free_bytes(machine), most_bytes(machine)) == (3 * GIB, 8 * GIB)


def test_a_group_within_others_is_limited_by_all_of_them(machine: Path) -> None:
    write(machine, **{"proc__self__cgroup": "0::/user/job"})
    for group, most in (("user/job", "max"), ("user", 5 * GIB)):
        folder = f"sys__fs__cgroup__{group.replace('/', '__')}"
        write(machine, **{f"{folder}__memory.max": most, f"{folder}__memory.current": GIB})
    assert free_bytes(machine) == 4 * GIB


def test_groups_of_the_first_version_count(machine: Path) -> None:
    write(machine, **{"proc__self__cgroup": "9:cpu,cpuacct:/x\n4:memory:/job\n0::/"})
    folder = "sys__fs__cgroup__memory__job__memory"
    write(machine, **{f"{folder}.limit_in_bytes": 7 * GIB, f"{folder}.usage_in_bytes": 3 * GIB})
    assert free_bytes(machine) == 4 * GIB
    write(machine, **{f"{folder}.limit_in_bytes": 2**63 - 4096})  # none
    assert free_bytes(machine) == 60 * GIB


def test_a_group_that_is_over_its_limit_leaves_nothing(machine: Path) -> None:
    write(machine, **{"sys__fs__cgroup__memory.max": GIB})
    write(machine, **{"sys__fs__cgroup__memory.current": 2 * GIB})
    assert free_bytes(machine) == 0


def test_where_nothing_says_it_half_of_the_machine_is_free(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) > 2**28
