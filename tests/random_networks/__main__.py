"""`python -m tests.random_networks`: rescale thousands of random networks; all must come out right.

What is wrong is printed with the smallest description that shows it; `--only 'JSON'` checks that
one again. Ctrl-C prints what was found so far.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

from ssr_exp.runs import provenance
from tests.random_networks import check, descriptions, networks, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Check networks; the exit status is 1 if anything was wrong."""
    options = _parser().parse_args(arguments)
    provenance.git_commit()  # kept: of the code that runs, whatever is committed meanwhile
    if options.only:
        return _once(descriptions.read(options.only))
    tally = run.Tally()
    try:
        run.run(
            tally,
            networks=options.networks,
            seed=options.seed,
            without=options.without,
            shrink=not options.no_shrink,
            show=sys.stderr,
        )
    except KeyboardInterrupt:
        print("stopped; so far:", file=sys.stderr)
    report = _report(options, tally)
    print(json.dumps(report, indent=1))
    if options.out is not None:
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return int(tally.wrong > 0)


def _once(description: descriptions.Description) -> int:
    """Check one network, and print it and all that is wrong with it."""
    print(networks.build(description))
    result = check.check(description)
    print(
        f"{result.architectures} architectures, refused: {result.refusal or 'no'}, "
        f"a block can be removed: {result.can_remove}, {result.can_change:.2f} can change"
    )
    for finding in result.findings:
        print(f"{finding.architecture}: {finding.detail}")
    return int(bool(result.findings))


def _report(options: argparse.Namespace, tally: run.Tally) -> dict[str, Any]:
    without = f" --without {' '.join(options.without)}" if options.without else ""
    return {
        "command": f"python -m tests.random_networks --networks {options.networks} "
        f"--seed {options.seed}{without}",
        "date": datetime.now(UTC).date().isoformat(),
        "commit": provenance.git_commit(),
        "device": provenance.device("cpu"),
        "versions": provenance.versions() | {"hypothesis": metadata.version("hypothesis")},
        "seed": options.seed,
        **tally.fields(),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.random_networks", description=__doc__)
    parser.add_argument("--networks", type=int, default=2000, help="how many (2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (0)")
    parser.add_argument("--only", metavar="JSON", help="a description: check this network alone")
    parser.add_argument("--without", nargs="+", default=[], metavar="KIND", help="leave these out")
    parser.add_argument("--no-shrink", action="store_true", help="show findings as they are drawn")
    parser.add_argument("--out", type=Path, help="write the figures there, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
