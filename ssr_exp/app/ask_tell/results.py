"""What a study has found: its answer, its front, and the records that a loop's results become."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from ssr_exp.app import judging
from ssr_exp.app.ask_tell.asking import Asking, Request
from ssr_exp.config import TaskKind
from ssr_exp.errors import SsrError
from ssr_exp.report import answer_block, page, search_results
from ssr_exp.rescaling.cost import Cost
from ssr_exp.runs import last_comparison, pareto, seed_means
from ssr_exp.runs.last_comparison import Comparison
from ssr_exp.runs.record import FINALIST, NOT_TOLD, Record, Status, n_tested
from ssr_exp.runs.store import BEST_FOLDER, EXPORTS, LAST_CHECKPOINT, is_done
from ssr_exp.search import answer, answer_printing, diagnostics
from ssr_exp.search.outcome import EVEN
from ssr_exp.search.promise import Promise
from ssr_exp.training import answer_folder, loop_study, run
from ssr_exp.training.candidate import Told

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tested:
    """What finalists gave on test: the mean over seeds, and its standard deviation."""

    mean: float
    std: float | None
    seeds: int

    @classmethod
    def of(cls, records: list[Record]) -> Tested | None:
        """Average the test scores of records that have one."""
        values = [r.test_score for r in records if r.test_score is not None]
        if not values:
            return None
        return cls(mean(values), seed_means.deviation(values), len(values))


@dataclass(frozen=True)
class Answer:
    """The network that a study hands over: the cheapest one that is good enough.

    Attributes:
        code: its name in the study.
        score: on val, the mean over its trainings; `baseline_score` that of the seed network.
        drop: what it loses, in the score's unit: on test where finalists were told, else on val.
        allowed: what it may lose.
        cost: its parameters, MACs and GeMMs; `baseline_cost` those of the seed network.
        test: of its finalists; `baseline_test` of the seed network's; None: there are none.
        folder: where its weights lie, to be exported; None: none were told.
        promise: what it is expected to lose on test, and how likely it keeps within `allowed`.
        is_kept: whether it lost no more than `allowed` on test; None: it was not tested.
        verdict: what speaks against it, in a sentence; None: nothing does.
        training: whose weights `folder` holds: of its finalists the best on val, never by test.
        confidence: with which the promise was to be kept.
        warnings: what speaks against comparing by val, and against believing the surrogate.
        rows: what is printed of it, as names and texts: those of a command's block.
    """

    code: str
    score: float
    baseline_score: float
    drop: float
    allowed: float
    cost: Cost
    baseline_cost: Cost
    test: Tested | None
    baseline_test: Tested | None
    folder: Path | None
    promise: Promise
    is_kept: bool | None = None
    verdict: str | None = None
    training: Record | None = field(default=None, repr=False)
    confidence: float = EVEN
    warnings: tuple[str, ...] = ()
    rows: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        """Write it as the block of lines that commands end with."""
        return "\n".join(answer_block.lines(self.rows))


@dataclass(frozen=True)
class FrontNetwork:
    """A trained network that no other one beats in score and cost.

    Attributes:
        code: its name in the study.
        score: on val, the mean over its trainings.
        cost: parameters, MACs and GeMMs of one sample.
    """

    code: str
    score: float
    cost: Cost


def make_answer(asking: Asking) -> Answer:
    """Name the cheapest network that is good enough, and hand it over.

    What finalists were trained of it decides which one it is.

    Raises:
        SsrError: if the records are too few.
    """
    belief = asking.judge()
    space, how = asking.search.space, belief.score
    records = asking.store.records(asking.opened.name)
    baseline = space.code(space.plan.baseline)
    finals = search_results.read_finals(asking.store, asking.opened.name)
    seen = asking.believe() if finals else belief  # theirs on val are trainings, too
    decided = judging.decide(asking.store, asking.opened.name, belief, seen)
    code = space.code(decided.network)
    means = seed_means.on_val(seen.history.records)  # some may be from elsewhere
    pair = last_comparison.beside(finals, baseline, code)
    test, baseline_test = (
        Tested.of([r for r in pair if r.network == each]) for each in (code, baseline)
    )
    drop = how.drop(means[code].mean, means[baseline].mean)
    measured = {"answer": means[code].figure(), "baseline": means[baseline].figure()}
    if test is not None and baseline_test is not None:
        drop = how.drop(test.mean, baseline_test.mean)
        measured = {"answer": asdict(test), "baseline": asdict(baseline_test)}
    best = asking.store.study_folder(asking.opened.name) / BEST_FOLDER
    told = {
        "measured_on": "val" if test is None or baseline_test is None else "test",
        "drop": drop,
        "measured": measured,
        "networks_tested": n_tested([*records, *finals]),
        "results": _results(asking, finals, baseline, code),
        "export": answer_folder.export_words(asking.opened, asking.conf, best),
        **judging.told_fields(
            decided,
            belief,
            seen,
            asking.conf.objective,
            latency=answer.latency(belief, decided.network),
        ),
        **(_learnt(asking, finals) if test is not None and baseline_test is not None else {}),
    }
    folder, handed = _hand_over(asking, code, records, told)
    warnings = (*asking.search.val_warnings.of_belief(seen), *diagnostics.look(seen).warnings)
    shown = handed or means[code].records[0]
    rows = answer_block.rows_of(
        asking.store,
        asking.opened.name,
        shown,
        Comparison.model_validate(told),
        folder=folder,
    )
    if test is None and baseline_test is not None:  # more was trained since
        rows.append(("tested", "not yet: study.finalists() offers it with further seeds"))
    return Answer(
        code,
        means[code].mean,
        means[baseline].mean,
        drop,
        belief.drop,
        _cost(asking, code),
        _cost(asking, baseline),
        test,
        baseline_test,
        folder,
        decided.promise(belief, seen),
        decided.is_kept,
        decided.verdict,
        handed,
        belief.confidence,
        warnings,
        (*rows, *(("warning", one) for one in warnings)),
    )


def _results(
    asking: Asking, finals: Sequence[Record], baseline: str, code: str
) -> list[dict[str, Any]]:
    """Write what finalists gave, as a command does: the baseline's, the answer's, and others'."""
    store, study, full = asking.store, asking.opened.name, asking.search.space.baseline.params
    rows = judging.compared(store, study, finals, baseline=baseline, chosen=code, full=full)
    return answer.summary(rows)


