"""How much faster rescaled networks are: by depth, by width, by both, at equal parameters.

Of each seed network's lattice three networks are taken that have about the same parameters and, as
far as the lattice allows, the same MACs: the papers' claims are about what one gets of a budget.
The target is what depth alone can reach: a ResNet-18 with one block in each stage still has 44 % of
its parameters. All networks and runtimes take turns on one batch.

Read a ratio beside the share of MACs: were MACs all that takes time, the seed network would take
`1 / share` times the rescaled one's. What is missing to that, or beyond it, has three causes:

- Launches: each operator costs some microseconds however small it is, in eager mode most. Only
  fewer blocks take that away (the share of products says how many are left), so at batch 1 depth
  gains more than width. Runtimes that plan ahead (ONNX Runtime, ExecuTorch) have less of it.
- Memory: batch norms, activations and additions read and write each channel once, so they shrink
  with the width and not with its square; and a large batch of activations leaves the cache.
- Rounding: kernels work on vectors of channels; a part of one takes as long as a whole one.

The second part shows rounding. One network is thinned to one width with its channels rounded to
multiples of 2, 4, 8 and 16, at a width where none of these channels is a multiple of the next.
MACs then differ (40 to 61 % of ResNet-56's), so time per MAC is compared, beside the times: above
1, a multiple spends time that 16 does not. From the multiple on at which that ends, channels fill
the vectors of a runtime: 16 numbers in AVX-512, 8 in AVX2, 4 in NEON. Where launches take the time,
at batch 1, the ratio favours the network with the most MACs, which is that of 16.

SCBP's "up to 80 % faster" is read as in `scbp.py`: a fifth of the time, so 5x.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn

from benchmarks import measure
from benchmarks.measure import Figure, Seconds
from ssr_exp.config import ModelConf, SegmentConf
from ssr_exp.edge.latency import runtimes, stopwatch
from ssr_exp.edge.latency.runtimes import Runner, Runtime
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, cost, lattice, planning, rescale, seeds
from ssr_exp.rescaling.cost import Points
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.runs.provenance import torch_threads

PART = "latency"
SHAPE, CLASSES = (3, 32, 32), 10  # CIFAR-10's; stems are for small images
SEED, DEPTH, WIDTH, JOINT = "seed", "depth", "width", "joint"
TARGET_TOLERANCE = 0.1  # of parameters: an even network of depth is worth a bit of the target
TOLERANCE = 0.02  # of parameters: what counts as equal
UNIFORM = 0.66  # the width; here no channels of a CIFAR ResNet fit the next multiple, too
WARM_UP = 1  # rounds; each timed turn follows an untimed one anyway

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Claim:
    """What a paper says of ratios of latencies.

    Args:
        words: what it says.
        ratios: how the names of the ratios end that it is held against.
        at_least: what they are where it holds.
    """

    words: str
    ratios: tuple[str, ...]
    at_least: float


OVER_RESCALED = tuple(f": {SEED} over {kind}" for kind in (DEPTH, WIDTH, JOINT))
OVER_DEPTH = f": {WIDTH} over {DEPTH} at equal parameters"
CLAIMS = (
    Claim("up to 3x lower latency, from depth above all", OVER_RESCALED, 3.0),
    Claim("SCBP: up to 80 % faster", OVER_RESCALED, 5.0),
    Claim("depth beats width at equal parameters", (OVER_DEPTH,), 1.0),
)


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Args:
        networks: seed networks.
        share: of a seed's parameters that is aimed at.
        multiples_of: the network whose channels are rounded to different multiples.
        multiples: of channels; others are compared with the last one.
        runtimes: by name; None: all that run on this machine.
        batches: images at once.
        repeats: measured turns of each network, one image at a time.
        repeats_of_batches: measured turns with more images.
        threads: of the runtimes.
    """

    networks: tuple[str, ...] = ("resnet56", "resnet18", "resnet50")
    share: float = 0.35
    multiples_of: str = "resnet56"
    multiples: tuple[int, ...] = (2, 4, 8, 16)
    runtimes: tuple[str, ...] | None = None
    batches: tuple[int, ...] = (1, 64)
    repeats: int = 30
    repeats_of_batches: int = 5
    threads: int = 1

    def turns(self, batch: int) -> int:
        """Say how many turns are measured with so many images."""
        return self.repeats if batch == 1 else self.repeats_of_batches


SMOKE = Size(
    networks=("resnet14",),
    multiples_of="resnet14",
    multiples=(8, 16),
    runtimes=("eager", "onnxruntime"),
    batches=(1,),
    repeats=1,
    repeats_of_batches=1,
)


def measured(size: Size) -> list[Figure]:
    """Time rescaled networks and multiples of channels; hold the papers' claims against them."""
    settings = [_setting(way, size) for way in _runtimes(size)]
    figures = [figure for name in size.networks for figure in _rescaled(name, size)]
    multiples = _multiples(size)
    return [*settings, *figures, *multiples, *(held(claim, figures) for claim in CLAIMS)]


