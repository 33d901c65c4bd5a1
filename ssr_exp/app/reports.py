"""What `report.py` calls: predictions are brought up to date, then page or dashboards written."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssr_exp.app import configuration
from ssr_exp.config import ReportConfig, ReportTo, SegmentConf
from ssr_exp.errors import SsrError, cause

if TYPE_CHECKING:
    from ssr_exp.runs import store as local
    from ssr_exp.runs.predictions import Predictions
    from ssr_exp.runs.record import Record

log = logging.getLogger(__name__)


def write(composed: Any) -> str:
    """Show what a configuration asks for; prints last where.

    Raises:
        SsrError: if there are no records, the page cannot be written, or W&B refuses.
    """
    from ssr_exp.runs import store as local

    conf = configuration.read(composed, ReportConfig)
    store = local.Store(conf.paths.runs)
    studies = _studies(store, conf)
    told = {}
    if conf.predict:
        found = ((name, _predict(store, name, r, trust=conf.trust)) for name, r in studies.items())
        told = {name: one for name, one in found if one is not None}
    is_page = conf.to is ReportTo.page
    shown = _page(store, conf, told) if is_page else _dashboards(store, conf, studies)
    print(f"report: {shown}", flush=True)
    return shown


def _studies(store: local.Store, conf: ReportConfig) -> dict[str, list[Record]]:
    """Read the studies' records.

    Raises:
        SsrError: if there are none.
    """
    found: dict[str, list[Record]] = {}
    for record in store.records():
        found.setdefault(record.study, []).append(record)
    if not found:
        raise SsrError(f"there are no records of runs in {store.root}: {_elsewhere(store.root)}.")
    if conf.study is None:
        return found
    if conf.study not in found:
        raise SsrError(
            f"study={conf.study} is not below {store.root}; there are {', '.join(sorted(found))}."
        )
    return {conf.study: found[conf.study]}


def _elsewhere(root: Path) -> str:
    """Say where records are, near a folder that has none."""
    if next(root.glob("*/seed*/record.json"), None) is not None:
        return f"it is a study, type paths.runs={root.parent} study={root.name}"
    below = sorted({str(path.parents[3]) for path in root.glob("*/*/*/seed*/record.json")})
    if below:
        return f"type paths.runs={below[0]}" + "".join(f", or {other}" for other in below[1:9])
    return "type paths.runs=DIR, the folder that train.py or search.py wrote to"


def _predict(
    store: local.Store, study: str, records: list[Record], *, trust: bool
) -> Predictions | None:
    """Fit a surrogate to a study where runs came after its last predictions.

    A page is worth writing without them, so what keeps them from being made is a warning.
    """
    from ssr_exp.runs import predictions

    before, found = predictions.latest(store, study), None
    if not predictions.has_baseline(records) and any(r.val_acc is not None for r in records):
        log.warning(
            "%s: no predictions, as its baseline has no finished run: train.py modifiers=baseline "
            "trains it, with the study's other words",
            study,
        )
    if not predictions.are_due(records, before):
        return None
    log.info("%s: fitting a surrogate to %d runs", study, len(records))
    try:
        found = _fitted(store, study, records, before, trust=trust)
        if found is not None:
            predictions.write(store, store.study_folder(study) / predictions.FOLDER, found)
    except SsrError as error:
        lacks = "its last runs are not among the predictions" if found is None else "not kept"
        log.warning("%s: %s: %s", study, lacks, error)
    except Exception as error:  # of the fit
        log.warning("%s: no surrogate could be fitted: %s", study, cause(error))
        log.debug("no surrogate could be fitted", exc_info=True)
    return found


def _fitted(
    store: local.Store,
    study: str,
    records: list[Record],
    before: Predictions | None,
    *,
    trust: bool,
) -> Predictions | None:
    from ssr_exp.rescaling import saved
    from ssr_exp.search import refit

    description = saved.read(store.study_folder(study))
    if not trust and description.model.calls_code(store.root):
        raise SsrError(
            f"its seed network is made by the function {description.model.name}: type trust=true "
            "if you trust where it comes from."
        )
    asked = _segment(store, records)
    segment = description.segment.model_copy(update={"frozen": tuple(asked.frozen)})
    _, plan = saved.seed_network(description.model_copy(update={"segment": segment}))
    return refit.of(records, plan, width_steps=asked.width_steps, before=before)


def _segment(store: local.Store, records: list[Record]) -> SegmentConf:
    """Read how the newest run's lattice was made, as data; else the usual one."""
    from pydantic import TypeAdapter, ValidationError

    from ssr_exp.runs import store as local

    newest = max(records, key=lambda record: record.started_at)
    path = store.folder(newest.study, newest.network, newest.seed) / local.CONFIG
    try:
        asked = json.loads(path.read_bytes())["segment"]
        return TypeAdapter(SegmentConf).validate_python(asked)
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ValidationError):
        return SegmentConf()


def _page(store: local.Store, conf: ReportConfig, told: dict[str, Predictions]) -> str:
    from ssr_exp.report import page
    from ssr_exp.runs import store as local

    to = None
    if conf.file is not None:
        to, store = Path(conf.file).expanduser(), local.Store(store.root, option="file=PAGE")
        if not to.name or to.is_dir():
            raise SsrError(f"file={conf.file} is no name of a file: type file=page.html.")
    return str(
        page.write(store, only=() if conf.study is None else (conf.study,), to=to, told=told)
    )


def _dashboards(store: local.Store, conf: ReportConfig, studies: dict[str, list[Record]]) -> str:
    """Publish a workspace view and a report of each study; returns the last report's address."""
    from ssr_exp.report import answers, dashboard
    from ssr_exp.runs import predictions
    from ssr_exp.runs import store as local

    shown = ""
    inside = {name for names in answers.studies(store, studies).values() for name in names}
    for study, records in studies.items():
        if study in inside and conf.study is None:
            continue
        told = predictions.latest(store, study)
        published = dashboard.publish(
            records,
            logger=conf.logger,
            study=study,
            searched=told is not None and bool(told.rounds),
            best=store.read(store.study_folder(study) / local.BEST),
        )
        print(f"workspace: {published.workspace}")
        shown = published.report
        log.info("%s: %s", study, shown)
    return shown
