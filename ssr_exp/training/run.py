"""One training of one rescaled network: a configuration goes in, a record comes out."""

from __future__ import annotations

import errno
import logging
import shutil
import time
import traceback
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ssr_exp import files, signals, user_code
from ssr_exp.config import Config, TaskKind
from ssr_exp.datasets import workers
from ssr_exp.errors import SsrError, cause, is_out_of_memory, unlocated
from ssr_exp.rescaling import cost, saved, seeds
from ssr_exp.runs import provenance, studies
from ssr_exp.runs.record import FINALIST, Fractions, Record, Status
from ssr_exp.runs.store import CONFIG_FILE, TELLING, Store, is_done
from ssr_exp.runs.wandb import training_run
from ssr_exp.tasks.supervised import Diverged
from ssr_exp.terminal import ENDED
from ssr_exp.training import answer_folder, devices, fit, loop_study, opened_study, resume, trainers
from ssr_exp.training.opened_study import Job, OpenedStudy

log = logging.getLogger(__name__)

TRACEBACK = "traceback.txt"
LITTLE_BYTES = 16 * 2**20  # free on a disk that counts as full

ended_here: set[Path] = set()  # folders of the runs that this process trained, however they ended


class RunFailed(SsrError):
    """A training ended with an error; its record says which."""


def plan(conf: Config) -> list[Job]:
    """List the jobs that a configuration stands for: one for each network of its modifiers.

    Raises:
        SsrError: if a part of the configuration cannot be met.
    """
    opened = opened_study.open(conf)
    if conf.task.name is TaskKind.loop:
        loop_study.check_function(conf)
    settled = opened.settled(conf)
    return [Job(opened, architecture, settled) for architecture in opened.expand(conf)]


def folder(store: Store, job: Job) -> Path:
    """Name the folder of a job's run."""
    return store.folder(job.study.name, job.network, job.conf.seed)


def train(conf: Config) -> Record:
    """Train the one network that a configuration names, unless that was done before.

    Raises:
        Busy: if another process is training it and `conf.wait` is false.
        RunFailed: if the training failed; the record says so, too.
        SsrError: if the configuration cannot be met, or its folder cannot be written; a training
            that fills the disk leaves no record.
    """
    jobs = plan(conf)
    if len(jobs) != 1:
        raise SsrError(
            f"modifiers={conf.modifiers.kind} stands for {len(jobs)} networks: run it as a sweep "
            "(leave hydra.mode as it is)."
        )
    (job,) = jobs
    if conf.job_of is not None:
        opened_study.check_same(job.study, conf.job_of)
    store = Store(conf.paths.runs)
    where = folder(store, job)
    with store.claim(where, wait=conf.wait), provenance.torch_threads(conf.trainer.threads):
        done = store.read(where)
        if done is None or not is_done(done):
            record = _train(job, store, where)
        elif is_done(done, tested=conf.trainer.test):
            log.info("%s: done before, skipped", job.title)
            return done
        else:
            record = _test(job, store, where, done)
    if record.status is Status.failed:
        raise RunFailed(f"{job.title}: {record.error}")
    return record


def _test(job: Job, store: Store, where: Path, done: Record) -> Record:
    """Add the test set's figures to the record of a finished run.

    A function of the user's own trains for that again, as its weights are its own; what it scored
    on val the first time stays.
    """
    begin(job, store, where)
    with trainers.quiet():
        try:
            if job.conf.task.name is TaskKind.loop:
                told = loop_study.train(job, where)
                fields = {"test_score": told["test_score"]}
                fields |= {"metrics": {**done.metrics, **told["metrics"]}}
            else:
                fields = fit.test(job, where, {"metrics": done.metrics})
        except SsrError:
            raise
        except (Exception, SystemExit) as error:  # of anyone's code
            user_code.check_exit(error)
            store.write_text(where / TRACEBACK, traceback.format_exc())
            raise RunFailed(f"{job.title} was not tested: {explain(error)}") from error
    if job.conf.origin == FINALIST:
        fields |= {"origin": FINALIST}
    ended_here.add(where)
    record = _written(job, store, where, done.model_copy(update=fields))
    log.log(ENDED, "%s: %s", job.title, _scores(record.model_copy(update={"score": None})))
    return record