def chosen(plan: Plan, share: float) -> dict[str, Architecture]:
    """Choose networks of about equal parameters: rescaled by depth alone, by width alone, by both.

    Depth comes first, as near to the target as it can; the others go by its parameters. Of networks
    that are near enough, the evenest is taken (`Networks.evenest`).

    Args:
        plan: of the seed network.
        share: of its parameters that is aimed at.

    Raises:
        SsrError: if depth or width cannot be changed.
    """
    every = Networks.of(plan)
    deep, wide = (every.depth == 1).all(axis=1), (every.width == 1).all(axis=1)
    by_depth = every.evenest(wide & ~deep, every.depth, params=share, tolerance=TARGET_TOLERANCE)
    budget = float(every.params[by_depth])
    by_width = every.evenest(deep & ~wide, every.width, params=budget)
    both = np.concatenate([every.depth, every.width], axis=1)
    by_both = every.evenest(~deep & ~wide, both, params=budget)
    found = cost.decode(plan, every.points[[by_depth, by_width, by_both]])
    return dict(zip((DEPTH, WIDTH, JOINT), found, strict=True))


@dataclass(frozen=True, eq=False)
class Networks:
    """All `n` networks of a lattice, by what each keeps of the seed network.

    Args:
        points: `n x S`.
        depth: shares of the blocks of each segment, `n x S`.
        width: shares of the channels of each segment, `n x S`.
        params: shares of the parameters, `n`.
        macs: shares of the MACs, `n`.
    """

    points: Points
    depth: Floats
    width: Floats
    params: Floats
    macs: Floats

    @classmethod
    def of(cls, plan: Plan) -> Networks:
        """List the lattice of a plan."""
        points = np.concatenate(list(lattice.from_plan(plan).enumerate()))
        blocks = np.array([len(segment.blocks) for segment in plan.segments])
        positions, kept = np.divmod(points, blocks)
        columns = zip(plan.widths, positions.T, strict=True)
        width = [own.channels[column] / own.channels[-1] for own, column in columns]
        counts, full = cost.count(plan, points), cost.count_one(plan, plan.baseline)
        shares = counts.params / full.params, counts.macs / full.macs
        return cls(points, (kept + 1) / blocks, np.stack(width, axis=1), *shares)

    def evenest(
        self,
        which: NDArray[np.bool_],
        shares: Floats,
        *,
        params: float,
        tolerance: float = TOLERANCE,
    ) -> int:
        """Choose the evenest of the networks that have about so many parameters.

        It keeps about the same of each segment, and of MACs what it keeps of parameters.

        Args:
            which: the networks to choose from, `n`.
            shares: that should be alike in a network, `n x k`.
            params: the share of parameters that is aimed at.
            tolerance: as a share of `params`; if none is so near, the nearest is taken.

        Raises:
            SsrError: if there is no network to choose from.
        """
        numbers = np.flatnonzero(which)
        if not len(numbers):
            raise SsrError("this network cannot be rescaled so: take one of more blocks.")
        gaps = np.abs(self.params[numbers] / params - 1)
        near = numbers[gaps <= max(tolerance, gaps.min())]
        uneven = shares[near].std(axis=1) + np.abs(self.macs[near] - self.params[near])
        return int(near[np.argmin(uneven.round(9))])  # the first of equals, whatever the machine


def held(claim: Claim, figures: Sequence[Figure]) -> Figure:
    """Hold a claim against all of its ratios: print each verdict, and count where it holds."""
    rows = [figure for figure in figures if figure.name.endswith(claim.ratios)]
    holds = [row for row in rows if row.value >= claim.at_least]
    print(f"claim: {claim.words} ({measure.number(claim.at_least)}x): ", end="")
    print(f"holds in {len(holds)} of {len(rows)}")
    for row in rows:
        rounds = " - ".join(map(measure.number, row.spread or ()))
        verdict = "holds" if row in holds else "not"
        print(f"  {verdict:5} {measure.number(row.value)}x ({rounds}) {row.name}")
    name = f"claim: {claim.words}: ratios of {measure.number(claim.at_least)} or more"
    return Figure(PART, name, len(holds), f"of {len(rows)}")


def _rescaled(name: str, size: Size) -> list[Figure]:
    """Time a seed network and its three rescaled ones."""
    conf = ModelConf(name)
    seed, plan = planning.seed_and_plan(conf, SegmentConf(), num_classes=CLASSES, input_shape=SHAPE)
    architectures = {SEED: plan.baseline, **chosen(plan, size.share)}
    figures = _costs(name, plan, architectures)
    built = {kind: rescale.build(seed, plan, own) for kind, own in architectures.items()}
    for batch in size.batches:
        label = f"{name}, batch {batch}"
        for way, seconds in _timed(label, built, batch=batch, size=size).items():
            figures += _ratios(f"{label}, {way}", seconds)
    return figures


