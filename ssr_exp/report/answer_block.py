"""The answer of a search in one block: a command's last lines, and the first ones of its page.

Both are made of `best/`, so they say the same in the same words.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from ssr_exp import messages, terminal
from ssr_exp.report import search_results
from ssr_exp.report.search_results import Comparison, Figure, Pair, Size
from ssr_exp.runs import verdict
from ssr_exp.runs.record import Record
from ssr_exp.runs.score import Score
from ssr_exp.runs.store import BEST_FOLDER, RECORD_FILE, Store

MANY = 8  # segments: of more than that not each one's size is said
PLACE = "FOLDER"  # for a folder that is of one machine
COSTS = {"params": "parameters", "macs": "MACs", "gemms": "GeMMs", "latency_ms": "latency"}
TYPED = ("best", "export", "page")  # rows that are copied, so they are never broken

Rows = list[tuple[str, str]]


def read(store: Store, study: str, *, place: str | None = None) -> Rows:
    """Read the answer of a study's search, as rows of a name and a text; none without one.

    Args:
        store: of the records.
        study: whose `best/` is read.
        place: what the store's folder is called; None: by its path.
    """
    folder = store.study_folder(study) / BEST_FOLDER
    record = store.read(folder) if (folder / RECORD_FILE).exists() else None
    comparison = search_results.read_comparison(store, study)
    if record is None or comparison is None:
        return []
    best = folder if place is None else Path(place, *folder.relative_to(store.root).parts)
    return list(_rows(record, comparison, best))


def place_on_a_page(store: Store) -> str:
    """Say how a page calls its store's folder: a page is shown to others, who have another disk."""
    return PLACE if store.root.is_absolute() else str(store.root)


def print_block(rows: Rows) -> None:
    """Print rows, their texts below each other."""
    console = terminal.console()
    for line in terminal.block(rows, unbroken=TYPED, width=console.width):
        console.print(line, soft_wrap=True)


def _rows(record: Record, told: Comparison, best: Path) -> Iterator[tuple[str, str]]:
    is_baseline = record.params == record.baseline_params and record.macs == record.baseline_macs
    alone = ", the baseline: no smaller network is good enough yet" if is_baseline else ""
    against = None if is_baseline else _against(record, told)
    yield "answer", f"{record.model} {record.network}{alone}{_warned(told, against)}"
    yield "network", _shape(record, told.full)
    share = f"{record.params / record.baseline_params:.1%}"
    yield "parameters", f"{record.params:,}, {share} of the baseline's {record.baseline_params:,}"
    macs = f"{record.macs / record.baseline_macs:.1%} of the baseline's"
    yield "MACs", f"{record.macs / 1e6:,.2f}M, {macs} {record.baseline_macs / 1e6:,.2f}M"
    yield from _scores(record, told)
    if told.promise is not None and not is_baseline:
        yield "promise", _promise(told, record.scored_by)
    if told.latency is not None:
        measured = "measured" if told.latency.measured else "predicted, not measured"
        cap = "" if told.latency.cap is None else f"; {told.latency.cap:.4g} ms are allowed"
        yield "latency", f"{told.latency.ms:.4g} ms {measured}{cap}; {told.latency.setting}"
    if against is not None:
        yield "warning", against
    yield from _search(told, record.scored_by)
    yield "weights", verdict.weights(record)
    yield "best", f"{best}, where {PLACE} is this page's" if PLACE in best.parts else str(best)
    if told.export is not None:
        command = messages.spelled("export")
        if PLACE in best.parts and Path(command[-1]).is_absolute():
            command = ["ssr", "export"]
        yield "export", shlex.join([*command, f"run={best}", "format=onnx", *told.export])


def _against(record: Record, told: Comparison) -> str | None:
    """Say what speaks against the answer; of one of an earlier version, too."""
    if told.verdict is not None or told.promise is None:
        return told.verdict
    return verdict.text(
        record.scored_by,
        drop=told.drop,
        allowed=told.promise.allowed,
        on=told.measured_on,
        probability=told.promise.probability,
        confidence=told.promise.confidence,
    )


def _warned(told: Comparison, against: str | None) -> str:
    """Say it in a word beside the name, too."""
    if against is None:
        return ""
    return ", which lost too much on test" if told.measured_on == "test" else ", not promised"


