"""What a search is put together from: its space, its records, latencies, and what W&B is told."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from ssr_exp.app.sweeping import write_page
from ssr_exp.config import CostAxis, LatencyConf, LatencySource, SearchConfig, WandbMode
from ssr_exp.edge.latency import table, table_file
from ssr_exp.edge.latency.table import LatencyTable, Subject
from ssr_exp.edge.latency.table_file import SeedNetwork, Setting
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import lattice
from ssr_exp.runs.score import ACCURACY
from ssr_exp.runs.store import Store, folder_name
from ssr_exp.runs.wandb.search_run import SearchRun
from ssr_exp.search import caps, rounds, space
from ssr_exp.search.evidence import Evidence
from ssr_exp.search.loop import Search
from ssr_exp.search.resolution import ValSet
from ssr_exp.search.rounds import Notebook
from ssr_exp.search.space import Space
from ssr_exp.training import finalists
from ssr_exp.training.opened_study import OpenedStudy

log = logging.getLogger(__name__)

# What W&B is told of a search; the rest is in its trainings' configurations, or names a machine.
TOLD = "objective acquisition surrogate cap budget segment rounds batch min_gain seed".split()


def set_up(conf: SearchConfig, study: OpenedStudy, store: Store) -> Search:
    """Put a search together.

    Raises:
        SsrError: if something makes no sense, before anything is trained.
    """
    finalists.check(conf, study)
    spanned = space.from_plan(study.plan, width_steps=conf.segment.width_steps)
    caps.check(spanned, conf, study.score)
    first = (study.plan.baseline, *study.expand(conf, few=True))
    measured = latencies(conf, study, spanned, store)
    book = _notebook(conf, study, store, measured)
    if not book.folder.exists():  # what was begun by an earlier version can still be read
        caps.check_cost_varies(spanned, conf.objective.cost)
    return Search(
        spanned,
        conf,
        tuple(dict.fromkeys(first)),
        book,
        Evidence(store, study.name, study.fields, spanned, conf, book, study.score),
        measured,
        watch=lambda _: write_page(store),
        val=_val_set(conf, study),
    )


def _notebook(
    conf: SearchConfig, study: OpenedStudy, store: Store, measured: LatencyTable | None
) -> Notebook:
    """Name a search; that of one's own loop is one, whatever devices its processes measure.

    One that an earlier version began for a device goes on.
    """

    def named(setting: Setting | None) -> Notebook:
        slug = None if setting is None else setting.slug
        return rounds.notebook(store, study.name, conf, study.score, setting=slug)

    if measured is None:
        return named(None)
    setting = measured.table.setting
    begun = [one for one in _settings(store, study) if named(one).folder.exists()]
    if conf.study is not None and conf.latency.source is LatencySource.measure:
        shared = named(None)
        if shared.folder.exists() or not begun:
            return shared
        return named(setting if setting in begun else begun[0])
    if setting not in begun:
        for other in begun:
            said = "a new search, as latency is that of %s: there is one of %s, which stays"
            log.info(said, setting, other)
    return named(setting)


def _settings(store: Store, study: OpenedStudy) -> list[Setting]:
    """List the settings that latencies of a study were measured in, each once."""
    settings = dict[str, Setting]()
    for path in sorted((store.study_folder(study.name) / "latency").glob("*.json")):
        with suppress(SsrError):  # who needs that table is told
            setting = table_file.read(path).setting
            settings[setting.slug] = setting
    return [*settings.values()]


def _val_set(conf: SearchConfig, study: OpenedStudy) -> ValSet | None:
    """Count the images that accuracies are of; None for other scores."""
    if study.score != ACCURACY:
        return None
    read = study.splits.reading
    tested = read.count("test") if conf.finalists.seeds else 0
    return ValSet(read.parts.get("val", {}), tested, read.count("val"))


def wandb_run(search: Search, study: OpenedStudy, words: Sequence[str]) -> SearchRun:
    """Set up what a search, of these words, tells W&B."""
    conf, book, networks = asdict(search.conf), search.book, search.space.lattice.size
    fields = {key: conf[key] for key in TOLD} | {
        "model": search.conf.model.name,
        "dataset": search.conf.dataset.name,
        "study": study.name,
        "networks": networks if search.space.is_enumerable else lattice.spell(networks),
    }
    logger = search.conf.logger
    is_asked = logger.mode is WandbMode.online or any(w.startswith("logger") for w in words)
    return SearchRun(logger, book.store, book.folder, study.name, fields, is_asked)


def latencies(
    conf: SearchConfig, study: OpenedStudy, space: Space, store: Store
) -> LatencyTable | None:
    """Measure the lattice, or read what was measured; None where nothing of it is needed.

    Raises:
        SsrError: if the runtime is not there, or the table is missing or of another network.
    """
    asked = conf.latency
    is_needed = conf.objective.cost is CostAxis.latency_ms or conf.cap.latency_ms is not None
    if not is_needed and asked != LatencyConf():
        log.warning(
            "latency= is not looked at, as latency is neither traded nor capped: type "
            "objective.cost=latency_ms or cap.latency_ms=MS",
        )
    if not is_needed or asked.source is LatencySource.records:
        return None
    if study.part is not None:
        raise SsrError(
            f"latency is that of whole networks, and of those of {study.name} their part "
            f"{study.part.path} alone is known: take objective.cost=macs or gemms, and no "
            "cap.latency_ms."
        )
    network = study.seed_network
    seed = SeedNetwork.from_plan(
        conf.model, conf.segment, study.plan, study.splits.num_classes, network
    )
    subject = Subject(seed, network, space.lattice)
    folder = store.study_folder(study.name) / "latency"
    said = "waiting for another process that measures latencies"
    with store.claim_saying(folder, said):  # two searches that begin together measure once
        if asked.source is LatencySource.file:
            path = _copy(asked, subject, folder)
        else:
            setting = table.here(asked.runtime, batch=asked.batch, threads=asked.threads)
            name = "-".join((setting.slug, *sorted(conf.segment.frozen)))
            path = folder / f"{folder_name(name)}.json"
        if path.exists():
            measured = table.resume(subject, path, asked)
        else:
            count = min(asked.networks + asked.held_out, space.lattice.size)
            log.info("measuring %d networks: %s", count, setting)
            measured = table.start(subject, setting, path, asked)
    log.info("%s; %s", measured, measured.check())
    return measured


def _copy(asked: LatencyConf, subject: Subject, folder: Path) -> Path:
    """Copy a table that was measured elsewhere to the study, where it may grow; returns its place.

    Raises:
        SsrError: if there is none, or it is of another network.
    """
    if asked.file is None:
        raise SsrError(
            "latency=file reads a table that ssr latency MODEL --fit --out FILE "
            "wrote: type latency.file=FILE."
        )
    timings = table.resume(subject, Path(asked.file).expanduser(), asked).table
    content = hashlib.sha256(timings.model_dump_json().encode()).hexdigest()[:8]
    path = folder / f"file-{content}.json"
    if not path.exists():
        table_file.write(path, timings)
    return path
