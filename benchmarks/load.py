"""How long a folder of very many runs takes: table, proposal, page, reading, twenty writers.

Table, proposal and page are whole processes, from their start to their end: the seconds that
passed, those of the processor, which do not count what else the machine does, and the most memory.
What the runs are, and that they are no results: `benchmarks.load_study`.
"""

from __future__ import annotations

import contextlib
import io
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load_study, load_surrogate, load_writers, measure
from benchmarks.measure import Figure
from ssr_exp.report import trade_offs
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import Store
from ssr_exp.search import history

PART = "load"
LIMIT_S, LIMIT_MB = 30, 4096  # of table, proposal and page
GLANCE_S = 0.02  # between two looks at a process's memory


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    model: str = "resnet110"  # 1,492,992 points
    runs: int = 1000
    batch: int = 4
    read: int = 10_000
    writers: int = 20
    each: int = 50
    sample: int = 20_000  # points that two surrogates are compared at
    rounds: int = 3


SMOKE = Size("resnet20", 40, 2, 60, 3, 6, 100, 1)


def measured(size: Size) -> list[Figure]:
    """Fill folders, and work with them."""
    with tempfile.TemporaryDirectory() as folder:
        many, more, written = (Path(folder) / name / "runs" for name in ("many", "more", "written"))
        for path in (many, more, written):
            path.mkdir(parents=True)
        listed = load_study.fill(size.model, many, size.runs)
        load_study.fill(size.model, more, size.read)
        figures = _processes(size, many, listed)
        reading, some = _reading(size, Store(more))
        made = load_writers.at_once(written, some, writers=size.writers, each=size.each)
        return [*figures, *reading, *_writing(size, made), *_compared(size, many)]


def _processes(size: Size, runs: Path, listed: Path) -> list[Figure]:
    words = load_study.words(size.model, runs)
    commands = {
        "train.py, a sweep whose runs are done": [
            *("train.py", *words),
            *("modifiers=proposed", f"modifiers.file={listed}"),
        ],
        f"search.py rounds=0 batch={size.batch}": [
            *("search.py", *words),
            *("rounds=0", f"batch={size.batch}"),
        ],
        "report.py": ["report.py", f"paths.runs={runs}"],
    }
    found: dict[str, list[Ended]] = {name: [] for name in commands}
    for _ in range(size.rounds):
        for name, command in commands.items():
            for path in runs.glob("*/search"):  # predictions: all rounds begin without
                shutil.rmtree(path)
            found[name].append(run(command))
    return [figure for name, ends in found.items() for figure in _figures(size, name, ends)]


def _figures(size: Size, name: str, ends: Sequence[Ended]) -> list[Figure]:
    what, most = f"{name}, {size.runs:,} runs", max(end.mb for end in ends)
    return [
        measure.duration(PART, what, [end.seconds for end in ends], at_most=LIMIT_S),
        measure.duration(PART, f"{what}: of the processor", [end.cpu_s for end in ends]),
        Figure(PART, f"{what}: memory of its process", most, "MB", at_most=LIMIT_MB),
    ]


@dataclass(frozen=True)
class Ended:
    """What a process took: seconds, those of the processor, and memory."""

    seconds: float
    cpu_s: float
    mb: float


def run(command: Sequence[str]) -> Ended:
    """Run a script of the project to its end.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    before, start, mb = _children_s(), time.perf_counter(), 0.0
    with subprocess.Popen(
        [sys.executable, *command], cwd=load_study.ROOT, stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            mb = max(mb, _peak_mb(process.pid))
            time.sleep(GLANCE_S)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return Ended(seconds, _children_s() - before, mb)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak_mb(process: int) -> float:
    """Read the most memory that a process has held; 0 where it has ended, or this is not Linux.

    `ru_maxrss` would do after its end, but counts what the process held that started it.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0.0
    peaks = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return max((int(peak) / 2**10 for peak in peaks), default=0.0)


def _reading(size: Size, store: Store) -> tuple[list[Figure], list[Record]]:
    found = store.records()
    rows = found[: size.runs]

    def print_table() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            trade_offs.print_trade_offs(rows, all_records=rows)

    seconds = measure.interleaved(
        {"read": measure.timed(store.records), "table": measure.timed(print_table)},
        rounds=size.rounds,
    )
    return [
        measure.duration(PART, f"reading {size.read:,} records", seconds["read"], at_most=10),
        Figure(PART, f"records that were read, of {size.read:,}", len(found), at_least=size.read),
        measure.duration(PART, f"the table alone, {len(rows):,} runs", seconds["table"]),
    ], found


def _writing(size: Size, made: load_writers.Written) -> list[Figure]:
    name = f"{size.writers} processes write {size.each} records each, {made.wanted:,} different"
    return [
        Figure(PART, name, made.seconds, "s"),
        Figure(PART, f"{name}: missing or not whole", made.broken, at_most=0),
        Figure(PART, f"{name}: written again", made.again, at_most=0),
        Figure(PART, f"{name}: temporary files left", made.left, at_most=0),
    ]


def _compared(size: Size, runs: Path) -> list[Figure]:
    _, of, own = load_study.opened(size.model, runs)
    known = history.from_records(own, load_study.records(of, own, size.runs))
    return load_surrogate.compared(PART, known, batch=size.batch, sample=size.sample)
