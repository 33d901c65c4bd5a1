"""What a launcher loses is launched again; what it breaks is said; nothing is trained twice."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import joblib
import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import OmegaConf

from ssr_exp import signals
from ssr_exp.app import launchers
from ssr_exp.app.launching import Launches
from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import Store
from ssr_exp.training.sweep import Member
from tests.conftest import Command, Instant, MakeRecord

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


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssr_exp.app.launching.PAUSE_S", 0.0)


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
    assert len(ended.lines("launching 2 networks again")) == 1
    assert len(ended.lines("launching 1 network again")) == 1
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
    _write_now(where / "config.json")


def _write_now(path: Path) -> None:
    """Write a file with the time to the nanosecond: a file system counts in milliseconds."""
    path.write_text("{}")
    os.utime(path, ns=(time.time_ns(), time.time_ns()))


def test_a_launcher_that_begins_nothing_stops_with_one_sentence(
    command: Command, instant: Instant, breaks: Break
) -> None:
    def absent(launch: Launch, jobs: Jobs) -> Any:
        raise RuntimeError("sbatch: error: no host\nsbatch: fatal: no configuration\n")

    breaks(absent)
    ended = command(THREE)
    assert ended.code == 1
    assert ended.err.count("\n") == 0
    assert ended.err.startswith("the launcher ended before any training began")
    assert "(sbatch: fatal: no configuration)" in ended.err and "hydra/launcher=basic" in ended.err
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


@pytest.mark.parametrize("extra", ["joblib", "ray", "slurm"])
def test_a_launcher_that_is_not_installed_names_its_extra(extra: str) -> None:
    name = {"slurm": "submitit"}.get(extra, extra)
    target = f"hydra_plugins.hydra_{name}_launcher.{name}_launcher.AbsentLauncher"
    conf = OmegaConf.create({"hydra": {"launcher": {"_target_": target}}})
    if extra == "ray":
        conf.hydra.launcher.ray = {"init": {"address": "local"}, "remote": {"num_gpus": 0}}
    with pytest.raises(SsrError, match=rf"ssr_exp\[{extra}\]"):
        launchers.open(HydraContext(None, None), lambda _: None, conf)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("hydra/launcher=slrum", "submitit_slurm"),
        ("hydra/launcher=joblib hydra.launcher.n_job=2", "n_job"),
        ("hydra/launcher=joblib hydra.launcher.n_jobs=0", "n_jobs is 0; it must be 1 or"),
        ("hydra/launcher=ray hydra.launcher.ray.init.address=auto", "ray.remote.num_gpus=1"),
    ],
)
def test_a_launcher_that_cannot_be_used_is_refused(command: Command, words: str, told: str) -> None:
    ended = command(*words.split())
    assert ended.code == 1 and told in ended.err and ended.err.count("\n") == 0


class Pool(Launcher):
    """As joblib's: a lost process ends all others under way, whoever launched them."""

    joblib: ClassVar[dict[str, int]] = {"n_jobs": 4}

    def __init__(self, record: Record) -> None:
        self.record = record
        self.lock, self.running, self.broken = threading.Lock(), 0, threading.Event()
        self.crowds: list[int] = []

    def setup(self, **_: object) -> None: ...

    def launch(self, jobs: Any, initial_job_idx: int) -> Any:
        folder = Path(jobs[0][0])
        with self.lock:
            self.running += 1
            self.broken.clear()
        _write_now(folder / "config.json")
        if "poison" in folder.name:
            time.sleep(0.05)
            self.crowds.append(self.running)
            self.broken.set()
        is_lost = self.broken.wait(0.2)
        with self.lock:
            self.running -= 1
        if is_lost:
            raise RuntimeError("a worker was killed")
        Store(folder.parent).write(folder, self.record)
        return [JobReturn(status=JobStatus.COMPLETED, _return_value="finished")]


def test_threads_that_share_their_processes_lose_only_the_deadly_one(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    pool = Pool(make_record())
    launches = Launches(pool, lambda _: nullcontext())
    members = []
    for name in ("poison", "a", "b", "c"):
        (tmp_path / name).mkdir()
        folder = tmp_path / name
        members.append(Member((str(folder),), Store(tmp_path), folder, name))
    errors: dict[Path, object] = {}

    def train(member: Member) -> None:
        errors.update(launches.train([member]))

    threads = [threading.Thread(target=train, args=(member,)) for member in members]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {folder.name for folder in errors} == {"poison"}
    assert all(member.is_done for member in members[1:])
    assert pool.crowds[-1] == 1


def test_what_is_closed_launches_nothing_more_and_says_nothing(
    tmp_path: Path, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    class Ending(Pool):
        def launch(self, jobs: Any, initial_job_idx: int) -> Any:
            launches.close()
            raise RuntimeError("a worker was killed")

    launches = Launches(Ending(make_record()), lambda _: nullcontext())
    member = Member(("x",), Store(tmp_path), tmp_path / "a", "a")
    for _ in range(2):
        with pytest.raises(SsrError, match="nothing more is launched"):
            launches.train([member])
    assert "the launcher stopped" not in caplog.text


@pytest.mark.parametrize("jobs", [(None, 1), (3, 3), (1, 1), (-1, joblib.effective_n_jobs(-1))])
def test_places_of_joblib_are_its_processes(
    jobs: tuple[int | None, int], make_record: MakeRecord
) -> None:
    class Joblib(Pool):
        joblib: ClassVar[dict[str, int | None]] = {"n_jobs": jobs[0]}  # type: ignore[assignment]

    assert launchers.slots(Joblib(make_record())) == jobs[1]


class Raylike(Launcher):
    """Has the settings of a Ray of this machine."""

    def __init__(self, **asked: float) -> None:
        self.ray_cfg = OmegaConf.create({"init": {"address": "local"}, "remote": asked})

    def setup(self, **_: object) -> None: ...

    def launch(self, jobs: Any, initial_job_idx: int) -> Any: ...


@pytest.fixture
def ray_starts(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], None]:
    """Start no Ray but call something instead; it has two cores."""
    import ray

    from hydra_plugins.hydra_ray_launcher import _launcher_util

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    return lambda start: monkeypatch.setattr(_launcher_util, "start_ray", start)


@pytest.mark.parametrize("asked", [{"num_cpus": 3}, {"num_cpus": 1, "num_gpus": 0.5}])
def test_more_than_this_machines_ray_has_is_refused(
    asked: dict[str, float], ray_starts: Callable[..., None]
) -> None:
    ray_starts(lambda _: None)
    launchers.connect(Raylike(num_cpus=2, num_gpus=0))
    with pytest.raises(SsrError, match=r"remote\.num_.pus is .*this machine's Ray has"):
        launchers.connect(Raylike(**asked))


def test_a_signal_while_ray_starts_is_a_stop(ray_starts: Callable[..., None]) -> None:
    """Ray's own handler of SIGTERM ends Python with the signal's number."""
    ray_starts(lambda _: sys.exit(15))
    with pytest.raises(signals.Stopped) as stop:
        launchers.connect(Raylike())
    assert stop.value.number == 15


def test_a_ray_cluster_that_is_not_there_is_told_at_once(command: Command) -> None:
    where = ("hydra/launcher=ray", "hydra.launcher.ray.remote.num_gpus=0")
    address = "hydra.launcher.ray.init.address=127.0.0.1:1"
    ended = command(*where, address, "asynchronous=true", script="search.py")
    assert ended.code == 1
    assert ended.err.startswith(f"Ray cannot be used at {address} (ConnectionRefusedError")
    assert ended.err.count("\n") == 0 and "local." in ended.err
