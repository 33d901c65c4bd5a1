"""What a search is put together from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from ssr_exp.app import search_setup
from ssr_exp.config import LatencySource
from ssr_exp.edge.latency import table_file
from ssr_exp.edge.latency.table_file import LatencyRow, SeedNetwork, Setting, Timings
from ssr_exp.rescaling import codes, lattice, planning
from ssr_exp.rescaling.resnet import CifarResNet
from ssr_exp.runs.score import Score
from ssr_exp.runs.store import Store
from ssr_exp.training import finalists
from tests.search.conftest import asked


def test_a_search_for_another_device_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the table's file is called, and wherever it lies."""
    monkeypatch.setattr(finalists, "check", lambda *_: None)
    network = CifarResNet(14)
    plan = planning.trace(network, (3, 8, 8), multiple=4)
    conf = asked(cap__latency_ms="5", segment__width_steps=4, latency__source=LatencySource.file)
    study = SimpleNamespace(
        name="study",
        fields={},
        plan=plan,
        score=Score(key="val/dice"),
        part=None,
        seed_network=network,
        splits=SimpleNamespace(num_classes=10),
        expand=lambda *_, **__: [],
    )

    def table(file: str, device: str) -> str:
        rows = tuple(
            LatencyRow(network=codes.write(plan, a), ms=1.0 + sum(a.widths), low=1.0, high=9.0)
            for a in lattice.from_plan(plan, width_steps=4).sample(30, seed=0)
        )
        table_file.write(
            tmp_path / file,
            Timings(
                seed=SeedNetwork.from_plan(conf.model, conf.segment, plan, 10, network),
                setting=Setting(runtime="eager", version="1", device=device),
                repeats=1,
                rows=rows,
            ),
        )
        conf.latency.file = str(tmp_path / file)
        return search_setup.set_up(conf, study, Store(tmp_path / "runs")).book.folder.name  # type: ignore[arg-type]

    assert table("a.json", "phone") == table("b.json", "phone") != table("c.json", "pi")
