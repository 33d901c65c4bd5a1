"""How descriptions are drawn."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from hypothesis import strategies as st

from tests.random_networks import ends, graphs, layers, networks, resizes, traits
from tests.random_networks.descriptions import Description, Stage
from tests.random_networks.extras import EXTRAS
from tests.random_networks.graphs import Step
from tests.random_networks.holders import HOLDERS
from tests.random_networks.levels import BLOCK_KINDS

SIZES = {1: (16, 8, 12), 2: (8, 12, 16), 3: (8,)}
SPLITS = ("stage", "stage", "stage", "block", "superblock", "whole")
GRAPHS = 12  # times as often as any other block
PLACES = ("stem", "stage", "block", "head", "image")


def descriptions(*, without: Collection[str] = ()) -> st.SearchStrategy[Description]:
    """Draw descriptions `without` some kinds of blocks, extras, traits and so on."""

    def among(usual: Iterable[str], rare: Iterable[str] = ()) -> st.SearchStrategy[str]:
        """Draw a usual kind in half of the cases, else any."""
        usual = [kind for kind in usual if kind not in without]
        others = [kind for kind in rare if kind not in (*usual, *without)]
        drawn = st.sampled_from(usual)
        return drawn | st.sampled_from(others) if others else drawn

    steps = st.lists(
        st.builds(Step, among(graphs.OPS), st.integers(0, 3), st.integers(0, 3)),
        min_size=2,
        max_size=7,
    ).map(tuple)
    stages = st.builds(
        Stage,
        block=among((*BLOCK_KINDS, *["graph"] * GRAPHS)),
        count=st.integers(1, 4),
        channels=st.sampled_from((16, 20, 24, 32)),
        resize=among(("none", "max", "stride"), resizes.RESIZES),
        holder=among(("sequence", "iterated"), HOLDERS),
        norm=among(("batch",), layers.NORMS),
        activation=among(("relu",), layers.ACTIVATIONS),
        padding=among(("zeros",), layers.PADDINGS),
        steps=steps,
    ).map(_tidy)
    extras = st.tuples(among(EXTRAS), st.sampled_from(PLACES), st.booleans())
    given = st.tuples(among(traits.NAMES), st.integers(1, 3))
    return st.sampled_from((2, 2, 1, 3)).flatmap(
        lambda dims: st.builds(
            Description,
            kind=among(("forward",), networks.KINDS),
            dims=st.just(dims),
            size=st.sampled_from(SIZES[dims]),
            stem=among(("unit",), ends.STEMS),
            stages=st.lists(stages, min_size=1, max_size=3).map(tuple),
            head=among(("pooled",), ends.HEADS),
            output=among(("tensor",), ends.OUTPUTS),
            taps=among(("none",), networks.TAPS),
            extras=_few(extras),
            traits=_few(given),
            split=among(SPLITS),
            multiple=st.sampled_from((4, 1, 2, 8)),
        )
    )


def _tidy(stage: Stage) -> Stage:
    """Leave out the steps of a block that is no graph."""
    return stage if stage.block == "graph" else replace(stage, steps=())


def _few(entries: st.SearchStrategy[tuple]) -> st.SearchStrategy[tuple]:
    """Draw none in half of the cases, else one or two."""
    return st.just(()) | st.lists(entries, min_size=1, max_size=2).map(tuple)
