"""`python -m ssr_exp.rescaling MODEL` prints a network's segments, costs and lattice."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ssr_exp import streams
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import arguments, cost, lattice, planning, seeds
from ssr_exp.rescaling.plan import Plan

REASONS = 12  # that are printed


def main(argv: Sequence[str] | None = None) -> int:
    """Print the anatomy of the network that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m ssr_exp.rescaling",
        description="Print a network's segments, exact costs and lattice size; nothing is trained.",
    )
    parser.add_argument("model", help=arguments.MODELS)
    arguments.add_network(parser)
    options = parser.parse_args(argv)
    try:
        conf = arguments.model(options.model, options)
        _, plan = planning.seed_and_plan(
            conf,
            arguments.segment(options),
            num_classes=options.classes,
            input_shape=arguments.input_shape(options),
            inputs=arguments.inputs(options),
        )
        points = lattice.from_plan(plan, width_steps=options.width_steps).size
    except SsrError as error:
        print(error, file=sys.stderr)
        return 1
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table(seeds.spell(conf), plan))
    console.print(_summary(plan, points, options.width_steps), highlight=False)
    return 0


def table(name: str, plan: Plan) -> Table:
    """Lay out segments, blocks, channels and cost; the rows of cost add up to the network's."""
    kind = "images" if plan.inputs.is_one_image and len(plan.input_shape) == 3 else "inputs"
    rows = Table(title=f"{name} on {kind} of {plan.inputs.text()}")
    rows.add_column("segment", no_wrap=True)
    for heading in ("blocks", "removable", "channels", "widths", "parameters", "MACs", "GeMMs"):
        rows.add_column(heading, justify="right", no_wrap=True)
    costs = cost.by_segment(plan)
    for segment, widths, spent in zip(plan.segments, plan.widths, costs[:-1], strict=True):
        blocks = len(segment.blocks)
        depths = ("", "") if segment.is_width else (blocks, blocks - segment.fewest)
        numbers = (*depths, int(widths.channels[-1]), len(widths))
        frozen = " (frozen)" if segment.frozen else ""
        inside = not any(segment.blocks)  # of blocks whose cost is their stage's
        spent_ = ("",) * len(spent) if inside else (f"{x:,}" for x in spent)
        rows.add_row(segment.name + frozen, *map(str, numbers), *spent_)
    rows.add_row("outside (stem, head, ...)", "", "", "", "", *(f"{x:,}" for x in costs[-1]))
    total = cost.count_one(plan, plan.baseline)
    rows.add_row("network", "", "", "", "", *(f"{x:,}" for x in total), style="bold")
    return rows


def _summary(plan: Plan, points: int, width_steps: int) -> str:
    least, full = cost.count_one(plan, plan.smallest), cost.count_one(plan, plan.baseline)
    depths = "" if all(segment.is_width for segment in plan.segments) else "every block count; "
    lines = [
        f"lattice: {lattice.spell(points)} networks ({depths}widths in steps of "
        f"1/{width_steps}, rounded to a multiple of {plan.multiple})",
        f"smallest: {least.params:,} parameters ({least.params / full.params:.1%}), "
        f"{least.macs:,} MACs ({least.macs / full.macs:.1%})",
    ]
    reasons = sorted(plan.frozen.items(), key=lambda reason: -reason[1])  # what holds most first
    lines += [f"fixed: {count:,} channels, because: {why}" for why, count in reasons[:REASONS]]
    if len(reasons) > REASONS:
        lines.append(f"... and {len(reasons) - REASONS} more reasons")
    return "\n".join([*lines, *(f"note: {remark}" for remark in plan.remarks)])


if __name__ == "__main__":
    streams.outlive_readers()
    sys.exit(main())
