"""What papers claim of ResNets on CIFAR, held against a study's records.

A claim is held if the records show it, on val for networks that were trained once, on test for
finalists; a figure that no record gives was not tried.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import Kind, Record

DROP = 1.0  # points of accuracy that "little loss" may be
FEWER = (0.8, 0.9)  # parameters, by the surrogate
BY_SENTINELS = 0.65
GEMMS, LATENCY = 5.0, 3.0  # times fewer, times lower
SCBP_SIZE, SCBP_TIME = 0.5, 0.8  # of the seed's parameters and time, "often"
NETWORKS = 10**5
NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Claim:
    """One line: what is claimed, what was found, and whether that holds it."""

    claim: str
    found: str
    held: bool | None  # None: not tried

    @property
    def row(self) -> str:
        """Write it as a row of a table."""
        verdict = NOT_TRIED if self.held is None else "yes" if self.held else "no"
        return f"| {self.claim} | {verdict} | {self.found} |"


@dataclass(frozen=True)
class Found:
    """A network, by its smallest seed, and what it loses against the baseline, in points."""

    record: Record
    lost: float
    part: str  # val, or test for finalists, whose trainings all count

    @property
    def fewer(self) -> float:
        """The share of the baseline's parameters that it does without."""
        return 1 - self.record.params / self.record.baseline_params

    @property
    def text(self) -> str:
        """Name it with its figures."""
        lost = f"loses {self.lost:.2f}" if self.lost >= 0 else f"gains {-self.lost:.2f}"
        return (
            f"{self.record.network}, {self.fewer:.1%} fewer parameters, {lost} points on "
            f"{self.part}"
        )


def table(
    records: Sequence[Record],
    finals: Sequence[Record],
    told: Predictions | None,
    *,
    answer: str | None = None,
) -> Iterator[str]:
    """Write the claims of one study, as Markdown.

    Args:
        records: finished trainings of the study, with the baseline among them.
        finals: those of its finalists.
        told: what its last search predicted.
        answer: the network that it named.
    """
    yield from _rows(claims(records, finals, told, answer=answer))


def scbp_table(records: Sequence[Record]) -> Iterator[str]:
    """Write what is claimed of SCBP, as Markdown; `records`: finished trainings, and the seed's."""
    yield from _rows(scbp_claims(records))


def _rows(some: Sequence[Claim]) -> Iterator[str]:
    yield "| claimed | held | found |"
    yield "|---|---|---|"
    for claim in some:
        yield claim.row
    yield ""


def claims(
    records: Sequence[Record],
    finals: Sequence[Record],
    told: Predictions | None,
    *,
    answer: str | None = None,
) -> list[Claim]:
    """Hold each claim against the records; see `table`."""
    records = [r for r in records if r.kind is not Kind.finalist]
    finals = [r for r in finals if r.model == records[0].model]  # the family's codes are its own
    searched = found(records, "val")
    tested = found(finals, "test")
    known = {one.record.network for one in tested}
    first = [one for one in searched if one.record.round is None]
    proposed = {one.record.network for one in searched if one.record.round is not None}
    best = _most(first)
    small = min((o for o in first if o.fewer >= BY_SENTINELS), key=lambda o: o.lost, default=None)
    beside = "" if small is None or small is best else f"; {small.text}"
    return [
        Claim(
            "65 to 70 % fewer parameters by the first networks alone, at little loss",
            f"{_says(best)}{beside}",
            best is not None and best.fewer >= BY_SENTINELS,
        ),
        *(_smaller(fewer, searched, tested, proposed, told) for fewer in FEWER),
        _gemms([*tested, *(one for one in searched if one.record.network not in known)], told),
        *_latencies([*records, *finals], tested, searched, answer),
        Claim(
            "more than 10^5 networks to choose from",
            NOT_TRIED if told is None or told.lattice is None else f"{told.lattice.size:,}",
            None if told is None or told.lattice is None else told.lattice.size > NETWORKS,
        ),
    ]


def scbp_claims(records: Sequence[Record]) -> list[Claim]:
    """Hold what is claimed of SCBP against the records."""
    claim = "derived models often (here: more than half of them) 50 % smaller and 20 % faster"
    derived = {r.network: r for r in records if r.params < r.baseline_params}
    small = [r for r in derived.values() if r.params <= SCBP_SIZE * r.baseline_params]
    full = next((r for r in records if r.params == r.baseline_params), None)
    if full is None or not derived:
        return [Claim(claim, NOT_TRIED, None)]
    size = f"{len(small)} of {len(derived)} have at most half of the parameters"
    rows = []
    for setting, ms in (full.latencies or {}).items():
        timed = [r for r in small if setting in (r.latencies or {})]
        fast = [r for r in timed if (r.latencies or {})[setting] <= SCBP_TIME * ms]
        found_ = f"{size}, {len(fast)} of them at most 80 % of the time, too ({setting})"
        rows.append(Claim(claim, found_, 2 * len(fast) > len(derived)))
    return rows or [Claim(claim, f"{size}; latency was not measured", None)]


