"""What `ssr report` calls: predictions are brought up to date, then page or dashboards written."""

from __future__ import annotations

import logging
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ssr_exp import files, messages
from ssr_exp.app import configuration
from ssr_exp.config import ReportConfig, ReportTo, SegmentConf
from ssr_exp.errors import SsrError, cause
from ssr_exp.runs import predictions, study_names
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import CONFIG_FILE, Store, folder_name

log = logging.getLogger(__name__)


def write(composed: Any) -> str:
    """Show what a configuration asks for; prints last where.

    Raises:
        SsrError: if there are no records, the page cannot be written, or W&B refuses.
    """
    conf = configuration.read(composed, ReportConfig)
    is_page = conf.to is ReportTo.page
    if conf.file is not None and not is_page:
        raise SsrError(
            f"file={conf.file} is where a page is written, and to={conf.to.value} writes none: "
            "leave file= out, or type to=page."
        )
    store = Store(conf.paths.runs)
    studies, fresh = _studies(store, conf), dict[str, Predictions]()
    if conf.study is not None:
        conf = replace(conf, study=next(iter(studies)))
    for study, records in studies.items() if conf.predict else ():
        if (predicted := _predict(store, study, records, trust=conf.trust)) is not None:
            fresh[study] = predicted
    place = _page(store, conf, fresh) if is_page else _dashboards(store, conf, studies)
    print(f"report: {place}", flush=True)
    return place


def _studies(store: Store, conf: ReportConfig) -> dict[str, list[Record]]:
    """Read the records of the studies that are asked for.

    Raises:
        SsrError: if there are none.
    """
    studies = store.records_by_study()
    if not studies:
        where = "; ".join(store.renamed().values()) or _elsewhere(store.root)
        raise SsrError(f"there are no records of runs in {store.root}: {where}.")
    if conf.study is None:
        return studies
    folder = study_names.find(store.root, conf.study)
    mine = {name: records for name, records in studies.items() if folder_name(name) == folder}
    if not mine:
        none = f"{store.root / folder} holds no record of a run yet: train some first"
        raise SsrError(f"{store.renamed().get(folder, none)}.")
    return mine


def _elsewhere(root: Path) -> str:
    """Say where records are, near a folder that has none."""
    if next(root.glob("*/seed*/record.json"), None) is not None:
        words = messages.setting("paths.runs", root.parent), messages.setting("study", root.name)
        return f"it is a study, type {shlex.join(words)}"
    below = sorted({str(path.parents[3]) for path in root.glob("*/[!.]*/*/seed*/record.json")})
    if below:
        typed = shlex.quote(messages.setting("paths.runs", below[0]))
        return f"type {typed}" + "".join(f", or {other}" for other in below[1:9])
    return "type paths.runs=DIR, the folder that a sweep or a search wrote to"


def _predict(store: Store, study: str, records: list[Record], *, trust: bool) -> Predictions | None:
    """Fit a surrogate to a study where runs came after its last predictions.

    A page is worth writing without them, so what keeps them from being made is a warning.
    """
    before, predicted = predictions.latest(store, study), None
    if not predictions.has_baseline(records) and any(r.score is not None for r in records):
        log.warning(
            "%s: no predictions, as its baseline has no finished run: %s trains "
            "it, with the study's other words",
            study,
            messages.typed("train", "modifiers=baseline"),
        )
    if not predictions.are_due(records, before):
        return None
    log.info("%s: fitting a surrogate to %d runs", study, len(records))
    try:
        predicted = _fitted(store, study, records, before, trust=trust)
        if predicted is not None:
            predictions.write(store, store.study_folder(study) / predictions.FOLDER, predicted)
    except SsrError as error:
        lacks = "its last runs are not among the predictions" if predicted is None else "not kept"
        log.warning("%s: %s: %s", study, lacks, error)
    except Exception as error:  # of the fit
        log.warning("%s: no surrogate could be fitted: %s", study, cause(error))
        log.debug("no surrogate could be fitted", exc_info=True)
    return predicted


def _fitted(
    store: Store, study: str, records: list[Record], before: Predictions | None, *, trust: bool
) -> Predictions | None:
    from ssr_exp.edge.selection import TRUST
    from ssr_exp.rescaling import saved
    from ssr_exp.search import refit

    description = saved.read(store.study_folder(study))
    if not trust:
        saved.check_trust(store.root, description, TRUST)
    asked = _segment(store, records)
    segment = description.segment.model_copy(update={"frozen": tuple(asked.frozen)})
    _, plan = saved.seed_network(description.model_copy(update={"segment": segment}))
    return refit.predict(records, plan, width_steps=asked.width_steps, before=before)


def _segment(store: Store, records: list[Record]) -> SegmentConf:
    """Read how the newest run's lattice was made, as data; else the usual one."""
    newest = max(records, key=lambda record: record.started_at)
    path = store.folder(newest.study, newest.network, newest.seed) / CONFIG_FILE
    try:
        return TypeAdapter(SegmentConf).validate_python(files.read_fields(path)["segment"])
    except (FileNotFoundError, files.Unreadable, KeyError, ValidationError):
        return SegmentConf()


def _page(store: Store, conf: ReportConfig, fresh: dict[str, Predictions]) -> str:
    from ssr_exp.report import page

    to = None
    if conf.file is not None:
        to, store = Path(conf.file).expanduser(), Store(store.root, option="file=PAGE")
        if not to.name or to.is_dir():
            raise SsrError(f"file={conf.file} is no name of a file: type file=page.html.")
    only = () if conf.study is None else (conf.study,)
    return str(page.write(store, only=only, to=to, fresh=fresh))


def _dashboards(store: Store, conf: ReportConfig, studies: dict[str, list[Record]]) -> str:
    """Publish a workspace view and a report of each study; returns the last report's address."""
    from ssr_exp.report import dashboard, search_results

    address = ""
    finals = search_results.finalist_studies(store, studies)
    inside = {name for names in finals.values() for name in names}
    for study, records in studies.items():
        if study in inside and conf.study is None:
            continue
        predicted = predictions.latest(store, study)
        published = dashboard.publish(
            records,
            logger=conf.logger,
            study=study,
            searched=predicted is not None and bool(predicted.rounds),
            best=store.answer(study),
        )
        print(f"workspace: {published.workspace}")
        address = published.report
        log.info("%s: %s", study, address)
    return address
