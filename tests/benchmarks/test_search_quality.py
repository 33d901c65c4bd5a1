from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from benchmarks import replay_figure, replay_summary, search_quality
from benchmarks.replay import ARMS, Replayed


def replayed(arm: str, repetition: int, values: list[float]) -> Replayed:
    return Replayed(arm, repetition, dict.fromkeys(replay_summary.METRICS, values), 30, 1.0)


def test_differences_are_within_the_same_pool() -> None:
    searches = [replayed("ehvi", r, [0.5, 0.7 + r / 10, 0.8 + r / 10]) for r in (1, 0)]
    searches += [replayed("random", r, [0.5, 0.6 + r / 10, 0.6 + r / 10]) for r in (0, 1)]
    found = replay_summary.summary(searches)
    gap = found["ours_less_theirs"]["hypervolume"]["ehvi"]["random"]
    assert gap["last_round"] == {"mean": 0.2, "std": 0.0, "se": 0.0}
    assert gap["all_rounds"] == {"mean": 0.15, "std": 0.0, "se": 0.0}
    assert found["arms"]["random"]["hypervolume"]["mean"] == [0.5, 0.65, 0.65]
    assert found["arms"]["random"]["hypervolume"]["se"] == [0.0, 0.05, 0.05]


def test_a_verdict_is_of_two_standard_errors_in_the_metrics_direction() -> None:
    assert replay_summary.verdict("hypervolume", {"mean": 0.3, "se": 0.1}) == "ahead"
    assert replay_summary.verdict("hypervolume", {"mean": 0.1, "se": 0.1}) == "level"
    assert replay_summary.verdict("regret", {"mean": 0.3, "se": 0.1}) == "behind"


def test_a_figure_is_xml_with_a_line_for_each_arm_in_both_panels() -> None:
    searches = [replayed(name, r, [0.5, 0.6, 0.7]) for name in ARMS for r in (0, 1)]
    drawn = replay_figure.draw(replay_summary.summary(searches)["arms"], 4)
    names = [element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawn).iter()]
    assert names.count("polyline") == names.count("polygon") == 2 * len(ARMS)
    assert set(replay_figure.STYLES) == set(ARMS)


def test_the_command_line_runs_at_its_smallest(gathered: Path, tmp_path: Path) -> None:
    for verb, *more in (("replay", "--arms", "ehvi", "optuna_tpe"), ("surrogates",)):
        out, table = tmp_path / f"{verb}.json", str(gathered)
        search_quality.main([verb, "--smoke", "--table", table, "--out", str(out), *more])
        saved = json.loads(out.read_text())
        assert {"device", "versions", "commit", "load", "table"} <= set(saved)
    assert (tmp_path / "replay.svg").exists()
