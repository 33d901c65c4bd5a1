"""What a study's answer is: of records and finalists alone, so that all who ask are told the same.

`ssr search`, also with `rounds=0`, and `Study.answer` decide by it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ssr_exp.app.ask_tell.enqueued import Queue
from ssr_exp.report import search_results
from ssr_exp.runs.record import FINALIST, Record
from ssr_exp.runs.store import Store
from ssr_exp.search import answer, decision
from ssr_exp.search.answer import Contender, Result
from ssr_exp.search.belief import Belief
from ssr_exp.search.decision import Decision
from ssr_exp.search.loop import Search

EARLIER = "earlier "  # an arm of the answer that a command before named


def judge(search: Search) -> Belief:
    """Look at the records for the answer and its finalists, without what finalists gave.

    Raises:
        SsrError: if they are too few.
    """
    return search.judge(one.network for one in Queue(search.book).read())


def tested_before(
    store: Store, study: str, compared: Sequence[Result], *, full: int
) -> list[Result]:
    """List the finalists of a study that are not compared now; arms of an answer stay arms.

    Args:
        store: of the records.
        study: whose answer it is.
        compared: the results of the networks that are.
        full: the parameters of the baseline.
    """
    networks = {result.contender.network for result in compared}
    told = search_results.read_comparison(store, study)
    roles = {} if told is None else {row.network: row.role for row in told.results}
    records: dict[str, list[Record]] = {}
    for record in store.records(compared[0].records[0].study):
        if record.origin != FINALIST or record.network in networks:
            continue
        if record.test_score is not None:
            records.setdefault(record.network, []).append(record)
    answers = sum(r.contender.role.startswith(search_results.ANSWERS[1:]) for r in compared)
    ranks = itertools.count(max(answers, 1))
    rows = []
    for network, some in records.items():
        role = roles.get(network, answer.FINALIST)
        if role.startswith(search_results.ANSWERS):
            rows.append((answer.finalist(network, next(ranks)), some))
        else:
            rows.append((Contender(f"{EARLIER}{role.removeprefix(EARLIER)}", network), some))
    return answer.results(rows, full=full)


def compared(
    store: Store, study: str, finals: Sequence[Record], *, baseline: str, chosen: str, full: int
) -> list[Result]:
    """List what was tested before: the baseline first, then a network that was chosen, and others.

    Args:
        store: of the records.
        study: whose answer it is.
        finals: its finalists; see `search_results.read_finals`.
        baseline: its code.
        chosen: the code of the network; it may be the baseline.
        full: the parameters of the baseline.
    """
    named = [Contender(answer.BASELINE, baseline)]
    named += [answer.finalist(chosen, 0)] if chosen != baseline else []
    rows = [(one, [r for r in finals if r.network == one.network]) for one in named]
    if not (tested := answer.results(rows, full=full)):
        return []
    return [*tested, *tested_before(store, study, tested, full=full)]


def decide(search: Search, belief: Belief, seen: Belief) -> Decision:
    """Choose the network that a study hands over, by its finalists' records.

    Args:
        search: whose records they are.
        belief: what is believed without the finalists.
        seen: what is believed by all records.
    """
    finals = search_results.read_finals(search.book.store, search.evidence.study)
    return decision.decide(belief, decision.drops_on_test(belief, finals), seen)
