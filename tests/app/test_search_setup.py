"""What a search is put together from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ssr_exp.app import search_setup
from ssr_exp.config import LatencySource
from ssr_exp.datasets import reading
from ssr_exp.datasets.reading import Reading
from ssr_exp.edge.latency import table, table_file
from ssr_exp.edge.latency.table_file import LatencyRow, SeedNetwork, Setting, Timings
from ssr_exp.rescaling import codes, lattice, planning
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs.score import ACCURACY, Score
from ssr_exp.runs.store import Store
from ssr_exp.training import finalists
from tests.search.conftest import asked


@pytest.mark.parametrize(
    ("read", "images", "tested"),
    [
        (Reading("digits", {"val": {"0": 4, "1": 6}, "test": {"0": 9}}, {}, ""), 10, 9),
        (Reading("Data", {"val": {}}, {}, "", sizes={"val": 40}), 40, 0),  # of one's own
        (Reading("loop", {}, {}, ""), 0, 0),
    ],
)
def test_promises_are_by_as_many_images_as_are_known(
    read: Reading, images: int, tested: int
) -> None:
    study = SimpleNamespace(score=ACCURACY, splits=SimpleNamespace(reading=read))
    val = search_setup._val_set(asked(), study)  # type: ignore[arg-type]
    assert val is not None and (val.images, val.tested) == (images, tested)
    kept = json.loads(json.dumps(read.fields()))
    assert reading.counts_of(kept) == (read.parts, read.sizes)
    assert reading.counts_of({"parts": {"val": "many"}}) == ({}, {})


class Setup:
    """Sets a search up with a table of latencies, and names its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.network = folder, CifarResNet(14)
        self.plan = planning.trace(self.network, (3, 8, 8), multiple=4)
        self.conf = asked(cap__latency_ms="5", segment__width_steps=4)
        self.study = SimpleNamespace(
            name="study",
            fields={},
            plan=self.plan,
            score=Score(key="val/dice"),
            part=None,
            seed_network=self.network,
            splits=SimpleNamespace(num_classes=10),
            expand=lambda *_, **__: [],
        )

    def write(self, path: Path, setting: Setting) -> None:
        rows = tuple(
            LatencyRow(network=codes.write(self.plan, a), ms=1.0 + sum(a.widths), low=1.0, high=9.0)
            for a in lattice.from_plan(self.plan, width_steps=4).sample(30, seed=0)
        )
        conf = self.conf
        seed = SeedNetwork.from_plan(conf.model, conf.segment, self.plan, 10, self.network)
        table_file.write(path, Timings(seed=seed, setting=setting, repeats=1, rows=rows))

    def from_file(self, file: str, device: str) -> Path:
        path = self.folder / file
        self.write(path, Setting(runtime="eager", version="1", device=device))
        self.conf.latency.source, self.conf.latency.file = LatencySource.file, str(path)
        return self.set_up()

    def set_up(self) -> Path:
        store = Store(self.folder / "runs")
        return search_setup.set_up(self.conf, self.study, store).book.folder  # type: ignore[arg-type]


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    monkeypatch.setattr(finalists, "check", lambda *_: None)
    return Setup(tmp_path)


def test_a_search_for_another_device_is_another_one_and_says_so(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the table's file is called, and wherever it lies."""
    caplog.set_level("INFO")
    phone = setup.from_file("a.json", "phone")
    assert phone == setup.from_file("b.json", "phone")
    phone.mkdir(parents=True)
    assert setup.from_file("b.json", "phone") == phone
    assert "a new search" not in caplog.text
    assert setup.from_file("c.json", "pi") != phone
    assert caplog.text.count("a new search, as latency is that of eager (1), batch 1, pi") == 1
    assert "there is one of eager (1), batch 1, phone, 1 thread" in caplog.text


@pytest.fixture
def on(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Set up on a device whose latencies were measured; returns the search's folder."""

    def measured(device: str) -> Path:
        setting = Setting(runtime="eager", version="1", device=device)
        monkeypatch.setattr(table, "here", lambda *_, **__: setting)
        setup.write(setup.folder / f"runs/study/latency/{setting.slug}.json", setting)
        return setup.set_up()

    return measured


def test_a_loop_on_several_devices_shares_one_search(
    setup: Setup, on: Callable[[str], Path]
) -> None:
    """Each process measures its own."""
    assert on("phone") != on("pi")
    setup.conf.study = "study"
    assert on("phone") == on("pi")


def test_a_loops_search_that_an_earlier_version_began_for_a_device_goes_on(
    setup: Setup, on: Callable[[str], Path]
) -> None:
    begun = on("phone")
    begun.mkdir(parents=True)
    setup.conf.study = "study"
    assert on("phone") == on("pi") == begun
