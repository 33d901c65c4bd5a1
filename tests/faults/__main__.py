"""`python -m tests.faults --moments 50`: let every fault happen, and count what it broke.

Commands are the real ones, in processes of their own that meet real signals; they are forked from
a process that has paid for the imports, see `tests.faults.processes`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any

from tests.faults import away, disks, ends, mutations, processes, surroundings
from tests.faults.laws import Broken
from tests.faults.trials import ASYNCHRONOUS, FIRST, JOB, LOOP, SEARCH, SWEEP, Fault, Setting, Trial

OTHER = replace(SEARCH, words=(*SEARCH.words, "objective=smallest"))
Row = dict[str, Any]
SHOWN = 3  # broken laws that are kept in words, for each fault and kind


@dataclass(frozen=True)
class Asked:
    name: str  # in words
    fault: Fault  # what happens
    share: float = 1.0  # of the moments
    needs: str = ""  # "root", "clock", or nothing


def catalogue(kept: Path) -> dict[str, Asked]:
    """List all faults, by the words of `--only`."""
    ended, full, two = ends.ended_by, disks.disk_full, surroundings.two_at_once
    return {
        "kill-job": Asked("kill -9 of a job", ended(JOB, SIGKILL)),
        "kill-sweep": Asked("kill -9 of a sweep", ended(SWEEP, SIGKILL)),
        "kill-search": Asked("kill -9 of a search", ended(SEARCH, SIGKILL)),
        "kill-worker": Asked("kill -9 of one of two jobs at once", ends.a_worker_is_killed, 0.2),
        "term-sweep": Asked("SIGTERM to a sweep", ended(SWEEP, SIGTERM)),
        "int-sweep": Asked("Ctrl-C in a sweep", ended(SWEEP, SIGINT)),
        "term-search": Asked("SIGTERM to a search", ended(SEARCH, SIGTERM), 0.4),
        "int-search": Asked("Ctrl-C in a search", ended(SEARCH, SIGINT), 0.4),
        "kill-async": Asked(
            "kill -9 of an asynchronous search of two jobs at once",
            ended(ASYNCHRONOUS, SIGKILL, repeatable=False),
            0.2,
        ),
        "term-async": Asked(
            "SIGTERM to an asynchronous search of two jobs at once",
            ended(ASYNCHRONOUS, SIGTERM, repeatable=False),
            0.2,
        ),
        "full-sweep": Asked("disk full in a sweep", full(SWEEP), needs="root"),
        "full-search": Asked("disk full in a search", full(SEARCH), 0.4, "root"),
        "read-only": Asked("read-only folder in a sweep", disks.read_only(SWEEP), 1.0, "root"),
        "two-sweeps": Asked("two sweeps at once", two(SWEEP, SWEEP), 0.4),
        "two-searches": Asked("two searches at once", two(SEARCH, OTHER), 0.2),
        "same-search": Asked("the same search twice at once", two(SEARCH, SEARCH, same=True), 0.2),
        "clock": Asked("clock set back in a sweep", surroundings.clock_set_back, 0.4, "clock"),
        "kill-loop": Asked("kill -9 of a loop that asks and tells", ended(LOOP, SIGKILL)),
        "full-loop": Asked("disk full in such a loop", full(LOOP), 0.4, "root"),
        "two-loops": Asked("two such loops at once", two(FIRST, FIRST), 0.4),
        "files": Asked("a file of a search damaged", disks.damaged_files(kept)),
        "checkpoint": Asked("a killed job's checkpoint damaged", disks.damaged_checkpoint),
        "wandb-killed": Asked("W&B's process killed", away.wandb_is_killed, 0.4),
        "wandb-slow": Asked("W&B slow", away.wandb_in_trouble(30.0, 200), 0.1),
        "wandb-refuses": Asked("W&B refuses", away.wandb_in_trouble(0.0, 403), 0.1),
        "divergence": Asked("all networks diverge", surroundings.divergence, 0.2),
        "memory": Asked("out of memory in a sweep", surroundings.out_of_memory, 0.4),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the faults that the command line names, else all; returns 1 if a law was broken."""
    options = _parser().parse_args(arguments)
    start, begun = time.monotonic(), datetime.now(UTC)
    given = sys.argv[1:] if arguments is None else arguments
    words = " ".join(["python -m tests.faults", *given])
    found: dict[str, Any] = {
        "command": re.sub(r" --out[ =]\S+", "", words),
        "commit": _commit(),
        "seed": options.seed,
        "date": begun.isoformat(timespec="seconds"),
        "faults": [],
    }
    processes.warm_up()
    with tempfile.TemporaryDirectory(prefix="faults-kept-") as kept:
        known = catalogue(Path(kept) / "runs")
        for word in options.only or known:
            name, _, mutation = word.partition("=")
            if name not in known or mutation not in ("", *mutations.ALL):
                print(f"no such fault: {word}; there are {', '.join(known)}")
                return 2
            row = _row(name, known[name], options, mutation)
            found["faults"] += [] if row is None else [row]
            found["wall_s"] = round(time.monotonic() - start)
            if options.out is not None:
                options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found["faults"]))
    return int(any(row["lost"] or row["repeated"] or row["incomplete"] for row in found["faults"]))