def found(records: Sequence[Record], part: str) -> list[Found]:
    """List the networks of records with what they lose in the mean, the baseline left out."""
    scores: dict[str, list[float]] = {}
    for r in records:
        if (score := r.score if part == "val" else r.test_score) is not None:
            scores.setdefault(r.network, []).append(score)
    by_network = {r.network: r for r in sorted(records, key=lambda r: -r.seed)}
    full = next((n for n, r in by_network.items() if r.params == r.baseline_params), None)
    if full not in scores:
        return []
    return [
        Found(by_network[network], mean(scores[full]) - mean(some), part)
        for network, some in scores.items()
        if network != full
    ]


def _most(networks: Sequence[Found]) -> Found | None:
    """Find the smallest network that loses little."""
    kept = [one for one in networks if one.lost <= DROP]
    return max(kept, key=lambda one: one.fewer, default=None)


def _says(one: Found | None) -> str:
    return f"none loses {DROP:g} point or less" if one is None else one.text


def _smaller(
    fewer: float,
    searched: Sequence[Found],
    tested: Sequence[Found],
    proposed: Collection[str],
    told: Predictions | None,
) -> Claim:
    """Take the best network that is so small and was proposed, a finalist if there is one."""
    loss = "at less than one point" if fewer == FEWER[-1] else "at little loss"
    claim = f"over {100 * fewer:g} % fewer parameters with the surrogate, {loss}"
    if not proposed:
        return Claim(claim, NOT_TRIED, None)
    small = [one for part in (tested, searched) for one in part if one.fewer >= fewer]
    own = [one for one in small if one.record.network in proposed]
    best = min((o for o in own if o.part == own[0].part), key=lambda o: o.lost, default=None)
    if best is not None:
        return Claim(claim, f"the best of them: {best.text}", best.lost <= DROP)
    first = min((o for o in small if o.part == "val"), key=lambda o: o.lost, default=None)
    said = [
        "none was proposed",
        _predicted(fewer, searched, told),
        "" if first is None else f"of the first networks {first.text}",
    ]
    return Claim(claim, "; ".join(filter(None, said)), held=False)


def _predicted(fewer: float, searched: Sequence[Found], told: Predictions | None) -> str:
    """Name the network so small that is expected to lose the least, of those that are listed."""
    if told is None or told.lattice.drop is None or not searched:
        return ""
    lattice, most = told.lattice, (1 - fewer) * searched[0].record.baseline_params
    small = [i for i, params in enumerate(lattice.params) if params <= most]
    best = min(small, key=lambda i: lattice.drop[i] if lattice.drop else 0.0, default=None)
    if best is None:
        return "the lattice has none"
    return (
        f"of all {lattice.network[best]} is expected to lose least, {lattice.drop[best]:.2f} points"
    )


def _gemms(networks: Sequence[Found], told: Predictions | None) -> Claim:
    kept = [one for one in networks if one.lost <= DROP]
    best = min(kept, key=lambda one: one.record.gemms, default=None)
    claim = f"up to {GEMMS:g} times fewer GeMMs"
    if best is None:
        return Claim(claim, _says(None), held=False)
    full = best.record.baseline_gemms
    times, least = full / best.record.gemms, 0 if told is None else min(told.lattice.gemms)
    beyond = f"; the lattice holds at most {full / least:.1f} times fewer" if least else ""
    return Claim(claim, f"{times:.1f} times: {best.text}{beyond}", times >= GEMMS)


def _latencies(
    records: Sequence[Record],
    tested: Sequence[Found],
    searched: Sequence[Found],
    answer: str | None,
) -> list[Claim]:
    """Compare the baseline's latency with the lowest that loses little, and with the answer's."""
    claim = f"up to {LATENCY:g} times lower latency"
    measured = {r.network: dict(r.latencies) for r in records if r.latencies}
    full = next((r.network for r in records if r.params == r.baseline_params), "")
    by_network = {one.record.network: one for one in (*searched, *tested)}  # test, where there is
    rows = []
    for setting, ms in measured.get(full, {}).items():

        def times(one: Found, setting: str = setting, ms: float = ms) -> float:
            return ms / measured[one.record.network][setting]

        others = [
            one for network, one in by_network.items() if setting in measured.get(network, {})
        ]
        best = max((one for one in others if one.lost <= DROP), key=times, default=None)
        if others and best is None:
            rows.append(Claim(claim, f"{_says(None)} ({setting})", held=False))
        elif best is not None:
            own = next((one for one in others if one.record.network == answer), None)
            beside = "" if own in (None, best) else f"; the answer: {times(own):.1f} times"
            of = f"of {len(others) + 1} networks that were measured"
            said = f"{times(best):.1f} times, {of} ({setting}): {best.text}{beside}"
            rows.append(Claim(claim, said, times(best) >= LATENCY))
    return rows or [Claim(claim, NOT_TRIED, None)]
