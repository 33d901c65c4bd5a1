"""The order of a command line, and how it is refused."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException, HydraException

from ssr_exp.app.command_line import commands, quoting
from ssr_exp.config import SCHEMAS
from ssr_exp.errors import SsrError
from tests.conftest import ROOT

Command = Callable[..., Any]  # conftest's
Compose = Callable[..., Any]
WORDS = ("model=resnet56", "modifiers=sentinel_all", "seed=0,1")


@pytest.fixture(autouse=True)
def script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.delenv(commands.TRACES, raising=False)


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_m_may_stand_anywhere_and_changes_nothing(flag: str) -> None:
    taken = {
        frozenset(commands.arguments([*WORDS[:at], *flags, *WORDS[at:]], "train")) - {flag, "-m"}
        for at, flags in itertools.product(range(4), ([flag], [flag, flag], []))
    }
    assert taken == {frozenset(WORDS)}


def test_flags_with_values_keep_them_and_words_their_order() -> None:
    typed = ["seed=1", "-cn", "train", "-m", "seed=2", "--config-dir", "here", "model=resnet8"]
    taken = commands.arguments(typed, "train")
    assert taken == ["seed=1", "seed=2", "model=resnet8", *"-cn train -m --config-dir here".split()]


@pytest.mark.parametrize("shows", [["-c", "job"], ["--info"], ["--help"], ["--cfg", "all"]])
def test_m_beside_what_only_shows_something_is_left_out(shows: list[str]) -> None:
    assert commands.arguments(["-m", *WORDS[:1], *shows, "-m"], "train") == [WORDS[0], *shows]


def test_a_mode_that_was_typed_is_kept() -> None:
    assert commands.arguments(["hydra.mode=RUN"], "train") == ["hydra.mode=RUN"]
    assert commands.arguments(["--run"], "train") == ["--run"]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("--model=resnet20", "without dashes: model=resnet20"),
        ("--epochs", "no option --epochs"),
        ("--config_dir=mine", "no option --config_dir: type --config-dir=mine"),
        ("-x", "no option -x"),
        ("--cfg", "expected one argument"),
        ("--cfg=jobs", "invalid choice"),
    ],
)
def test_an_unknown_flag_is_told_in_a_sentence(typed: str, told: str) -> None:
    with pytest.raises(SsrError, match=told) as refused:
        commands.arguments([typed], "train")
    assert "\n" not in str(refused.value)


def test_no_refusal_of_hydras_advises_a_plus_or_shows_objects() -> None:
    hydras = ConfigCompositionException(
        "Could not override 'x'.\nTo append to your config use +x=1\nfull_key: x"
    )
    assert commands._sentence(hydras) == "Could not override 'x'."


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("model=resnet9", "the nearest is model=resnet8"),
        ("hydra.launcher.n_jobs=2", "n_jobs is a key of another launcher"),
    ],
)
def test_what_hydra_refuses_is_one_line(conf: Compose, word: str, said: str) -> None:
    with pytest.raises(HydraException) as refused:
        conf(word)
    told = commands._sentence(refused.value)
    assert said in told and "\n" not in told


FORGED = ["a\nanswer: b(", "a\r(", "a\x1b[2Jb(", "a\x85b(", "a\u2028b(", "a\u202eb(", "a\x00("]
ERRORS = [SsrError, ValueError, ConfigCompositionException, OSError]


def refusal(main: Callable[[], None], *words: str) -> str:
    sys.argv[1:] = words
    with pytest.raises(SystemExit) as refused:
        commands.run(main, "train")
    return str(refused.value)


@pytest.mark.parametrize("value", FORGED)
@pytest.mark.parametrize("key", "model dataset dataset.root seed modle logger.tags".split())
def test_no_value_forges_a_line(key: str, value: str) -> None:
    for word in (f"{key}={value}", f"{key}{value}=1", f"--{key}={value}", value):
        told = refusal(lambda: None, word)
        assert quoting.can_be_shown(told) and len(told.splitlines()) == 1


@pytest.mark.parametrize("kind", ERRORS)
def test_no_error_of_a_command_forges_a_line(kind: type[Exception]) -> None:
    for value in FORGED:

        def main(value: str = value) -> None:
            raise kind(f"{value} is not there")

        assert len(refusal(main).splitlines()) == 1


def test_with_traces_only_what_a_user_can_mend_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(commands.TRACES, "1")
    assert "\n" not in refusal(lambda: None, "modle=a\nb")

    def main() -> None:
        raise OSError("the disk is away")

    sys.argv[1:] = []
    with pytest.raises(OSError, match="away"):
        commands.run(main, "train")
    assert os.environ[commands.TRACES] == "1"


@pytest.mark.parametrize(
    ("words", "said", "script"),
    [
        ("++lr=0.5", "the nearest is recipe.lr", "train.py"),
        ("model=resnet9", "the nearest is model=resnet8", "search.py"),
        ("-c job model=resnet8,resnet20", "one value of each key", "train.py"),
    ],
)
def test_a_command_is_refused_in_one_line(
    command: Command, words: str, said: str, script: str
) -> None:
    ended = command(*words.split(), script=script)
    assert ended.code == 1 and ended.out == ""
    assert said in ended.err and ended.err.strip().count("\n") == 0


def test_a_users_folder_of_presets_is_taken(command: Command, tmp_path: Path) -> None:
    (tmp_path / "conf/site").mkdir(parents=True)
    (tmp_path / "conf/site/here.yaml").write_text("# @package _global_\nseed: 7\n")
    ended = command("site=here", "--config-dir", str(tmp_path / "conf"), "-m", "-c", "job")
    assert (ended.code, ended.err) == (0, "")
    assert "\nseed: 7\n" in ended.out


@pytest.mark.slow
def test_help_is_instant_because_it_imports_nothing_heavy() -> None:
    code = """
import runpy, sys
for script in sys.argv[1:]:
    sys.argv = [script, "--help"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit:
        pass
print(*sys.modules)
"""
    told = subprocess.run(
        [sys.executable, "-c", code, *(f"{name}.py" for name in SCHEMAS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    heavy = "torch torchvision lightning wandb numpy sklearn scipy botorch onnxruntime executorch"
    imported = {*told.splitlines()[-1].split()}
    assert "hydra" in imported and not {*heavy.split(), "rich"} & imported
    for words in ("modifiers=sentinel_all", "experiment=demo", "max_epochs", "sentinel_width"):
        assert words in told
    for words in ("search model=resnet56", "report paths.runs=runs", "export paths.runs="):
        assert words in told


def test_torchrun_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(SystemExit, match=r"type ssr train trainer\.devices=4, without"):
        commands.run(lambda: None, "train")
    monkeypatch.setenv("WORLD_SIZE", "1")  # as Kubernetes says of a process that is alone
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=1"])
    commands.run(lambda: None, "train")


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (["studies"], "ssr_exp.app.studies.removing"),
        (["latency", "resnet8"], "ssr_exp.edge.measured_networks"),
        (["anatomy", "resnet8"], "ssr_exp.rescaling.lattice"),
    ],
)
def test_a_command_that_composes_nothing_ends_in_a_sentence_while_it_is_imported(
    words: list[str], module: str
) -> None:
    program = f"""
import os, signal, sys
from ssr_exp.__main__ import main
class Stops:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Stops())
sys.argv = ["ssr", *{words}]
sys.exit(main())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert (ended.returncode, ended.stderr) == (130, "stopped: repeat the command.\n")
