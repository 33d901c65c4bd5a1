"""Let atheris choose inputs by the branches that they reach, in a process that it may end."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random

from tests.fuzz import driver, targets

ROOT = Path(__file__).parents[2]
FEWEST = 100  # inputs that are worth a process


def run(name: str, *, inputs: int, seed: int, failures: Path | None) -> driver.Tally | None:
    """Read inputs that atheris chooses; None where it is not installed, or of no use."""
    is_there = importlib.util.find_spec("atheris") is not None
    if not (is_there and targets.find(name).watched and inputs >= FEWEST):
        return None
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "tally.json")
        words = [name, str(inputs), str(seed), str(failures or ""), str(told)]
        command = [sys.executable, "-m", "tests.fuzz.guided", *words]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if not told.exists():
            raise RuntimeError(f"atheris stopped: {ended.stderr[-2000:]}")
        held = json.loads(told.read_text())
    tally = driver.Tally(held["inputs"], held["inputs"], held["seconds"])
    tally.ended, tally.failures = Counter(held["ended"]), Counter(held["failures"])
    if ended.returncode != 0:
        tally.failures[f"atheris ended with {ended.returncode}: {ended.stderr[-200:]}"] += 1
    return tally


def _child(name: str, inputs: int, seed: int, failures: Path | None, told: Path) -> None:
    """Fuzz until all inputs are read; atheris never returns."""
    import atheris

    target, tally, start = targets.find(name), driver.Tally(), time.monotonic()
    runs = inputs - len(target.seeds) - 1  # it reads some of the first ones twice
    for module, function in target.watched:
        setattr(module, function, atheris.instrument_func(getattr(module, function)))

    def read(data: bytes) -> None:
        driver.one(target, data, tally, failures and failures / name)
        if tally.inputs >= runs or tally.inputs % 1000 == 0:
            tally.seconds = time.monotonic() - start
            told.write_text(json.dumps(tally.fields()))

    def mutated(data: bytes, most: int, number: int) -> bytes:
        rng = Random(number)
        if rng.random() < 0.5:
            return atheris.Mutate(data, most)
        return target.make(rng)[:most]

    with tempfile.TemporaryDirectory() as corpus, driver.quiet():
        for number, one in enumerate(target.seeds):
            Path(corpus, str(number)).write_bytes(one)
        options = [f"-runs={runs}", f"-seed={seed + 1}", "-max_len=8192"]
        atheris.Setup(["fuzz", corpus, *options, "-timeout=20"], read, custom_mutator=mutated)
        atheris.Fuzz()


if __name__ == "__main__":
    name, inputs, seed, failures, told = sys.argv[1:]
    _child(name, int(inputs), int(seed), Path(failures) if failures else None, Path(told))
