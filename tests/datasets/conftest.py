from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ssr_exp.config import DatasetConf
from ssr_exp.datasets import in_memory
from ssr_exp.datasets.images import Splits
from ssr_exp.errors import SsrError


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors on several threads wait for each other when the machine is busy."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits() -> Splits:
    return in_memory.load(DatasetConf(name="digits"), Path("unused"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Name the folder of a test's images, which is not there yet."""
    return tmp_path / "set"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Splits]:
    """Load a folder of images, with its cache aside: `load(root, resize=4)`."""

    def read(root: Path, **fields: Any) -> Splits:
        asked = {"val_fraction": 0.25} | fields
        conf = DatasetConf(name="image_folder", root=str(root), **asked)
        return in_memory.load(conf, tmp_path / "data")

    return read


@pytest.fixture
def refused(load: Callable[..., Splits]) -> Callable[..., str]:
    """Load a folder that cannot be loaded; return what the user is told, in one line."""

    def read(root: Path, **fields: Any) -> str:
        with pytest.raises(SsrError) as caught:
            load(root, **fields)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return read
