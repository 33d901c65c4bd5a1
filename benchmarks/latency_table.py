"""`python -m benchmarks.latency_table results/latency.json`: its ratios as Markdown tables."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RATIO = re.compile(r"(\w+), batch (\d+), (\w+): seed over (\w+)")
SEED = re.compile(r"(\w+), batch (\d+), (\w+): seed")
SHARE = re.compile(r"(\w+), (\w+) \((\S+)\): share of (\w+)")
MULTIPLE = re.compile(r"\S+ at width \S+, batch (\d+), (\w+): multiple (\d+)")
NOISY = 1.5  # highest over lowest round, from which a ratio is marked


def lines(saved: dict[str, Any]) -> Iterator[str]:
    """Write the tables line by line."""
    figures = {figure["name"]: figure for figure in saved["figures"]}
    yield "| network | parameters | MACs | GeMMs |"
    yield "|---|---|---|---|"
    yield from _networks(figures)
    yield ""
    settings = list(dict.fromkeys(m.group(2, 3) for n in figures if (m := RATIO.fullmatch(n))))
    yield f"| times faster than its seed | {' | '.join(f'{r}, {b}' for b, r in settings)} |"
    yield f"|---|{'---|' * len(settings)}"
    yield from _ratios(figures, settings)
    yield ""
    yield from _multiples(figures)


def _networks(figures: dict[str, Any]) -> Iterator[str]:
    rows: dict[str, list[str]] = {}
    for name, figure in figures.items():
        if match := SHARE.fullmatch(name):
            label = f"{match[1]} {match[2]}: {match[3]}"
            rows.setdefault(label, []).append(f"{figure['value']:.1%}")
    for label, shares in rows.items():
        yield f"| {label} | {' | '.join(shares)} |"


def _ratios(figures: dict[str, Any], settings: list[tuple[str, str]]) -> Iterator[str]:
    rows: dict[tuple[str, str], list[str]] = {}
    for name, figure in figures.items():
        if match := SEED.fullmatch(name):
            rows.setdefault((match[1], "seed, ms"), []).append(f"{1000 * figure['value']:.3g}")
        if match := RATIO.fullmatch(name):
            low, high = figure["spread"]
            mark = " ~" if high / low > NOISY else ""
            rows.setdefault((match[1], match[4]), []).append(f"{figure['value']:.2f}{mark}")
    for (network, kind), cells in rows.items():
        assert len(cells) == len(settings)
        yield f"| {network} {kind} | {' | '.join(cells)} |"


def _multiples(figures: dict[str, Any]) -> Iterator[str]:
    rows: dict[str, list[str]] = {}
    settings: dict[str, None] = {}
    for name, figure in figures.items():
        if match := MULTIPLE.fullmatch(name):
            settings.setdefault(f"{match[2]}, {match[1]}")
            rows.setdefault(match[3], []).append(f"{1000 * figure['value']:.3g}")
    yield f"| channels in multiples of, ms | {' | '.join(settings)} |"
    yield f"|---|{'---|' * len(settings)}"
    for multiple, cells in rows.items():
        yield f"| {multiple} | {' | '.join(cells)} |"


if __name__ == "__main__":
    print("\n".join(lines(json.loads(Path(sys.argv[1]).read_text()))))