def _learnt(asking: Asking, finals: Sequence[Record]) -> dict[str, Any]:
    """Say, as plain data, what a command's finalists learned from, and were tested on.

    Nothing where a loop of the user's own trained them, which alone knows it.
    """
    if asking.conf.task.name is TaskKind.loop:
        return {}
    if any(record.score is not None for record in finals):
        return {}
    images = asking.opened.splits.reading.count("test")
    return {"learnt": "train and val"} | ({"test_images": images} if images else {})


def _cost(asking: Asking, code: str) -> Cost:
    return loop_study.candidate(asking.job(Request(code, 0, "")), Path()).cost


def _hand_over(
    asking: Asking, code: str, records: list[Record], told: Mapping[str, Any]
) -> tuple[Path | None, Record | None]:
    """Copy the weights of a network to `best/`, or of a command's study say where they are.

    Returns the folder, and which training they are of: a finalist before others. None if there
    are none. A command's `best/` is its own, and holds them if it is of this network; another one
    is written with what is `told` of the answer.
    """
    to = asking.store.study_folder(asking.opened.name) / BEST_FOLDER
    before = asking.store.read(to)
    if asking.conf.study is None and before is not None and before.network == code:
        return to, before

    def request(record: Record) -> Request:
        return Request(code, record.seed, record.origin or "")

    mine = [
        r
        for r in records
        if r.network == code and r.status is Status.finished
        if (asking.folder(request(r)) / LAST_CHECKPOINT).exists()
    ]
    if not mine:
        if asking.conf.study is not None and before is not None:
            log.warning(
                "no weights of %s, the answer, were told: best/ stays that of %s",
                code,
                before.network,
            )
        return None, None
    record = answer.shipped([r for r in mine if r.origin == FINALIST] or mine)
    folder = asking.folder(request(record))
    if asking.conf.study is None:
        return folder, record
    conf = asking.job(request(record)).conf
    answer_folder.write(asking.opened, conf, record, folder, to, told)
    if before is not None and before.network != code:
        question = {key: told["promise"][key] for key in ("allowed", "confidence")}
        axis = asking.conf.objective.cost
        exported = to.parent / EXPORTS / to.name
        answer_printing.print_replaced(before, record, **question, axis=axis, exported=exported)
        if (asking.store.root / page.FILE).exists():
            page.write(asking.store)
    return to, record


