"""The front door for Python: a study whose networks your own code trains.

    study = ssr_exp.Study(
        make_network, torch.randn(2, 3, 64, 64), name="pets",
        score=ssr_exp.Score("dice", "max", bounds=(0, 1)), objective="smallest", max_drop=0.01,
    )
    while candidate := study.ask():
        study.tell(candidate, my_training(candidate.network))
    print(study.answer())

Several processes and machines may run these lines at once on one folder.
"""

from __future__ import annotations

import logging
import os
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from torch import nn

from ssr_exp import messages, terminal, user_code
from ssr_exp.app import exports, search_setup
from ssr_exp.app.ask_tell import beginning, losses, ranks, reopening, results
from ssr_exp.app.ask_tell.asking import Asking, Request, Waiting
from ssr_exp.app.ask_tell.enqueued import ENQUEUED
from ssr_exp.app.ask_tell.last_trainings import LastTrainings
from ssr_exp.app.ask_tell.patience import Patience
from ssr_exp.app.ask_tell.results import Answer, FrontNetwork
from ssr_exp.app.ask_tell.telling import Telling
from ssr_exp.config import ExportConfig, FinalistsConf, SearchConfig
from ssr_exp.edge import selection
from ssr_exp.errors import SsrError, cause
from ssr_exp.report import page
from ssr_exp.rescaling import lattice, validation
from ssr_exp.rescaling.plan import Plan
from ssr_exp.runs import removal
from ssr_exp.runs.record import Record
from ssr_exp.runs.score import Score
from ssr_exp.runs.store import BEST_FOLDER, Store, is_done
from ssr_exp.search.too_few import TooFew
from ssr_exp.training import loop_settings, loop_study, run
from ssr_exp.training.candidate import Candidate, Told, seconds
from ssr_exp.training.opened_study import OpenedStudy

log = logging.getLogger(__name__)


