"""Loops that ask and tell, and sentences of what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ssr_exp import SsrError, Study
from ssr_exp.training.candidate import Candidate


def finish(study: Study, score: Callable[[Candidate], float]) -> list[Candidate]:
    """Ask until nothing is left, and tell what a function says."""
    candidates = []
    while candidate := study.ask():
        candidates.append(candidate)
        study.tell(candidate, score(candidate))
    return candidates


def refused(work: Callable[[], object]) -> str:
    """Return the sentence with which something is refused."""
    with pytest.raises(SsrError) as error:
        work()
    assert "\n" not in str(error.value)
    return str(error.value)
