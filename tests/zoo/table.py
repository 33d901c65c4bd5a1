"""`results/zoo.md`: what the rows say, for people."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata

from ssr_exp.runs import provenance
from tests.zoo import check, members
from tests.zoo.dense import table as dense_table
from tests.zoo.rows import DenseRow, Row

SEEDS = ("timm", "segmentation-models-pytorch", "monai")  # where the networks come from
OUTPUT = "the network's output"  # its channels stay in every network
LONGEST = 2  # reasons in a row
COLUMNS = "network|px|params|blocks|lattice|smallest|fixed|plan|ran on|export|result|notes".split(
    "|"
)

HEADER = """\
# Zoo

Seed networks that are rescaled, run, counted and exported: torchvision's classification ConvNets
and small members of timm's families. Written by `make zoo`, and not by hand.

{facts}

{totals}

Of each network, with {classes} classes, five architectures are checked: full size, a random depth,
a random width, both at random ("joint"), and the smallest.

- Each runs forward and backward in train mode on {batch} images, puts out {batch}x{classes} logits,
  and gives a gradient to every parameter that gets one in the seed network.
- Its parameters, its MACs (PyTorch's `FlopCounterMode`) and its matrix products (the operations
  that PyTorch dispatches) are exactly those of the plan.
- The sizes that its layers store are those of their weights; at full size, its repr and all shapes
  are the seed network's.
- The joint one goes through `torch.export`; its logits stay, within {tolerance:g} of the largest.

What has more than {largest:.0f} M parameters, and the full size, runs on the meta device: its
shapes are checked, and no numbers.
"""

LEGEND = """\
- px: height and width of the images: the smallest of {sizes} that the network runs on, else its own
- params: in millions; blocks: in each segment; lattice: how many networks, in eighths of the width
- smallest: the share of the parameters that the smallest network keeps
- fixed: the share of output channels, over all weights but the last, that no width changes; the
  notes say why (channels are counted wherever they appear), and what the seed network never trains
- plan, export: seconds, of a busy core; ran on: where the joint network ran
"""


def write(rows: Sequence[Row | DenseRow]) -> str:
    """Write all rows: facts, totals, two tables, and each failure explained."""
    classifiers = [row for row in rows if isinstance(row, Row)]
    header = HEADER.format(
        facts="\n".join(_facts(rows)),
        totals="\n".join(_totals(classifiers)),
        classes=check.CLASSES,
        batch=check.BATCH,
        tolerance=check.TOLERANCE,
        largest=check.LARGEST / 1e6,
    )
    lines = [header, "## Networks", "", LEGEND.format(sizes=", ".join(map(str, check.SIZES)))]
    lines += [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    lines += [_line(_cells(row)) for row in classifiers]
    dense = dense_table.lines([row for row in rows if isinstance(row, DenseRow)])
    lines += ["", *(each if isinstance(each, str) else _line(each) for each in dense)]
    return "\n".join([*lines, "", *_failures(rows)])


def _facts(rows: Sequence[Row | DenseRow]) -> Iterator[str]:
    versions = provenance.versions() | {name: metadata.version(name) for name in SEEDS}
    yield f"- versions: {', '.join(f'{name} {version}' for name, version in versions.items())}"
    yield f"- commit: {', '.join(sorted({row.commit for row in rows}))} (`+`: changed since)"
    yield f"- seed: {check.SEED}, with each network's name"


def _totals(rows: Sequence[Row]) -> Iterator[str]:
    for library in ("torchvision", "timm"):
        own = [row for row in rows if row.name.startswith(f"{library}/")]
        listed = [name for name in members.names() if name.startswith(f"{library}/")]
        passed = sum(not row.problems for row in own)
        unknown = f"; {len(listed) - len(own)} not run" if len(own) < len(listed) else ""
        yield f"- {library}: {passed} of {len(listed)} pass ({passed / len(listed):.1%}){unknown}"
    plans = [row.plan_s for row in rows if row.plan_s]
    if plans:
        middle, slowest = statistics.median(plans), max(plans)
        yield f"- plan: {middle:.2f} CPU s in the middle, {slowest:.1f} s at most"


def _cells(row: Row) -> list[str]:
    if not row.blocks:
        return [row.name, str(row.pixels or ""), *[""] * 8, "**fails**", ""]
    return [
        row.name,
        str(row.pixels),
        f"{row.params / 1e6:.1f}",
        " ".join(map(str, row.blocks)),
        f"{row.points:.1e}",
        f"{100 * row.smallest:.2g}%",
        f"{row.fixed:.0%}",
        f"{row.plan_s:.2f}",
        row.device,
        f"{row.export_s:.1f}",
        "**fails**" if row.problems else "passes",
        "; ".join(_notes(row)),
    ]


def _notes(row: Row) -> Iterator[str]:
    if not row.removable:
        yield "no block can be removed"
    reasons = reasons_of(row)
    for reason, channels in reasons.most_common(LONGEST):
        yield f"{channels} channels: {reason}"
    if len(reasons) > LONGEST:
        rest = sum(channels for _, channels in reasons.most_common()[LONGEST:])
        yield f"{rest} channels: {len(reasons) - LONGEST} more reasons"
    if row.idle:
        more = f" and {len(row.idle) - 1} more" if len(row.idle) > 1 else ""
        yield f"never trained: `{row.idle[0]}`{more}"


def reasons_of(row: Row) -> Counter[str]:
    """Add up the frozen channels by what is said of a module, whichever module that is."""
    found: Counter[str] = Counter()
    for reason, channels in row.frozen.items():
        if reason != OUTPUT:
            found[(reason.partition(" ")[2] or reason).partition(" (")[0]] += channels
    return found


def _failures(rows: Sequence[Row | DenseRow]) -> Iterator[str]:
    yield "## Failures"
    yield ""
    failed = [row for row in rows if row.problems]
    for row in failed:
        why = members.EXPLAINED.get(row.name, "Not yet explained.")
        yield f"- **{row.name}**: {why} ({len(row.problems)} found, the first: {row.problems[0]})"
    if not failed:
        yield "None."
    yield ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
