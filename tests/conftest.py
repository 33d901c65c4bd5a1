"""What tests of several rooms share: a configuration, a record, and the command line."""

from __future__ import annotations

import copy
import functools
import itertools
import logging
import os
import runpy
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ssr_exp.app import configuration
from ssr_exp.app.composing import CachingConfigLoader
from ssr_exp.config import Config
from ssr_exp.runs import record
from ssr_exp.runs.record import Fractions, Record, Status

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from wandb_stub import Stub

ROOT = Path(__file__).parents[1]
# Of the project.
TOOLS = "benchmarks examples fuzz notebooks random_networks zoo".split()
LONGEST = ("test_wheel.py", "test_devices.py", "test_benchmarks.py")
SMALL = {  # the smallest training that is one
    "model": "resnet8",
    "dataset": "digits",
    "recipe": "sgd_cosine",
    "recipe.warmup_epochs": "0",
    "trainer": "cpu",
    "trainer.max_epochs": "1",
    "trainer.progress": "false",
    "logger": "disabled",
}

NUMBERS = itertools.count()

Compose = Callable[..., Config]
MakeRecord = Callable[..., Record]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    def lines(self, *words: str) -> list[str]:
        """Keep the lines that hold all these words."""
        return [line for line in self.text.splitlines() if all(w in line for w in words)]


Command = Callable[..., Ended]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import nothing of which all would be left out."""
    is_of_tool = bool({*TOOLS}.intersection(collection_path.parts[len(ROOT.parts) + 1 :][:1]))
    if is_of_tool:
        return True if "not slow" in config.option.markexpr else None
    if config.option.markexpr.startswith("slow") and collection_path.suffix == ".py":
        return True if "slow" not in collection_path.read_text().lower() else None
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the suites of tools as slow: `make check` runs them, `make test` does not.

    The longest tests come first: at the end one core would wait for them.
    """
    items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        if item.path.relative_to(ROOT / "tests").parts[0] in TOOLS:
            item.add_marker("slow")


def small(tmp_path: Path, words: tuple[str, ...], script: str = "train.py") -> list[str]:
    """Complete a command line: what `words` does not name is small, and below `tmp_path`."""
    given = {word.partition("=")[0] for word in words}
    folders = {"paths.runs": f"{tmp_path}/runs", "paths.data": f"{tmp_path}/data"}
    if "experiment" in given or script in ("export.py", "report.py"):
        return [*words, *(f"{k}={v}" for k, v in folders.items() if k not in given)]
    unread = ("model", "recipe") if "task=module" in words else ()  # the module says it all
    unread += ("dataset",) if "dataset=module" in words else ()
    missing = {k: v for k, v in (SMALL | folders).items() if k not in given}
    kept = (f"{k}={v}" for k, v in missing.items() if k.partition(".")[0] not in unread)
    return [*kept, *words]


@functools.cache
def loader() -> tuple[CachingConfigLoader, DictConfig]:
    """Make a loader of configurations, and compose what `ssr train` is without any word."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    configuration.register()
    with hydra.initialize_config_dir(str(ROOT / "ssr_exp" / "conf"), version_base="1.3"):
        made = CachingConfigLoader(GlobalHydra.instance().hydra.config_loader)
        return made, made.load_configuration("train", [], run_mode=RunMode.MULTIRUN)


@functools.cache
def composed(words: tuple[str, ...]) -> Config:
    """Compose a configuration."""
    made, command = loader()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "\n'hydra/launcher/.*' is validated", UserWarning)
        composed = made.load_sweep_config(command, small(Path(), words))
    return configuration.read(composed, Config)


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep BoTorch from compiling its optional kernel, which takes half a minute."""
    from botorch.acquisition.multi_objective import logei

    monkeypatch.setattr(logei, "_load_attempted", True, raising=False)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Let files be flushed at leisure: no test takes the power away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def conf(tmp_path: Path) -> Compose:
    """Compose a small configuration, in folders of the test: `conf("modifiers=baseline")`."""

    def compose(*words: str) -> Config:
        made = copy.deepcopy(composed(words))
        for name in ("runs", "data"):
            if getattr(made.paths, name) == f"./{name}":
                setattr(made.paths, name, f"{tmp_path}/{name}")
        return made

    return compose


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Run `train.py`, or another script, with a small command line, in an empty folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*words: str, script: str = "train.py") -> Ended:
        monkeypatch.setattr(sys, "argv", [script, *small(tmp_path, words, script)])
        capsys.readouterr()
        code, message = 0, ""
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as stop:
            code, message = (1, stop.code) if isinstance(stop.code, str) else (stop.code or 0, "")
        printed = capsys.readouterr()
        return Ended(code, printed.out, printed.err + message)

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)
    assert list((tmp_path / "here").iterdir()) == []


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a script with a small command line in a process of its own."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str, script: str = "train.py") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / script), *small(tmp_path, words)],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"},
            # A shell starts what it puts in the background with Ctrl-C ignored; undo that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@dataclass