def _shape(record: Record, full: Size | None) -> str:
    """Say in words what the code says: what of each segment is kept; of how much, if known."""
    wholes = (None, None) if full is None else (full.blocks, full.widths)
    words = []
    for kept, whole, noun in zip(
        (record.blocks, record.widths), wholes, ("blocks", "channels"), strict=True
    ):
        if noun == "blocks" and whole is not None and all(count <= 1 for count in whole):
            continue
        sizes = [kept] if whole is None else [kept, whole]
        if len(kept) > MANY:
            words.append(f"{' of '.join(f'{sum(size):,}' for size in sizes)} {noun}")
        else:
            words.append(f"{' of '.join('-'.join(map(str, size)) for size in sizes)} {noun}")
    text = ", ".join(words)
    return f"{text} in {len(record.widths)} segments" if len(record.widths) > MANY else text


def _scores(record: Record, told: Comparison) -> Iterator[tuple[str, str]]:
    score, on = record.scored_by, told.measured_on
    pair = told.measured or _pair(record, told)
    if pair is not None:
        seeds = sorted({pair.answer.seeds, pair.baseline.seeds})
        each = terminal.counted(seeds[0], "seed") if len(seeds) == 1 else ""
        how = [f"{each} each" if each else "", f"trained on {told.learnt}" if told.learnt else ""]
        said = f" ({', '.join(filter(None, how))})" if any(how) else ""
        texts = (_figure(score, figure) for figure in (pair.answer, pair.baseline))
        yield score.on(on).name, " and the baseline's ".join(texts) + said
    drop = score.drop_text(abs(told.drop))
    text = f"none: {drop} better than the baseline" if told.drop < 0 else drop
    if told.promise is not None and told.drop > told.promise.allowed:
        text += ", more than objective.max_drop allows"
    yield "drop", text
    spread = None if pair is None else pair.baseline.std
    if spread is not None and told.promise is not None and spread > told.promise.allowed:
        yield (
            "noise",
            "the baseline's own trainings differ by more than may be lost: train longer, or with "
            "more seeds (finalists.seeds), before you believe the drop",
        )


def _pair(record: Record, told: Comparison) -> Pair | None:
    """Find the scores of answer and baseline in what earlier versions wrote."""
    rows = {row.role: row for row in told.results}
    if not {"answer", "baseline"} <= rows.keys():
        return None
    answer, baseline = (
        Figure(mean=row.test_score_mean, std=row.test_score_std, seeds=len(row.seeds))
        for row in (rows["answer"], rows["baseline"])
    )
    return Pair(answer=answer, baseline=baseline)


def _figure(score: Score, figure: Figure) -> str:
    spread = "" if figure.std is None else f" +- {score.number(figure.std)}"
    return f"{score.number(figure.mean)}{spread} {score.unit}".strip()


def _promise(told: Comparison, score: Score) -> str:
    promise = told.promise
    assert promise is not None
    expected = score.expected_text(promise.drop, promise.low, promise.high)
    asked = f"; objective.confidence={promise.confidence:g} asks for more"
    before = "before it was tested: " if told.measured_on == "test" else ""
    return (
        f"{before}{promise.likely} likely to lose at most the "
        f"{score.short_drop(promise.allowed)} that may be lost; expected {expected}"
        f"{asked if promise.probability < promise.confidence else ''}"
    )


def _search(told: Comparison, score: Score) -> Iterator[tuple[str, str]]:
    """Say what the search was after beside the answer, and what would be next."""
    if (front := told.front) is not None:
        axes = f"{score.word} and {COSTS.get(front.cost, front.cost)}"
        yield (
            "trade-off",
            f"{front.networks} of {front.trained} networks are on the front of {axes}; the answer "
            "is the cheapest network that is good enough",
        )
    if (untrained := told.untrained) is not None:
        code, share = terminal.shortened(untrained.network), f"{untrained.params_share:.1%}"
        yield (
            "untrained",
            f"{code}, {share} of the parameters, is expected to be good enough, too, with "
            f"{score.name} {score.text(untrained.score)}; to train it: modifiers=explicit "
            f"modifiers.network={untrained.network}",
        )
    if (likeliest := told.likeliest) is not None:
        code, share = terminal.shortened(likeliest.network), f"{likeliest.params_share:.1%}"
        yield (
            "likeliest",
            f"{code}, {share} of the parameters, is {likeliest.likely} likely to be good enough; "
            f"objective.confidence={likeliest.confidence:g} asks for more",
        )
