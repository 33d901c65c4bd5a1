"""`python -m benchmarks [PART ...]`: print all ratios of this machine, and keep them as JSON."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import measure

PARTS = (
    "counting",
    "tracing",
    "start",
    "composing",
    "asking",
    "proposals",
    "local_search",
    "training",
    "formats",
    "huge_pages",
    "decoding",
    "streaming",
    "scbp",
    "latency",
    "latency_model",
    "page",
    "load",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the parts that the command line names, else all."""
    options = _parser().parse_args(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    # Of the code that is measured, which may be edited meanwhile.
    where = {"command": " ".join(["python -m benchmarks", *words]), **measure.conditions()}
    figures: list[measure.Figure] = []
    for name in options.parts or PARTS:
        part = importlib.import_module(f"benchmarks.{name}")
        print(f"measuring {name} ...", flush=True)
        figures += part.measured(_size(part, options))
    measure.report(figures, where)
    if options.out is not None:
        measure.save(options.out, figures, where)
        print(f"written to {options.out}")


def _size(part: Any, options: argparse.Namespace) -> Any:
    size = part.SMOKE if options.smoke else part.Size()
    if options.threads is not None and hasattr(size, "threads"):
        return replace(size, threads=options.threads)
    return size


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (all)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the JSON goes")
    parser.add_argument("--threads", type=int, help="of torch in the training part (its choice)")
    parser.add_argument("--smoke", action="store_true", help="as little as runs")
    return parser


if __name__ == "__main__":
    main()
