"""A short code for each network: `d9-1-9_w16-8-32` keeps 9, 1, 9 blocks and 16, 8, 32 channels.

Groups of channels (`segment=channels`) have widths alone: `w16-8-32`. The channels are what each
segment puts out. Where two widths of a segment differ only inside its blocks (their bottlenecks
round at other fractions), a letter tells them apart: `144`, then `144b`. The inner width of a block
that is left out is 0; of widths that differ only inside such blocks, one code names the network.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_lowercase

from ssr_exp.errors import SsrError
from ssr_exp.rescaling.plan import Architecture, Plan, Widths

LONGEST = 20_000  # characters of a code that a file holds; of a thousand segments, 5,000
NUMBER = "[0-9]{1,9}"  # what is longer is no number of blocks or channels, and slow to read
WIDTHS = rf"w({NUMBER}[a-z]*(?:-{NUMBER}[a-z]*)*)"
PATTERN = re.compile(rf"(?:.*_)?d({NUMBER}(?:-{NUMBER})*)_{WIDTHS}")
ONLY_WIDTHS = re.compile(rf"(?:.*_)?{WIDTHS}")
COUNTS_BLOCKS = re.compile(rf"(?:.*_)?d{NUMBER}(?:-{NUMBER})*_w.*")


def write(plan: Plan, architecture: Architecture) -> str:
    """Write the code of a network.

    Example:
        >>> from ssr_exp.rescaling import planning
        >>> from ssr_exp.rescaling.resnet import CifarResNet
        >>> plan = planning.trace(CifarResNet(20), (3, 32, 32))
        >>> write(plan, plan.baseline)
        'd3-3-3_w16-32-64'
    """
    architecture = plan.canonical(architecture)
    gone, pairs = plan.gone(architecture), zip(plan.widths, architecture.widths, strict=True)
    channels = ["0" if s in gone else _channels(*pair) for s, pair in enumerate(pairs)]
    widths = f"w{'-'.join(channels)}"
    blocks = [str(architecture.blocks[s]) for s in _with_blocks(plan)]
    return f"d{'-'.join(blocks)}_{widths}" if blocks else widths


def parse(plan: Plan, code: str) -> Architecture:
    """Read a network's code; a model's name and an underscore may stand before it.

    Raises:
        SsrError: if it is no code, or no network of this plan.
    """
    counted = _with_blocks(plan)
    match = (PATTERN if counted else ONLY_WIDTHS).fullmatch(code.strip())
    if match is None or (not counted and COUNTS_BLOCKS.fullmatch(code.strip())):
        why = "" if match is None else " of this network: none of its segments counts blocks"
        raise SsrError(
            f"{code!r:.80} is not a network code{why}; the baseline's is "
            f"{write(plan, plan.baseline)}."
        )
    *blocks, widths = (part.split("-") for part in match.groups())
    depths = blocks[0] if blocks else []
    if (len(depths), len(widths)) != (len(counted), len(plan.segments)):
        raise SsrError(
            f"{code!r:.80} has {_numbers(depths, widths)}, but the codes of this network have "
            f"{_numbers(counted, plan.segments)}; the baseline's is {write(plan, plan.baseline)}."
        )
    texts = dict(zip(counted, depths, strict=True))
    kept = tuple(_blocks(plan, s, int(texts.get(s, "1"))) for s in range(len(plan.segments)))
    gone = plan.gone(Architecture(kept, ()))
    positions = [_position(plan, s, text, gone=s in gone) for s, text in enumerate(widths)]
    return plan.canonical(Architecture(kept, tuple(positions)))


def _numbers(depths: Sequence[object], widths: Sequence[object]) -> str:
    """Spell how many numbers a code has: `3 depths and 4 widths`, or `4 widths`."""
    pairs = ((len(depths), "depth"), (len(widths), "width"))
    return " and ".join(f"{k} {name}{'s' * (k > 1)}" for k, name in pairs if k)


def _with_blocks(plan: Plan) -> list[int]:
    """List the segments whose blocks are counted."""
    return [s for s, segment in enumerate(plan.segments) if not segment.is_width]


def _channels(widths: Widths, position: int) -> str:
    channels = int(widths.channels[position])
    return f"{channels}{_letters(int((widths.channels[:position] == channels).sum()))}"


def _letters(rank: int) -> str:
    """Count from 0 in letters: nothing, b, c, ..., z, ba, bb, ..."""
    head, last = divmod(rank, len(ascii_lowercase))
    return _letters(head) + ascii_lowercase[last] if rank else ""


def _blocks(plan: Plan, number: int, blocks: int) -> int:
    segment = plan.segments[number]
    if not segment.fewest <= blocks <= len(segment.blocks):
        raise SsrError(
            f"segment {segment.name} cannot keep {blocks} blocks; it can keep "
            f"{segment.fewest} to {len(segment.blocks)}."
        )
    return blocks


def _position(plan: Plan, number: int, text: str, *, gone: bool) -> int:
    if gone:
        if text == "0":
            return 0
        raise SsrError(
            f"segment {plan.segments[number].name} is the inner width of a block that this code "
            f"leaves out: write 0 for it, not {text:.40}."
        )
    widths = plan.widths[number]
    written = [_channels(widths, position) for position in range(len(widths))]
    if text not in written:
        some = written if len(written) <= 20 else [*written[:9], "...", *written[-9:]]
        raise SsrError(
            f"segment {plan.segments[number].name} cannot have {text:.40} channels; it can have "
            f"{', '.join(some)}."
        )
    return written.index(text)
