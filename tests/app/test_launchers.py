"""Every command and file of launchers/: composed, checked for syntax, and run where that is quick.

The engines themselves are in tests/cluster.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml
from hydra.utils import get_class
from omegaconf import OmegaConf

from ssr_exp.app import configuration, launchers
from ssr_exp.errors import SsrError
from tests.conftest import ROOT, small

Compose = Callable[[str, list[str]], Any]

FOLDER = ROOT / "launchers"
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")
LINES = [
    line
    for block in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.DOTALL)
    for line in block.splitlines()
]
SCRIPTS = sorted([*FOLDER.glob("*.sh"), *FOLDER.glob("*.sbatch")])
PYTHONS = {"train": "train", "search": "search", "gpus.sh": "train", "sweep.sbatch": "train"}
PYTHONS |= {"search.sbatch": "search"}


def overrides(line: str) -> tuple[str, list[str]]:
    """Say which script a command ends in, and what it gives it."""
    words = shlex.split(line, comments=True)
    words = words[:3] + shlex.split(words[3]) if words[:2] == ["ray", "exec"] else words
    at = next(i for i, word in enumerate(words) if Path(word).name in PYTHONS)
    own = ["hydra/launcher=submitit_slurm"] if words[at].endswith("search.sbatch") else []
    return PYTHONS[Path(words[at]).name], own + words[at + 1 :]


@pytest.fixture(scope="module")
def composes() -> Iterator[Compose]:
    def compose(script: str, words: list[str]) -> Any:
        launchers._forget_schemas()  # as each command does
        return hydra.compose(script, words, return_hydra_config=True)

    configuration.register()
    with hydra.initialize_config_dir(str(ROOT / "ssr_exp" / "conf"), version_base="1.3"):
        yield compose


@pytest.mark.parametrize("line", LINES, ids=str)
def test_a_command_names_presets_and_keys_that_exist(line: str, composes: Compose) -> None:
    known = ("ssr ", "GPUS=", "sbatch ", "ray exec", "ray up", "kubectl create")
    assert line.startswith(known)
    if any(name in line for name in PYTHONS):
        assert composes(*overrides(line)).hydra.launcher._target_
    for name in re.findall(r"launchers/[\w.]+", line):
        assert (ROOT / name).is_file()


def test_every_preset_and_every_file_is_told_of() -> None:
    presets = {
        path.stem for path in (ROOT / "ssr_exp" / "conf" / "hydra" / "launcher").glob("*.yaml")
    }
    assert presets == set(re.findall(r"`?hydra/launcher=(\w+)", TEXT))
    files = {path.name for path in FOLDER.iterdir()} - {"README.md", "Dockerfile"}
    assert files <= set(re.findall(r"\]\(([\w.]+)\)", TEXT))
    assert "launchers/Dockerfile" in (FOLDER / "kuberay.yaml").read_text()


SCHEMAS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher.config.JobLibLauncherConf",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher.config.SlurmQueueConf",
    "ray": "hydra_plugins.hydra_ray_launcher._config.RayLauncherConf",
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_preset_has_every_key_of_its_plugin(name: str) -> None:
    """A key that a newer plugin brings is not silently missing, nor one that it dropped kept."""
    own = yaml.safe_load(
        (ROOT / "ssr_exp" / "conf" / "hydra" / "launcher" / f"{name}.yaml").read_text()
    )
    assert set(own) == set(OmegaConf.structured(get_class(SCHEMAS[name])))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_bash_that_parses(script: Path, composes: Compose) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (usage,) = re.findall(rf"^#   (.*{script.name}.*)$", script.read_text(), flags=re.MULTILINE)
    assert composes(*overrides(usage))


def test_the_ray_clusters_file_is_what_ray_takes() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load((FOLDER / "ray_cluster.yaml").read_text())))


def test_the_kubernetes_file_holds_together(composes: Compose) -> None:
    (job,) = yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]["rayClusterSpec"]
    assert spec["authOptions"] == {"mode": "token"}
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert container["image"] == groups[0]["template"]["spec"]["containers"][0]["image"]
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    script, words = overrides(job["spec"]["entrypoint"])
    composed = composes(script, words)
    assert composed.hydra.launcher.ray.init.address == "auto"
    assert composed.paths.runs.startswith("/shared/")
    lock = (ROOT / "requirements.lock").read_text()
    assert f"ray=={spec['rayVersion']} " in lock
    assert f"ray:{spec['rayVersion']}-" in (FOLDER / "Dockerfile").read_text()


@pytest.mark.slow
@pytest.mark.more
def test_gpus_share_one_sweep(tmp_path: Path) -> None:
    # Longer than the second process may begin after the first on a busy machine.
    words = small(tmp_path, ("modifiers=sentinel_width", "trainer.max_epochs=12"))
    ended = subprocess.run(
        [str(FOLDER / "gpus.sh"), *words],
        env=os.environ | {"GPUS": "0 1", "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stdout
    records = [json.loads(p.read_text()) for p in tmp_path.glob("runs/*/*/seed0/record.json")]
    assert len(records) == 7
    trained = re.findall(r"^gpu (\d): \d/7 (\S+) .*, val ", ended.stdout, flags=re.MULTILINE)
    assert len(trained) == len({network for _, network in trained}) == 7
    assert {gpu for gpu, _ in trained} == {"0", "1"}


def test_without_a_gpu_the_script_says_what_to_type(tmp_path: Path) -> None:
    env = {key: value for key, value in os.environ.items() if key != "GPUS"}
    for tool in ("bash", "dirname"):  # and no nvidia-smi
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    ended = subprocess.run(
        ["bash", str(FOLDER / "gpus.sh")], env=env | {"PATH": str(tmp_path)}, text=True,
        capture_output=True,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "GPUS=" in ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("submitit_slurm hydra.launcher.gpus_per_node=1", "type hydra.launcher.gpus_per_node=4"),
        ("submitit_slurm hydra.launcher.tasks_per_node=4", "type hydra.launcher.tasks_per_node=1"),
        ("submitit_slurm hydra.launcher.nodes=2", "hydra.launcher.nodes=1"),
        ("joblib", "type hydra.launcher.n_jobs=1"),
        ("ray hydra.launcher.ray.remote.num_gpus=1", "type hydra.launcher.ray.remote.num_gpus=4"),
    ],
)
def test_jobs_that_would_share_the_devices_of_a_training_are_refused(
    words: str, said: str, composes: Compose
) -> None:
    launcher, *rest = words.split()
    typed = [f"hydra/launcher={launcher}", *rest, "trainer.accelerator=gpu"]
    for count, refused in ((4, True), (1, False)):
        composed = composes("train", [*typed, f"trainer.devices={count}"])
        target = composed.hydra.launcher._target_
        with pytest.raises(SsrError, match=re.escape(said)) if refused else nullcontext():
            launchers._check_devices(composed, target)


def test_a_training_on_this_machines_ray_asks_for_as_many_gpus_as_devices(
    composes: Compose,
) -> None:
    for words, gpus in (("gpu trainer.devices=4", 4), ("gpu", 1), ("cpu trainer.devices=4", 0)):
        accelerator, *rest = words.split()
        typed = ["hydra/launcher=ray", f"trainer.accelerator={accelerator}", *rest]
        composed = composes("train", typed)
        OmegaConf.set_readonly(composed, False)
        launchers._prepare_ray(composed)
        assert composed.hydra.launcher.ray.remote.num_gpus == gpus
