"""What a launcher loses is launched again; what it breaks is said; nothing is trained twice."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import joblib
import pytest
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import OmegaConf

from ssr_exp import signals
from ssr_exp.app import launchers
from ssr_exp.app.launching import Launches
from ssr_exp.errors import SsrError
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import Store
from ssr_exp.training import sweep
from ssr_exp.training.sweep import Member
from tests.conftest import Command, Instant, MakeRecord

Jobs = list[list[str]]
Train = Callable[[Jobs], list[JobReturn]]
How = Callable[[Train, Jobs], Any]
LOST = RuntimeError("a worker was killed")


class Joblib(Launcher):
    """Shares fate as joblib's does; a job is the folder of a run, and its training a record.

    Args:
        record: of each run.
        how: stands in the way of each launch; it gets what trains, and the jobs.
    """

    joblib: ClassVar[dict[str, int | None]] = {"n_jobs": 4}

    def __init__(self, record: Record, how: How = lambda train, jobs: train(jobs)) -> None:
        self.record, self.how, self.launches = record, how, list[Jobs]()

    def setup(self, **_: object) -> None: ...

    def launch(self, jobs: Any, initial_job_idx: int) -> Any:
        self.launches.append(jobs)
        return self.how(self.train, jobs)

    def train(self, jobs: Jobs) -> list[JobReturn]:
        for job in jobs:
            folder = Path(job[0])
            begin(folder)
            Store(folder.parent).write(folder, self.record)
        return [JobReturn(status=JobStatus.COMPLETED, _return_value="finished") for _ in jobs]


def begin(folder: Path) -> None:
    """Note the time to the nanosecond: a file system counts in milliseconds."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    os.utime(folder / "config.json", ns=(time.time_ns(), time.time_ns()))


def members(root: Path, *names: str) -> list[Member]:
    return [Member((str(root / name),), Store(root), root / name, name) for name in names]


def launches(launcher: Launcher) -> Launches:
    return Launches(launcher, lambda _: nullcontext())


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssr_exp.app.launching.PAUSE_S", 0.0)


