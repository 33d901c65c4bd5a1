"""How long `import ssr_exp` takes, and how long `Study.ask` takes on many records."""

from __future__ import annotations

import logging
import math
import random
import tempfile
import time
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO

import torch

import ssr_exp
from benchmarks import measure, start
from benchmarks.measure import Figure
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.resnet import CifarResNet

PART = "asking"
SCORE = ssr_exp.Score("acc", "max", bounds=(0, 1))


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    records: int = 200
    rounds: int = 7


SMOKE = Size(records=12, rounds=1)


def resnet56() -> CifarResNet:
    """Make the seed network: a lattice of 373,248 points."""
    return CifarResNet(56)


def measured(size: Size) -> list[Figure]:
    """Time whole processes, and proposals."""
    seconds = measure.interleaved(
        {
            "import": measure.timed(lambda: start.python("-c", "import ssr_exp")),
            "nothing": measure.timed(lambda: start.python("-c", "pass")),
        },
        rounds=size.rounds,
    )
    heavy = sorted(start.imported("-c", "import ssr_exp") & set(start.HEAVY))
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        asked = _asked(folder, size)
    return [
        measure.duration(PART, "python -c 'import ssr_exp'", seconds["import"], at_most=0.3),
        measure.ratio(PART, "import over nothing", seconds["import"], seconds["nothing"]),
        Figure(PART, f"heavy packages that it imports ({heavy or 'none'})", len(heavy), at_most=0),
        measure.duration(PART, f"a proposal on {size.records} records", asked, at_most=2),
    ]


def _asked(folder: str, size: Size) -> list[float]:
    """Ask for networks of a study of many records; returns the seconds of each."""
    logging.getLogger("ssr_exp").setLevel(logging.ERROR)
    study = ssr_exp.Study(
        resnet56,
        torch.zeros(2, 3, 32, 32),
        name="resnet56",
        score=SCORE,
        runs=folder,
        multiple=4,
        rounds=10**6,
        batch=10**6,
    )
    lattice, draw = study._asking.search.space.lattice, random.Random(0)
    codes = [study._asking.search.space.code(study.plan.baseline)]
    numbers = draw.sample(range(lattice.size), 2 * size.records)
    for architecture in study._asking.search.space.architectures(numbers):
        codes.append(study._asking.search.space.code(architecture))
    for code in codes[: size.records]:
        architecture = study._asking.search.space.parse(code)
        share = math.log(cost.count_one(study.plan, architecture).params) / math.log(1e6)
        study.add(code, 0.5 + 0.4 * share + draw.gauss(0, 0.003))
    times = []
    for _ in range(size.rounds + 1):
        begun = time.perf_counter()
        candidate = study.ask()
        times.append(time.perf_counter() - begun)
        assert isinstance(candidate, ssr_exp.Candidate) and candidate.origin == "round1"
        study.tell(candidate, 0.8 + draw.gauss(0, 0.003))
    return times[1:]  # the first one writes what pages show, too
