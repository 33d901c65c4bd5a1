"""What users install: the wheel, in an environment that holds nothing else."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ssr_exp
from tests.conftest import ROOT

UV = [sys.executable, "-m", "uv"]
DEMO = "search experiment=demo rounds=1 batch=2 trainer.max_epochs=1 finalists.seeds=1".split()


def run(*command: str | Path, folder: Path = ROOT) -> str:
    """Run a command without the variables that would let it find this clone."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}
    env = kept | {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (built,) = folder.glob(f"ssr_exp-{ssr_exp.__version__}-*.whl")
    return built


@pytest.mark.slow
def test_it_holds_the_package_the_presets_the_plugin_and_no_more(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "hydra_plugins/__init__.py" not in names  # it would hide the other launchers
    assert {name.split("/")[0].split("-")[0] for name in names} == {"ssr_exp", "hydra_plugins"}
    assert [name for name in names if name.endswith("ruff.toml")] == []
    assert "hydra_plugins/ssr_exp/__init__.py" in names
    presets = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("ssr_exp/conf/**/*.yaml")}
    assert len(presets) > 50 and presets <= set(names)
    licences = {name.rpartition("/")[2] for name in names if "/licenses/" in name}
    assert licences == {"LICENSE", "NOTICE"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_installed_alone_it_runs_the_demo_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    env, here = tmp_path / "env", tmp_path / "here"
    here.mkdir()
    run(*UV, "venv", "-q", "--python", sys.executable, env)
    versions = ("--constraints", ROOT / "requirements.lock")
    install = ["pip", "install", "-q", "--python", env / "bin/python", *versions]
    run(*UV, *install, wheel)
    names = run(*UV, "pip", "list", "--python", env / "bin/python", "--format", "freeze")
    extras = ("onnx", "executorch", "ray", "submitit", "timm", "pytest", "hydra-joblib-launcher")
    assert not {*extras} & {line.split("==")[0] for line in names.splitlines()}
    ssr = env / "bin/ssr"
    said = run(ssr, *DEMO, folder=here)
    page, best = here / "runs/demo/report.html", list(here.glob("runs/demo/*/best/record.json"))
    assert re.search(rf"^page: +{page.relative_to(here)}$", said, re.M) and page.exists() and best
    assert "lattice: " in run(ssr, "anatomy", "resnet20", folder=here)
    refused = subprocess.run(
        [ssr, "export", "run=best", "format=onnx", "paths.runs=runs/demo"],
        cwd=here,
        capture_output=True,
        text=True,
    )
    assert refused.returncode == 1 and "pip install 'ssr_exp[onnx]'" in refused.stderr
    assert {path.name for path in here.iterdir()} == {"runs"}
