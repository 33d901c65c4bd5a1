"""A study that is not there is told in a moment, with those that are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from ssr_exp.app.command_line import typed_values
from ssr_exp.runs.store import Store
from tests.conftest import ROOT, MakeRecord

STUDY = "resnet20-digits-0a1b2c3d"


@pytest.fixture
def store(tmp_path: Path, make_record: MakeRecord) -> Store:
    store, record = Store(tmp_path / "runs"), make_record(study=STUDY)
    store.write(store.folder(STUDY, record.network, 0), record)
    return store


@pytest.mark.parametrize("words", [("train",), ("search", "rounds=0"), ("export", "run=best")])
def test_it_is_told_before_torch_is_imported(store: Store, words: tuple[str, ...]) -> None:
    typed = ["ssr", *words, "study=resnet20-digit-0a1b2c3d", f"paths.runs={store.root}"]
    code = (
        f"import sys\nfrom ssr_exp.__main__ import main\nsys.argv = {typed!r}\n"
        "try: main()\nexcept SystemExit as told: print(told)\nassert 'torch' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("there is no study resnet20-digit-0a1b2c3d in ")
    assert ended.stdout.endswith(f", the nearest is {STUDY}; it holds {STUDY}.\n")


def test_it_lies_where_the_words_say_or_else_the_configuration(store: Store) -> None:
    elsewhere = OmegaConf.create({"paths": {"runs": "nowhere"}})
    typed = typed_values.read(["study=0a1b", f"paths.runs={store.root}"])
    assert typed_values.study(typed, elsewhere) == store.root / STUDY
    composed = OmegaConf.create({"paths": {"runs": str(store.root)}})
    assert typed_values.study(typed_values.read(["study=0a1b"]), composed) == store.root / STUDY
    assert typed_values.study(typed_values.read(["rounds=0"]), elsewhere) is None