def test_what_a_launcher_never_began_is_launched_again_and_may_run_elsewhere(
    tmp_path: Path, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    def half(train: Train, jobs: Jobs) -> None:
        train(jobs[:1])
        raise LOST

    caplog.set_level("INFO")
    launcher, three = Joblib(make_record(), half), members(tmp_path, "a", "b", "c")
    assert launches(launcher).train(three) == {}
    assert all(member.is_done for member in three)
    assert [len(jobs) for jobs in launcher.launches] == [3, 2, 1]
    waits = [["wait=true" in job for job in jobs] for jobs in launcher.launches]
    assert waits == [[False] * 3, [True] * 2, [True]]
    stopped = "the launcher stopped: RuntimeError: a worker was killed"
    assert sum(text.startswith(stopped) for text in caplog.messages) == 3
    assert {"launching 2 networks again", "launching 1 network again"} <= {*caplog.messages}


def test_a_launch_is_under_way_until_its_jobs_have_ended(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    def look(train: Train, jobs: Jobs) -> list[JobReturn]:
        seen.append(started.is_under_way)
        if len(seen) == 1:
            raise LOST
        if len(seen) == 3:
            raise signals.Stopped(signal.SIGINT)
        return train(jobs)

    seen = list[bool]()
    started = launches(Joblib(make_record(), look))
    assert not started.is_under_way
    started.train(members(tmp_path, "a", "b"))
    assert not started.is_under_way
    with pytest.raises(signals.Stopped):
        started.train(members(tmp_path, "c"))
    assert started.is_under_way and seen == [True] * 3


@pytest.mark.slow
def test_one_that_kills_its_siblings_is_launched_alone_and_then_given_up(
    command: Command, instant: Instant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As joblib does it: one lost process ends all others of its launch."""
    assert command("modifiers=baseline").code == 0
    (study,) = (tmp_path / "runs").glob("resnet8-digits-*")
    name = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
    basic: Any = Plugins.instance().class_name_to_class[name]
    launch, sizes = basic.launch, []

    def shared(self: Launcher, jobs: Jobs, initial_job_idx: int) -> Any:
        sizes.append(len(jobs))
        networks = [w.partition("=")[2] for job in jobs for w in job if "modifiers.network=" in w]
        if "d1-1-1_w8-16-32" not in networks:
            return launch(self, jobs, initial_job_idx)
        for network in networks:  # all of them have begun when it happens
            begin(study / network / "seed0")
        raise LOST

    monkeypatch.setattr(basic, "launch", shared)
    ended = command("modifiers=uniform_width")
    assert sizes == [3, 3, 1, 1, 1]
    assert ended.code == 1
    assert ended.err.startswith("1 of 3 runs failed")
    assert ended.lines("w8-16-32", "its process was lost (RuntimeError: a worker was killed)")
    assert len(instant.done) == len(list(study.rglob("record.json"))) == 3


class Queue(Launcher):
    """Takes jobs as Slurm does: one that may not wait says which network is busy elsewhere."""

    def __init__(self, record: Record) -> None:
        self.record, self.launched = record, list[str]()
        self.waited: list[str] = []  # jobs that came while another process trained their network

    def setup(self, **_: object) -> None: ...

    def launch(self, jobs: Any, initial_job_idx: int) -> Any:
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=self.job(*job)) for job in jobs]

    def job(self, word: str, *more: str) -> str:
        folder = Path(word)
        store = Store(folder.parent)
        self.launched.append(folder.name)
        if store.is_busy(folder):
            self.waited += [folder.name] * ("wait=true" in more)
            return "busy"
        store.write(folder, self.record)
        return "finished"


def test_no_job_of_a_queue_waits_for_a_network_that_another_command_trains(
    tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssr_exp.app.launching.QUIET_S", 0.1)
    monkeypatch.setattr("ssr_exp.app.launching.LOOK_S", 0.05)
    queue, three, store = Queue(make_record()), members(tmp_path, *"abc"), Store(tmp_path)

    def elsewhere() -> None:
        """Train a, while b is killed."""
        with store.claim(tmp_path / "a", wait=False), store.claim(tmp_path / "b", wait=False):
            begun.set()
            time.sleep(1)
            store.write(tmp_path / "a", make_record())

    begun, other = threading.Event(), threading.Thread(target=elsewhere)
    other.start()
    begun.wait()
    errors = launches(queue).train(three)
    other.join()
    assert sweep.problems(three, errors) == []
    assert (queue.launched, queue.waited) == ([*"abcb"], [])


def test_a_launcher_that_begins_nothing_stops_with_one_sentence(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    def absent(train: Train, jobs: Jobs) -> None:
        raise RuntimeError("sbatch: error: no host\nsbatch: fatal: no configuration\n")

    with pytest.raises(SsrError) as refused:
        launches(Joblib(make_record(), absent)).train(members(tmp_path, "a", "b"))
    told = str(refused.value)
    assert told.startswith("the launcher ended 3 times before a training began")
    assert "\n" not in told
    assert "(sbatch: fatal: no configuration)" in told and "hydra/launcher=basic" in told


def test_a_job_that_never_begins_is_given_up_where_others_were_trained(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    def dies(train: Train, jobs: Jobs) -> None:
        train([job for job in jobs if not job[0].endswith("bad")])
        raise LOST

    launcher, three = Joblib(make_record(), dies), members(tmp_path, "a", "bad", "c")
    errors = launches(launcher).train(three)
    assert errors == {tmp_path / "bad": "its process was lost (RuntimeError: a worker was killed)"}
    assert [member.is_done for member in three] == [True, False, True]


@pytest.mark.parametrize("other", ["begins", "ends", "dies"])
def test_of_threads_it_is_the_launcher_that_fails_where_no_other_training_begins_or_ends(
    other: str, tmp_path: Path, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    def queue(train: Train, jobs: Jobs) -> list[JobReturn]:
        if jobs[0][0].endswith("queued"):
            if other == "ends":
                begin(tmp_path / "queued")
            under_way.set()
            enough.wait()
            if other == "ends":
                Store(tmp_path).write(tmp_path / "queued", make_record())
                return [JobReturn(status=JobStatus.COMPLETED, _return_value="finished")]
            if other == "begins":
                return train(jobs)
        tries.append(len(jobs))
        if len(tries) > 5:  # more than a launcher gets that has nothing else under way
            enough.set()
        raise LOST

    monkeypatch.setattr("ssr_exp.app.launching.PAUSE_S", 1e-3)
    tries, under_way, enough = list[int](), threading.Event(), threading.Event()
    launched = launches(Joblib(make_record(), queue))
    with ThreadPoolExecutor(2) as threads:
        queued = threads.submit(launched.train, members(tmp_path, "queued"))
        under_way.wait()
        bad = threads.submit(launched.train, members(tmp_path, "bad"))
    if other != "dies":
        assert [*bad.result()] == [tmp_path / "bad"] and queued.result() == {}
        return
    for ended in (queued, bad):
        with pytest.raises(SsrError, match=r"ended \d+ times before a training began"):
            ended.result()


def test_a_failure_among_lost_jobs_is_not_tried_again(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    def lost(train: Train, jobs: Jobs) -> None:
        train(jobs)
        Store(tmp_path).write(tmp_path / "b", make_record(status=Status.failed, error="it broke"))
        raise LOST

    launcher, two = Joblib(make_record(), lost), members(tmp_path, "a", "b")
    assert launches(launcher).train(two) == {}
    assert len(launcher.launches) == 1
    assert sweep.problems(two, {}) == ["b: it broke"]


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


class Pool(Joblib):
    """Takes jobs from threads; a lost process ends all others under way, whoever launched them."""

    def __init__(self, record: Record) -> None:
        super().__init__(record, self.share)
        self.lock, self.running, self.broken = threading.Lock(), 0, threading.Event()
        self.crowds: list[int] = []

    def share(self, train: Train, jobs: Jobs) -> list[JobReturn]:
        folder = Path(jobs[0][0])
        with self.lock:
            self.running += 1
            self.broken.clear()
        begin(folder)
        if folder.name == "poison":
            time.sleep(0.05)
            self.crowds.append(self.running)
            self.broken.set()
        is_lost = self.broken.wait(0.2)
        with self.lock:
            self.running -= 1
        if is_lost:
            raise LOST
        return train(jobs)


def test_threads_that_share_their_processes_lose_only_the_deadly_one(
    tmp_path: Path, make_record: MakeRecord
) -> None:
    pool, eight = Pool(make_record()), members(tmp_path, "poison", *"abcdefg")
    launched = launches(pool)
    with ThreadPoolExecutor(4) as threads:  # four at once, and others as these end
        errors = [*threads.map(lambda member: launched.train([member]), eight)]
    assert [[*folders] for folders in errors] == [[tmp_path / "poison"], *[[]] * 7]
    assert all(member.is_done for member in eight[1:])
    assert pool.crowds[-1] == 1


def test_what_is_closed_launches_nothing_more_and_says_nothing(
    tmp_path: Path, make_record: MakeRecord, caplog: pytest.LogCaptureFixture
) -> None:
    def close(train: Train, jobs: Jobs) -> None:
        launched.close()
        raise LOST

    launched = launches(Joblib(make_record(), close))
    for _ in range(2):
        with pytest.raises(SsrError, match="nothing more is launched"):
            launched.train(members(tmp_path, "a"))
    assert "the launcher stopped" not in caplog.text


@pytest.mark.parametrize(
    ("jobs", "places"), [(None, 1), (3, 3), (1, 1), (-1, joblib.effective_n_jobs(-1))]
)
def test_places_of_joblib_are_its_processes(
    jobs: int | None, places: int, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Joblib, "joblib", {"n_jobs": jobs})
    assert launchers.slots(Joblib(make_record())) == places


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


@pytest.mark.slow
def test_a_ray_cluster_that_is_not_there_is_told_at_once(command: Command) -> None:
    where = ("hydra/launcher=ray", "hydra.launcher.ray.remote.num_gpus=0")
    address = "hydra.launcher.ray.init.address=127.0.0.1:1"
    ended = command(*where, address, "asynchronous=true", script="search.py")
    assert ended.code == 1
    assert ended.err.startswith(f"Ray cannot be used at {address} (ConnectionRefusedError")
    assert ended.err.count("\n") == 0 and "local." in ended.err
