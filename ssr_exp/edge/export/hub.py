"""Push an exported folder to the Hugging Face Hub; without a network it is ready to be pushed."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
from pathlib import Path

from ssr_exp.edge.export import predictor
from ssr_exp.edge.export.verified_files import STEM
from ssr_exp.errors import SsrError, cause

SUFFIXES = (".onnx", ".pte", ".pt2")  # of files of an export
# Files of an earlier push that may be of other weights.
REPLACED = [f"{STEM}{int8}{suffix}" for suffix in SUFFIXES for int8 in ("", ".int8")]
REPLACED += [predictor.SCRIPT]
REPOSITORY = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")


def check(name: str) -> None:
    """Refuse a repository that cannot be pushed to, before anything is exported.

    Raises:
        SsrError: if the name is none, or the client is not installed.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise SsrError(
            "push takes the package huggingface_hub, which is not installed: type "
            "pip install 'ssr_exp[hub]'."
        )
    if not REPOSITORY.fullmatch(name):
        raise SsrError(f"push={name} names no repository: type push=USER/NAME.")


def command(folder: Path, name: str) -> str:
    """Write the command that uploads a folder later, to a private repository if it is new."""
    return shlex.join(["hf", "upload", "--private", name, str(folder), "."])


def push(folder: Path, name: str) -> str | None:
    """Upload a folder as a model, private if it is new; returns its address.

    Returns None where `HF_HUB_OFFLINE` is set: then nothing is sent.

    Raises:
        SsrError: if the Hub refuses or does not answer; the folder stays as it is.
    """
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return None
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        address = api.create_repo(name, repo_type="model", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, repo_type="model", delete_patterns=REPLACED
        )
    except Exception as error:  # its own errors, and those of two HTTP libraries
        raise SsrError(
            f"the Hub did not take {name} ({cause(error)}): the export is whole; log in with "
            f"`hf auth login`, and type {command(folder, name)}"
        ) from None
    return str(address)
