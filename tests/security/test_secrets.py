"""What is secret in the environment is in no file and no line that the product writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECRETS = {
    "WANDB_API_KEY": "c0ffee" * 6 + "c0de",  # 40 characters, as W&B wants them
    "HF_TOKEN": "hf_canaryCanaryCanaryCanaryCanary",
    "AWS_SECRET_ACCESS_KEY": "canary/AwsSecret+CanaryCanaryCanaryCanary",
    "SSR_EXP_OTHER_TOKEN": "canary-of-no-known-name",
}
SMALL = (
    "dataset=digits recipe=sgd_cosine recipe.warmup_epochs=0 trainer=cpu "
    "trainer.max_epochs=1 trainer.progress=false trainer.threads=1 logger=offline"
)
BROKEN = """from torch import nn
class Net(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.a = nn.Conv2d(in_channels, 16, 3, padding=1)
        self.b = nn.Linear(16, num_classes)
    def forward(self, x):
        if self.training and len(x) > 16:  # a batch of the training
            raise RuntimeError("broken on purpose")
        return self.b(self.a(x).mean((2, 3)))
"""


COMMANDS = """import runpy, sys
for line in sys.argv[1:]:
    sys.argv = line.splitlines()
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        print("ended with 0")
    except SystemExit as stop:
        code = stop.code or 0
        print("ended with", code if isinstance(code, int) else f"1: {code}")
"""


def run(tmp_path: Path, *lines: str) -> str:
    """Run commands, one after the other, in a process that knows the secrets."""
    folders = f" paths.runs={tmp_path}/runs"
    scripts = [f"{ROOT}/{line}{folders}".replace(" ", "\n") for line in lines]
    ended = subprocess.run(
        [sys.executable, "-c", COMMANDS, *scripts],
        cwd=tmp_path,
        env=os.environ
        | SECRETS
        | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout + ended.stderr


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """List all files, and those inside checkpoints and other archives."""
    for path in folder.rglob("*"):
        if not path.is_file() or path.is_symlink():
            continue
        yield str(path), path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as held:
                yield from ((f"{path}:{name}", held.read(name)) for name in held.namelist())


def leaks(name: str, data: bytes) -> list[str]:
    return [f"{key} in {name}" for key, value in SECRETS.items() if value.encode() in data]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_secret_of_the_environment_is_written_or_printed(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    data = f"paths.data={tmp_path}/data"
    few = "modifiers=uniform_width rounds=1 batch=1 finalists.seeds=1"
    said = run(
        tmp_path,
        f"search.py model=resnet8 {SMALL} {few} {data}",
        f"export.py run=best repeats=1 push=me/it {data}",
        "report.py",
        f"train.py model=module model.target=broken.Net {SMALL} modifiers=baseline {data}",
    )
    assert re.findall(r"^ended with (\d+)", said, flags=re.MULTILINE) == ["0", "0", "0", "1"]
    found = dict(contents(tmp_path))
    names = " ".join(found)
    for kind in ("record.json", "last.ckpt", ".wandb", ".onnx", "report.html", "traceback.txt"):
        assert kind in names, kind
    assert leaks("the output", said.encode()) == []
    assert [leak for name, data in found.items() for leak in leaks(name, data)] == []


def test_a_secret_would_be_found(tmp_path: Path) -> None:
    key = SECRETS["HF_TOKEN"]
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w", zipfile.ZIP_DEFLATED) as held:
        held.writestr("inside", key * 9)
    found = [leak for name, data in contents(tmp_path) for leak in leaks(name, data)]
    assert found == [f"HF_TOKEN in {tmp_path / 'a.ckpt'}:inside"]
