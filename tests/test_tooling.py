"""The laws that the project's own tools keep."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import ssr_exp

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()


def run(*command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=60
    )


def lint(path: str, code: str) -> str:
    """Lint `code` as if it stood in `path`."""
    options = ["--no-cache", "--select", "TID", "--output-format", "concise"]
    return run(
        sys.executable, "-m", "ruff", "check", *options, "--stdin-filename", path, "-", stdin=code
    ).stdout


def locked() -> list[str]:
    """Split the lock file into one string a package."""
    return re.sub(r"\\\n", " ", LOCK).splitlines()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def make_targets() -> list[str]:
    return re.findall(r"^  make (\S+)", run("make", "help").stdout, flags=re.MULTILINE)


def test_the_lock_names_no_address() -> None:
    assert "://" not in LOCK
    assert not re.search(r"index-url|find-links|@ ", LOCK)


def test_every_locked_package_is_pinned_and_hashed() -> None:
    pinned = r"[a-z0-9.-]+==[\w.+!]+( ; [^#]*?)?( +--hash=sha256:[0-9a-f]{64})+"
    assert [line for line in locked() if not re.fullmatch(pinned, line)] == []


def test_the_lock_holds_every_dependency() -> None:
    groups = PROJECT["dependency-groups"]
    grouped = [each for group in groups.values() for each in group if isinstance(each, str)]
    wanted = PROJECT["project"]["dependencies"] + grouped
    names = {normal(re.split(r"[<>=! ]", each)[0]) for each in wanted}
    assert names - {line.split("==")[0] for line in locked()} == set()


def test_the_audit_is_of_the_lock_and_its_hashes() -> None:
    printed = run("make", "--dry-run", "audit").stdout
    assert "pip-audit --requirement requirements.lock --require-hashes" in printed
    assert "--strict" in printed  # what cannot be looked up has not passed


def test_the_version_stands_in_one_place() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    source = ROOT / PROJECT["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{ssr_exp.__version__}"' in source.read_text()


def test_help_lists_the_targets_that_users_rely_on() -> None:
    assert {"install", "demo", "test", "check", "help"} <= set(make_targets())


def test_every_target_in_help_exists() -> None:
    for target in make_targets():
        assert run("make", "--dry-run", target).returncode == 0, target


def test_ci_runs_all_parts_of_check_and_the_clusters() -> None:
    (parts,) = re.findall(r"^check: (.*) ##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    script = (ROOT / ".ci/run").read_text()
    always = re.findall(r"^(?:step make|begin) (\S+)", script, re.MULTILINE)
    assert {*parts.split(), "test-cluster"} - {"tools"} <= set(always)  # which time may forbid
    assert len(set(always)) == len(always)
    assert re.search(r"^ +step make tools$", script, re.MULTILINE)
    assert "of make tools" in script  # it says so, if they are left out


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_every_target_that_a_page_names_exists(page: str) -> None:
    named = re.findall(r"(?:^|`|&& )make ([a-z-]+)", (ROOT / page).read_text(), flags=re.MULTILINE)
    assert named
    for target in named:
        assert run("make", "--dry-run", target).returncode == 0, target


def test_no_committed_tool_file_names_a_machine_or_a_registry() -> None:
    files = [".ci/run", ".pre-commit-config.yaml", "Makefile", "pyproject.toml", "CONTRIBUTING.md"]
    for file in files:
        assert not re.search(r"/(home|root|tmp|work)/|://", (ROOT / file).read_text()), file


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("train.py", "import torch"),  # slow to load: inside the function
        ("train.py", "def main():\n    import wandb"),
        ("hydra_plugins/ssr_exp/planted.py", "import ssr_exp.training.run"),
        ("ssr_exp/planted.py", "import hydra"),
        ("ssr_exp/planted.py", "import ssr_exp.runs.record"),
        ("ssr_exp/runs/wandb/planted.py", "from ssr_exp.search import loop"),
        ("hydra_plugins/ssr_exp/planted.py", "def f():\n    from ssr_exp.search import loop"),
        ("ssr_exp/config.py", "import torch"),
        ("ssr_exp/config.py", "from omegaconf import MISSING"),
        ("ssr_exp/rescaling/planted.py", "from omegaconf import OmegaConf"),
        ("ssr_exp/training/run.py", "from omegaconf import OmegaConf"),
        ("ssr_exp/rescaling/planted.py", "import lightning.pytorch"),
        ("ssr_exp/rescaling/planted.py", "from ssr_exp import training"),
        ("ssr_exp/rescaling/planted.py", "from ..runs import record"),
        ("ssr_exp/rescaling/planted.py", "def f():\n    from ssr_exp.search.loop import ask"),
        ("ssr_exp/training/planted.py", "import ssr_exp.search"),
        ("ssr_exp/training/planted.py", "import hydra.utils"),
        ("ssr_exp/training/planted.py", "import wandb"),
        ("ssr_exp/training/planted.py", "from botorch.models import SingleTaskGP"),
        ("ssr_exp/runs/planted.py", "import wandb"),
        ("ssr_exp/runs/wandb/training_run.py", "import wandb"),
        ("ssr_exp/edge/planted.py", "import sklearn"),
        ("ssr_exp/runs/planted.py", "from ssr_exp.rescaling import trace"),
        ("ssr_exp/runs/planted.py", "from ssr_exp.training import run"),
        ("ssr_exp/search/planted.py", "from lightning import Trainer"),
        ("ssr_exp/search/planted.py", "from ssr_exp.training import run"),
        ("ssr_exp/edge/planted.py", "from ssr_exp.training import run"),
        ("ssr_exp/report/planted.py", "import gpytorch"),
    ],
)
def test_an_import_through_a_wall_is_rejected(path: str, code: str) -> None:
    assert re.search("TID25[123]", lint(path, code + "\n"))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("train.py", "import hydra"),
        ("train.py", "def main():\n    from ssr_exp.training import run"),
        ("hydra_plugins/ssr_exp/planted.py", "from hydra.plugins.sweeper import Sweeper"),
        ("ssr_exp/app/configuration.py", "from omegaconf import OmegaConf"),
        ("ssr_exp/rescaling/planted.py", "import torch"),
        ("ssr_exp/training/planted.py", "from ssr_exp.runs import record"),
        ("ssr_exp/training/planted.py", "import lightning.pytorch"),
        ("ssr_exp/runs/wandb/training_run.py", "def send():\n    import wandb"),
        ("ssr_exp/runs/trained.py", "from ssr_exp.rescaling import saved"),
        ("ssr_exp/search/planted.py", "import botorch"),
        ("ssr_exp/report/planted.py", "from ssr_exp.runs import record"),
    ],
)
def test_an_import_through_a_door_is_allowed(path: str, code: str) -> None:
    assert "TID" not in lint(path, code + "\n")


def test_without_a_gpu_cpu_wheels_of_the_same_versions_replace_what_cuda_brings() -> None:
    printed = run("make", "--always-make", "--dry-run", "install").stdout
    (command,) = re.findall(r"sed '(/.*/d)' requirements\.lock >", printed)
    kept = run("sed", command, "requirements.lock").stdout
    names = {line.split("==")[0] for line in locked()}
    left_out = names - set(re.findall(r"^([a-z0-9.-]+)==", kept, flags=re.MULTILINE))
    assert left_out >= {"torch", "torchvision", "triton", "nvidia-cublas", "cuda-toolkit"}
    assert all(re.match(r"torch(vision)?$|triton$|nvidia-|cuda-", name) for name in left_out)
    assert kept.count("--hash") > 0 and "://" not in kept
    for name in ("torch", "torchvision"):
        (version,) = re.findall(rf"^{name}==(\S+)", LOCK, flags=re.MULTILINE)
        assert f"{name}=={version}+cpu" in printed
    assert (
        "+cpu"
        not in run("make", "--dry-run", "--always-make", "install", "CPU=no").stdout.split(
            "if test -z 'no'"
        )[0]
    )
