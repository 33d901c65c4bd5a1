"""`python -m tests.fuzz`: read a million damaged inputs; nothing but a clear error may come back.

Half of what the record reader and the code parser get is chosen by atheris, where it can be
imported: it keeps what reaches new branches. The rest is drawn with a seed, and repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

from ssr_exp.runs import provenance
from tests.fuzz import driver, guided, targets

MEMORY = 16 * 2**30  # bytes of address space: an image must not take the machine down


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz all targets; the exit status is 1 if anything but a refusal came back."""
    options = _parser().parse_args(arguments)
    provenance.git_commit()  # kept: of the code that runs, whatever is committed meanwhile
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found = {}
    for name in options.only or targets.names():
        inputs = round(options.inputs * targets.find(name).share)
        by_atheris = guided.run(name, inputs=inputs // 2, seed=options.seed, failures=options.fail)
        drawn = inputs - (by_atheris.inputs if by_atheris else 0)
        plain = driver.run(
            name, inputs=drawn, seed=options.seed, failures=options.fail, show=sys.stderr
        )
        found[name] = driver.added(plain, by_atheris)
    report = _report(options, found)
    print(json.dumps(report, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return int(any(tally.failures for tally in found.values()))


def _report(options: argparse.Namespace, found: dict[str, driver.Tally]) -> dict[str, object]:
    return {
        "command": f"python -m tests.fuzz --inputs {options.inputs} --seed {options.seed}",
        "date": datetime.now(UTC).date().isoformat(),
        "commit": provenance.git_commit(),
        "device": provenance.device("cpu"),
        "versions": provenance.versions() | driver.versions(),
        "seed": options.seed,
        "inputs": sum(tally.inputs for tally in found.values()),
        "failures": sum(len(tally.failures) for tally in found.values()),
        "targets": {name: tally.fields() for name, tally in found.items()},
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=targets.names(), help="these targets")
    parser.add_argument("--out", type=Path, help="write the figures there, as JSON")
    parser.add_argument(
        "--fail", type=Path, default=Path("fuzz-failures"), help="folder for what broke a reader"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
