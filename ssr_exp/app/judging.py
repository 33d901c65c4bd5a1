"""What a study's answer is: of records and finalists alone, so that all who ask are told the same.

`ssr search`, also with `rounds=0`, and `Study.answer` decide by it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from ssr_exp.app.ask_tell.enqueued import Queue
from ssr_exp.config import ObjectiveConf
from ssr_exp.report import search_results, trade_offs
from ssr_exp.runs import last_comparison
from ssr_exp.runs.record import FINALIST, Record
from ssr_exp.runs.store import Store
from ssr_exp.search import answer, decision, other_networks
from ssr_exp.search.answer import Contender, DeviceLatency, Result
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
    rows = () if told is None else told.results
    roles = {row.network: row.role for row in rows}
    # a plain sibling may have an answer's code
    roles |= {r.network: r.role for r in rows if r.role.startswith(search_results.ANSWERS)}
    records: dict[str, list[Record]] = {}
    for record in store.records(compared[0].records[0].study):
        if record.origin != FINALIST or record.network in networks:
            continue
        if record.test_score is not None:
            records.setdefault(record.network, []).append(record)
    answers = sum(r.contender.role.startswith(search_results.ANSWERS[1:]) for r in compared)
    ranks = itertools.count(max(answers, 1))
    found = []
    for network, some in records.items():
        role = roles.get(network, answer.FINALIST)
        if role.startswith(search_results.ANSWERS):
            found.append((answer.finalist(network, next(ranks)), some))
        else:
            found.append((Contender(f"{EARLIER}{role.removeprefix(EARLIER)}", network), some))
    return answer.results(found, full=full)


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
    some = last_comparison.beside(finals, baseline, chosen)
    rows = [(one, [r for r in some if r.network == one.network]) for one in named]
    if not (tested := answer.results(rows, full=full)):
        return []
    return [*tested, *tested_before(store, study, tested, full=full)]


def decide(store: Store, study: str, belief: Belief, seen: Belief) -> Decision:
    """Choose the network that a study hands over, by its finalists' records.

    Args:
        store: of the records.
        study: that it is the answer of.
        belief: what is believed without the finalists.
        seen: what is believed by all records.
    """
    finals, space = search_results.read_finals(store, study), belief.history.space
    decided = decision.decide(belief, decision.drops_on_test(belief, finals), seen)
    codes = {"baseline": space.code(space.plan.baseline), "chosen": space.code(decided.network)}
    return with_arms(
        decided, belief, compared(store, study, finals, full=space.baseline.params, **codes)
    )


def told_fields(
    decided: Decision,
    belief: Belief,
    seen: Belief,
    objective: ObjectiveConf,
    *,
    latency: DeviceLatency | None,
) -> dict[str, Any]:
    """Say of an answer, as plain data, what `best/metrics.json` has beside its scores.

    Args:
        decided: the answer.
        belief: that it was chosen by.
        seen: what is believed by all records.
        objective: that was searched for.
        latency: of the answer, where it matters.
    """
    code = belief.history.space.code(decided.network)
    asked = {"allowed": belief.drop, "confidence": belief.confidence}
    return {
        "promise": decided.promise(belief, seen).stated(**asked),
        **decided.fields(),
        **({} if latency is None else {"latency": asdict(latency)}),
        **other_networks.full_size(belief),
        **other_networks.further(seen, code, objective.cost, decided.drops),
        **trade_offs.size(seen.history.records, objective),
    }


def with_arms(decided: Decision, belief: Belief, tested: Sequence[Result]) -> Decision:
    """Let all networks that were tested speak against others, arms among them; they decide nothing.

    `tested` is the baseline first; a seed network of its own says nothing of the others.
    """
    if not tested or tested[0].contender.role != answer.BASELINE:
        return decided
    found = ((belief.history.space.find(one.contender.network or ""), one) for one in tested[1:])
    drops = {
        network: belief.score.drop(one.score, tested[0].score)
        for network, one in found
        if network is not None
    }
    return replace(decided, drops=drops | {**decided.drops})
