"""What a study's answer is: of records and finalists alone, so that all who ask are told the same.

`ssr search`, also with `rounds=0`, and `Study.answer` decide by it.
"""

from __future__ import annotations

from ssr_exp.app.ask_tell.enqueued import Queue
from ssr_exp.report import search_results
from ssr_exp.search import decision
from ssr_exp.search.belief import Belief
from ssr_exp.search.decision import Decision
from ssr_exp.search.loop import Search


def judge(search: Search) -> Belief:
    """Look at the records for the answer and its finalists, without what finalists gave.

    Raises:
        SsrError: if they are too few.
    """
    return search.judge(one.network for one in Queue(search.book).read())


def decide(search: Search, belief: Belief, seen: Belief) -> Decision:
    """Choose the network that a study hands over, by its finalists' records.

    Args:
        search: whose records they are.
        belief: what is believed without the finalists.
        seen: what is believed by all records.
    """
    finals = search_results.read_finals(search.book.store, search.evidence.study)
    return decision.decide(belief, decision.drops_on_test(belief, finals), seen)
