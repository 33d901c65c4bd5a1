"""The answer of a search in one block: a command's last lines, and the first ones of its page.

Both are made of `best/`, so they say the same in the same words.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from ssr_exp import messages, terminal
from ssr_exp.report import next_training, search_results
from ssr_exp.runs import cost_words, verdict
from ssr_exp.runs.last_comparison import (
    Cheaper,
    Comparison,
    Figure,
    Likeliest,
    Size,
    Untrained,
)
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.score import Score
from ssr_exp.runs.store import BEST_FOLDER, Store

MANY = 8  # segments: of more than that not each one's size is said
LETTERED = re.compile(r"(?<=[w-])([0-9]+)([a-z]+)(?=-|$)")  # widths in a code: see `codes`
MOST_LETTERS = 2  # that are explained
PLACE = "FOLDER"  # for a folder that is of one machine
TYPED = ("best", "export", "page", "to train it")  # rows that are copied, so they are never broken

Rows = list[tuple[str, str]]


def read(store: Store, study: str, *, place: str | None = None, is_beside: bool = True) -> Rows:
    """Read the answer of a study's search, as rows of a name and a text; none without one.

    Args:
        store: of the records.
        study: whose `best/` is read.
        place: what the store's folder is called; None: by its path.
        is_beside: whether the page lies in that folder.
    """
    folder = store.study_folder(study) / BEST_FOLDER
    record = store.read(folder)
    comparison = search_results.read_comparison(store, study)
    if record is None or comparison is None:
        return []
    return rows_of(
        store, study, record, comparison, folder=folder, place=place, is_beside=is_beside
    )


def rows_of(
    store: Store,
    study: str,
    record: Record,
    told: Comparison,
    *,
    folder: Path | None,
    place: str | None = None,
    is_beside: bool = True,
) -> Rows:
    """Write an answer as rows of a name and a text.

    Args:
        store: of the records.
        study: that it is the answer of.
        record: of the training that is handed over.
        told: what is said of it.
        folder: where its weights lie; None: none were told.
        place: what the store's folder is called; None: by its path.
        is_beside: whether the page lies in that folder.
    """
    if place is not None and folder is not None:
        folder = Path(place, *folder.relative_to(store.root).parts)
    untrained = told.untrained
    if untrained is not None and _is_trained(store, study, untrained.network):  # since
        untrained, told = None, told.model_copy(update={"untrained": None})
    rows = list(_rows(record, told, folder, is_beside=is_beside))
    if untrained is None:
        return rows
    typed = next_training.words(store, study, untrained.network, place=place)
    at = [name for name, _ in rows].index("untrained") + 1
    return [*rows[:at], ("to train it", typed), *rows[at:]]


def _is_trained(store: Store, study: str, network: str) -> bool:
    """Say whether a training of a network has ended that did not fail."""
    folders = sorted(store.folder(study, network, 0).parent.glob("seed*"))
    records = [record for record in map(store.read, folders) if record is not None]
    return any(record.status is not Status.failed for record in records)


def place_on_a_page(store: Store) -> str:
    """Say how a page calls its store's folder: a page is shown to others, who have another disk."""
    return PLACE if store.root.is_absolute() else str(store.root)


def print_block(rows: Rows) -> None:
    """Print rows, their texts below each other."""
    console = terminal.console()
    for line in lines(rows):
        console.print(line, soft_wrap=True)