class Study:
    """Rescaled versions of a network, trained by code of your own.

    Args:
        make_network: makes the seed network anew at each call, without arguments: a class, a
            function, or `functools.partial(MyNet, width=64)`. What commands are to find has to be
            importable, so no lambda.
        example_inputs: what the network is called with, a batch: a tensor, a tuple of tensors, or
            `ssr_exp.Inputs(args, kwargs)`. Shapes and dtypes are kept, never the data.
            With `network`, the whole is run on them itself, on the CPU; a list is one input, such
            as a detector's images.
        network: the part that is rescaled, such as `backbone`, of a network that cannot be traced
            as a whole. It is called with one tensor; convolutions and linear maps that read its
            outputs follow. Candidates are the whole with that part put in, and all else as
            `make_network` makes it; their cost is that of the part and what reads it.
        name: of the study, and of its folder in `runs`.
        score: what you will tell: its name, its direction, its bounds.
        runs: the folder of all studies; several processes and machines may share it.
        segment: how the network is split: `stage`, `block`, `superblock`, `whole`, `channels` or
            `manual`.
        multiple: channels are rounded to a multiple of it.
        frozen: segments that stay as they are.
        objective: `smallest`, the cheapest network that loses at most `max_drop`, or `tradeoff`.
        cost: what is traded: `params`, `macs`, `gemms` or `latency_ms`.
        max_drop: what the answer may lose, in the score's unit, or a share such as `"2%"`; None: 1
            point of a score in percent, 2 % of any other.
        sentinels: the first networks: `sentinel_all`, `sentinel_joint` or any other modifiers.
        together: only so many segments low at once in them, and all; None: any number.
        rounds: of proposals, `batch` networks each.
        batch: networks of a round.
        seed: of trainings, and of the search's draws.
        init: `fresh` weights, or `inherit` slices of those that `make_network` gives.
        options: further settings of `ssr search` by their keys, such as `{"cap.macs": "40%"}`.

    Raises:
        SsrError: if a part of it cannot be met, or `runs` holds another study of this name.
    """

    def __init__(
        self,
        make_network: Callable[[], nn.Module],
        example_inputs: Any,
        *,
        name: str,
        score: Score,
        network: str | None = None,
        runs: str | Path = "runs",
        segment: str = "stage",
        multiple: int = 8,
        frozen: Sequence[str] = (),
        objective: str = "tradeoff",
        cost: str = "params",
        max_drop: float | str | None = None,
        sentinels: str = "sentinel_all",
        together: int | None = None,
        rounds: int = 3,
        batch: int = 4,
        seed: int = 0,
        init: str = beginning.FRESH,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        _refuse_imports()
        self._trusts = True  # the caller's own code makes its networks
        asked = {
            "segment.kind": segment,
            "segment.multiple": multiple,
            "segment.frozen": list(frozen),
            "objective.kind": objective,
            "objective.cost": cost,
            "objective.max_drop": max_drop,
            "modifiers.kind": sentinels,
            "modifiers.together": together,
            "rounds": rounds,
            "batch": batch,
            "seed": seed,
            "paths.runs": os.path.expanduser(runs),
            **beginning.read_of_options(options or {}),
        }
        opened, conf = beginning.begun(
            make_network,
            example_inputs,
            asked,
            name=name,
            score=score,
            network=network,
            init=init,
        )
        self._begin(opened, conf)

    @classmethod
    def open(
        cls,
        name: str,
        *,
        runs: str | Path = "runs",
        trust: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Go on with a study that is there, whether Python or a command began it.

        Args:
            name: of the study, or of its folder.
            runs: the folder of all studies.
            trust: call the function that makes its network, if a function does.
            options: settings of the search by their keys, as `ssr search` takes them.

        Raises:
            SsrError: if there is none, or its networks cannot be made.
        """
        _refuse_imports()
        study = cls.__new__(cls)
        opened, conf = reopening.reopened(
            name, Path(os.path.expanduser(runs)), options or {}, trust=trust
        )
        study._trusts = trust
        study._begin(opened, conf)
        return study

    def _begin(self, opened: OpenedStudy, conf: SearchConfig) -> None:
        messages.hear()
        self._opened, self._conf, store = opened, conf, Store(conf.paths.runs)
        self._answer: Answer | None = None
        if ranks.rank() == 0:
            store.check()
            uses = ExitStack()  # nobody removes it while this process may go on with it
            uses.enter_context(removal.using(store, opened.name))
            weakref.finalize(self, uses.close)
        self._asking = Asking(opened, conf, search_setup.set_up(conf, opened, store))
        self._asking.search.check_budget()
        if ranks.rank() == 0 and conf.study is not None:  # what a command began, it says itself
            reopening.say_if_edited(opened, conf, store)
            run.describe_study(opened, conf, store)
        self._telling, self._said = Telling(self._asking, Path.cwd()), ""
        for remark in [*opened.plan.remarks, *beginning.narrow(opened.plan)]:
            log.warning("%s: %s.", opened.name, remark)

    # --- the loop

    def ask(self, *, wait: bool = True, lease_s: float | None = None) -> Candidate | Waiting | None:
        """Claim the next network to train: the baseline, sentinels, then proposals.

        It stays this process's until it is told, failed or released, or the process ends: a killed
        one frees it. With `lease_s` it outlives the process instead, for so many seconds.

        Of processes that train one network together (`torch.distributed`), the first one asks and
        all get the same candidate.

        Args:
            wait: where all that is left is being trained elsewhere, or a command carries the
                search out, wait for it; else return a `Waiting`, which is false.
            lease_s: seconds for which the network is kept, though this process ends; see `take`.

        Returns:
            The candidate; None once nothing is left to train.

        Raises:
            SsrError: if the baseline or all first networks failed, the folder cannot be written,
                all that could be waited for was asked for here, or `lease_s` is no time.
        """
        self._telling.refuse_elsewhere()
        patience, asking = self._patience(), self._asking

        def ask() -> Request | Waiting | None:
            return self._next(lambda: asking.next(lease_s))

        while isinstance(request := ranks.shared(ask), Waiting) and wait:
            patience.wait(request)
        if request is None and self._asking.reason != self._said:
            self._said = self._asking.reason
            log.info("nothing is left to ask for: %s", self._said)
        return self._telling.begin(request) if isinstance(request, Request) else request

    def _next(self, ask: Callable[[], Request | Waiting | None]) -> Request | Waiting | None:
        """Claim the next one whose network is the one that is counted, and ends no process."""
        while isinstance(request := ask(), Request):
            job = self._asking.job(request)
            try:
                validation.check(job.study.seed_network, job.study.plan, job.architecture)
                losses.check(self._asking.folder(request))
            except SsrError as error:
                self._telling.fail(request, str(error))
            else:
                break
        return request

    def _patience(self) -> Patience:
        return Patience(self._asking.search.book.folder)

    def take(self, code: str, *, seed: int | None = None) -> Candidate:
        """Claim a network that was leased, in the process that trains it.

        Args:
            code: of the candidate that was asked for with `lease_s`.
            seed: of it; None: the study's.

        Raises:
            SsrError: if it was never asked for, is done, another process has it, or it has ended
                three processes.
        """
        request = self._telling.request(code, seed)

        def take() -> Request:
            self._telling.refuse_stranger(request)
            if is_done(self._asking.store.read(self._asking.folder(request))):
                raise SsrError(f"{code} is done already: ask for another one.")
            if self._asking.folder(request) in self._asking.held:
                raise SsrError(f"this process is training {code} already.")
            if not self._asking.take(request):
                raise SsrError(f"another process is training {code}: ask for another one.")
            return request

        return self._telling.begin(ranks.shared(lambda: self._checked(take())))

    def _checked(self, request: Request) -> Request:
        """Refuse what has ended so many processes already; its record says so.

        Raises:
            SsrError: says so.
        """
        try:
            losses.check(self._asking.folder(request))
        except SsrError as error:
            self._telling.fail(request, str(error))
            raise
        return request

    def renew(self, candidate: Candidate | str, lease_s: float, *, seed: int | None = None) -> None:
        """Lease a network for so many seconds from now on.

        Nothing changes while the process that took it (`take`) trains it.

        Raises:
            SsrError: if it was never asked for, is done, another process has it by now, or
                `lease_s` is no time.
        """
        request = self._telling.request(candidate, seed)
        if ranks.rank() != 0:
            return
        self._telling.refuse_stranger(request)
        if self._asking.is_done(request):
            raise SsrError(f"{request.network} is done already: there is nothing to keep.")
        self._asking.renew(request, lease_s)

    def tell(
        self,
        candidate: Candidate | str,
        score: Any,
        *,
        test: float | None = None,
        metrics: Mapping[str, float] | None = None,
        epochs: int | None = None,
        weights: Mapping[str, Any] | nn.Module | bool | None = True,
        wall_s: float | None = None,
        seed: int | None = None,
        replace: bool = False,
    ) -> None:
        """Record what a training gave.

        A score that is not finite counts as diverged: the network is not tried again. A result
        that comes late, when another process has the network meanwhile, counts.

        Args:
            candidate: that was asked for, or its code.
            score: on val, in the score's unit; or a dictionary with `score` and other numbers.
            test: on test; of finalists.
            metrics: other numbers, by name.
            epochs: how many it took.
            weights: a state dict or a module, kept for `answer` and `export`; True: those of
                `candidate.network`, if that was used; False or None: none.
            wall_s: how long it took; None: since this process asked for it or took it (of a code
                that another one asked for, 0).
            seed: of a candidate that is given by its code; None: the study's.
            replace: what was told before.

        Raises:
            SsrError: if the network was never asked for, the score is none or out of its bounds,
                another one was told before, or the weights are of another network. Nothing is
                recorded then, and it may be told again.
        """
        request = self._telling.request(candidate, seed)
        if ranks.rank() != 0:
            self._telling.drop(request)
            return
        self._telling.refuse_stranger(request)
        more = {"test": test, "metrics": metrics, "epochs": epochs}
        told = Told.read(score, self._opened.score, **more)
        self._telling.check(request, told)
        if wall_s is None:
            wall_s = self._telling.waited(request) or 0.0
        spent = seconds(wall_s)
        kept = False if weights is None else weights
        self._telling.tell(request, told, wall_s=spent, weights=kept, replace=replace)

    def fail(
        self, candidate: Candidate | str, error: object = "", *, seed: int | None = None
    ) -> None:
        """Record that a training failed; its network is offered once more.

        Args:
            candidate: that was asked for, or its code.
            error: why, an exception or a text.
            seed: of a candidate that is given by its code; None: the study's.

        Raises:
            SsrError: if it was never asked for.
        """
        request = self._telling.request(candidate, seed)
        if ranks.rank() != 0:
            self._telling.drop(request)
            return
        self._telling.refuse_stranger(request)
        text = cause(error) if isinstance(error, Exception) else str(error)
        self._telling.fail(request, text or "it failed")

    def release(self, candidate: Candidate | str, *, seed: int | None = None) -> None:
        """Give a network back untrained: it is offered again, to any process.

        Raises:
            SsrError: if it is no network of this study.
        """
        request = self._telling.request(candidate, seed)
        self._telling.drop(request)
        if ranks.rank() == 0:
            self._asking.free(request)

    @contextmanager
    def training(self, *, wait: bool = True) -> Iterator[Candidate | Waiting | None]:
        """Ask for a network, and see to it that whatever happens is recorded.

        In a loop::

            while True:
                with study.training() as candidate:
                    if candidate is None:  # nothing is left
                        break
                    study.tell(candidate, my_training(candidate.network))

        An error that is raised inside is recorded and raised again; Ctrl-C gives the network back.

        Raises:
            SsrError: if nothing was told of it.
        """
        candidate = self.ask(wait=wait)
        if not isinstance(candidate, Candidate):
            yield candidate
            return
        key = candidate.code, candidate.seed
        try:
            yield candidate
        except Exception as error:
            if key in self._telling.asked:
                folder = self._asking.folder(self._telling.request(candidate, None))
                text = traceback.format_exc()
                self.fail(candidate, error)
                self._asking.store.write_text(folder / "traceback.txt", text)
            raise
        except BaseException:
            self.release(candidate)
            raise
        if key in self._telling.asked:
            self.release(candidate)
            raise SsrError(
                f"nothing was told of {candidate.code}: call study.tell(candidate, score), "
                "study.fail(candidate) or study.release(candidate)."
            )

    # --- what else may be trained, or was

    def enqueue(self, code: str, *, seed: int | None = None) -> None:
        """Have a network trained next, or one that failed once more.

        A command that carries the search out meanwhile takes it when it is repeated.

        Raises:
            SsrError: if it is no network of this study.
        """
        request = self._telling.request(code, seed, ENQUEUED)
        if ranks.rank() == 0 and self._asking.is_done(request):
            log.info("%s (seed %d) is done already", request.network, request.seed)
        elif ranks.rank() == 0:
            self._asking.queue.add(request.network, request.seed)
            if not self._asking.store.is_claimed(folder := self._asking.folder(request)):
                losses.end(folder)  # its cause may be mended
            log.info("%s (seed %d) is enqueued", request.network, request.seed)

    def add(
        self,
        code: str,
        score: Any,
        *,
        test: float | None = None,
        metrics: Mapping[str, float] | None = None,
        epochs: int | None = None,
        wall_s: float = 0.0,
        seed: int | None = None,
        weights: Mapping[str, Any] | nn.Module | None = None,
    ) -> None:
        """Record the result of a network that was trained before, or elsewhere.

        It has to be trained as all others of the study are; see `tell`.

        Raises:
            SsrError: if it is no network of this study, is in training, or another result is
                there; if the score is none or out of its bounds, or the weights are of another
                network.
        """
        request = self._telling.request(code, seed, "added")
        if ranks.rank() != 0:
            return
        more = {"test": test, "metrics": metrics, "epochs": epochs}
        told = Told.read(score, self._opened.score, **more)
        self._telling.add(request, told, wall_s=seconds(wall_s), weights=weights)

    def network(self, code: str, *, seed: int | None = None) -> nn.Module:
        """Make a network of the study, with the first weights that a training of it has.

        Args:
            code: such as `d2-1_w16-8`.
            seed: that its weights are drawn by; None: the study's.

        Raises:
            SsrError: if it is no network of this study.
        """
        request = self._telling.request(code, seed, "")
        self._telling.made.add(request.network)
        return self._telling.offer(request).network

    def trained(self, code: str, *, seed: int | None = None) -> nn.Module:
        """Load a network with the weights that were told of it: in eval mode, on the CPU.

        Raises:
            SsrError: if none were.
        """
        request = self._telling.request(code, seed, "")
        return loop_study.trained_network(self._asking.job(request), self._asking.folder(request))

    # --- what was found

    def finalists(
        self, *, count: int = 1, seeds: int = 3, retries: int | None = None
    ) -> Iterator[Candidate]:
        """Offer the last trainings: baseline and answers, with seeds that the search did not use.

        Tell each with `test=`. Several processes share them; what was told is not offered again. A
        command that goes on with the study asks for as many, unless a command began it.

        Args:
            count: of answers.
            seeds: of each.
            retries: further answers, one by one, while none keeps within the drop on test, or a
                cheaper one is promised since these scored on val; None: the study's
                `finalists.retries`.

        Raises:
            SsrError: if the records are too few for an answer, or a number is below what can be.
        """
        limit = self._conf.finalists.retries if retries is None else retries
        if min(seeds, count) < 1 or limit < 0:
            raise SsrError(
                f"finalists(seeds={seeds}, count={count}, retries={limit}): seeds and count are at "
                "least 1, retries at least 0."
            )
        self._telling.refuse_elsewhere()
        conf = FinalistsConf(seeds=seeds, count=count, retries=limit)
        self._note_finalists(conf)  # a promise is of means over as many
        last = LastTrainings(self._telling, self._asking.judge(), conf)
        patience = self._patience()
        while (request := ranks.shared(lambda: self._next(last.claim))) is not None:
            if isinstance(request, Waiting):
                patience.wait(request)
            else:
                yield self._telling.begin(request)

    def answer(self) -> Answer:
        """Name the cheapest network that is good enough, and put it into the folder `best/`.

        The `best/` of a study that a command began stays the command's: `folder` says where the
        weights lie, and `export` writes those.

        Raises:
            SsrError: if fewer than four networks were told, or not the baseline.
        """
        self._telling.refuse_elsewhere()
        self._answer = results.make_answer(self._asking)
        return self._answer

    def front(self) -> list[FrontNetwork]:
        """List the trained networks that no other one beats in score and cost, cheapest first.

        Raises:
            SsrError: if fewer than four networks were told, or not the baseline.
        """
        self._telling.refuse_elsewhere()
        return results.front(self._asking)

    def records(self) -> list[Record]:
        """List all trainings that were told, failed ones among them."""
        return self._asking.store.records(self._opened.name)

    def page(self, path: str | Path | None = None) -> Path:
        """Write the page of the folder of runs, an HTML file that stands alone; returns its path.

        Raises:
            SsrError: if the folder cannot be written.
        """
        self._telling.refuse_elsewhere()
        try:
            self._asking.search.tell(self._asking.believe())
        except TooFew:
            log.info("the page has no predictions yet: the records are too few")
        to = None if path is None else Path(path).expanduser()
        return page.write(self._asking.store, to=to)

    def export(
        self,
        *formats: str,
        run: str = BEST_FOLDER,
        to: str | Path | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Path:
        """Write the answer as files for a device, each verified against PyTorch.

        Args:
            formats: `onnx` (by default), `torch_export`, `executorch`.
            run: `best`, the answer that was given last; the code of a network whose weights were
                told; or a folder of one.
            to: the folder; None: below the study's.
            options: further settings of `ssr export`, by their keys.

        Returns:
            The folder of the files.

        Raises:
            SsrError: if there is no such network, or a file does not give its outputs.
        """
        self._telling.refuse_elsewhere()
        if run == BEST_FOLDER and self._answer is not None:
            run = results.to_export(self._asking, self._answer)
        is_folder = run != BEST_FOLDER and selection.is_folder(Path(run).expanduser())
        asked = {
            "study": None if is_folder else self.name,
            "run": run,
            "format": list(formats) or ["onnx"],
            "to": None if to is None else str(to),
            "trust": self._trusts,
            "paths.runs": self._conf.paths.runs,
            **(options or {}),
        }
        return Path(exports.write(beginning.composed(ExportConfig, asked)))

    @property
    def name(self) -> str:
        """Its name, and that of its folder."""
        return self._opened.name

    @property
    def folder(self) -> Path:
        """Where its runs lie."""
        return self._asking.store.study_folder(self.name)

    @property
    def plan(self) -> Plan:
        """The segments of its network, and what each can become."""
        return self._opened.plan

    @property
    def score(self) -> Score:
        """What its networks are judged by."""
        return self._opened.score

    def __repr__(self) -> str:
        """Say what it is, in a line."""
        networks = lattice.spell(self._asking.search.space.lattice.size)
        runs = terminal.counted(len(self.records()), "run")
        return f"<Study {self.name}: {networks} networks, {runs}, in {self.folder}>"

    # --- inside

    def _note_finalists(self, asked: FinalistsConf) -> None:
        """Count on as many; commands learn of it, too, of a study that none of them began."""
        self._conf.finalists.seeds = asked.seeds
        if ranks.rank() == 0 and self._conf.study is not None:
            self._opened = loop_settings.note_finalists(self._opened, self._asking.store, asked)


def _refuse_imports() -> None:
    if user_code.is_importing():
        raise SsrError(
            "a study begins while its script is imported, by a command that looks for its network: "
            "put what begins it under if __name__ == '__main__':."
        )
