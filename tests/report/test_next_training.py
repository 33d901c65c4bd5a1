"""What is typed to train one network more: a command that runs, or what a loop calls."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from ssr_exp.report import next_training
from ssr_exp.runs import study_names
from ssr_exp.runs.store import Store
from tests.conftest import Command, Instant
from tests.report.conftest import STUDY


def test_a_loop_is_given_a_network_and_a_command_the_study(store: Store) -> None:
    folder = store.study_folder(STUDY)
    folder.mkdir(parents=True)
    typed = shlex.split(next_training.words(store, STUDY, "d1_w8"))
    assert typed[-4:] == [f"study={STUDY}", "modifiers=explicit", "modifiers.network=d1_w8",
                          f"paths.runs={store.root}"]  # fmt: skip
    on_a_page = next_training.words(store, STUDY, "d1_w8", place="runs")
    assert on_a_page == f"ssr train study={STUDY} modifiers=explicit modifiers.network=d1_w8"
    asked = {"command": "train", "words": ["model=module", "model.target=pets.Net"]}
    (folder / study_names.FILE).write_text(json.dumps({"schema_version": 1, "asked": [asked]}))
    assert "trust=true" in next_training.words(store, STUDY, "d1_w8").split()
    asked |= {"config_dir": "my conf"}
    (folder / study_names.FILE).write_text(json.dumps({"schema_version": 1, "asked": [asked]}))
    assert "--config-dir 'my conf'" in next_training.words(store, STUDY, "d1_w8")
    assert "--config-dir PRESETS" in next_training.words(store, STUDY, "d1_w8", place="runs")
    (folder / "study.json").write_text(json.dumps({"task": {"name": "loop"}}))
    assert next_training.words(store, STUDY, "d1_w8") == "study.enqueue('d1_w8')"


@pytest.mark.usefixtures("repeatable")
def test_what_is_typed_trains_it_in_its_study(
    tmp_path: Path, command: Command, instant: Instant, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests import conftest

    assert command("modifiers=baseline", "recipe.lr=0.3").code == 0
    store = Store(tmp_path / "runs")
    (study,) = study_names.every(store.root)
    typed = shlex.split(next_training.words(store, study, "d1-1-1_w4-8-16"))
    words = tuple(typed[typed.index(f"study={study}") :])
    monkeypatch.setattr(conftest, "small", lambda tmp_path, words, script="": [*words])
    ended = command(*words)
    assert ended.code == 0, ended.text
    assert [*study_names.every(store.root)] == [study]
    assert {r.network for r in store.records()} == {"d1-1-1_w16-32-64", "d1-1-1_w4-8-16"}
