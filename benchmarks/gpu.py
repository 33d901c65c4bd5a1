r"""The [GPU] part: throughput, latency in each runtime, two full trainings on CIFAR-10; one GPU.

    python -m benchmarks.gpu --part throughput --out OUT
    python -m benchmarks.gpu --part latency --out OUT
    python -m benchmarks.gpu --part resnet20 --cifar DIR --out OUT
    python -m benchmarks.gpu --part resnet56 --cifar DIR --out OUT

Each is one command of less than 10 minutes; `DIR` holds train/CLASS/*.jpg and test/CLASS/*.jpg.
A part that is repeated with the same `--out` leaves out what is done. What comes out is small:
OUT/throughput.json, OUT/latency.json, OUT/resnet20.json (the run's record) with OUT/resnet20.log.
`--smoke` goes the same way on any machine, with few steps and images; its numbers mean nothing.

A machine without a network that brings Python 3.12, PyTorch, Lightning and rich needs wheels for
the rest. Elsewhere: `sh benchmarks/wheels.sh WHEELS`. There:

    python3 -m pip install --no-index --no-deps --target SITE WHEELS/*.whl
    PYTHONPATH=SITE PYTHONUNBUFFERED=1 python3 -m benchmarks.gpu --part PART --cifar DIR --out OUT
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from benchmarks import loops, measure
from ssr_exp.config import TrainerConf

ROOT = Path(__file__).parents[1]
IMAGES = 50_000  # of an epoch; of larger ones as many as have as many pixels
ROUNDS = 3
RUNS = ROOT / "runs" / "gpu"  # not below OUT, which takes small files only
REQUIRED = {"images_s": 40_000.0, "ours_over_bare": 0.9}
REQUIRED_TEST_ACC = {"resnet20": 91.0, "resnet56": 92.5}


@dataclass(frozen=True)
class Trial:
    """A way to train a network: the mode of `torch.compile` (None: eager), the batch, the side."""

    mode: str | None
    batch_size: int
    model: str = "resnet56"
    side: int = 32

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return max(IMAGES * 32**2 // self.side**2 // self.batch_size, 4)


# What is required first; then what may be faster. The recipes' batch is 512.
TRIALS = (
    Trial("default", 1024),
    Trial(None, 1024),
    Trial("reduce-overhead", 512),
    Trial(None, 1024, "resnet20"),
    Trial("default", 1024, "resnet20"),
    Trial(None, 512, "resnet18"),
    Trial("default", 512, "resnet18"),
    Trial(None, 128, "resnet50", 224),
    Trial("default", 128, "resnet50", 224),
    Trial("default", 512),
    Trial("default", 2048),
    Trial("max-autotune-no-cudagraphs", 1024),
)
RUNTIMES = ("eager", "compile", "cuda", "cuda_graphs", "onnxruntime_cuda")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do one part; returns the exit status, 0 if what is required was reached."""
    options = _parser().parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part == "throughput":
        return throughput(options)
    if options.part == "latency":
        return latency(options)
    with tempfile.TemporaryDirectory() as folder:
        return full_training(options, Path(folder))


def latency(options: argparse.Namespace) -> int:
    """Measure ResNet-56 and its smallest network in each runtime of the GPU, each on its own."""
    model, sizes = ("resnet8", ["1"]) if options.smoke else ("resnet56", ["1", "64"])
    runtimes = ("eager",) if options.smoke else RUNTIMES
    path, found = options.out / "latency.json", {}
    for runtime in runtimes:
        command = [sys.executable, "-m", "ssr_exp.edge", model, "--runtime", runtime]
        log = options.out / f"latency-{runtime}.log"
        status = _logged([*command, "--batch", *sizes, "--markdown"], log)
        found[runtime] = {"status": status, "lines": log.read_text().splitlines()}
        _write(path, {**measure.conditions(), "runtimes": found})
    return max(one["status"] for one in found.values())


def throughput(options: argparse.Namespace) -> int:
    """Measure one trial after the other while there is time; write after each."""
    start, path = time.monotonic(), options.out / "throughput.json"
    rows = json.loads(path.read_text())["trials"] if path.exists() else []
    done = [Trial(*(row[field.name] for field in fields(Trial))) for row in rows]
    longest = 0.0
    for trial in _trials(options.smoke):
        begun = time.monotonic()
        if trial in done or begun - start + longest > options.budget_s:
            continue
        rows.append(_measured_safely(trial, options.smoke))
        longest = max(longest, time.monotonic() - begun)
        _write(path, {**measure.conditions(), "required": REQUIRED, "trials": rows})
        print(json.dumps(rows[-1]), flush=True)
    fits = [
        row
        for row in rows
        if row["model"] == "resnet56"
        and all(row.get(key, 0) >= low for key, low in REQUIRED.items())
    ]
    print("required:", REQUIRED, "reached" if fits else "NOT reached")
    return 0 if fits or options.smoke else 1


def _trials(smoke: bool) -> tuple[Trial, ...]:
    return (Trial(None, 16, "resnet8"), Trial("default", 16, "resnet8")) if smoke else TRIALS


