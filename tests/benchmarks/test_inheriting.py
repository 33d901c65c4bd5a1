"""The comparison of fresh and inherited weights says what was run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import inheriting
from tests.conftest import Command


@pytest.mark.usefixtures("repeatable")
def test_both_starts_of_each_network_are_compared(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(words: list[str], **_: Any) -> None:
        assert command(*words[2:], script=words[1]).code == 0

    network = "d1-1-1_w8-16-32"
    monkeypatch.setattr(inheriting, "subprocess", SimpleNamespace(run=run))  # this one
    monkeypatch.setattr(inheriting, "NETWORKS", (network,))
    monkeypatch.setattr(inheriting, "SEEDS", (0,))
    words = ["model=resnet8", "recipe.batch_size=64", "recipe.warmup_epochs=0"]
    inheriting.main(["--out", str(tmp_path / "it.json"), "--epochs", "1", "--", *words])
    saved = json.loads((tmp_path / "it.json").read_text())
    assert "recipe.batch_size=64" in saved["words"] and "recipe.batch_size=32" not in saved["words"]
    starts = saved["first_epoch_val_acc"][network]
    assert set(starts) == {"fresh", "l1", "first"}
    assert all(len(found["of_seeds"]) == 1 for found in starts.values())
