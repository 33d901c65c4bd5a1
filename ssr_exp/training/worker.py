"""One of the processes that train one network together; `training.devices` starts it."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from pydantic import TypeAdapter

from ssr_exp import files, messages
from ssr_exp.config import Config
from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import codes
from ssr_exp.runs import provenance
from ssr_exp.tasks.supervised import Diverged
from ssr_exp.training import devices, fit, opened_study, resume, run, trainers
from ssr_exp.training.opened_study import Job
from ssr_exp.training.rank_messages import Outbox, SentCurves
from ssr_exp.training.scoring import Fields

TIMEOUT = timedelta(minutes=30)  # after which processes that wait for another one fail
LOOK_S = 0.5  # between two looks at whether the process that started this one is there
UNUSED = "find_unused_parameters"  # in the error of DDP, and in what Lightning makes of it
LEFT_TO_PARENT = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


def main(folder: str, parent: str, rank: str, world: str) -> None:
    """Do this process's part of a training, and end without waiting for anything.

    Args:
        folder: where the processes meet.
        parent: the id of the process that started this one.
        rank: the number of this one.
        world: how many there are.
    """
    # Of several processes that get a signal one has to decide what it means.
    signal.pthread_sigmask(signal.SIG_BLOCK, LEFT_TO_PARENT)
    place, code = Path(folder), 0
    threading.Thread(target=_end_with, args=(int(parent), place), daemon=True).start()
    try:
        with messages.job():
            fields = _train(place, int(rank), int(world))
        if rank == "0":
            files.write_checkpoint(place / devices.RESULT, fields)
    except BaseException as error:
        files.write(devices.failure(place, int(rank)), _failure(error))
        code = 1
    sys.stdout.flush()
    os._exit(code)  # a device that fails, or waits for another one, could keep it


def _end_with(parent: int, place: Path) -> None:
    """End, with what this process started, when the one that started it was killed."""
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    shutil.rmtree(place, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)


def _train(place: Path, rank: int, world: int) -> Fields:
    root = logging.getLogger()
    root.addHandler(logging.NullHandler())
    said = json.loads((place / devices.JOB).read_text(encoding="utf-8"))
    conf, folder = TypeAdapter(Config).validate_python(said["conf"]), Path(said["folder"])
    device = torch.device("cuda", rank) if provenance.is_on_gpu(conf.trainer.accelerator) else None
    if device is not None:
        torch.cuda.set_device(device)
    job = _job(conf, said["study"], said["network"])
    last = resume.last_checkpoint(folder)
    # The study was opened before, and what that says was said.
    root.addHandler(outbox := Outbox(devices.messages_of(place, rank)))
    outbox.setLevel(logging.WARNING if rank else logging.INFO)
    logging.getLogger(messages.OURS).setLevel(logging.INFO)
    _meet(place, rank, world, device)
    with trainers.quiet():
        fields = fit.train(job, folder, None if rank else SentCurves(outbox), last)
    dist.barrier()
    return fields


def _job(conf: Config, name: str, network: str) -> Job:
    """Open the study again, which is to be the same."""
    study = opened_study.open(conf)
    opened_study.check_same(study, name)
    return Job(study, codes.parse(study.plan, network), conf)


def _meet(place: Path, rank: int, world: int, device: torch.device | None) -> None:
    """Join the other processes, before Lightning would, which knows of no file.

    Args:
        place: where they meet.
        rank: the number of this one.
        world: how many there are.
        device: the GPU of this one; None: the CPU trains.
    """
    dist.init_process_group(
        "gloo" if device is None else "nccl",
        init_method=(place / "store").as_uri(),
        rank=rank,
        world_size=world,
        timeout=TIMEOUT,
        device_id=device,
    )


def _failure(error: BaseException) -> bytes:
    """Write down what this process ends of."""
    kind, text, path = "failed", cause(error), None
    if isinstance(error, Diverged):
        kind, text = "diverged", str(error)
    elif UNUSED in str(error):
        kind = "refused"
        text = (
            "a part of the network is not used in each step, which DDP has to be told: type "
            "trainer.strategy=ddp_find_unused_parameters_true."
        )
    elif isinstance(error, SsrError):
        kind, text = "refused", str(error)
    elif isinstance(error, OSError) and error.errno in files.FULL:
        kind, text, path = "full", error.strerror or str(error), files.path_of(error)
    elif isinstance(error, Exception | SystemExit):
        text = run.explain(error)
    fields = {"kind": kind, "text": text, "at": time.time(), "traceback": traceback.format_exc()}
    where = None if path is None else os.path.abspath(path)
    fields |= {"errno": getattr(error, "errno", None), "path": where}
    return provenance.to_json(fields).encode()


if __name__ == "__main__":
    main(*sys.argv[1:])