def _row(name: str, asked: Asked, options: argparse.Namespace, mutation: str) -> Row | None:
    """Let one fault happen as often as it is asked for; None where this machine cannot."""
    if asked.needs == "root" and os.geteuid() != 0:
        print(f"{asked.name}: left out, it takes root", file=sys.stderr)
        return None
    if asked.needs == "clock" and surroundings.CLOCK not in os.environ:
        return _with_own_clock(name, asked, options)
    count = max(1, round(asked.share * options.moments))
    row: Row = {"fault": asked.name, "tried": 0, "struck": 0}
    setting, broken = Setting(random.Random(f"{options.seed} {name}"), mutation), Broken()
    for number in range(count):
        _say(f"{asked.name}: {number} of {count}, {_spelled(broken)}")
        with processes.workplace() as folder:
            trial = Trial(folder, setting.mutated)
            try:
                asked.fault(setting, trial)
            except TimeoutError as error:
                trial.blame(str(error))
        row["tried"] += 1
        row["struck"] += trial.struck
        broken.add(trial.broken)
    _say(f"{asked.name}: {count} of {count}, {_spelled(broken)}", last=True)
    told = {kind: words[:SHOWN] for kind, words in vars(broken).items() if words}
    return row | broken.counts() | ({"told": told} if told else {})


def _with_own_clock(name: str, asked: Asked, options: argparse.Namespace) -> Row | None:
    """Run a fault in a process whose clock can be set, and nobody else's with it."""
    if shutil.which("cc") is None:
        print(f"{asked.name}: left out, it takes a C compiler", file=sys.stderr)
        return None
    with tempfile.TemporaryDirectory() as folder:
        clock, library, out = (Path(folder) / name for name in ("clock", "clock.so", "out.json"))
        surroundings.set_clock(clock, 0)
        source = str(Path(__file__).with_name("clock.c"))
        compiled = ["cc", "-O", "-shared", "-fPIC", source, "-o", str(library), "-ldl"]
        subprocess.run(compiled, check=True)
        words = ["--moments", str(options.moments), "--seed", str(options.seed), "--only", name]
        subprocess.run(
            [sys.executable, "-m", "tests.faults", *words, "--out", str(out)],
            env=os.environ | {"LD_PRELOAD": str(library), surroundings.CLOCK: str(clock)},
            cwd=processes.ROOT,
            stdout=subprocess.DEVNULL,
        )
        (row,) = json.loads(out.read_text())["faults"]
        return dict(row)


def table(rows: Sequence[dict[str, Any]]) -> str:
    names = ("fault", "tried", "struck", "lost", "repeated", "incomplete")
    lines = [names, ("---", *["--:"] * 5), *([str(row[name]) for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _spelled(broken: Broken) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in broken.counts().items())


def _say(text: str, *, last: bool = False) -> None:
    """Show how far it is: in one line that changes on a terminal, else line by line."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="\n" if last else "", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def _commit() -> str:
    words = ["git", "describe", "--always", "--dirty=+", "--abbrev=40", "--exclude=*"]
    ended = subprocess.run(words, cwd=processes.ROOT, capture_output=True, text=True)
    return ended.stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--moments", type=int, default=50, help="at which the kills strike (50)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only",
        nargs="+",
        default=(),
        metavar="FAULT[=MUTATION]",
        help=f"some faults, with one of {', '.join(mutations.ALL)} in our own code to be found",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the JSON goes")
    return parser


if __name__ == "__main__":
    sys.exit(main())
