"""Others in the same folder, another time, too little memory, and networks that diverge."""

from __future__ import annotations

import os
import resource
import struct
import time
from dataclasses import replace
from pathlib import Path

from ssr_exp.runs import store
from tests.faults import laws
from tests.faults.processes import Command
from tests.faults.trials import SWEEP, Fault, Setting, Trial

HOUR_S, DAY_S = 3_600, 86_400
CLOCK = "SHIFTED_CLOCK"  # names the file that `clock.c` reads


def two_at_once(first: Command, second: Command, *, same: bool = False) -> Fault:
    """Start two commands in one folder, the second one at a random moment of the first.

    The second one may be refused where it is the `same`.
    """

    def fault(setting: Setting, trial: Trial) -> None:
        moment = setting.moment(first) * 0.8
        children = [setting.start(first, trial.folder)]
        time.sleep(moment)
        trial.struck = not children[0].is_over()
        children.append(setting.start(second, trial.folder))
        for child in children:
            code = child.wait()
            refused = same and "is running already" in child.text
            if code and not refused:
                trial.blame(f"one of two ended with {code}: {child.text[-300:]}")
        trial.look()
        for command in (first, second):
            trial.complete(command, setting.undisturbed(first).results)

    return fault


def clock_set_back(setting: Setting, trial: Trial) -> None:
    """Set the clock back by days at a random moment; only under `clock.c`."""
    clock = Path(os.environ[CLOCK])
    set_clock(clock, 0)
    whole, moment = setting.undisturbed(SWEEP), setting.moment(SWEEP)
    before = time.time()
    child = setting.start(SWEEP, trial.folder)
    time.sleep(moment)
    set_clock(clock, -setting.draw.randint(1, 30) * DAY_S)
    trial.struck = not child.is_over() and time.time() < before
    if code := child.wait():
        trial.blame(f"it ended with {code}: {child.text[-300:]}")
    trial.look()
    trial.complete(SWEEP, whole.results)
    for path in trial.runs.glob(f"*/*/seed*/{store.RECORD_FILE}"):
        record = laws.record.parse(path.read_bytes())
        if not 0 < record.wall_s < HOUR_S:
            trial.blame(f"it claims to have taken {record.wall_s} s")
    set_clock(clock, 0)


def set_clock(path: Path, shift_s: int) -> None:
    """Say how far the clock of `clock.c` is off, without a moment in which the file is short."""
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.write(struct.pack("q", shift_s))


def divergence(setting: Setting, trial: Trial) -> None:
    """Train with a rate that no network stands; that is a result, and not tried again."""
    wild = replace(SWEEP, words=(*SWEEP.words, f"recipe.lr={10 ** setting.draw.uniform(5, 8):.0f}"))
    child = setting.start(wild, trial.folder)
    if code := child.wait():
        trial.blame(f"it ended with {code}: {child.text[-300:]}")
    trial.struck = "diverged" in child.text
    trial.look()
    trial.complete(wild)


def out_of_memory(setting: Setting, trial: Trial) -> None:
    """Give a sweep little memory; then enough."""
    whole = setting.undisturbed(SWEEP)
    more = int(2**20 * 300 ** setting.draw.random())
    child = setting.start(SWEEP, trial.folder, lambda: _limit_memory(more))
    trial.struck = child.wait() != 0
    trial.look()
    trial.complete(SWEEP, whole.results)


def _limit_memory(more: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
