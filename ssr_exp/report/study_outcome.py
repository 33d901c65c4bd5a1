"""What came of a study: its baseline, its best network, its answer, and whether that held."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ssr_exp.report import answer_block
from ssr_exp.report.study_overview import StudySummary
from ssr_exp.runs import seed_means, verdict
from ssr_exp.runs.last_comparison import Comparison
from ssr_exp.runs.record import Kind, Record, Status
from ssr_exp.runs.seed_means import SeedMean
from ssr_exp.terminal import counted, duration

NONE = "-"


def describe(one: StudySummary) -> dict[str, str]:
    """Say what came of a study, by what it is; of what was tested, means over seeds."""
    first = next(iter(one.records), None)
    promised = _said(one, Comparison.promise_text)
    finals = sum(record.status is Status.finished for record in one.finals)
    return {
        "baseline": _baseline(one),
        "its parameters": f"{first.baseline_params:,}" if first else NONE,
        "its MACs": f"{first.baseline_macs:,}" if first else NONE,
        "best": NONE if one.best is None else _best(one.best),
        "answer": NONE if one.answer is None else _answer(one, one.answer),
        "drop": _drop(*one.handed) if one.handed else NONE,
        "promise": promised or NONE,
        "noise": _said(one, Comparison.noise_text) or NONE,
        "tested": (one.handed and one.handed[1].tested_text) or NONE,
        "against it": against(one) or NONE,
        "runs done": _with_finalists(
            str(one.count(Status.finished)), str(one.count(Status.finished) + finals), finals
        ),
        "device time": _with_finalists(
            duration(one.seconds), duration(one.seconds + one.seconds_of_finals), finals
        ),
    }


def _with_finalists(own: str, whole: str, count: int) -> str:
    """Say, where finalists have a study of their own, what it is with them, too."""
    return f"{own}, with its finalists {whole}" if count else own


def _baseline(one: StudySummary) -> str:
    """Write the baseline's scores: on val of the study's runs, on test of its finalists."""
    whole = next((record.network for record in one.records if record.kind is Kind.baseline), None)
    said = []
    if (own := seed_means.on_val(one.records).get(whole or "")) is not None:
        how, seeds = own.records[0].scored_by, counted(len(own.seeds), "seed")
        said.append(f"{how.val_name} {how.text(own.mean)} ({seeds})")
    if one.handed is not None and (tested := _tested(*one.handed, "baseline")):
        said.append(tested)
    return ", ".join(said) or NONE


def _best(best: SeedMean) -> str:
    first = best.records[0]
    named = f"{first.scored_by.val_name} {mean_text(best)}"
    return f"{first.network}, {named}, {share(first)} of parameters"


def _answer(one: StudySummary, record: Record) -> str:
    tested = _tested(record, one.told, "answer") if one.told is not None else ""
    if not tested and record.test_score is not None:
        tested = f"test {record.scored_by.text(record.test_score)} of seed {record.seed}"
    of = f"{share(record)} of parameters"
    if record.is_whole:
        of = verdict.baseline_text(against(one))
    return ", ".join(filter(None, [record.network, of, tested]))


def _drop(record: Record, told: Comparison) -> str:
    untested = "" if told.measured_on == "test" else f", on {told.measured_on}"
    return f"{told.drop_text(record)}{untested}"


def _tested(record: Record, told: Comparison, role: str) -> str:
    """Write a score on test, the mean over a network's finalists; empty: there is none."""
    pair, how = told.pair, record.scored_by
    if pair is None or told.measured_on != "test":
        return ""
    figure = getattr(pair, role)
    seeds = counted(figure.seeds, "seed")
    return f"{how.on('test').name} {answer_block.figure_text(how, figure)} ({seeds})"


def promise(one: StudySummary) -> dict[str, Any] | None:
    """Say what the answer lost, what it may lose, and whether a test kept to that."""
    if one.handed is None or (stated := one.handed[1].promise) is None:
        return None
    _, told = one.handed
    what = {"drop": told.drop, "measured_on": told.measured_on, "kept": told.is_kept}
    return what | {key: getattr(stated, key) for key in ("allowed", "probability", "confidence")}


def against(one: StudySummary) -> str | None:
    """Say what speaks against the answer; None: nothing does, or there is none."""
    return _said(one, Comparison.against)


def _said(one: StudySummary, what: Callable[[Comparison, Record], str | None]) -> str | None:
    """Ask a comparison something of the answer; None where there is none."""
    if one.handed is None:
        return None
    record, told = one.handed
    return what(told, record)


def mean_text(one: SeedMean) -> str:
    """Write what a network scores on val, with its unit, and of how many seeds it is the mean."""
    seeds = len(one.seeds)
    return one.records[0].scored_by.text(one.mean) + (f" (mean of {seeds})" if seeds > 1 else "")


def share(record: Record) -> str:
    """Write a network's parameters as a share of its baseline's."""
    return f"{record.params / record.baseline_params:.1%}"
