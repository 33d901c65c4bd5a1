"""What is fuzzed: each target makes inputs as bytes, and reads them as the product does.

A reader may refuse an input with one of its own errors, and nothing else; what it accepts must keep
the target's law.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.fuzz import configs, folders, mutate

Refused = tuple[type[Exception], ...]


@dataclass(frozen=True)
class Target:  # a reader under test
    make: Callable[[Random], bytes]  # draws an input
    read: Callable[[bytes], None]  # raises what `refused` lists, or breaks
    refused: Refused  # the errors that say what is wrong with an input
    share: float  # of all inputs
    watched: tuple[tuple[Any, str], ...] = ()  # modules and functions that atheris watches
    seeds: tuple[bytes, ...] = ()  # that atheris starts from


def names() -> list[str]:
    return list(MAKERS)


def find(name: str) -> Target:
    """Load what a target reads with."""
    return MAKERS[name]()


def _record() -> Target:
    from ssr_exp import files
    from ssr_exp.runs import record

    def make(rng: Random) -> bytes:
        if rng.random() < 0.5:
            return mutate.text(mutate.tree(RECORD, rng))
        return mutate.content(whole, rng, lambda: whole)

    def read(data: bytes) -> None:
        found = record.parse(data)
        assert record.parse(found.to_json()) == found
        assert found.round is None or found.round >= 0
        assert found.kind in record.Kind

    whole = mutate.text(RECORD)
    watched = (record, "parse"), (files, "parse")
    return Target(make, read, (files.Unreadable,), 0.543, watched, (whole,))


def _code() -> Target:
    from ssr_exp.errors import SsrError
    from ssr_exp.rescaling import codes, planning
    from ssr_exp.rescaling.resnet import CifarResNet

    plan = planning.trace(CifarResNet(20), (3, 32, 32), multiple=4)
    alphabet = "0123456789-_dwbz \n\u0663<>/.\0"

    def make(rng: Random) -> bytes:
        if rng.random() < 0.4:
            return mutate.content(rng.choice(CODES), rng, lambda: rng.choice(CODES))
        if rng.random() < 0.5:
            return "".join(rng.choices(alphabet, k=rng.randrange(40))).encode()
        blocks, widths = ("-".join(_numbers(rng)) for _ in "dw")
        before = rng.choice(("", "", "resnet20_", rng.choice(mutate.STRINGS) + "_"))
        return f"{before}d{blocks}_w{widths}".encode("utf-8", "surrogatepass")

    def read(data: bytes) -> None:
        found = codes.parse(plan, data.decode("utf-8", "surrogateescape"))
        assert codes.parse(plan, codes.write(plan, found)) == found

    watched = tuple((codes, name) for name in ("parse", "_blocks", "_position"))
    return Target(make, read, (SsrError,), 0.44, watched, CODES)


def _numbers(rng: Random) -> list[str]:
    odd = ("", "0", "00003", "1" * 5_000, "-1", "3b", "16zzz", "1e3", "99999999999")
    return [
        rng.choice(odd) if rng.random() < 0.1 else str(rng.choice((1, 2, 3, 4, 8, 16, 32, 64)))
        for _ in range(rng.choice((3, 3, 3, 3, 1, 50)))
    ]


def _config() -> Target:
    return Target(configs.make, configs.read, configs.refused(), 0.007)


def _images() -> Target:
    from ssr_exp.errors import SsrError

    return Target(folders.make, folders.read, (SsrError,), 0.01)


MAKERS: dict[str, Callable[[], Target]] = {"record": _record, "code": _code}
MAKERS |= {"config": _config, "images": _images}
CODES = (b"d3-3-3_w16-32-64", b"resnet20_d1-2-3_w4-8-64", b"d1-1-1_w4-4-4", b"d3-1-3_w16b-32-64")
RECORD: dict[str, Any] = json.loads(
    """{"schema_version": 1, "study": "resnet20-digits-0a1b2c3d", "network": "d3-1-3_w16-32-64",
    "model": "resnet20", "dataset": "digits", "blocks": [3, 1, 3], "widths": [16, 32, 64],
    "modifiers": {"depth": [1.0, 0.3333, 1.0], "width": [1.0, 1.0, 1.0]}, "seed": 0, "epochs": 8,
    "status": "finished", "error": null, "val_acc": 97.5, "val_loss": 0.125, "best_val_acc": 98.0,
    "test_acc": 96.0, "test_loss": 0.25, "params": 232410, "macs": 2000000, "gemms": 17,
    "baseline_params": 269434, "baseline_macs": 2500000, "baseline_gemms": 20, "latency_ms": 1.5,
    "latency_device": "onnxruntime", "latencies": {"onnxruntime": 1.5}, "wall_s": 12.25,
    "device": "a processor", "precision": "32-true", "versions": {"torch": "2.11.0"},
    "git_commit": "0de57bc", "started_at": "2026-01-01T00:00:00+00:00", "origin": "round3"}"""
)
