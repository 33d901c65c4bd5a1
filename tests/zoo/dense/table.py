"""The second table of `results/zoo.md`: networks that are no classifiers of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.support import verdict
from tests.zoo.dense import members
from tests.zoo.dense.check import KINDS
from tests.zoo.rows import DenseRow, Split

ENOUGH = 0.95  # the share of the parameters that can change in the families of `members.WIDE`

HEADER = """\
## Dense, 1-D, 3-D and multi-output networks

{totals}

Each is split into segments of all kinds: {kinds}.
Of `stage`, full size, a random depth, a random width, both at random, and the smallest are checked;
of the others, both at random and the smallest.

- Each puts out what the seed network does: as many tensors of the same shapes, in eval and in train
  mode, on {batch} inputs, all finite.
- It gives a gradient to every parameter that gets one in the seed network.
- Its parameters and its MACs for one input are exactly those of the plan.

A kind may be refused where a network has no such segment, but not `stage`.

- input: the shape of one; params: in millions; blocks: in each segment; removable: how many of them
  depth can remove (`stage`)
- smallest: the share of the parameters that the smallest network keeps (`stage`)
- can change: the share of the parameters that go with a block, or whose shape can change (`stage`);
  bold where it is below {enough:.0%} in a family of which that is asked
- of used: the same without the parameters that the seed network itself never trains
- plan: CPU seconds (`stage`)
"""
COLUMNS = [
    *"network|input|params|blocks|removable|smallest|can change|of used|plan".split("|"),
    *KINDS,
]


def totals(rows: Sequence[DenseRow]) -> Iterator[str]:
    """Count how many pass, in all and by library, and how many parameters can change."""
    listed = members.names()
    for prefix in ("", *dict.fromkeys(f"{name.partition('/')[0]}/" for name in listed)):
        own = [row for row in rows if row.name.startswith(prefix)]
        total = sum(name.startswith(prefix) for name in listed)
        passed = sum(not row.problems for row in own)
        unknown = f"; {total - len(own)} not run" if len(own) < total else ""
        title = prefix.rstrip("/") or "all of these"
        yield f"- {title}: {passed} of {total} pass ({passed / total:.1%}){unknown}"
    for family in members.WIDE:
        own = [row for row in rows if members.MEMBERS[row.name].family == family]
        below = [row.name for row in own if not _is_wide(row)]
        used = [row.name for row in own if _stage(row).changeable_of_used < ENOUGH]
        yield (
            f"- {family} of which less than {ENOUGH:.0%} can change: {_named(below)} of "
            f"{len(own)}; without what is never trained: {_named(used)}"
        )
    stuck = sum(not _stage(row).removable for row in rows)
    yield f"- without a block that can be removed: {stuck} of {len(rows)}"


def lines(rows: Sequence[DenseRow]) -> Iterator[list[str] | str]:
    """Write what is checked, then the table as lists of cells."""
    yield HEADER.format(
        totals="\n".join(totals(rows)),
        kinds=", ".join(f"`{kind}`" for kind in KINDS),
        batch=verdict.BATCH,
        enough=ENOUGH,
    )
    yield COLUMNS
    yield ["---"] * len(COLUMNS)
    yield from map(_cells, rows)


def _named(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names)})" if names else "0"


def _stage(row: DenseRow) -> Split:
    return row.splits.get("stage", Split())


def _is_wide(row: DenseRow) -> bool:
    return _stage(row).changeable >= ENOUGH


def _cells(row: DenseRow) -> list[str]:
    split = _stage(row)
    share = f"{split.changeable:.1%}"
    asked = members.MEMBERS[row.name].family in members.WIDE
    return [
        row.name,
        "x".join(map(str, row.shape)),
        f"{row.params / 1e6:.1f}",
        " ".join(map(str, split.blocks)),
        str(split.removable),
        f"{100 * split.smallest:.2g}%",
        f"**{share}**" if asked and not _is_wide(row) else share,
        f"{split.changeable_of_used:.1%}",
        f"{split.plan_s:.2f}",
        *(_verdict(row, kind) for kind in KINDS),
    ]


def _verdict(row: DenseRow, kind: str) -> str:
    split = row.splits.get(kind)
    if split is None or any(problem.startswith(f"{kind}, ") for problem in row.problems):
        return "**fails**"
    return f"refused: {split.refused}" if split.refused else "passes"