def _train(job: Job, store: Store, where: Path) -> Record:
    """Train, and write the record however that ends."""
    devices.check(job.conf)
    blank = blank_record(job)
    share = blank.params / blank.baseline_params
    log.info("%s: %s parameters (%.1f %%)", job.title, f"{blank.params:,}", 100 * share)
    begin(job, store, where)
    describe_study(job.study, job.conf, store)
    is_loop = job.conf.task.name is TaskKind.loop
    last = None if is_loop else resume.last_checkpoint(where)
    run = _start_wandb(job, blank, where, goes_on=last is not None)
    start = time.perf_counter()
    try:
        with trainers.quiet():
            if is_loop:
                fields = loop_study.train(job, where)
            elif job.conf.trainer.devices > 1:
                fields = devices.train(job, where, run)
            else:
                fields = fit.train(job, where, run, last)
        outcome: dict[str, Any] = {"status": Status.finished, **fields}
    except Diverged as error:
        outcome = {"status": Status.diverged, "error": str(error)}
    except (Exception, SystemExit) as error:
        user_code.check_exit(error)
        signals.check()  # of processes that read images, and were told to stop, too
        if isinstance(error, OSError) and _is_full(where, error):  # the run is in order
            raise files.cannot_write(where, error, store.option) from error
        outcome = {"status": Status.failed, "error": explain(error)}
        log.debug("%s failed", job.title, exc_info=True)
        store.write_text(where / TRACEBACK, traceback.format_exc())
    spent_s = time.perf_counter() - start + (0.0 if last is None else last.spent_s)
    record = blank.model_copy(update=outcome | {"wall_s": spent_s})
    ended_here.add(where)
    record = _written(job, store, where, record)
    training_run.finish(run, record)
    _report(job, record)
    return record


def _is_full(where: Path, error: OSError) -> bool:
    """Say whether the disk of a run's folder is full, and not the one that a user's code fills."""
    if error.errno not in files.FULL:
        return False
    if (path := files.path_of(error)) is not None:
        return files.disk_of(path) == files.disk_of(where)
    # A write names no file; and of a quota nobody knows what is left.
    return error.errno != errno.ENOSPC or shutil.disk_usage(where).free < LITTLE_BYTES


def _written(job: Job, store: Store, where: Path, record: Record) -> Record:
    """Write a record, unless a result that a loop told late stands there; returns what stands."""
    is_told = job.conf.task.name is TaskKind.loop or (where / TELLING).exists()
    with store.claim(where / TELLING, wait=True) if is_told else nullcontext():
        told = store.read(where) if is_told else None
        is_finished = record.status is Status.finished
        if told is not None and is_done(told, tested=is_finished and job.conf.trainer.test):
            log.warning("%s was told meanwhile: that result stays", job.title)
            return told
        store.write(where, record)
    return record


def begin(job: Job, store: Store, where: Path) -> None:
    """Write down what a run is asked to do, and of which network it is.

    Raises:
        SsrError: if the disk is full or the folder cannot be written.
    """
    store.name_network(where, job.network)
    store.write_text(where / CONFIG_FILE, provenance.to_json(asdict(job.conf)))
    (where / TRACEBACK).unlink(missing_ok=True)


def describe_study(study: OpenedStudy, conf: Config, store: Store) -> None:
    """Say what all runs of a study share, and what their networks are rescaled from.

    The code that makes a loop's network stays that which the study began with: else an edit would
    be said once and then be forgotten.

    Raises:
        SsrError: if the disk is full or the folder cannot be written.
    """
    folder = store.study_folder(study.name)
    store.write_text(folder / studies.FILE, provenance.to_json(study.about))
    about = answer_folder.describe(study, conf)
    # Runs with other segments frozen are of the same study, and their codes mean the same.
    about = about.model_copy(update={"segment": about.segment.model_copy(update={"frozen": ()})})
    if conf.task.name is TaskKind.loop and (folder / saved.NETWORK).exists():
        code = saved.read(folder).model.code or about.model.code
        about = about.model_copy(update={"model": about.model.model_copy(update={"code": code})})
    store.write_text(folder / saved.NETWORK, files.to_json(about))


