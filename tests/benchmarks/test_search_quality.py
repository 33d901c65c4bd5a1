from __future__ import annotations

import csv
import itertools
import json
import math
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks import (
    optuna_arms,
    replay,
    replay_arms,
    replay_figure,
    replay_summary,
    surrogate_quality,
    table_of_networks,
)
from benchmarks.optuna_arms import Grid
from benchmarks.replay import ARMS, Outcome, Replayed, Size
from benchmarks.replay_arms import Known
from benchmarks.surrogate_quality import Choice
from benchmarks.table_of_networks import Table
from ssr_exp.config import Scale
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost
from ssr_exp.rescaling.plan import Architecture
from ssr_exp.runs import local, tables
from ssr_exp.runs.record import Record, Status
from ssr_exp.search import surrogate
from ssr_exp.search.scale import OutcomeScale
from ssr_exp.search.space import Space

ROOT = Path(__file__).parents[2]
STUDY = "resnet14-image_folder-0a1b2c3d"
LATTICE = {
    "model": "resnet14",
    "shortcut": "A",
    "multiple": 4,
    "width_steps": 4,
    "input_shape": [3, 8, 8],
    "num_classes": 10,
}
REFERENCE = Outcome(40.0, 10.0)


@pytest.fixture(autouse=True)
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep BoTorch from compiling its optional kernel, which takes half a minute."""
    from botorch.acquisition.multi_objective import logei

    monkeypatch.setattr(logei, "_load_attempted", True, raising=False)


@pytest.fixture(scope="module")
def small() -> Space:
    """512 networks: three segments of one or two blocks, four widths each."""
    return table_of_networks.spanned(**LATTICE)  # type: ignore[arg-type]


def accuracy(own: Space, architecture: Architecture, seed: int = 0) -> float:
    """Rise with depth and width, with falling returns, and noise; percent."""
    x = own.features(cost.encode(own.plan, [architecture]))[0, :6].numpy()
    draw = np.random.default_rng([seed, *architecture.blocks, *architecture.widths]).normal()
    rise = float(x @ np.array([3.0, 6.0, 2.0, 5.0, 1.0, 4.0]))
    return round(60 - 20 * math.exp(-rise / 5) + 0.3 * float(draw), 2)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, small: Space) -> Path:
    """A store with one study: all sentinels with two seeds, 40 other networks, a failure."""
    folder = tmp_path_factory.mktemp("study")
    runs, images = folder / "runs", folder / "images"
    for part, name in itertools.product(("train", "val"), "abcdefghij"):
        (images / part / name).mkdir(parents=True)
        (images / part / name / "0.jpg").touch()
    conf = {"dataset": {"root": str(images), "resize": 8}, "segment": {"width_steps": 4}}
    sentinels = Table(small, {}, (), {}).sentinels
    others = [a for a in small.lattice.sample(80, seed=1) if a not in sentinels]
    trained = [(a, seed) for a in sentinels for seed in (0, 1)] + [(a, 0) for a in others[:40]]
    records = local.Store(runs)
    for architecture, seed in trained:
        made = replay_arms.record(small, architecture, accuracy(small, architecture, seed))
        _write(records, conf, made.model_copy(update={"seed": seed}))
    failed = {"status": Status.failed, "val_acc": None}
    _write(records, conf, replay_arms.record(small, others[40], 50).model_copy(update=failed))
    study = {"model": {"name": "resnet14", "shortcut": "A"}, "segment": {"multiple": 4}}
    (runs / STUDY / "study.json").write_text(json.dumps(study))
    return runs


def _write(store: local.Store, conf: dict[str, Any], record: Record) -> None:
    folder = store.folder(STUDY, record.network, record.seed)
    store.write(folder, record.model_copy(update={"study": STUDY}))
    (folder / "config.json").write_text(json.dumps(conf))


@pytest.fixture(scope="module")
def gathered(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "table.csv"
    table_of_networks.gather(store, path)
    return path


@pytest.fixture(scope="module")
def table(gathered: Path) -> Table:
    return table_of_networks.load(gathered)


def test_a_table_holds_every_finished_run_and_search_can_read_it(
    store: Path, gathered: Path
) -> None:
    finished = [r for r in local.Store(store).records() if r.status is Status.finished]
    rows = {(row.network, row.seed): row.val_acc for row in tables.read(gathered)}
    assert rows == {(r.network, r.seed): r.val_acc for r in finished}


def test_a_table_is_sorted_and_starts_with_its_columns(gathered: Path) -> None:
    with gathered.open() as file:
        columns, *rows = csv.reader(file)
    assert tuple(columns) == table_of_networks.COLUMNS
    assert rows == sorted(rows)


def test_beside_a_table_stands_what_it_is(gathered: Path) -> None:
    about = json.loads(gathered.with_suffix(".json").read_text())
    assert about["lattice"] == LATTICE
    assert about["counts"]["rows"] == sum(about["counts"]["by_seed"].values())
    assert about["counts"]["left_out"] == 1
    assert {"study", "definition", "commits", "devices", "versions", "epochs"} <= set(about)


def test_the_first_seed_answers_and_the_others_tell_the_noise(table: Table) -> None:
    assert table.accuracies == {a: accuracy(table.space, a) for a in table.accuracies}
    expected = [tuple(accuracy(table.space, a, s) for s in (0, 1)) for a in table.sentinels]
    assert sorted(table.repeats) == sorted(expected)


def test_sentinels_and_others_make_the_table(table: Table) -> None:
    assert set(table.sentinels) | set(table.others) == set(table.accuracies)
    assert not set(table.sentinels) & set(table.others)


def test_a_table_without_a_sentinel_is_refused(
    gathered: Path, table: Table, tmp_path: Path
) -> None:
    code = table.space.code(table.sentinels[3])
    lines = [line for line in gathered.read_text().splitlines() if not line.startswith(code)]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    shutil.copy(gathered.with_suffix(".json"), tmp_path)
    with pytest.raises(SsrError, match=code):
        table_of_networks.load(tmp_path / "table.csv")


def test_a_store_with_several_studies_asks_which(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "study.json").write_text("{}")
    with pytest.raises(SsrError, match="--study"):
        table_of_networks.gather(tmp_path, tmp_path / "it.csv")


def drawn(count: int, seed: int) -> list[Outcome]:
    rng = np.random.default_rng(seed)
    return [
        Outcome(*pair)
        for pair in zip(rng.uniform(35, 60, count), rng.uniform(5, 11, count), strict=True)
    ]


def brute_force(outcomes: Sequence[Outcome], reference: Outcome) -> float:
    """Add the cells of the grid that all outcomes span, where one of them dominates the cell."""
    heights = sorted({reference.accuracy, *(o.accuracy for o in outcomes)})
    costs = sorted({reference.log_params, *(o.log_params for o in outcomes)})
    area = 0.0
    for (low, high), (left, right) in itertools.product(
        itertools.pairwise(heights), itertools.pairwise(costs)
    ):
        counts = low >= reference.accuracy and right <= reference.log_params
        if counts and any(o.accuracy >= high and o.log_params <= left for o in outcomes):
            area += (high - low) * (right - left)
    return area


@pytest.mark.parametrize("count", [0, 1, 2, 5, 30])
def test_hypervolume_agrees_with_brute_force(count: int) -> None:
    outcomes = drawn(count, seed=count)
    found = replay.hypervolume(outcomes, REFERENCE)
    assert found == pytest.approx(brute_force(outcomes, REFERENCE))
    assert replay.hypervolume([*reversed(outcomes), *outcomes], REFERENCE) == pytest.approx(found)


def test_the_smallest_network_is_the_cheapest_that_reaches_the_accuracy() -> None:
    outcomes = [Outcome(50.0, 3.0), Outcome(49.9, 1.0), Outcome(60.0, 4.0), Outcome(55.0, 3.5)]
    assert replay.smallest(outcomes, least=50.0) == 3.0
    assert replay.smallest(outcomes, least=52.0) == 3.5
    assert replay.smallest(outcomes, least=61.0) == float("inf")


def test_who_knows_the_whole_pool_has_all_of_it_and_regrets_nothing(table: Table) -> None:
    networks = replay.pool(table, 0)
    rounds = [networks[:22], networks[:30], networks]
    found = replay.measures(table, networks, rounds)
    assert found["hypervolume"][-1] == pytest.approx(1)
    assert found["regret"][-1] == 0
    assert found["hypervolume"] == sorted(found["hypervolume"])
    assert found["regret"] == sorted(found["regret"], reverse=True)


def test_a_repetition_has_one_pool_and_another_one_a_different_one(table: Table) -> None:
    first = replay.pool(table, 0)
    assert first == replay.pool(table, 0)
    assert set(first) != set(replay.pool(table, 1))
    assert first[: len(table.sentinels)] == table.sentinels
    assert len(set(first)) == len(first)
    assert len(first) - len(table.sentinels) == round(replay.SHARE * len(table.others))


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_stays_in_its_pool_and_asks_for_nothing_twice(table: Table, name: str) -> None:
    networks = replay.pool(table, 0)
    known = {a: table.accuracies[a] for a in table.sentinels}
    ask = ARMS[name](table.space, networks, 0)
    for _ in range(2):
        chosen = ask(dict(known), 2)
        assert len(set(chosen)) == len(chosen) == 2
        assert set(chosen) <= set(networks) - set(known)
        known |= {a: table.accuracies[a] for a in chosen}


@pytest.mark.parametrize("name", ["ehvi", "thompson", "optuna_tpe", "optuna_nsga2"])
def test_an_arm_repeats_itself(table: Table, name: str) -> None:
    size = Size(rounds=2, batch=2)
    first, second = (replay.once(table, ARMS[name], name, 0, size) for _ in range(2))
    assert first.measures == second.measures


@pytest.mark.parametrize("kind", ["outside", "seen", "twice", "many"])
def test_an_arm_that_cheats_is_stopped(table: Table, kind: str) -> None:
    networks = replay.pool(table, 0)
    allowed = networks[len(table.sentinels) :]
    chosen = {
        "outside": [next(a for a in table.others if a not in networks)],
        "seen": [table.sentinels[0]],
        "twice": [allowed[0], allowed[0]],
        "many": list(allowed[:3]),
    }[kind]

    def ask(known: Known, count: int) -> list[Architecture]:
        return chosen

    with pytest.raises(RuntimeError, match="cheat"):
        replay.once(table, lambda *_: ask, "cheat", 0, Size(rounds=1, batch=2))


def test_numbers_span_the_lattice_and_name_each_network_once(small: Space) -> None:
    grid = Grid(small)
    every = small.architectures(range(len(small.lattice)))
    numbers = grid.numbers(every)
    assert len(np.unique(numbers, axis=0)) == len(every) == np.prod(grid.shape)
    assert (numbers >= 0).all()
    assert (numbers < grid.shape).all()
    for architecture in every[::100]:
        parameters = grid.parameters(architecture)
        assert grid.from_parameters(parameters).tolist() == grid.numbers([architecture])[0].tolist()


def test_the_nearest_network_is_that_of_the_unit_cube() -> None:
    options, shape = np.array([[0, 0], [2, 3], [1, 0]]), np.array([3, 4])
    rng = np.random.default_rng(0)
    assert optuna_arms.nearest(np.array([2, 2]), options, shape, rng) == 1
    assert optuna_arms.nearest(np.array([0, 1]), options, shape, rng) == 0
    # one of three depths is further than one of four widths
    assert optuna_arms.nearest(np.array([0, 1]), np.array([[1, 1], [0, 2]]), shape, rng) == 1


def test_equally_near_networks_are_all_drawn() -> None:
    options, rng = np.array([[0], [2], [2]]), np.random.default_rng(0)
    found = {optuna_arms.nearest(np.array([1]), options, np.array([3]), rng) for _ in range(50)}
    assert found == {0, 1, 2}


@pytest.mark.parametrize("name", ["optuna_tpe", "optuna_nsga2"])
def test_a_sampler_is_told_of_what_was_trained(table: Table, name: str) -> None:
    networks = replay.pool(table, 0)
    known = {a: table.accuracies[a] for a in table.sentinels}
    ask = ARMS[name](table.space, networks, 0)
    assert isinstance(ask, optuna_arms.Asked)
    for _ in range(3):
        known |= {a: table.accuracies[a] for a in ask(dict(known), 2)}
    ask(dict(known), 0)
    grid = Grid(table.space)
    finished = [t for t in ask.study.trials if t.state.name == "COMPLETE"]
    told = {tuple(sorted(t.params.items())): t.values[0] for t in finished}
    assert told == {tuple(sorted(grid.parameters(a).items())): known[a] for a in known}
    assert len(finished) == len(known)
    if name == "optuna_nsga2":
        generations = [t.system_attrs[optuna_arms.GENERATION] for t in finished]
        assert generations == [0] * len(table.sentinels) + [1] * 6


@pytest.mark.parametrize("kind", Scale)
def test_a_density_is_one_of_points_whatever_its_scale(kind: Scale) -> None:
    scale, points = OutcomeScale(scale=kind), np.linspace(30, 70, 2001)
    mean, above = scale.forward(torch.tensor([50.0, 52.0], dtype=torch.float64))
    nll = [
        surrogate_quality.scores(scale, mean[None], (above - mean)[None], torch.tensor([p]))["nll"]
        for p in points.tolist()
    ]
    assert np.trapezoid(np.exp(np.negative(nll)), points) == pytest.approx(1, abs=1e-3)


def test_scores_agree_with_their_definitions() -> None:
    rng = np.random.default_rng(0)
    actual, mean = rng.uniform(40, 60, 50), rng.uniform(40, 60, 50)
    sigma = rng.uniform(1, 5, 50)
    tensors = map(torch.from_numpy, (mean, sigma, actual))
    found = surrogate_quality.scores(OutcomeScale(scale=Scale.identity), *tensors)
    assert found["rmse"] == pytest.approx(np.sqrt(np.mean((mean - actual) ** 2)))
    assert found["spearman"] == pytest.approx(stats.spearmanr(mean, actual).statistic)
    assert found["nll"] == pytest.approx(-stats.norm(mean, sigma).logpdf(actual).mean())
    low, high = stats.norm(mean, sigma).interval(0.8)
    inside = np.mean((low <= actual) & (actual <= high))
    assert found["coverage_80"] == pytest.approx(inside, abs=1 / 50)


def test_the_noise_is_that_of_two_trainings(table: Table) -> None:
    gaps = [first - second for first, second in table.repeats]
    expected = np.sqrt(np.mean(np.square(gaps)) / 2)
    assert surrogate_quality.noise(table)["std_in_points"] == pytest.approx(expected)


def test_every_surrogate_is_compared_ours_first() -> None:
    every = surrogate_quality.choices()
    assert every[0] == Choice()
    assert len(set(every)) == len(every) == 3 * 2 * 2 * 3


@pytest.mark.parametrize("features", surrogate_quality.FEATURES)
def test_a_surrogate_learns_from_the_table(table: Table, features: str) -> None:
    choice = Choice(noise=-4.0, features=features)
    found = surrogate_quality.measured(table, choice, extra=20, repetition=0)
    assert set(found) == set(surrogate_quality.MEASURES)
    assert found["rmse"] < 2.5
    assert found["spearman"] > 0.5


def test_another_prior_of_the_noise_lasts_no_longer_than_asked() -> None:
    own = surrogate.NOISE_LOC
    with surrogate_quality.noise_prior(-9.0):
        assert surrogate.NOISE_LOC == -9.0
    assert own == surrogate.NOISE_LOC


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


@pytest.mark.slow
def test_the_command_line_runs_at_its_smallest(gathered: Path, tmp_path: Path) -> None:
    for verb in ("replay", "surrogates"):
        command = [sys.executable, "-m", "benchmarks.search_quality", verb, "--smoke"]
        command += ["--table", str(gathered), "--out", str(tmp_path / f"{verb}.json")]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=280)
        saved = json.loads((tmp_path / f"{verb}.json").read_text())
        assert {"device", "versions", "commit", "load", "table"} <= set(saved)
    assert (tmp_path / "replay.svg").exists()