def _measured_safely(trial: Trial, smoke: bool) -> dict[str, Any]:
    """Keep an error as the trial's outcome, so that the others are still measured."""
    try:
        return asdict(trial) | _measured(trial, smoke)
    except Exception as error:
        return asdict(trial) | {"error": f"{type(error).__name__}: {str(error)[:500]}"}


def _measured(trial: Trial, smoke: bool) -> dict[str, Any]:
    """Time a bare loop and ours, taking turns; `first_s` is the first turn, which compiles."""
    torch._dynamo.reset()
    torch.backends.cudnn.benchmark = True  # as our trainer has it
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        contestants = {
            "bare": loops.bare(_training(trial, smoke, Path(folder))),
            "ours": loops.ours(_training(trial, smoke, Path(folder))),
        }
        start = time.monotonic()
        measure.interleaved(contestants, rounds=0)
        first_s = time.monotonic() - start
        seconds = measure.interleaved(contestants, rounds=1 if smoke else ROUNDS, warm_up=0)
    images = trial.batch_size * (2 if smoke else trial.steps)
    return _row(seconds, images) | {"first_s": first_s}


def _training(trial: Trial, smoke: bool, folder: Path) -> loops.Training:
    gpu = torch.cuda.is_available()
    conf = TrainerConf(
        max_epochs=2 if smoke else 3,
        accelerator="gpu" if gpu else "cpu",
        precision="bf16-mixed",
        channels_last=True,
        deterministic=False,
        progress=False,
    )
    training = loops.prepared(
        loops.seed(trial.model, side=trial.side),
        conf,
        folder,
        side=trial.side,
        batch_size=trial.batch_size,
        steps=2 if smoke else trial.steps,
        device="cuda" if gpu else "cpu",
    )
    if trial.mode is not None:
        training.network.compile(mode=trial.mode)
    return training


def _row(seconds: measure.Seconds, images: int) -> dict[str, Any]:
    ours = measure.rate("gpu", "ours", seconds["ours"], images)
    bare = measure.rate("gpu", "bare", seconds["bare"], images)
    ratio = measure.ratio("gpu", "ours over bare", seconds["bare"], seconds["ours"])
    return {
        "images_s": ours.value,
        "images_s_rounds": ours.spread,
        "bare_images_s": bare.value,
        "bare_images_s_rounds": bare.spread,
        "ours_over_bare": ratio.value,
        "peak_memory_gb": torch.cuda.max_memory_allocated() / 2**30,
    }


def full_training(options: argparse.Namespace, folder: Path) -> int:
    """Train with a preset of `conf/experiment`, then copy its record and its log."""
    name, done = options.part, options.out / f"{options.part}.json"
    if not done.exists():
        status = _logged(_command(options, folder), options.out / f"{name}.log")
        found = (options.runs / name).rglob("record.json")
        records = sorted(found, key=lambda path: -path.stat().st_mtime)
        if status != 0 or not records:
            print(f"{name}: the training ended with status {status}, see {name}.log")
            return 1
        shutil.copy(records[0], done)
    record = json.loads(done.read_text())
    reached = record["test_acc"] >= REQUIRED_TEST_ACC[name]
    print(
        f"{name}: test {record['test_acc']:.2f} %, required {REQUIRED_TEST_ACC[name]}, "
        f"{'reached' if reached else 'NOT reached'}, {record['wall_s']:.0f} s"
    )
    return 0 if reached or options.smoke else 1


def _command(options: argparse.Namespace, folder: Path) -> list[str]:
    cifar = few_images(options.cifar, folder) if options.smoke else options.cifar
    command = [sys.executable, "train.py", f"experiment=cifar10_{options.part}"]
    command += ["dataset=image_folder", f"dataset.root={cifar.resolve()}"]
    command += [f"paths.runs={(options.runs / options.part).resolve()}", "logger=disabled"]
    if options.smoke:
        command += ["trainer=cpu", "trainer.max_epochs=1", "recipe.batch_size=16"]
        command += ["dataset.val_fraction=0.25", f"paths.data={folder}"]
    if options.epochs is not None:
        command += [f"trainer.max_epochs={options.epochs}"]
    return command


def few_images(cifar: Path, folder: Path) -> Path:
    """Copy the first images of each class."""
    for part, count in (("train", 8), ("test", 2)):
        for name in sorted(path for path in (cifar / part).iterdir() if path.is_dir()):
            target = folder / "few" / part / name.name
            target.mkdir(parents=True)
            for image in sorted(name.iterdir())[:count]:
                shutil.copy(image, target)
    return folder / "few"


def _logged(command: list[str], log: Path) -> int:
    """Run a command; what it says goes to a file and to this process's output, line by line."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        for line in process.stdout:
            file.write(line)
            file.flush()
            print(line, end="", flush=True)
        return process.wait()


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--part", required=True, choices=["throughput", "latency", *REQUIRED_TEST_ACC]
    )
    parser.add_argument("--out", required=True, type=Path, help="folder of the small results")
    parser.add_argument("--cifar", type=Path, help="folder of CIFAR-10's images")
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of the runs (runs/gpu)")
    parser.add_argument("--epochs", type=int, help="instead of the preset's")
    parser.add_argument("--budget-s", type=float, default=480, help="of throughput (480)")
    parser.add_argument("--smoke", action="store_true", help="as little as runs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
