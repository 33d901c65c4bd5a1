"""The table of a study's networks: size, latency and accuracy against the seed network."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.edge.measured_networks import MeasuredNetwork, MeasuredStudy

MEASURES = {"val_acc": "val acc %", "test_acc": "test acc %"}

Measured = Mapping[str, Mapping[str, Latency]]
"""By setting, in a word or two, the latency of each network, by code."""


def lay_out(study: MeasuredStudy, measured: Measured, *, markdown: bool = False) -> Table:
    """Lay out a row for each network; shares and differences are to the first, the seed network."""
    table = Table(title=None if markdown else study.name)
    if markdown:
        table.box = box.MARKDOWN
    seed = study.networks[0]
    parts = [part for part in MEASURES if any(n.accuracy(part) is not None for n in study.networks)]
    table.add_column("network", no_wrap=True)
    headings = ["parameters", "of seed", "MACs", "of seed"]
    for setting in measured:
        name = "latency" if len(measured) == 1 else setting
        headings += [f"{name} ms", "quartiles", "of seed"]
    headings += [word for part in parts for word in (MEASURES[part], "difference")]
    for heading in (*headings, "runs"):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in study.networks:
        table.add_row(
            f"{each.network}{' (seed)' if each is seed else ''}",
            f"{each.cost.params:,}",
            f"{each.cost.params / seed.cost.params:.1%}",
            f"{each.cost.macs / 1e6:,.2f}M",
            f"{each.cost.macs / seed.cost.macs:.1%}",
            *(cell for own in measured.values() for cell in _latency(each, seed, own)),
            *(cell for part in parts for cell in _accuracy(each, seed, part)),
            str(len(each.records)),
        )
    return table


def _latency(
    each: MeasuredNetwork, seed: MeasuredNetwork, latencies: Mapping[str, Latency]
) -> tuple[str, ...]:
    own = latencies[each.network]
    low, high = own.quartiles
    share = own.ms / latencies[seed.network].ms
    return f"{own.ms:.3g}", f"{low:.3g} - {high:.3g}", f"{share:.1%}"


def _accuracy(each: MeasuredNetwork, seed: MeasuredNetwork, part: str) -> tuple[str, str]:
    """Write an accuracy and its difference to the seed network's, as far as they are known."""
    own, full = each.accuracy(part), seed.accuracy(part)
    shown = "" if own is None else f"{own:.2f}"
    if own is None or full is None or each is seed:
        return shown, ""
    return shown, f"{own - full:+.2f}"