def lines(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Lay rows out for this terminal, their texts below each other."""
    return terminal.block(rows, unbroken=TYPED, width=terminal.console().width)


def _rows(
    record: Record, told: Comparison, best: Path | None, *, is_beside: bool
) -> Iterator[tuple[str, str]]:
    against = told.against(record)
    said = f", {verdict.baseline_text(against)}" if record.is_whole else _warned(told, against)
    yield "answer", f"{record.model} {record.network}{said}"
    yield "network", _shape(record, told.full)
    share = f"{record.params / record.baseline_params:.1%}"
    yield "parameters", f"{record.params:,}, {share} of the baseline's {record.baseline_params:,}"
    macs = f"{record.macs / record.baseline_macs:.1%} of the baseline's"
    yield "MACs", f"{record.macs / 1e6:,.2f}M, {macs} {record.baseline_macs / 1e6:,.2f}M"
    yield from _scores(record, told)
    if (promised := told.promise_text(record)) is not None:
        yield "promise", promised
    if told.latency is not None:
        measured = "measured" if told.latency.measured else "predicted, not measured"
        cap = "" if told.latency.cap is None else f"; {told.latency.cap:.4g} ms are allowed"
        yield "latency", f"{told.latency.ms:.4g} ms {measured}{cap}; {told.latency.setting}"
    if against is not None:
        yield "warning", against
    yield from _search(record, told, against)
    if best is None:
        yield "weights", "none of it were told, so there is nothing to export"
        return
    yield "weights", verdict.weights(record)
    which = "this page's" if is_beside else "the folder of the runs"
    yield "best", f"{best}, where {PLACE} is {which}" if PLACE in best.parts else str(best)
    if told.export is not None:
        command = messages.spelled("export")
        if PLACE in best.parts and Path(command[-1]).is_absolute():
            command = ["ssr", "export"]
        words = [messages.setting("run", best), "format=onnx", *told.export]
        yield "export", shlex.join([*command, *words])


def _warned(told: Comparison, against: str | None) -> str:
    """Say it in a word beside the name, too."""
    if against is None:
        return ""
    return ", which lost too much on test" if told.is_kept is False else ", not promised"


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
    if len(record.widths) > MANY:
        text += f" in {len(record.widths)} segments"
    lettered = dict.fromkeys(LETTERED.findall(record.network))
    said = [f"{n}{letter}: wider inside its blocks than {n}" for n, letter in lettered]
    return f"{text} ({', '.join(said[:MOST_LETTERS])})" if said else text


def _scores(record: Record, told: Comparison) -> Iterator[tuple[str, str]]:
    score, pair = record.scored_by, told.pair
    if pair is not None:
        seeds = sorted({pair.answer.seeds, pair.baseline.seeds})
        each = terminal.counted(seeds[0], "seed") if len(seeds) == 1 else ""
        count = "" if told.test_images is None else f", tested on {told.test_images:,} images"
        learnt = f"trained on {told.learnt}{count}" if told.learnt else ""
        how = [f"{each} each" if each else "", learnt]
        said = f" ({', '.join(filter(None, how))})" if any(how) else ""
        texts = [figure_text(score, figure) for figure in (pair.answer, pair.baseline)]
        if not each:
            counts = (pair.answer.seeds, pair.baseline.seeds)
            of = (terminal.counted(count, "seed") for count in counts)
            texts = [f"{text} ({seeds})" for text, seeds in zip(texts, of, strict=True)]
        yield score.on(told.measured_on).name, " and the baseline's ".join(texts) + said
    if told.tested_text is not None:
        yield "tested", told.tested_text
    yield "drop", told.drop_text(record)
    if (noise := told.noise_text(record)) is not None:
        yield "noise", noise


def figure_text(score: Score, figure: Figure) -> str:
    """Write a mean and its spread: `97.96 +- 1.05 %`."""
    spread = "" if figure.std is None else f" +- {score.number(figure.std)}"
    return f"{score.number(figure.mean)}{spread} {score.unit}".strip()


def _search(record: Record, told: Comparison, against: str | None) -> Iterator[tuple[str, str]]:
    """Say what the search was after beside the answer, and what would be next."""
    score = record.scored_by
    if (front := told.front) is not None:
        axes = f"{score.word} and {cost_words.NOUNS.get(front.cost, front.cost)}"
        said = f"{front.networks} of {front.trained} networks are on the front of {axes}"
        enough = "; the answer is the cheapest network that is good enough"
        yield "trade-off", said if against else f"{said}{enough}"
    if (cheaper := told.cheaper) is not None:
        yield "cheaper", _cheaper(cheaper, score)
    if (untrained := told.untrained) is not None:
        yield "untrained", _untrained(untrained, score, _beside(record, told, against))
    if (likeliest := told.likeliest) is not None:
        code, share = terminal.shortened(likeliest.network), _share(likeliest)
        sure = verdict.likeliest_text(likeliest.probability, likeliest.confidence)
        yield "likeliest", f"{code}, {share}, {sure}"


def _beside(record: Record, told: Comparison, against: str | None) -> str:
    """Say whether the answer is good enough, beside another network that is expected to be."""
    if record.is_whole:
        return ","
    if against is None:
        return ", too,"
    if told.is_kept is False:
        return " by val, as the answer was before its test,"
    return ", which the answer is not sure to be,"


def _untrained(untrained: Untrained, score: Score, beside: str) -> str:
    """Name a network that was only predicted."""
    poor = "; the surrogate that expects it predicts poorly" if untrained.is_poor else ""
    if untrained.probability is not None and untrained.confidence is not None:
        sure = verdict.on_test_text(untrained.probability, untrained.confidence)
        poor = f", and {sure}{poor}"
    return (
        f"{terminal.shortened(untrained.network)}, {_share(untrained)}, is expected to be good "
        f"enough{beside} with {score.name} {score.text(untrained.score)}{poor}"
    )


def _cheaper(one: Cheaper, score: Score) -> str:
    """Say why a cheaper network, good enough on val, is not the answer."""
    why = (
        f"{_untested(one)}{verdict.on_test_text(one.probability, one.confidence)}"
        if one.drop is None
        else f"lost {score.drop_text(one.drop)} on test"
    )
    return f"{terminal.shortened(one.network)}, {_share(one)}, is good enough on val, but {why}"


def _untested(one: Cheaper) -> str:
    """Begin to say why it is not the answer: nobody tested it, or it is not likely enough."""
    is_likely = one.probability >= max(one.confidence, verdict.EVEN)
    return "was not tested, and is " if is_likely else "is "


def _share(named: Untrained | Likeliest) -> str:
    """Write what a network costs, by the cost that the search is about."""
    share = named.params_share if named.share is None else named.share
    return f"{share:.1%} of the {cost_words.NOUNS.get(named.cost, named.cost)}"