class Instant:
    """Trainings that take no time: which were done, and what becomes of which network."""

    done: list[str] = field(default_factory=list)
    broken: dict[str, Exception] = field(default_factory=dict)


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> Instant:
    from ssr_exp.training import run

    trainings = Instant()

    def fit(job: run.Job, where: Path, *_: object) -> dict[str, Any]:
        trainings.done.append(f"{job.title} {job.conf.trainer.max_epochs}")
        if job.network in trainings.broken:
            raise trainings.broken[job.network]
        losses = {"val/loss": 1.0}
        return {"score": 50.0, "best_score": 50.0, "scores": (50.0,), "metrics": losses}

    monkeypatch.setattr(run.fit, "train", fit)
    return trainings


@pytest.fixture
def repeatable() -> Iterator[None]:
    """Undo what a deterministic training leaves in torch and in the environment."""
    import torch

    before = dict(os.environ)
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(scope="session")
def make_record() -> MakeRecord:
    """Make a record: `make_record(val_acc=90.0)`; what schema 1 had has its names there, too."""

    def make(**fields: object) -> Record:
        known: dict[str, object] = {
            "study": "resnet20-digits-0a1b2c3d",
            "network": "d3-1-3_w16-32-64",
            "model": "resnet20",
            "dataset": "digits",
            "modifiers": Fractions(depth=(1.0, 1 / 3, 1.0), width=(1.0, 1.0, 1.0)),
            "blocks": (3, 1, 3),
            "widths": (16, 32, 64),
            "seed": 0,
            "epochs": 8,
            "status": Status.finished,
            "score": 97.5,
            "best_score": 98.0,
            "val_loss": 0.125,
            "params": 232_410,
            "macs": 2_000_000,
            "gemms": 17,
            "baseline_params": 269_434,
            "baseline_macs": 2_500_000,
            "baseline_gemms": 20,
            "wall_s": 12.25,
            "device": "a processor, 1 threads",
            "precision": "32-true",
            "versions": {"torch": "2.11.0", "python": "3.11.7"},
            "git_commit": None,
            "started_at": "2026-01-01T00:00:00+00:00",
        }
        known |= {record.ACCURACIES.get(name, name): value for name, value in fields.items()}
        losses = {key: known.pop(name, None) for name, key in record.LOSSES.items()}
        metrics = {key: value for key, value in losses.items() if value is not None}
        return Record(**({"metrics": metrics} | known))  # type: ignore[arg-type]

    return make


@pytest.fixture
def leave(conf: Compose, make_record: MakeRecord) -> Callable[..., Path]:
    """Leave what a training leaves, with fresh weights: `leave(network="d1-1-1_w4-16-16")`."""
    import torch

    from ssr_exp import files
    from ssr_exp.rescaling import codes, rescale, saved
    from ssr_exp.runs import provenance, studies
    from ssr_exp.runs.store import LAST_CHECKPOINT, Store
    from ssr_exp.training import answer_folder, opened_study

    def write(*words: str, network: str, **fields: object) -> Path:
        asked = conf(*words)
        opened, store = opened_study.open(asked), Store(asked.paths.runs)
        architecture = codes.parse(opened.plan, network)
        shares = opened.plan.modifiers(architecture)
        modifiers = Fractions(depth=shares.depth, width=shares.width)
        record = make_record(study=opened.name, network=network, modifiers=modifiers, **fields)
        home = store.study_folder(opened.name)
        folder = store.folder(opened.name, network, record.seed)
        store.write(folder, record)
        about = answer_folder.describe(opened, asked)
        store.write_text(home / saved.NETWORK, files.to_json(about))
        store.write_text(home / studies.FILE, provenance.to_json(opened.about))
        built = rescale.build(opened.seed_network, opened.plan, architecture)
        state = {f"network.{name}": tensor for name, tensor in built.state_dict().items()}
        torch.save({"state_dict": state, "epoch": 3}, folder / LAST_CHECKPOINT)
        return folder

    return write


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module into the current folder, outside the package: `own("...")` is its name."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def write(code: str) -> str:
        name = f"own_{next(NUMBERS)}"
        (folder / f"{name}.py").write_text(code)
        return name

    return write


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """Serve as W&B, on loopback; the test's own environment says the rest."""
    import wandb
    import wandb_stub

    with wandb_stub.serve() as stub:
        monkeypatch.setenv("WANDB_BASE_URL", stub.url)
        yield stub
        wandb.teardown()
