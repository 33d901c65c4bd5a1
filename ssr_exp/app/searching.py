"""`search.py`: rounds of jobs for the configured launcher, then the answer."""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from ssr_exp.app import configuration, launchers
from ssr_exp.app.sweeping import LaunchingCommand, name_page, write_page
from ssr_exp.config import Config, CostAxis, LatencyConf, LatencySource, SearchConfig
from ssr_exp.errors import SsrError

if TYPE_CHECKING:
    from ssr_exp.edge.latency.table import Effort, Subject
    from ssr_exp.runs.predictions import Predictions
    from ssr_exp.runs.store import Store
    from ssr_exp.runs.wandb.search_run import SearchRun
    from ssr_exp.search.attempts import Train
    from ssr_exp.search.belief import Belief
    from ssr_exp.search.costs import Latencies
    from ssr_exp.search.loop import Search
    from ssr_exp.search.space import Space
    from ssr_exp.training.study import Study

log = logging.getLogger(__name__)

# What W&B is told of a search; the rest is in its trainings' configurations, or names a machine.
TOLD = "objective acquisition surrogate cap budget segment rounds batch min_gain seed".split()


class SearchCommand(LaunchingCommand):
    """Run a search and hand its answer over."""

    shows_epochs = False

    def carry_out(self, arguments: list[str]) -> list[Any]:
        """Search, or with `rounds=0` show what a search would train.

        Raises:
            SsrError: if the command cannot be met, or all of a round's trainings failed.
        """
        from ssr_exp.datasets import reading
        from ssr_exp.runs.store import Busy, Store
        from ssr_exp.training import study

        self._refuse_sweeps(arguments)
        conf = self._read(arguments)
        store = Store(conf.paths.runs)
        store.check()
        opened = study.open(conf)
        reading.print_all([opened.splits.reading])
        search = _search(conf, opened, store)
        if conf.rounds == 0:
            found = self._show(arguments, search, opened, store)
            name_page(store)
            return found
        try:
            with store.claim(search.book.folder, wait=False):
                try:
                    return self._run(arguments, search, opened)
                finally:
                    name_page(store)
        except Busy:
            raise SsrError(
                f"this very search is running already ({search.book.folder}): wait for it, or "
                "start another one with another seed=N."
            ) from None

    def _read(self, arguments: Sequence[str]) -> SearchConfig:
        composed = self.loader.load_sweep_config(self.config, list(arguments))
        return configuration.read(composed, SearchConfig)

    def _refuse_sweeps(self, arguments: list[str]) -> None:
        parser = OverridesParser.create(config_loader=self.loader)
        for override in parser.parse_overrides(arguments):
            if override.is_sweep_override():
                raise SsrError(
                    f"{override.input_line}: a search takes one value of each key; repeat the "
                    "command with each of them."
                )

    def _show(
        self, arguments: Sequence[str], search: Search, opened: Study, store: Store
    ) -> list[Any]:
        """Print surrogate, front and next batch, and write the batch for `train.py`."""
        from ssr_exp.runs import proposal
        from ssr_exp.search import printing

        belief = search.look()
        search.tell(belief)
        _print_front(belief)
        printing.print_smallest(belief, search.conf)
        picks = search.next_batch(belief, search.next_number(), count=search.conf.batch)
        if not picks:
            log.info("no network that is left promises a gain")
            return []
        printing.print_batch(belief, picks, title="next batch (not trained)")
        written = proposal.write(
            store,
            proposal.Proposal(
                study=opened.name,
                networks=tuple(pick.network for pick in picks),
                created_at=datetime.now(UTC).isoformat(timespec="seconds"),
            ),
        )
        words = [word for word in arguments if _is_trains(word)]
        log.info("written to %s; train it with:", written)
        print(shlex.join(["python", "train.py", *words, "modifiers=proposed"]))
        return []

    def _run(self, arguments: Sequence[str], search: Search, opened: Study) -> list[Any]:
        """Go through the rounds, then train the last comparison and hand its answer over."""
        from ssr_exp.app.search_ending import Ending
        from ssr_exp.runs.store import BEST_FOLDER
        from ssr_exp.search import printing
        from ssr_exp.training.finalists import UNTESTED
        from ssr_exp.training.sweep import ALONE

        wandb_run, composing = _search_run(search, opened), Lock()

        def watch(told: Predictions) -> None:
            search.watch(told)
            wandb_run.look(told, search.evidence.records)

        def train(networks: Sequence[str], origin: str) -> dict[str, object]:
            words = [*arguments, *UNTESTED, *ALONE, f"origin={origin}"]
            jobs = [[*words, f"modifiers.network={network}"] for network in networks]
            with composing:
                members = self.members(jobs)
            errors = self.train(members)
            pairs = zip(networks, members, strict=True)
            return {n: errors[member.folder] for n, member in pairs if member.folder in errors}

        watched = replace(search, watch=watch)
        if search.conf.asynchronous:
            belief, reason = self._run_asynchronously(watched, train)
        else:
            belief, reason = watched.run(train)
        log.info("the search ends: %s", reason)
        _print_front(belief)
        printing.print_smallest(belief, search.conf)
        records = Ending(self, arguments, search.conf, opened, belief).carry_out()
        search.conclude(belief)
        wandb_run.answer(records[0], search.book.store.study_folder(opened.name) / BEST_FOLDER)
        return records

    def _run_asynchronously(self, search: Search, train: Train) -> tuple[Belief, str]:
        from ssr_exp.search import asynchronous

        launcher = self.launches.launcher
        launchers.connect(launcher)
        trainings = asynchronous.Trainings(train, launchers.slots(launcher))
        try:
            return asynchronous.Run(search, trainings).carry_out()
        except BaseException:
            self.launches.close()
            raise


