"""Commands that are killed, or told to stop, and the jobs of their launchers."""

from __future__ import annotations

import signal
import time

from ssr_exp.runs import store
from tests.faults.processes import Child, Command, below, kill
from tests.faults.trials import AT_ONCE, Fault, Setting, Trial

STOPS_S = 20.0  # a command that is told to stop has ended after so long, on a busy machine


def ended_by(command: Command, number: signal.Signals, *, repeatable: bool = True) -> Fault:
    """End a command by a signal at a random moment, and repeat it.

    It is `repeatable` if it then trains the same networks, whatever happened.
    """

    def fault(setting: Setting, trial: Trial) -> None:
        whole, moment = setting.undisturbed(command), setting.moment(command)
        child = setting.start(command, trial.folder)
        time.sleep(moment)
        trial.struck = child.send(number)
        code = child.wait(STOPS_S)
        if trial.struck and number is not signal.SIGKILL:
            _check_sentence(trial, child, code, number)
        trial.look()
        trial.complete(command, whole.results if repeatable else None)

    return fault


def _check_sentence(trial: Trial, child: Child, code: int, number: signal.Signals) -> None:
    """Expect that a stopped command says so and how to go on; it may just have ended, too."""
    if code not in (0, 128 + number):
        trial.blame(f"{number.name}: it ended with {code}: {child.text[-300:]}")
    if "Traceback" in child.text:
        trial.blame(f"{number.name}: a traceback: {child.text[-300:]}")
    if code and "stopped" not in child.text:
        trial.blame(f"{number.name}: not a word")
    for path in trial.runs.glob(f"*/*/seed*/{store.RECORD_FILE}"):
        if b'"failed"' in path.read_bytes():
            trial.blame(f"{number.name}: a training was recorded as failed")


def a_worker_is_killed(setting: Setting, trial: Trial) -> None:
    """Kill -9 one training among others; the command itself goes on and completes."""
    whole = setting.undisturbed(AT_ONCE)
    child = setting.start(AT_ONCE, trial.folder)
    victim, moment = None, setting.draw.uniform(0, 0.9) * whole.wall_s
    end = time.monotonic() + moment
    while time.monotonic() < end and not child.is_over():
        time.sleep(0.02)
    if workers := below(child.pid, "popen_loky"):
        victim = setting.draw.choice(workers)
        trial.struck = kill(victim)
    if code := child.wait():
        trial.blame(f"a worker was killed, and the sweep ended with {code}: {child.text[-300:]}")
    trial.look()
    trial.complete(AT_ONCE, whole.results)
