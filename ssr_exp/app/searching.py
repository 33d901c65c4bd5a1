"""`ssr search`: rounds of jobs for the configured launcher, then the answer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from omegaconf import OmegaConf

from ssr_exp import messages
from ssr_exp.app import configuration, judging, launchers, search_setup
from ssr_exp.app.ask_tell.enqueued import ENQUEUED, Queue
from ssr_exp.app.command_line import overrides, quoting
from ssr_exp.app.search_ending import Ending
from ssr_exp.app.sweeping import LaunchingCommand, name_page, write_page
from ssr_exp.config import AUTO, Config, Objective, SearchConfig, TaskKind
from ssr_exp.datasets import reading
from ssr_exp.errors import SsrError, one_line
from ssr_exp.report import answer_block, search_results, trade_offs
from ssr_exp.runs import proposal, seed_means, study_names
from ssr_exp.runs.last_comparison import Comparison
from ssr_exp.runs.predictions import Predictions
from ssr_exp.runs.record import FINALIST, Record
from ssr_exp.runs.seed_means import SeedMean
from ssr_exp.runs.store import BEST_FOLDER, Busy, Store
from ssr_exp.runs.study_names import Command
from ssr_exp.search import answer_printing, asynchronous, attempts, caps, printing
from ssr_exp.search.attempts import Train
from ssr_exp.search.belief import Belief
from ssr_exp.search.decision import Decision
from ssr_exp.search.loop import Search
from ssr_exp.terminal import counted
from ssr_exp.training import few_steps, loop_settings, opened_study
from ssr_exp.training.finalists import UNTESTED
from ssr_exp.training.opened_study import OpenedStudy
from ssr_exp.training.sweep import ALONE

log = logging.getLogger(__name__)

PLANS_S = 30.0  # for so long a loop of the user's own may plan its next network


class SearchCommand(LaunchingCommand):
    """Run a search and hand its answer over."""

    name: Command = "search"
    shows_epochs = False

    def carry_out(self, arguments: list[str]) -> list[Any]:
        """Search, or with `rounds=0` show what a search would train.

        Raises:
            SsrError: if the command cannot be met, or all of a round's trainings failed.
        """
        self._refuse_sweeps(arguments)
        typed, arguments = arguments, [*self._as_begun(arguments), *arguments]
        composed = self.loader.load_sweep_config(self.command, arguments)
        conf = configuration.read(composed, SearchConfig)
        store = Store(conf.paths.runs)
        store.check()
        caps.check_combinations(conf)  # before images are read
        self.display.cost = conf.objective.cost
        opened = opened_study.open(conf)
        self.line.check(store, opened)
        if conf.trainer.precision == AUTO:
            arguments.append(f"trainer.precision={opened.precision}")
        conf = opened.settled(conf)
        reading.print_all([few_steps.reading(conf, opened.splits)])
        search = search_setup.set_up(conf, opened, store)
        if conf.rounds or self.line.name:
            self.line.begin(store, opened, conf, typed if conf.rounds else None)
        if conf.rounds == 0:
            self._show(typed, search, opened)
            name_page(store)
            return []
        place, said = search.book.folder, "waiting for another process that carries out this search"
        try:
            with (
                store.claim(place, wait=False)
                if conf.study is None
                else store.claim_saying(place, said, patience_s=PLANS_S)
            ):
                return self._run_and_tell(arguments, search, opened)
        except Busy:
            raise SsrError(
                f"this very search is running already ({place}): wait for it, or start another "
                "one with another seed=N."
            ) from None

    def _run_and_tell(
        self, arguments: Sequence[str], search: Search, opened: OpenedStudy
    ) -> list[Any]:
        """Search, write the page, however that ends, and print the answer in one block."""
        store = search.book.store
        try:
            records = self._run(arguments, search, opened)
        except BaseException:
            name_page(store)
            raise
        page = write_page(store)
        if records and search.conf.objective.kind is Objective.tradeoff:
            cost = search.conf.objective.cost.value
            search.evidence.forget()  # finalists have ended since
            trained = search.evidence.records
            trade_offs.print_front(trained, answer=records[0].network, cost=cost)
        print()
        rows = answer_block.read(store, opened.name) if records else []
        answer_block.print_block(rows + ([] if page is None else [("page", str(page))]))
        return records

    def _refuse_sweeps(self, arguments: list[str]) -> None:
        for override in overrides.parse(arguments, self.loader):
            if override.is_sweep_override():
                raise SsrError(
                    f"{override.input_line}: a search takes one value of each key; repeat the "
                    "command with each of them."
                )

    def _as_begun(self, arguments: Sequence[str]) -> list[str]:
        """Repeat how the search of a study of one's own loop was begun, but for what is typed.

        Raises:
            SsrError: if there is no such study.
        """
        parsed = overrides.parse(list(arguments), self.loader)
        words = {word.get_key_element().lstrip("+~"): word.value() for word in parsed}
        if (name := words.get("study")) is None:
            return []
        root = words.get("paths.runs", OmegaConf.select(self.command, "paths.runs"))
        begun = loop_settings.search(Path(str(root)), str(name))
        groups = tuple(f"{key}." for key in words if "." not in key)
        kept = {k: v for k, v in begun.items() if k not in words and not k.startswith(groups)}
        spelled = [f"{key}={quoting.spelled(value)}" for key, value in kept.items()]
        if spelled:
            log.info("as the study was begun: %s", one_line(" ".join(spelled).replace('"', "")))
        return spelled

    def _show(self, arguments: Sequence[str], search: Search, opened: OpenedStudy) -> None:
        """Print surrogate, front and next batch, and write the batch for `ssr train`."""
        belief = search.look()
        search.tell(belief, whole=True)
        print()
        judged = _judged(search, belief)
        _print_front(belief, search.conf)
        decided = judging.decide(search.book.store, opened.name, judged, belief)
        answer_printing.print_smallest(judged, search.conf, decided, _means(search), seen=belief)
        picks = search.next_batch(belief, search.next_number(), count=search.conf.batch)
        if not picks:
            log.info("no network that is left promises a gain")
            return
        printing.print_batch(belief, picks, title="next batch (not trained)")
        batch = proposal.Proposal(
            study=opened.name,
            networks=tuple(pick.network for pick in picks),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        path = proposal.write(search.book.store, batch)
        if _is_left_to_a_loop(search.conf):
            if left := search.first_left():
                said = counted(len(left), "first network")
                log.info("%s not done: those are what your loop is asked for next", said)
            asked = _asked_by_a_loop(search, opened)
            log.info("written to %s; %s. A function trains them, too: type", path, asked)
            words = [word for word in arguments if not word.startswith("rounds=")]
            print(messages.typed("search", *self.line.presets, *words, study_names.FUNCTION))
            return
        log.info("written to %s; train it with:", path)
        words = [word for word in arguments if _is_trains(word)]
        # The modifiers of an experiment's own are merged after their group.
        words += ["modifiers.kind=proposed"] * study_names.says_place(words)
        print(messages.typed("train", *self.line.presets, *words, "modifiers=proposed"))

    def _run(self, arguments: Sequence[str], search: Search, opened: OpenedStudy) -> list[Record]:
        """Go through the rounds, then train the last comparison; returns the answer's record."""
        wandb_run, composing = search_setup.wandb_run(search, opened, arguments), Lock()

        def watch(predictions: Predictions) -> None:
            search.watch(predictions)
            wandb_run.look(predictions, search.evidence.records)

        def train(networks: Sequence[str], origin: str) -> dict[str, object]:
            words = [*arguments, *UNTESTED, *ALONE, f"origin={origin}"]
            jobs = [[*words, f"modifiers.network={network}"] for network in networks]
            with composing:
                members = self.members(jobs)
                self.display.title = _round(origin, search.conf)
            errors = self.train(members)
            pairs = zip(networks, members, strict=True)
            return {n: errors[member.folder] for n, member in pairs if member.folder in errors}

        self.display.remarks = search.remarks_on
        watched = replace(search, watch=watch)
        self._train_enqueued(arguments, search)
        if search.conf.asynchronous:
            belief, reason = self._run_asynchronously(watched, train)
        else:
            belief, reason = watched.run(train)
        log.info("the search ends: %s", reason)
        seen, belief = belief, _judged(search, belief)
        if _is_left_to_a_loop(search.conf):
            return self._handed_over_before(search, belief, seen)

        def look() -> Belief:
            """Believe by the finalists, too."""
            search.evidence.forget()
            return search.look()

        rest = (search.affordable_finalists, look, watched.tell, Queue(search.book).remember)
        ending = Ending(self, arguments, search.conf, opened, belief, *rest)
        records = ending.carry_out()
        search.conclude()
        wandb_run.answer(records[0], search.book.store.study_folder(opened.name) / BEST_FOLDER)
        return records

    def _train_enqueued(self, arguments: Sequence[str], search: Search) -> None:
        """Train first what `study.enqueue` asked for.

        Raises:
            SsrError: if the budget does not cover the first networks, or the disk took no more.
        """
        queue = Queue(search.book)
        if not (waiting := queue.waiting(search.evidence.study)):
            return
        said = counted(len(waiting), "network")
        if _is_left_to_a_loop(search.conf):
            log.info("%s enqueued: your loop is asked for that next", said)
            return
        search.check_budget()
        log.info("%s enqueued: trained first", said)
        words = [*arguments, *UNTESTED, *ALONE, f"origin={ENQUEUED}"]
        members = self.members(
            [*words, f"modifiers.network={one.network}", f"seed={one.seed}"] for one in waiting
        )
        self.display.title = "enqueued networks"
        errors = self.train(members)
        attempts.refuse_disk({m.network: errors[m.folder] for m in members if m.folder in errors})
        for member in members:
            queue.count(member.network, member.seed)
            if not member.is_done:
                log.warning("%s failed and is left out", member.title)
        search.evidence.forget()

    def _handed_over_before(self, search: Search, belief: Belief, seen: Belief) -> list[Record]:
        """Find the answer that a loop of the user's own handed over; it trains the finalists, too.

        Where `best/` does not hold what all trainings name by now, that is printed, and the list is
        empty.
        """
        store, study = search.book.store, search.evidence.study
        record = store.answer(study)
        decided = judging.decide(store, study, belief, seen)
        search.conclude()
        if decided.is_kept is None:
            log.info("your loop trains finalists, by study.finalists(), or a function does: type")
            words = [word for word in self.line.words if not word.startswith("rounds=")]
            print(messages.typed("search", *self.line.presets, *words, study_names.FUNCTION))
        told = search_results.read_comparison(store, study)
        is_same = record is not None and record.network == search.space.code(decided.network)
        if record is not None and is_same and _answers(told, belief, decided):
            return [record]
        answer_printing.print_smallest(belief, search.conf, decided, _means(search), seen=seen)
        log.info("best/ does not hold it: study.answer() hands it over, if its weights were told")
        return []

    def _run_asynchronously(self, search: Search, train: Train) -> tuple[Belief, str]:
        launcher = self.launches.launcher
        launchers.connect(launcher)
        self.display.total = search.to_come()
        trainings = asynchronous.Trainings(train, launchers.slots(launcher))
        try:
            return asynchronous.Run(search, trainings).carry_out()
        except BaseException:
            self.launches.close()
            raise


