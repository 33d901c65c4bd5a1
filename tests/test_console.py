"""The command `ssr`: what it knows, what it says of what it does not know, and how fast."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ssr_exp import __main__ as console
from ssr_exp import __version__, command_options, messages
from tests.conftest import ROOT

SCRIPT = Path(sys.executable).with_name("ssr")


def ssr(*words: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *words], capture_output=True, text=True, cwd=folder)


def test_help_lists_every_command_and_imports_nothing_heavy(tmp_path: Path) -> None:
    told = ssr("--help", folder=tmp_path)
    assert told.returncode == 0 and told.stdout == ssr(folder=tmp_path).stdout
    for command in (*console.HYDRA, *console.OWN):
        assert f"\n  {command}" in told.stdout
    code = "import sys; from ssr_exp.__main__ import main; sys.argv[1:] = []; main(); " + (
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    run = [sys.executable, "-c", code]
    imported = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert not {"hydra", "torch", "rich", "numpy"} & {*imported.splitlines()[-1].split()}


@pytest.mark.parametrize("words", ["latency --help", "anatomy --help", "anatomy resnet20 --sise 3"])
def test_help_and_slips_of_a_command_without_hydra_wait_for_no_torch(words: str) -> None:
    code = (
        "import sys\nfrom ssr_exp.__main__ import main\n"
        f"sys.argv[1:] = {words.split()}\n"
        "try: main()\nfinally: assert 'torch' not in sys.modules"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "AssertionError" not in ended.stderr
    assert ended.returncode == (0 if "--help" in words else 2), ended.stderr


def test_what_help_names_is_what_there_is() -> None:
    from ssr_exp.edge.latency import runtimes
    from ssr_exp.rescaling import seeds, segmentations

    assert seeds.names() == command_options.SEEDS
    assert list(segmentations.KINDS) == command_options.KINDS
    assert tuple(command_options.RUNTIMES) == runtimes.NAMES


def test_a_typo_is_answered_by_the_nearest_command(tmp_path: Path) -> None:
    told = ssr("serch", folder=tmp_path)
    assert told.returncode == 2 and told.stdout == ""
    assert "the nearest is search" in told.stderr and len(told.stderr.splitlines()) == 1
    assert ssr("--version").stdout == f"ssr_exp {__version__}\n"


@pytest.mark.parametrize("command", console.HYDRA)
def test_a_command_and_its_script_are_the_same_but_for_their_names(
    command: str, tmp_path: Path
) -> None:
    by_name = ssr(command, "paths.run=x", folder=tmp_path)
    script = [sys.executable, str(ROOT / f"{command}.py"), "paths.run=x"]
    by_script = subprocess.run(script, capture_output=True, text=True, cwd=tmp_path)
    assert by_name.returncode == by_script.returncode == 1
    typed = f"python {ROOT}/{command}.py"
    assert by_script.stderr.replace(typed, f"ssr {command}") == by_name.stderr
    assert f"ssr {command} --help" in by_name.stderr


def test_a_command_is_spelled_as_it_was_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(messages.CALLED, raising=False)
    assert messages.typed("export", "run=a b") == "ssr export 'run=a b'"
    with messages.called_as("../train.py"):
        assert messages.typed("export") == "python ../export.py"
        assert messages.named("export") == "export.py"
        with messages.called_as(None):
            assert messages.spelled("train") == ["ssr", "train"]
        assert messages.spelled("train") == ["python", "../train.py"]
    assert messages.CALLED not in os.environ


def test_presets_of_a_users_own_are_found_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "mine" / "recipe").mkdir(parents=True)
    (tmp_path / "mine" / "recipe" / "mine.yaml").write_text("optimizer: sgd\nlr: 0.05\n")
    told = ssr("train", "--config-dir", "mine", "recipe=mine", "-c", "job", folder=tmp_path)
    assert "lr: 0.05" in told.stdout, told.stderr
