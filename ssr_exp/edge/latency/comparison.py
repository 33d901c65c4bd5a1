"""The table of a study's networks: size, latency and score against the seed network."""

from __future__ import annotations

from collections.abc import Mapping

from rich import box
from rich.table import Table

from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.edge.measured_networks import MeasuredNetwork, MeasuredStudy
from ssr_exp.runs.score import ACCURACY

Measured = Mapping[str, Mapping[str, Latency]]
"""By setting, in a word or two, the latency of each network, by code."""


def lay_out(study: MeasuredStudy, measured: Measured, *, markdown: bool = False) -> Table:
    """Lay out a row for each network; shares and differences are to the first, the seed network."""
    table = Table(title=None if markdown else f"{study.name} on {study.plan.takes}")
    if markdown:
        table.box = box.MARKDOWN
    seed = study.networks[0]
    records = [record for each in study.networks for record in each.records]
    score = records[0].scored_by if records else ACCURACY
    titles = {"score": score.heading, "test_score": score.on("test").heading}
    parts = [part for part in titles if any(n.score(part) is not None for n in study.networks)]
    table.add_column("network", no_wrap=True)
    headings = ["parameters", "of seed", "MACs", "of seed"]
    for setting in measured:
        name = "latency" if len(measured) == 1 else setting
        headings += [f"{name} ms", "quartiles", "of seed"]
    headings += [word for part in parts for word in (titles[part], "difference")]
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
            *(cell for part in parts for cell in _score(each, seed, part)),
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


def _score(each: MeasuredNetwork, seed: MeasuredNetwork, part: str) -> tuple[str, str]:
    """Write a score and its difference to the seed network's, as far as they are known."""
    value, full = each.score(part), seed.score(part)
    if value is None:
        return "", ""
    number = each.records[0].scored_by.number
    if full is None or each is seed:
        return number(value), ""
    return number(value), f"{'+' if value >= full else ''}{number(value - full)}"
