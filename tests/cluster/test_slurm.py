"""Sweeps and searches through a real Slurm of one node, and what becomes of their accidents."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
import slurm_lab

from tests.cluster.conftest import SEARCH, SWEEP, WIDTHS, Lab
from tests.conftest import ROOT

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.timeout(1500)]  # beside other tests

SLURM = (
    "hydra/launcher=submitit_slurm",
    "hydra.launcher.cpus_per_task=1",
)
LIMIT = ("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=60")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    if lacking := slurm_lab.missing():
        if "CI" in os.environ:
            pytest.fail(f"{', '.join(lacking)}: not installed, `make test-cluster` does that")
        pytest.skip(f"no {lacking[0]}: apt install {' '.join(slurm_lab.PACKAGES)}")
    with slurm_lab.slurm(tmp_path_factory.mktemp("slurm")) as env:
        yield env


@pytest.fixture
def slurm(make_lab: Callable[..., Lab], engine: dict[str, str]) -> Lab:
    return make_lab(SLURM, engine)


def logs(slurm: Lab) -> str:
    found = slurm.folder.glob("runs/.hydra/.submitit/*/*_log.*")
    return "\n".join(path.read_text() for path in sorted(found))


def submit(slurm: Lab, script: str, *words: str, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """Hand one of our batch scripts to Slurm as a user would; options are of sbatch."""
    slurm.env["PYTHON"] = sys.executable
    own = ("--cpus-per-task=1", f"--output={slurm.folder}/batch-%a.log", *options)
    path = f"launchers/{script}"
    return slurm.end(slurm.begin("sbatch", *own, path, *slurm.line(*words), cwd=ROOT))


def printed(slurm: Lab) -> str:
    return "\n".join(path.read_text() for path in sorted(slurm.folder.glob("batch-*.log")))


def test_a_sweep_with_a_failure_a_kill_and_a_time_limit(slurm: Lab) -> None:
    for trap in ("raise-4", "kill-16", "hang-16"):  # 16: of the first that gets there
        (slurm.traps / trap).touch()
    code, out = slurm.run(*SWEEP, *LIMIT)
    assert code == 1
    assert slurm.finished() == {name for name in WIDTHS if "_w16-" in name}
    assert "2 of 4 runs failed" in out and "ValueError: it was a trap" in out
    assert "Traceback" not in out
    assert not list(slurm.traps.glob("[kh]*"))  # both have happened
    assert "requeue" in logs(slurm).lower()  # at the time limit
    assert logs(slurm).count("going on after epoch 1") >= 2  # after the limit and after the kill
    before = slurm.stamps()
    (slurm.traps / "raise-4").unlink()
    code, out = slurm.run(*SWEEP)
    assert code == 0
    assert slurm.finished() == WIDTHS
    assert {path: at for path, at in slurm.stamps().items() if before.get(path) == at} == {
        path: at for path, at in before.items() if "_w16-" in str(path)
    }


def test_a_search_whose_command_is_killed_goes_on_and_trains_nothing_twice(slurm: Lab) -> None:
    (slurm.traps / "slow-4").touch()
    first = slurm.start(*SEARCH, script="search.py")
    slurm.await_(slurm.begun)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = slurm.stamps()
    cpus = "hydra.launcher.cpus_per_task=1"
    code, _ = submit(slurm, "search.sbatch", *SEARCH, cpus, options=("--wait",))
    assert code == 0, printed(slurm)
    assert len(slurm.finished()) == 5 + 1
    assert before.items() <= slurm.stamps().items()
    assert logs(slurm).count(" val ") == 5 + 1  # each training says so once, when it ends
    assert (next(slurm.folder.glob("runs/*/best/record.json"))).exists()


def test_a_job_that_is_cancelled_is_launched_again(slurm: Lab) -> None:
    (slurm.traps / "hang-16").touch()
    process = slurm.start("modifiers=baseline")
    slurm.await_(lambda: slurm.begun() and not list(slurm.traps.iterdir()))
    queue = ["squeue", "-h", "-t", "R", "-o", "%A"]
    (job,) = subprocess.check_output(queue, env=slurm.env, text=True).split()
    subprocess.run(["scancel", job], env=slurm.env, check=True)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    assert "the launcher stopped" in out
    assert len(slurm.finished()) == 1
    assert "going on after epoch 1" in logs(slurm)


@pytest.mark.more
def test_an_arrays_elements_share_a_sweep_and_go_on_after_their_limits_signal(slurm: Lab) -> None:
    (slurm.traps / "hang-4").touch()
    code, out = submit(slurm, "sweep.sbatch", *SWEEP, options=("--array=0-1", "--parsable"))
    assert code == 0
    slurm.await_(lambda: not list(slurm.traps.iterdir()))
    limit = ["scancel", "--signal=USR1", "--batch", out.strip()]  # as at the end of its time
    subprocess.run(limit, env=slurm.env, check=True)
    slurm.await_(lambda: slurm.finished() == WIDTHS, seconds=280)
    slurm.await_(lambda: not subprocess.check_output(["squeue", "-h"], env=slurm.env))
    assert "stopped;" in printed(slurm) and "going on after epoch 1" in printed(slurm)
    assert (
        printed(slurm).count(" params, val acc ") == 4
    )  # each training says so once, when it ends
    assert "Traceback" not in printed(slurm)


@pytest.mark.more
def test_an_arrays_elements_share_the_example_and_a_cancelled_one_loses_nothing(
    slurm: Lab,
) -> None:
    shutil.copy(ROOT / "examples" / "slurm_array.py", slurm.folder)
    slurm.env["EPOCHS"] = "3"
    own = ("--cpus-per-task=1", "--parsable", "--array=0-1", "--output=batch-%a.log")
    line = ("sbatch", *own, "--wrap", f"{sys.executable} slurm_array.py")
    code, out = slurm.end(slurm.begin(*line))
    assert code == 0
    slurm.await_(lambda: list(slurm.folder.glob("runs/*/*/seed0/training.pt")))
    cancel = ["scancel", "--signal=KILL", "--full", f"{out.strip()}_0"]
    subprocess.run(cancel, env=slurm.env, check=True)
    slurm.await_(lambda: not subprocess.check_output(["squeue", "-h"], env=slurm.env))
    assert printed(slurm).count("answer: ") == 1 and list(slurm.folder.glob("runs/*/best"))
    assert len(slurm.finished()) == len(slurm.records()) > 8