def _search_run(search: Search, opened: Study) -> SearchRun:
    """Set up what a search tells W&B."""
    from ssr_exp.runs.wandb.search_run import SearchRun

    asked = asdict(search.conf)
    told = {key: asked[key] for key in TOLD} | {
        "model": search.conf.model.name,
        "dataset": search.conf.dataset.name,
        "study": opened.name,
        "networks": len(search.space.lattice),
    }
    book = search.book
    return SearchRun(search.conf.logger, book.store, book.folder, opened.name, told)


def _search(conf: SearchConfig, opened: Study, store: Store) -> Search:
    """Set a search up.

    Raises:
        SsrError: if something makes no sense, before anything is trained.
    """
    from ssr_exp.search import caps, rounds, space
    from ssr_exp.search.evidence import Evidence
    from ssr_exp.search.loop import Search
    from ssr_exp.search.resolution import ValSet
    from ssr_exp.training import finalists

    finalists.check(conf, opened)
    spanned = space.from_plan(opened.plan, width_steps=conf.segment.width_steps)
    caps.check(spanned, conf)
    first = (opened.plan.baseline, *opened.expand(conf))
    book = rounds.notebook(store, opened.name, conf)
    evidence = Evidence(store, opened.name, opened.fields, spanned, conf, book)
    known = _latencies(conf, opened, spanned, store)
    return Search(
        spanned,
        conf,
        tuple(dict.fromkeys(first)),
        book,
        evidence,
        known,
        watch=lambda _: write_page(store),
        val=ValSet(opened.splits.reading.parts.get("val", {})),
    )


def _latencies(conf: SearchConfig, opened: Study, spanned: Space, store: Store) -> Latencies | None:
    """Measure the lattice, or read what was measured; None where nothing of it is needed.

    Raises:
        SsrError: if the runtime is not there, or the table is missing or of another network.
    """
    asked = conf.latency
    wanted = conf.objective.cost is CostAxis.latency_ms or conf.cap.latency_ms is not None
    if not wanted or asked.source is LatencySource.records:
        return None
    from ssr_exp.edge.latency import table
    from ssr_exp.edge.latency.table_file import Seed
    from ssr_exp.runs.store import folder_name

    seed = Seed.of(
        conf.model, conf.segment, opened.plan, opened.splits.num_classes, opened.seed_network
    )
    subject = table.Subject(seed, opened.seed_network, spanned.lattice)
    effort = table.Effort(asked.networks, asked.held_out, asked.repeats, asked.spread)
    folder = store.study_folder(opened.name) / "latency"
    frozen = sorted(conf.segment.frozen)
    with store.claim(folder, wait=True):  # two searches that begin together measure once
        if asked.source is LatencySource.file:
            path = _copied(asked, subject, folder, effort)
            found = table.resume(subject, path, effort)
        else:
            setting = table.here(asked.runtime, batch=asked.batch, threads=asked.threads)
            path = folder / f"{folder_name('-'.join((setting.slug, *frozen)))}.json"
            if path.exists():
                found = table.resume(subject, path, effort)
            else:
                count = min(asked.networks + asked.held_out, spanned.lattice.size)
                log.info("measuring %d networks: %s", count, setting)
                found = table.start(subject, setting, path, effort)
    log.info("%s; %s", found, found.check())
    return found


def _copied(asked: LatencyConf, subject: Subject, folder: Path, effort: Effort) -> Path:
    """Copy a table that was measured elsewhere to the study, where it may grow; returns its place.

    Raises:
        SsrError: if there is none, or it is of another network.
    """
    from ssr_exp.edge.latency import table as clock
    from ssr_exp.edge.latency import table_file

    if asked.file is None:
        raise SsrError(
            "latency=file reads a table that python -m ssr_exp.edge MODEL --fit --out FILE "
            "wrote: type latency.file=FILE."
        )
    table = clock.resume(subject, Path(asked.file).expanduser(), effort).table
    content = hashlib.sha256(table.model_dump_json().encode()).hexdigest()[:8]
    path = folder / f"file-{content}.json"
    if not path.exists():
        table_file.write(path, table)
    return path


def _is_trains(override: str) -> bool:
    """Say whether `train.py` knows what an override sets, too; its modifiers it names itself."""
    key = override.lstrip("+~").partition("=")[0].split(".")[0].split("@")[0]
    own = {f.name for f in fields(Config)} | {"experiment"}
    return key in own - {"modifiers"} or key.startswith("hydra")


def _print_front(belief: Belief) -> None:
    from ssr_exp.report import trade_offs

    records = belief.history.records
    trade_offs.print_trade_offs(trade_offs.front(records), known=records)
