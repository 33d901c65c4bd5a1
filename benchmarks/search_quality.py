r"""Does the search find good networks? A replay over networks that were really trained.

    python -m benchmarks.search_quality gather --runs RUNS --out results/search/table.csv
    python -m benchmarks.search_quality replay --table results/search/table.csv \
        --out results/search/replay.json
    python -m benchmarks.search_quality surrogates --table results/search/table.csv \
        --out results/search/surrogate.json

`gather` collects a study's finished records. `replay` lets our acquisitions, BoTorch's and Optuna's
search the same pools of them, each from the same sentinels, and asks how good a front and how small
a network they find; a figure is written beside the JSON. `surrogates` asks what predicts the table
best. The answers are the table's; nothing is trained.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import measure

SMOKE = {"repeats": 2, "rounds": 1, "batch": 2, "jobs": 1}


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line names."""
    options = _parser().parse_args(arguments)
    options.where = measure.conditions()  # of the code that runs, which may be edited meanwhile
    options.do(options)


def gather(options: argparse.Namespace) -> None:
    """Collect records into a table."""
    from benchmarks import table_of_networks

    about = table_of_networks.gather(
        options.runs, options.out, study=options.study, trained_by=options.trained_by
    )
    counts = about["counts"]
    print(f"{counts['rows']} trainings of {counts['networks']} networks: {options.out}")


def replay(options: argparse.Namespace) -> None:
    """Let all arms search the table."""
    from benchmarks import replay, replay_figure, replay_summary

    given = {name: getattr(options, name) for name in SMOKE}
    size = replay.Size(**(given | (SMOKE if options.smoke else {})), trainings=options.trainings)
    searches = replay.run(options.table, size, options.arms or [*replay.ARMS], keep=options.keep)
    found = replay_summary.summary(searches)
    about = {
        "table": _table(options.table),
        "size": vars(size),
        "metrics": replay_summary.METRICS,
        "answers": {"values": replay_summary.OF_RULES, "rules": replay_summary.RULES},
        "notes": replay_summary.NOTES,
    }
    _save(options, about | found)
    options.out.with_suffix(".svg").write_text(replay_figure.draw(found["arms"], size.batch))
    print(replay_summary.report(found))


def surrogates(options: argparse.Namespace) -> None:
    """Compare surrogates on the table."""
    from benchmarks import surrogate_quality

    repeats, most = (SMOKE["repeats"], 2) if options.smoke else (options.repeats, None)
    found = surrogate_quality.compare(options.table, repeats, jobs=options.jobs, most=most)
    _save(options, {"table": _table(options.table), "repeats": repeats} | found)
    print(surrogate_quality.report(found))


def _table(path: Path) -> dict[str, Any]:
    from benchmarks import replay

    about = replay.load(path).about
    return {"file": path.name, "study": about["study"], **about["counts"]}


def _save(options: argparse.Namespace, found: dict[str, Any]) -> None:
    where, path = options.where, options.out
    packages = {name: metadata.version(name) for name in ("botorch", "gpytorch", "optuna")}
    where["versions"] = where["versions"] | packages
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_json(where | found))
    print(f"written to {path}")


def _json(fields: dict[str, Any]) -> str:
    """Write JSON with each list of numbers on one line."""
    text = json.dumps(fields, indent=1)
    return re.sub(r"\[[-\d.,e\s]+\]", lambda found: " ".join(found[0].split()), text) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search_quality",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    collect = verbs.add_parser("gather", help="records to a table")
    collect.add_argument("--runs", type=Path, required=True, help="the folder, paths.runs")
    collect.add_argument("--study", help="its name, where there are several")
    collect.add_argument("--trained-by", nargs="*", default=(), metavar="COMMAND")
    collect.add_argument("--out", type=Path, required=True, metavar="CSV")
    collect.set_defaults(do=gather)
    for verb, do, words in (
        ("replay", replay, "search the table with every arm"),
        ("surrogates", surrogates, "predict the table with every surrogate"),
    ):
        sub = verbs.add_parser(verb, help=words)
        sub.add_argument("--table", type=Path, required=True, metavar="CSV")
        sub.add_argument("--out", type=Path, required=True, metavar="JSON")
        sub.add_argument("--repeats", type=int, default=20)
        sub.add_argument("--jobs", type=int, default=2, help="processes (2)")
        sub.add_argument("--smoke", action="store_true", help="as little as runs")
        sub.set_defaults(do=do)
        if do is replay:
            sub.add_argument("--rounds", type=int, default=8)
            sub.add_argument("--batch", type=int, default=4, help="networks of a round (4)")
            sub.add_argument("--arms", nargs="+", metavar="ARM", help="some arms only")
            sub.add_argument("--trainings", type=int, help="at most, the sentinels included")
            sub.add_argument(
                "--keep", type=Path, metavar="JSONL", help="what is done, so as to go on with it"
            )
    return parser


if __name__ == "__main__":
    main()
