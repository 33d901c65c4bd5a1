"""`python -m ssr_exp.rescaling MODEL` prints a network's segments, costs and lattice."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from ssr_exp.config import ModelConf, SegmentConf, Shortcut, Source, Stem
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, lattice, partitions, seeds, segmented
from ssr_exp.rescaling.plan import Plan

REASONS = 12  # that are printed


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the anatomy of the network that the command line names."""
    options = _parser().parse_args(arguments)
    try:
        conf = _conf(options)
        shape = (options.channels, options.size, options.size)
        split = SegmentConf(
            kind=options.segment,
            multiple=options.multiple,
            frozen=options.frozen,
            patterns=options.patterns,
        )
        _, plan = segmented.build(conf, split, num_classes=options.classes, input_shape=shape)
        points = lattice.of(plan, width_steps=options.width_steps).size
    except SsrError as error:
        print(error, file=sys.stderr)
        return 1
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table(seeds.spell(conf), plan))
    console.print(_summary(plan, points, options.width_steps), highlight=False)
    return 0


def _conf(options: argparse.Namespace) -> ModelConf:
    """Read the seed network; sizes that were not given are those that its numbers are known for."""
    stem, shortcut = Stem(options.stem), Shortcut(options.shortcut)
    conf = seeds.parse(options.model, stem=stem, shortcut=shortcut)
    if options.size is None:
        options.size = 32 if conf.source is Source.builtin else 224
    if options.classes is None:
        is_imagenet = conf.source in (Source.torchvision, Source.timm) and options.size == 224
        options.classes = 1000 if is_imagenet else 10
    _check(options)
    return conf


def _check(options: argparse.Namespace) -> None:
    for name in ("size", "channels", "classes"):
        if getattr(options, name) < 1:
            raise SsrError(f"--{name} is {getattr(options, name)}; it must be 1 or more.")


def table(name: str, plan: Plan) -> Table:
    """Lay out segments, blocks, channels and cost; the rows of cost add up to the network's."""
    rows = Table(title=f"{name} on images of {'x'.join(map(str, plan.input_shape))}")
    rows.add_column("segment", no_wrap=True)
    for heading in ("blocks", "removable", "channels", "widths", "parameters", "MACs", "GeMMs"):
        rows.add_column(heading, justify="right", no_wrap=True)
    costs = cost.by_segment(plan)
    for segment, widths, spent in zip(plan.segments, plan.widths, costs[:-1], strict=True):
        blocks = len(segment.blocks)
        numbers = (blocks, blocks - segment.fewest, int(widths.channels[-1]), len(widths))
        frozen = " (frozen)" if segment.frozen else ""
        rows.add_row(segment.name + frozen, *map(str, numbers), *(f"{x:,}" for x in spent))
    rows.add_row("outside (stem, head, ...)", "", "", "", "", *(f"{x:,}" for x in costs[-1]))
    total = cost.of(plan, plan.baseline)
    rows.add_row("network", "", "", "", "", *(f"{x:,}" for x in total), style="bold")
    return rows


def _summary(plan: Plan, points: int, width_steps: int) -> str:
    least, full = cost.of(plan, plan.smallest), cost.of(plan, plan.baseline)
    lines = [
        f"lattice: {lattice.spell(points)} networks (every block count; widths in steps of "
        f"1/{width_steps}, rounded to a multiple of {plan.multiple})",
        f"smallest: {least.params:,} parameters ({least.params / full.params:.1%}), "
        f"{least.macs:,} MACs ({least.macs / full.macs:.1%})",
    ]
    return "\n".join([*lines, *_fixed(plan)])


def _fixed(plan: Plan) -> list[str]:
    """Say what holds channels at their full size, those that hold most first."""
    reasons = sorted(plan.frozen.items(), key=lambda reason: -reason[1])
    lines = [f"fixed: {count:,} channels, because: {why}" for why, count in reasons[:REASONS]]
    more = len(reasons) - len(lines)
    return [*lines, f"... and {more} more reasons"] if more else lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ssr_exp.rescaling",
        description="Print a network's segments, exact costs and lattice size; nothing is trained.",
    )
    sources = "torchvision/NAME, timm/NAME, or your own as my_package.MyNet"
    parser.add_argument("model", help=f"{', '.join(seeds.names())}, {sources}")
    parser.add_argument(
        "--size", type=int, help="image side in pixels (32; torchvision/, timm/, your own: 224)"
    )
    parser.add_argument("--channels", type=int, default=3, help="image channels (3)")
    parser.add_argument(
        "--classes", type=int, help="classes (10; torchvision/ and timm/ at 224 pixels: 1000)"
    )
    parser.add_argument("--stem", choices=[s.value for s in Stem], default=Stem.auto.value)
    parser.add_argument("--shortcut", choices=[s.value for s in Shortcut], default="A")
    kinds = ", ".join(partitions.KINDS)
    parser.add_argument("--segment", default="stage", metavar="KIND", help=f"{kinds} (stage)")
    parser.add_argument(
        "--patterns", nargs="*", default=[], help="for manual: modules' names, one a segment: a.*"
    )
    parser.add_argument(
        "--multiple", type=int, help="round channels to it (4 for CIFAR ResNets, 8)"
    )
    parser.add_argument("--width-steps", type=int, default=8, help="lattice widths are k/N (8)")
    parser.add_argument("--frozen", nargs="*", default=[], help="segments that stay as they are")
    return parser


if __name__ == "__main__":
    sys.exit(main())