def _costs(name: str, plan: Plan, architectures: Mapping[str, Architecture]) -> list[Figure]:
    """Say what each network keeps of the first one's cost, in the order of `Cost`."""
    full, *others = (cost.count_one(plan, own) for own in architectures.values())
    figures = []
    for (kind, own), spent in zip(list(architectures.items())[1:], others, strict=True):
        for what, part, whole in zip(("parameters", "MACs", "products"), spent, full, strict=True):
            label = f"{name}, {kind} ({codes.write(plan, own)}): share of {what}"
            figures.append(Figure(PART, label, part / whole))
            print(f"{label}: {part / whole:.3f}")
    return figures


def _ratios(label: str, seconds: Seconds) -> list[Figure]:
    """Compare the seed network with the others, and width with depth."""
    own = [measure.duration(PART, f"{label}: {SEED}", seconds[SEED])]
    for kind, name in zip((DEPTH, WIDTH, JOINT), OVER_RESCALED, strict=True):
        own.append(measure.ratio(PART, f"{label}{name}", seconds[SEED], seconds[kind]))
    return [*own, measure.ratio(PART, f"{label}{OVER_DEPTH}", seconds[WIDTH], seconds[DEPTH])]


def _multiples(size: Size) -> list[Figure]:
    """Time a network of one width, its channels rounded to different multiples."""
    name = size.multiples_of
    seed = seeds.build(ModelConf(name), num_classes=CLASSES, input_shape=SHAPE)
    built, macs, figures = {}, {}, []
    for multiple in size.multiples:
        plan, label = planning.trace(seed, SHAPE, multiple=multiple), f"multiple {multiple}"
        own, full = thinned(plan), cost.count_one(plan, plan.baseline)
        built[label], macs[label] = rescale.build(seed, plan, own), cost.count_one(plan, own).macs
        what = f"{name} at width {UNIFORM}, {label} ({codes.write(plan, own)}): share of MACs"
        figures.append(Figure(PART, what, macs[label] / full.macs))
    for batch in size.batches:
        label = f"{name} at width {UNIFORM}, batch {batch}"
        for way, seconds in _timed(label, built, batch=batch, size=size).items():
            figures += _per_mac(f"{label}, {way}", seconds, macs)
    return figures


def thinned(plan: Plan) -> Architecture:
    """Keep all blocks, and the same share of channels everywhere."""
    n_segments = len(plan.segments)
    return plan.effective(Modifiers(depth=[1] * n_segments, width=[UNIFORM] * n_segments))


def _per_mac(label: str, seconds: Seconds, macs: Mapping[str, int]) -> list[Figure]:
    """Compare each multiple's time for a MAC with the last one's."""
    own = [measure.duration(PART, f"{label}: {name}", times) for name, times in seconds.items()]
    paces = {name: [each / macs[name] for each in times] for name, times in seconds.items()}
    *others, last = paces
    for name in others:
        what = f"{label}: time per MAC, {name} over {last.removeprefix('multiple ')}"
        own.append(measure.ratio(PART, what, paces[name], paces[last]))
    return own


def _timed(
    label: str, networks: Mapping[str, nn.Module], *, batch: int, size: Size
) -> dict[str, Seconds]:
    """Let all networks in all runtimes take turns; returns the seconds by runtime and network."""
    print(f"preparing {label} ...", flush=True)
    with torch_threads(size.threads):
        runners = {
            (way.name, name): _runner(network, way, batch=batch, size=size)
            for way in _runtimes(size)
            for name, network in networks.items()
        }
        print(f"timing {label} ...", flush=True)
        found = stopwatch.interleaved(runners, repeats=size.turns(batch), warm_up=WARM_UP)
    seconds: dict[str, Seconds] = {}
    for (way_name, name), own in found.items():
        seconds.setdefault(way_name, {})[name] = [ms / 1000 for ms in own.times]
    return seconds


def _runner(network: nn.Module, way: Runtime, *, batch: int, size: Size) -> Runner:
    """Prepare a copy, since a runtime of the GPU moves the network there."""
    own = copy.deepcopy(network)
    return stopwatch.prepare(own, SHAPE, way, batch=batch, threads=size.threads)


def _setting(way: Runtime, size: Size) -> Figure:
    """Note what a runtime is, which the conditions of all benchmarks do not say."""
    return Figure(PART, f"{way.name}: {way.version()}, {way.device()}; threads", size.threads)


def _runtimes(size: Size) -> list[Runtime]:
    """List the runtimes that are measured."""
    if size.runtimes is not None:
        return [runtimes.find(name) for name in size.runtimes]
    here = []
    for name in runtimes.NAMES:
        with suppress(SsrError):  # of one that cannot run on this machine
            here.append(runtimes.find(name))
    return here
