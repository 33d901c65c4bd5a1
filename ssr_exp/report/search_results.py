"""A search's last comparison, and the studies that its finalists were trained in."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping, Sequence

from ssr_exp.runs import last_comparison
from ssr_exp.runs.last_comparison import Comparison
from ssr_exp.runs.record import FINALIST, Record, Status
from ssr_exp.runs.store import BEST_FOLDER, PICTURE_FILE, Store

log = logging.getLogger(__name__)
PNG = b"\x89PNG\r\n\x1a\n"
ANSWERS = ("baseline", "answer", "finalist")  # how roles begin that are no arms
LARGEST_PICTURE = 4 * 2**20  # bytes, on a page


def read_comparison(store: Store, study: str) -> Comparison | None:
    """Read the last comparison of a study's search; None if none can be used."""
    return last_comparison.read(store.study_folder(study) / BEST_FOLDER)


def read_finals(store: Store, study: str) -> list[Record]:
    """List the finalists of a study's answer and baseline; what they were beside stays out.

    They were tested, or diverged. Those that learned from val are in a study of their own, which
    `best/` names, as are those of other epochs: the last comparison's come first.
    """
    best = store.answer(study)
    comparison = read_comparison(store, study)
    rows = () if comparison is None else comparison.results
    answers = {row.network for row in rows if row.role.startswith(ANSWERS)}
    arms = {row.network for row in rows} - answers  # a plain sibling may have an answer's code
    own = None if best is None else best.study
    elsewhere = None if comparison is None else comparison.finals_study
    return [
        record
        for name in dict.fromkeys(filter(None, (elsewhere, own, study)))
        for record in store.records(name)
        if record.origin == FINALIST
        if record.test_score is not None or record.status is Status.diverged
        if record.network not in arms
    ]


def read_picture(store: Store, study: str) -> str | None:
    """Read what a segmentation's answer makes of images, as a `data:` address; None without one."""
    path = store.study_folder(study) / BEST_FOLDER / PICTURE_FILE
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_PICTURE + 1)
    except OSError:
        return None
    if not content.startswith(PNG) or len(content) > LARGEST_PICTURE:
        log.warning("skipped %s: it is no PNG file, or a large one", path)
        return None
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def finalist_studies(store: Store, studies: Mapping[str, Sequence[Record]]) -> dict[str, list[str]]:
    """Name for each study with an answer the others that its finalists were trained in.

    Finalists have learned from val, so their studies hold no score on it. One is the answer's
    own, others are of seed networks that it was compared with.

    Args:
        store: of the records.
        studies: the records of each.
    """
    finals = [name for name, records in studies.items() if _is_final(records)]
    return {
        name: [final for final in finals if _belongs(store, name, records[0], studies[final])]
        for name, records in studies.items()
        if finals and name not in finals
    }


def _is_final(records: Sequence[Record]) -> bool:
    tested = any(record.test_score is not None for record in records)
    return tested and all(record.score is None for record in records)


def _belongs(store: Store, study: str, first: Record, finals: Sequence[Record]) -> bool:
    """Say whether finalists of another study are what a study's answer was compared with."""
    best, comparison = store.answer(study), read_comparison(store, study)
    if best is None:
        return False
    elsewhere = None if comparison is None else comparison.finals_study
    if finals[0].study in (best.study, elsewhere):
        return True
    compared = {(r.model, r.network) for r in comparison.results} if comparison else set()
    is_another = finals[0].model != first.model and finals[0].dataset == first.dataset
    is_alike = is_another and finals[0].epochs == best.epochs  # else another answer's
    return is_alike and any((r.model, r.network) in compared for r in finals)
