"""`ssr anatomy MODEL` prints a network's segments, costs and lattice."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.table import Table

from ssr_exp import command_options, streams
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import arguments, cost, lattice, planning, seeds
from ssr_exp.rescaling.lattice import Lattice
from ssr_exp.rescaling.plan import Segment

REASONS = 12  # that are printed


def main(argv: Sequence[str] | None = None) -> int:
    """Print the anatomy of the network that the command line names."""
    options = command_options.anatomy().parse_args(argv)
    try:
        conf = arguments.model(options.model, options)
        _, plan = planning.seed_and_plan(
            conf,
            arguments.segment(options),
            num_classes=options.classes,
            input_shape=arguments.input_shape(options),
            inputs=arguments.inputs(options),
        )
        own = lattice.from_plan(plan, width_steps=options.width_steps)
    except SsrError as error:
        print(error, file=sys.stderr)
        return 1
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table(seeds.spell(conf), own))
    console.print(_summary(own, options.width_steps), highlight=False)
    if note := arguments.assumed(options):
        console.print(f"note: {note}", highlight=False)
    return 0


def table(name: str, own: Lattice) -> Table:
    """Lay out segments, blocks, channels and cost; the rows of cost add up to the network's."""
    plan = own.plan
    rows = Table(title=f"{name} on {plan.takes}")
    rows.add_column("segment", no_wrap=True)
    for heading in ("blocks", "removable", "channels", "widths", "parameters", "MACs", "GeMMs"):
        rows.add_column(heading, justify="right", no_wrap=True)
    costs = cost.by_segment(plan)
    rows_of = zip(plan.segments, plan.widths, own.options, costs[:-1], strict=True)
    for segment, widths, options, spent in rows_of:
        blocks = len(segment.blocks)
        depths = ("", "") if segment.is_width else (blocks, blocks - segment.fewest)
        numbers = (*depths, int(widths.channels[-1]), len(np.unique(options // blocks)))
        frozen = " (frozen)" if segment.frozen else ""
        spent_ = ("",) * len(spent) if _is_inside(segment) else (f"{x:,}" for x in spent)
        rows.add_row(segment.name + frozen, *map(str, numbers), *spent_)
    rows.add_row("outside (stem, head, ...)", "", "", "", "", *(f"{x:,}" for x in costs[-1]))
    total = cost.count_one(plan, plan.baseline)
    rows.add_row("network", "", "", "", "", *(f"{x:,}" for x in total), style="bold")
    return rows


def _is_inside(segment: Segment) -> bool:
    """Say whether a segment is in blocks whose cost is their stage's."""
    return not any(segment.blocks)


def _summary(own: Lattice, width_steps: int) -> str:
    plan = own.plan
    (smallest,) = cost.decode(plan, own.points([0]))
    least, full = cost.count_one(plan, smallest), cost.count_one(plan, plan.baseline)
    depths = "" if all(segment.is_width for segment in plan.segments) else "every block count; "
    lines = [
        f"lattice: {lattice.spell(own.size)} networks ({depths}widths in steps of "
        f"1/{width_steps}, rounded to a multiple of {plan.multiple})",
        f"smallest: {least.params:,} parameters ({least.params / full.params:.1%}), "
        f"{least.macs:,} MACs ({least.macs / full.macs:.1%})",
    ]
    reasons = sorted(plan.frozen.items(), key=lambda reason: -reason[1])  # what holds most first
    lines += [f"fixed: {count:,} channels, because: {why}" for why, count in reasons[:REASONS]]
    if len(reasons) > REASONS:
        lines.append(f"... and {len(reasons) - REASONS} more reasons")
    notes = [*plan.remarks]
    if any(map(_is_inside, plan.segments)):
        notes.insert(
            0,
            "a segment without costs is the inner width of a stage's blocks: they are "
            "in the stage's row",
        )
    return "\n".join([*lines, *(f"note: {note}" for note in notes)])


if __name__ == "__main__":
    streams.outlive_readers()
    sys.exit(main())
