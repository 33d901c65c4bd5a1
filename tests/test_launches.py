"""What a launcher loses is launched again; what it breaks is said; nothing is trained twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Instant

THREE = "modifiers=uniform_width"
Jobs = list[list[str]]
Launch = Callable[[Jobs], Any]
Break = Callable[[Callable[[Launch, Jobs], Any]], None]


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Put a function in the way of each launch: it gets the real one, and the jobs."""
    from hydra.core.plugins import Plugins

    name = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    launcher = Plugins.instance().class_name_to_class[name]
    real = launcher.launch  # type: ignore[attr-defined]

    def set_(how: Callable[[Launch, Jobs], Any]) -> None:
        def launch(self: object, jobs: Jobs, initial_job_idx: int) -> Any:
            return how(lambda some: real(self, some, initial_job_idx), jobs)

        monkeypatch.setattr(launcher, "launch", launch)

    return set_


def records(tmp_path: Path) -> int:
    return len(list((tmp_path / "runs").rglob("record.json")))


def test_what_a_launcher_never_began_is_launched_again(
    command: Command, instant: Instant, tmp_path: Path, breaks: Break
) -> None:
    def half(launch: Launch, jobs: Jobs) -> Any:
        launch(jobs[:1])
        raise RuntimeError("a worker was killed")

    breaks(half)
    ended = command(THREE)
    assert ended.code == 0
    assert len(ended.lines("the launcher stopped: RuntimeError: a worker was killed")) == 3
    assert len(instant.done) == records(tmp_path) == 3
    assert "Traceback" not in ended.text


def test_one_that_kills_its_siblings_is_launched_alone_and_then_given_up(
    command: Command, instant: Instant, tmp_path: Path, breaks: Break
) -> None:
    """As joblib does it: one lost process ends all others of its launch."""
    assert command("modifiers=baseline").code == 0
    sizes = []

    def shared(launch: Launch, jobs: Jobs) -> Any:
        sizes.append(len(jobs))
        deadly = [any("w8-16-32" in word for word in job) for job in jobs]
        if not any(deadly):
            return launch(jobs)
        for job in jobs:  # all of them have begun when it happens
            begin(tmp_path, job)
        raise RuntimeError("a worker was killed")

    breaks(shared)
    ended = command(THREE)
    assert sizes == [3, 3, 1, 1, 1]
    assert ended.code == 1
    assert ended.err.startswith("1 of 3 runs failed")
    assert ended.lines("w8-16-32", "its process was lost (RuntimeError: a worker was killed)")
    assert len(instant.done) == records(tmp_path) == 3


def begin(tmp_path: Path, job: list[str]) -> None:
    network = next(w.partition("=")[2] for w in job if w.startswith("modifiers.network="))
    (study,) = (tmp_path / "runs").glob("resnet8-digits-*")
    where = study / network / "seed0"
    where.mkdir(parents=True, exist_ok=True)
    (where / "config.json").write_text("{}")


def test_a_launcher_that_begins_nothing_stops_with_one_sentence(
    command: Command, instant: Instant, breaks: Break
) -> None:
    def absent(launch: Launch, jobs: Jobs) -> Any:
        raise FileNotFoundError("sbatch")

    breaks(absent)
    ended = command(THREE)
    assert ended.code == 1
    assert ended.err.count("\n") == 0
    assert ended.err.startswith("the launcher ended before any training began")
    assert "FileNotFoundError: sbatch" in ended.err and "hydra/launcher=basic" in ended.err
    assert not instant.done


def test_what_goes_on_elsewhere_is_waited_for(
    command: Command, instant: Instant, breaks: Break
) -> None:
    words = []

    def lost(launch: Launch, jobs: Jobs) -> Any:
        words.append(["wait=true" in job for job in jobs])
        if len(words) == 1:
            launch(jobs[:1])
            raise RuntimeError("lost")
        return launch(jobs)

    breaks(lost)
    assert command(THREE).code == 0
    assert words == [[False] * 3, [True] * 2]


def test_a_failure_among_lost_jobs_is_not_tried_again(
    command: Command, instant: Instant, breaks: Break
) -> None:
    instant.broken["d1-1-1_w8-16-32"] = ValueError("it broke")

    def lost(launch: Launch, jobs: Jobs) -> Any:
        launch(jobs)
        raise RuntimeError("lost")

    breaks(lost)
    ended = command(THREE)
    assert ended.code == 1
    assert Counter(instant.done).most_common(1)[0][1] == 1
    assert ended.lines("w8-16-32", "ValueError: it broke")


@pytest.mark.parametrize("script", ["train.py", "search.py"])
@pytest.mark.parametrize("extra", ["joblib", "ray", "slurm"])
def test_a_launcher_that_is_not_installed_names_its_extra(
    command: Command, script: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hydra.core.plugins import Plugins

    known = Plugins.instance().class_name_to_class
    name = {"slurm": "submitit"}.get(extra, extra)
    for target in [target for target in known if f"hydra_{name}_launcher" in target]:
        monkeypatch.delitem(known, target)
    option = {"slurm": "submitit_slurm"}.get(extra, extra)
    ended = command(f"hydra/launcher={option}", script=script)
    assert ended.code == 1
    assert f"ssr_exp[{extra}]" in ended.err and ended.err.count("\n") == 0


def test_a_typo_in_a_launcher_or_its_keys_is_refused(command: Command) -> None:
    ended = command("hydra/launcher=slrum")
    assert ended.code == 1 and ended.lines("submitit_slurm") and "Traceback" not in ended.text
    ended = command("hydra/launcher=joblib", "hydra.launcher.n_job=2")
    assert ended.code == 1 and ended.lines("n_job") and "Traceback" not in ended.text