def _is_left_to_a_loop(conf: SearchConfig) -> bool:
    """Say whether a loop of the user's own trains, and no function that the command could call."""
    return conf.task.name is TaskKind.loop and conf.task.target is None


def _asked_by_a_loop(search: Search, opened: OpenedStudy) -> str:
    """Say what a loop of the user's own is asked for, by the rounds that its study was begun with.

    A command with `rounds=0` has none of its own.
    """
    begun = loop_settings.search(search.book.store.root, opened.name)
    rounds = begun.get("rounds", SearchConfig().rounds)
    own = replace(search, conf=replace(search.conf, rounds=rounds))
    if (reason := own.over) is None:
        return "your loop is asked by all that is told until then"
    return f"your loop is asked for none of them: its search ended, as {reason}"


def _answers(told: Comparison | None, belief: Belief, decided: Decision) -> bool:
    """Say whether what was told of an answer is of what is asked and known now."""
    if told is None or told.promise is None or told.kept != decided.is_kept:
        return False
    asked = (belief.drop, belief.confidence)
    return asked == (told.promise.allowed, told.promise.confidence)


def _means(search: Search) -> dict[str, SeedMean]:
    return seed_means.on_val(search.evidence.records)


def _judged(search: Search, belief: Belief) -> Belief:
    """Leave out what finalists gave, which the answer is not chosen by."""
    has_finals = any(record.origin == FINALIST for record in belief.history.records)
    return judging.judge(search) if has_finals else belief


def _round(origin: str, conf: SearchConfig) -> str:
    """Name in words what a search trains networks for."""
    number = origin.removeprefix("round")
    return f"round {number} of {conf.rounds}" if number.isdigit() else "first networks"


def _is_trains(override: str) -> bool:
    """Say whether `ssr train` knows what an override sets, too; its modifiers it names itself."""
    part = messages.part_of(override)
    keys = {field.name for field in fields(Config)} | {"experiment"}
    is_preset = override.startswith("+")  # of a group of the user's own
    return part in keys - {"modifiers"} or part.startswith("hydra") or is_preset


def _print_front(belief: Belief, conf: SearchConfig) -> None:
    records, cost = belief.history.records, conf.objective.cost.value
    front, root = trade_offs.front(records, cost), Path(conf.paths.runs)
    trade_offs.print_trade_offs(front, all_records=records, root=root, cost=cost)