def blank_record(job: Job) -> Record:
    """Fill in all that is known of a run before it starts."""
    conf, plan_ = job.conf, job.study.plan
    costs, baseline = (cost.count_one(plan_, a) for a in (job.architecture, plan_.baseline))
    modifiers = plan_.modifiers(job.architecture)
    return Record(
        study=job.study.name,
        network=job.network,
        model=conf.model.name,
        dataset=conf.dataset.name,
        modifiers=Fractions(depth=modifiers.depth, width=modifiers.width),
        blocks=job.architecture.blocks,
        widths=plan_.channels(job.architecture),
        seed=conf.seed,
        epochs=conf.trainer.max_epochs,
        status=Status.failed,
        **job.study.score.fields(),
        **costs._asdict(),
        **{f"baseline_{key}": value for key, value in baseline._asdict().items()},
        wall_s=0.0,
        device=provenance.device(conf.trainer.accelerator, conf.trainer.devices),
        precision=conf.trainer.precision,
        versions=provenance.versions(),
        git_commit=provenance.git_commit(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        origin=conf.origin or conf.modifiers.kind,
    )


def _start_wandb(job: Job, blank: Record, where: Path, *, goes_on: bool) -> Any:
    """Open a training's W&B run; one that goes on has that of its earlier process."""
    asked = {k: v for k, v in asdict(job.conf).items() if k not in ("paths", "logger")}
    for path in ("root", "file"):
        asked["dataset"].pop(path)
    if not job.conf.logger.share_machine:  # paths stand in arguments of the user's own, too
        asked = unlocated(asked)
    # Paths name a machine, so networks trained before are named by their digests.
    asked["checkpoint"] = job.study.pretrained.init.get("checkpoint")
    asked["recipe"]["distill"] = job.study.pretrained.distill.get("teacher")
    fields = blank.model_dump(mode="json", exclude_none=True, exclude={"status", "wall_s"})
    return training_run.start(
        job.conf.logger,
        folder=where,
        name=job.network,
        group=job.study.name,
        job_type=blank.kind.value,
        tags=[seeds.label(job.conf.model), blank.dataset, job.study.name, blank.origin or ""],
        config={"asked": asked} | fields | training_run.axes(blank),
        run_id=training_run.opened_in(where) if goes_on else None,
    )


def explain(error: Exception | SystemExit) -> str:
    """Put an error of a training into one sentence."""
    if isinstance(error, SystemExit):
        why = f"code that it calls ended the process ({cause(error)})"
        return f"{why}: let it return, or raise an error"
    lines, kind = str(error).strip().split("\n"), type(error).__name__
    is_list = len(lines) > 1 and lines[0].endswith(":")  # of what does not fit, say
    text = f"{lines[0]} {lines[1].strip()}" if is_list else lines[0]
    if is_out_of_memory(error):
        smaller = "smaller batches (recipe.batch_size, or your DataModule's)"
        return f"out of memory: {text or kind}; try {smaller}."
    if told := workers.explained(error):
        return str(told)
    return text if isinstance(error, SsrError) else f"{kind}: {text}" if text else kind


def _report(job: Job, record: Record) -> None:
    if record.status is Status.finished:
        log.log(ENDED, "%s: %s in %.1f s", job.title, _scores(record), record.wall_s)
    else:
        log.log(ENDED, "%s %s: %s", job.title, record.status.value, record.error)


def _scores(record: Record) -> str:
    """Write what was measured: `val 97.21 %, test 96.80 %`."""
    measured, score = {"val": record.score, "test": record.test_score}, record.scored_by
    return ", ".join(f"{p} {score.text(v)}" for p, v in measured.items() if v is not None)
