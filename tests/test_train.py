"""The command line: what is typed, what is trained, what is said."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssr_exp.errors import SsrError
from ssr_exp.training import sweep
from tests.conftest import Command, Compose, Instant

pytestmark = pytest.mark.usefixtures("repeatable")

BASELINE = "d1-1-1_w16-32-64"
THREE = "modifiers=uniform_width"  # three networks
TWO = (THREE, "modifiers.fractions=[0.25,0.5]")
Started = Callable[..., "subprocess.Popen[str]"]


def records(tmp_path: Path) -> list[dict[str, Any]]:
    found = sorted((tmp_path / "runs").rglob("record.json"))
    return [json.loads(path.read_text()) for path in found]


def table(text: str) -> list[str]:
    """Keep the networks of the printed tables."""
    return re.findall(r"^│ (\S+)", text, flags=re.MULTILINE)


# Sweeps


def test_a_command_trains_and_prints_and_a_repeat_only_prints(
    command: Command, tmp_path: Path
) -> None:
    words = ("modifiers=explicit", "modifiers.network=d1-1-1_w4-16-16")
    first = command(*words)
    assert (first.code, first.err) == (0, "")
    assert first.lines("val ", " in ", " s")
    assert "\x1b" not in first.out and "\r" not in first.out
    assert table(first.out) == ["d1-1-1_w4-16-16"]
    (one,) = records(tmp_path)
    assert (one["status"], one["test_acc"]) == ("finished", None)
    again = command(*words)
    assert again.code == 0
    assert again.lines("1 network: 1 done before, 0 to train")
    assert table(again.out) == table(first.out)
    assert records(tmp_path) == [one]
    assert command(*words, "trainer.test=true").code == 0  # tested, and not trained again
    (tested,) = records(tmp_path)
    assert 0 < tested["test_acc"] <= 100
    assert all(tested[key] == one[key] for key in ("started_at", "val_acc"))


@pytest.mark.slow
def test_a_sweeps_records_say_which_modifiers_they_are_of(
    command: Command, instant: Instant, tmp_path: Path
) -> None:
    command("modifiers=uniform_width,random", "modifiers.fractions=[0.5]", "modifiers.count=2")
    origins = {one["network"]: one["origin"] for one in records(tmp_path)}
    assert Counter(origins.values()) == {"uniform_width": 1, "random": 2}
    # What is done keeps what it was done for.
    command("modifiers=uniform_width,baseline", "modifiers.fractions=[0.5]", "origin=by_hand")
    now = {one["network"]: one["origin"] for one in records(tmp_path)}
    assert now == origins | {BASELINE: "by_hand"}


@pytest.mark.slow
def test_a_wider_sweep_trains_only_what_is_new_or_damaged_and_another_recipe_all(
    command: Command, instant: Instant, tmp_path: Path
) -> None:
    command(*TWO)
    damaged, *whole = sorted((tmp_path / "runs").rglob("record.json"))
    damaged.write_text(damaged.read_text()[:100])
    before = {path: path.read_bytes() for path in whole}
    instant.done.clear()
    ended = command("modifiers=uniform_width,baseline", TWO[1], "seed=0,1")
    assert len(instant.done) == 6 - len(whole) == 5
    assert {path: path.read_bytes() for path in whole} == before
    assert len(table(ended.out)) == 6
    assert ended.lines("skipped", str(damaged))
    ended = command("trainer.max_epochs=2")  # another study beside the first
    assert len(instant.done) == 5 + 1
    assert len({one["study"] for one in records(tmp_path)}) == 2
    assert len(table(ended.out)) == 1


@pytest.mark.slow
def test_a_failed_job_does_not_stop_the_others_and_is_listed_and_tried_again(
    command: Command, instant: Instant, tmp_path: Path
) -> None:
    instant.broken["d1-1-1_w8-16-32"] = ValueError("it broke")
    ended = command(*TWO)
    assert ended.code == 1
    assert len(instant.done) == 2
    assert Counter(one["status"] for one in records(tmp_path)) == {"finished": 1, "failed": 1}
    assert ended.err.splitlines() == [
        "1 of 2 runs failed (repeat the command to try them again):",
        "  resnet8 d1-1-1_w8-16-32 seed 0: ValueError: it broke",
    ]
    assert "Traceback" not in ended.text
    assert len(table(ended.out)) == 2
    instant.broken.clear()
    instant.done.clear()
    assert command(*TWO).code == 0
    assert instant.done == ["resnet8 d1-1-1_w8-16-32 seed 0 1"]


@pytest.mark.slow
def test_a_finished_run_that_cannot_be_tested_is_a_failure_of_the_command(
    command: Command, instant: Instant
) -> None:
    assert command().code == 0  # it leaves no checkpoint
    ended = command("trainer.test=true")
    assert ended.code == 1
    assert ended.err.startswith("1 of 1 runs failed")
    assert "last.ckpt is not a readable checkpoint" in ended.err


@pytest.mark.slow
def test_a_divergence_is_an_outcome_and_no_failure(command: Command, tmp_path: Path) -> None:
    words = ("recipe.lr=1e6", "modifiers=uniform_width", "modifiers.fractions=[0.25]")
    ended = command(*words)
    assert ended.code == 0
    assert [one["status"] for one in records(tmp_path)] == ["diverged"]
    assert " diverged " in ended.out
    assert command(*words).lines("1 network: 1 done before, 0 to train")


def test_a_job_can_be_run_alone_without_the_sweeper(
    command: Command, instant: Instant, tmp_path: Path
) -> None:
    ended = command("hydra.mode=RUN", "hydra.run.dir=" + str(tmp_path / "hydra"))
    assert (ended.code, len(instant.done)) == (0, 1)


# Bad input

BAD = {  # what is told where networks and trainings are read, and not by the command line
    "modifiers=explicit modifiers.network=d1-1-1_w17-32-64": "17 channels",
    "modifiers=explicit modifiers.network=d1-1-1_w16-32-64 modifiers.depth=[1,1,1]": "not both",
    "modifiers=random modifiers.count=1000000": "the lattice has",
    "dataset=image_folder": "dataset.root=DIR",
}


def test_bad_input_is_refused_in_one_line(conf: Compose) -> None:
    def refusal(line: str) -> str:
        try:
            return f"nothing, but {sweep.expand([(line.split(), conf(*line.split()))])}"
        except SsrError as error:
            return str(error)

    told = {line: refusal(line) for line in BAD}
    assert {line: told[line] for line in BAD if BAD[line] not in told[line]} == {}
    assert not any("\n" in text for text in told.values())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("trainer=gpu", "PyTorch sees no GPU: type trainer=cpu"),
        ("seed=0,-1 modifiers=sentinel_all", "seed is -1"),  # of one job among others
        ("hydra.mode=RUN modifiers=sentinel_all", "stands for 8 networks: run it as a sweep"),
    ],
)
def test_a_command_that_cannot_be_met_ends_in_a_sentence_and_nothing_is_trained(
    command: Command,
    instant: Instant,
    tmp_path: Path,
    words: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ended = command(*words.split(), f"hydra.run.dir={tmp_path}/hydra")
    assert ended.code == 1
    assert said in ended.err and "Traceback" not in ended.text
    assert instant.done == [] and records(tmp_path) == []


# What a command prints


@pytest.mark.slow
def test_a_sweep_is_short_where_lines_stay_and_its_log_file_has_the_rest(
    command: Command, instant: Instant, tmp_path: Path
) -> None:
    broken = "4-32-64 16-8-64 16-32-16 4-8-64 4-32-16 16-8-16 4-8-16 8-16-32 16-32-64"
    instant.broken |= {f"d1-1-1_w{widths}": ValueError("it broke") for widths in broken.split()}
    words = ("modifiers=sentinel_all,uniform_width", "modifiers.fractions=[0.375,0.5,0.625,0.75]")
    ended = command(*words, "-m")
    assert ended.code == 1
    assert len(set(instant.done)) == len(instant.done) == len(records(tmp_path)) == 12
    assert {path.name for path in tmp_path.iterdir()} == {"here", "runs"}
    assert len(table(ended.out)) == 12 and len(ended.text.splitlines()) <= 45
    said = re.findall(r"^ ?(\d+)/12 (\S+) ", ended.out, flags=re.MULTILINE)
    assert [int(number) for number, _ in said] == [*range(1, 13)]  # one line a network, no more
    assert sorted(network for _, network in said) == sorted(table(ended.out))
    assert "hydra" not in ended.text.replace("/.hydra/", "") and "Launching" not in ended.text
    *told, more = ended.err.splitlines()
    assert (
        len(told) == 5
        and more.startswith("  ... and 5 more")
        and more.endswith("/.hydra/train.log")
    )
    kept = Path(more.rpartition(" ")[2]).read_text()
    assert kept.count("aside: resnet8 d1-1-1_w") == 9
    assert kept.count(" seed 0: val 50.00 % in ") == 3
    for number in range(12):
        assert re.search(rf"#{number} : .*model=resnet8 .*modifiers\.network=d", kept)


@pytest.mark.slow
def test_a_short_sweep_has_one_line_for_each_network_and_each_warning_once(
    command: Command, instant: Instant, tmp_path: Path
) -> None:
    # An experiment's own modifiers are merged after their group; each network is alone, even so.
    kind = ("modifiers=baseline", "modifiers.kind=uniform_width")
    ended = command(*kind, TWO[1], f"checkpoint={tmp_path}/none.pt")
    said = re.findall(r"^\d/2 (\S+) ", ended.out, flags=re.MULTILINE)
    assert sorted(said) == sorted(table(ended.out)) and len(said) == 2
    for network in said:  # its own line, and its row in the table
        assert len(ended.lines(network)) == 2
    assert not re.search(r"epoch +\d", ended.text)  # none of an epoch: a sweep is short
    few = ended.lines("8 of 128 images an epoch")  # a warning of both networks, said once
    assert len(few) == 1
    assert len(ended.lines("is not read: type init=inherit")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("lines", [pytest.param(0, marks=pytest.mark.more), 1])
def test_a_reader_that_leaves_ends_no_training_and_the_page_is_written(
    started: Started, tmp_path: Path, lines: int
) -> None:
    process = started(THREE)
    assert process.stdout is not None and process.stderr is not None
    for _ in range(lines):
        process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=120) == 0
    assert len(records(tmp_path)) == 3
    assert (tmp_path / "runs/report.html").exists()


@pytest.mark.slow
@pytest.mark.more
def test_the_processes_of_a_launcher_print_each_warning_once(
    started: Started, tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = ("hydra/launcher=joblib", f"checkpoint={tmp_path}/none.pt", THREE)
    out, err = started(*words).communicate(timeout=240)
    assert (out + err).count("is not read: type init=inherit") == 1
    assert len(re.findall(r"^\d/3 \S+ .* params, val acc ", out, flags=re.MULTILINE)) == 3
    assert "Warning" not in err and "hydra" not in err  # neither Hydra's nor Lightning's
