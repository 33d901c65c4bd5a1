"""What a result was obtained with: device, versions, commit. No name of a host or user."""

from __future__ import annotations

import importlib.util
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import ssr_exp
from ssr_exp.errors import SsrError

PACKAGES = ("torch", "torchvision", "lightning")
OPTIONAL = ("timm",)  # recorded where they are installed


def device(accelerator: str, count: int = 1) -> str:
    """Name the model of the processor that trains, and how many do if there are several.

    Raises:
        SsrError: if a GPU is asked for and there is none.
    """
    import torch

    several = f"{count} x " if count > 1 else ""
    if is_on_gpu(accelerator):
        return f"{several}{torch.cuda.get_device_name()}"
    if accelerator == "mps" or (accelerator == "auto" and torch.backends.mps.is_available()):
        return f"{processor()} GPU (mps)"
    return f"{several}{cpu(max(1, torch.get_num_threads() // count))}"


def is_on_gpu(accelerator: str) -> bool:
    """Say whether a CUDA GPU trains.

    Raises:
        SsrError: if a GPU is asked for and there is none.
    """
    import torch

    wants_gpu = accelerator in ("gpu", "cuda")
    if wants_gpu and not torch.cuda.is_available():
        if torch.backends.mps.is_available():
            raise SsrError(
                f"trainer.accelerator={accelerator} is a CUDA GPU, and PyTorch sees Apple's: type "
                "trainer=auto."
            )
        raise SsrError("trainer.accelerator=gpu, but PyTorch sees no GPU: type trainer=cpu.")
    return wants_gpu or (accelerator == "auto" and torch.cuda.is_available())


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Give torch so many CPU threads for a while; None: as many as it has."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cpu(threads: int) -> str:
    """Name the CPU, and how many threads of it are used."""
    return f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"


@lru_cache(maxsize=1)
def processor() -> str:
    """Name the model of the CPU, or the board where its kernel names no model, as on ARM."""
    other = platform.processor() or platform.machine()
    if sys.platform == "darwin":
        return _printed("sysctl", "-n", "machdep.cpu.brand_string") or other
    if sys.platform != "linux":
        return other
    lines = _text(Path("/proc/cpuinfo")).splitlines()
    said = {key.strip(): value.strip() for key, _, value in (one.partition(":") for one in lines)}
    if named := said.get("Model") or said.get("model name"):
        return named
    parts = [said[key] for key in ("CPU implementer", "CPU part") if key in said]
    board = _text(Path("/proc/device-tree/model")).strip("\0\n ")
    return board or " ".join([other, *parts])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _printed(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Name the versions that decide a result."""
    import torch

    found = {"ssr_exp": ssr_exp.__version__, "python": platform.python_version()}
    installed = [name for name in OPTIONAL if importlib.util.find_spec(name) is not None]
    found |= {name: metadata.version(name) for name in (*PACKAGES, *installed)}
    return found | ({"cuda": torch.version.cuda} if torch.version.cuda else {})


@lru_cache(maxsize=1)
def git_commit() -> str | None:
    """Name the commit of this code, with `+` if files were changed since; None outside git.

    A repository that this code only lies in, such as one with an environment in it, is no home.
    """
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def to_json(fields: dict[str, Any]) -> str:
    """Write configuration as indented JSON."""
    return json.dumps(fields, indent=1) + "\n"
