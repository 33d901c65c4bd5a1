"""The table of a study's networks: size, latency and accuracy against the seed network."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from ssr_exp.edge.finished import Study, Trained
from ssr_exp.edge.latency import Latency

MEASURES = {"val_acc": "val acc %", "test_acc": "test acc %"}


def lay_out(study: Study, latencies: Mapping[str, Latency], *, markdown: bool = False) -> Table:
    """Lay out a row for each network; shares and differences are to the first, the seed network.

    Args:
        study: the networks.
        latencies: of each, by code.
        markdown: for a file, not for a terminal.
    """
    table = Table(title=None if markdown else study.folder.name)
    if markdown:
        table.box = box.MARKDOWN
    seed = study.networks[0]
    parts = [part for part in MEASURES if any(n.accuracy(part) is not None for n in study.networks)]
    table.add_column("network", no_wrap=True)
    headings = ["parameters", "of seed", "MACs", "of seed", "latency ms", "quartiles", "of seed"]
    headings += [word for part in parts for word in (MEASURES[part], "difference")]
    for heading in (*headings, "runs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in study.networks:
        own = latencies[each.network]
        low, high = own.quartiles
        table.add_row(
            f"{each.network}{' (seed)' if each is seed else ''}",
            f"{each.cost.params:,}",
            f"{each.cost.params / seed.cost.params:.1%}",
            f"{each.cost.macs / 1e6:,.2f}M",
            f"{each.cost.macs / seed.cost.macs:.1%}",
            f"{own.ms:.2f}",
            f"{low:.2f} - {high:.2f}",
            f"{own.ms / latencies[seed.network].ms:.1%}",
            *(cell for part in parts for cell in _accuracy(each, seed, part)),
            str(len(each.records)),
        )
    return table


def _accuracy(each: Trained, seed: Trained, part: str) -> tuple[str, str]:
    """Write an accuracy and its difference to the seed network's, as far as they are known."""
    own, full = each.accuracy(part), seed.accuracy(part)
    shown = "" if own is None else f"{own:.2f}"
    if own is None or full is None or each is seed:
        return shown, ""
    return shown, f"{own - full:+.2f}"
