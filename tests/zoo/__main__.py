"""`python -m tests.zoo`: check the whole zoo, and write `results/zoo.md`.

Each network is checked in a process of its own, which a time limit ends. A row is kept in
`results/zoo.jsonl` as soon as it is known: `--resume` goes on where a run was stopped, `--only`
checks some networks again and keeps the rows of the others.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported

from ssr_exp.runs import provenance
from tests.zoo import members, pool, rows, table
from tests.zoo.dense import members as dense_members

RESULTS = Path(__file__).parents[2] / "results"


def main(arguments: Sequence[str] | None = None) -> None:
    """Check networks, and write what was found about all of them."""
    options = _parser().parse_args(arguments)
    store, order = options.out.with_suffix(".jsonl"), members.names() + dense_members.names()
    if unknown := set(options.only or ()) - set(order):
        raise SystemExit(f"not in the zoo: {', '.join(sorted(unknown))}")
    if not (options.only or options.resume):
        store.unlink(missing_ok=True)
    done = rows.load(store) if options.resume else {}
    names = [name for name in options.only or order if name not in done]
    for number, row in enumerate(pool.checked(names, options.jobs, options.limit), start=1):
        row.commit = provenance.git_commit() or "unknown"
        rows.append(store, row)
        verdict = "; ".join(row.problems) or "ok"
        print(f"{number}/{len(names)} {row.name} {row.wall_s:g} s: {verdict}", flush=True)
    found = rows.load(store)
    known = [found[name] for name in order if name in found]
    rows.save(store, known)
    options.out.write_text(table.write(known), encoding="utf-8")
    print(f"written to {options.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="for instance timm/resnet18")
    parser.add_argument("--resume", action="store_true", help="only those that have no row yet")
    parser.add_argument("--jobs", type=int, default=2, help="processes (2)")
    parser.add_argument("--limit", type=float, default=300, help="seconds for a network (300)")
    parser.add_argument("--out", type=Path, default=RESULTS / "zoo.md", metavar="FILE")
    return parser


if __name__ == "__main__":
    main()