def to_export(asking: Asking, answer: Answer) -> str:
    """Say what `export` is to take of an answer: `best`, or where its weights lie else.

    Raises:
        SsrError: if there are none, and `best/` is another network's.
    """
    best = asking.store.study_folder(asking.opened.name) / BEST_FOLDER
    if answer.folder == best:
        return BEST_FOLDER
    if answer.folder is None:
        raise SsrError(
            f"no weights of {answer.code}, the answer, are there to be exported: tell them, or "
            f"name another network, export(run=CODE)."
        )
    return str(answer.folder)


def front(asking: Asking) -> list[FrontNetwork]:
    """List the trained networks on the Pareto front of score and cost, the cheapest first."""
    belief = asking.believe()
    space, scores = belief.history.space, belief.history.scores()
    trained = list(scores)
    values = [belief.score.sign * scores[one] for one in trained]
    at = pareto.front([belief.log_costs[one] for one in trained], values)
    codes = [(space.code(trained[place]), scores[trained[place]]) for place in at]
    return [FrontNetwork(code, score, _cost(asking, code)) for code, score in codes]


def record(
    asking: Asking, request: Request, told: Told, *, wall_s: float, device: str | None
) -> Record:
    """Write what was told as a record."""
    blank = run.blank_record(asking.job(request))
    update: dict[str, Any] = {"wall_s": wall_s, "status": Status.finished, "precision": NOT_TOLD}
    if device is not None:
        update["device"] = device
    if told.error:
        update |= {"status": Status.diverged, "error": told.error, "epochs": told.epochs}
    else:
        update |= loop_study.fields(told)
    return Record.model_validate(blank.model_dump() | update)


def tested(before: Record, now: Record) -> Record:
    """Add to the record of a finished training what test says of it."""
    update = {"test_score": now.test_score, "origin": FINALIST}
    return before.model_copy(update=update | {"metrics": {**before.metrics, **now.metrics}})


def failed(asking: Asking, request: Request, error: str, *, wall_s: float) -> Record:
    """Write that a training failed as a record."""
    blank = run.blank_record(asking.job(request))
    update = {"wall_s": wall_s, "error": error, "precision": NOT_TOLD, "epochs": 0}
    return blank.model_copy(update=update)


def are_one(before: Record, now: Record) -> bool:
    """Say whether two results may be of one training: it may have been tested since."""
    is_same = (before.status, before.score) == (now.status, now.score)
    return is_same and now.test_score in (None, before.test_score)


def refuse_other(before: Record | None, now: Record) -> bool:
    """Say whether a result was told before; the same one may be told again.

    Raises:
        SsrError: if it was another one.
    """
    if not is_done(before) or before is None:
        return False
    if are_one(before, now):
        return True
    was = before.status.value if before.score is None else f"{before.score:g}"
    new = now.status.value if now.score is None else f"{now.score:g}"
    raise SsrError(
        f"{now.network} (seed {now.seed}) was told before: {was}, and now {new}. If the first was "
        "wrong, type study.tell(..., replace=True)."
    )
