"""What is sent to others names no folder of the machine; a lack of memory is recognised."""

from __future__ import annotations

import pytest
import torch

from ssr_exp import errors


@pytest.mark.parametrize(
    "path", ["/home/alice/my cells", "~/cells", r"C:\Users\alice\cells", r"\\server\cells"]
)
def test_settings_are_sent_without_paths_however_deep_they_stand(path: str) -> None:
    asked = {"arguments": {"root": path, "sizes": [1, (2.5, path)]}, "epochs": 3, "lr": None}
    sent = errors.unlocated(asked)
    assert sent["epochs"] == 3 and sent["lr"] is None
    assert sent["arguments"]["sizes"][0] == 1 and sent["arguments"]["sizes"][1][0] == 2.5
    assert "alice" not in str(sent) and "cells" not in str(sent)
    assert errors.unlocated({"model": "torchvision/resnet18"}) == {"model": "torchvision/resnet18"}
    assert errors.unlocated("read from /home/alice/x, then") == "read from <path>, then"


def test_a_lack_of_memory_is_recognised() -> None:
    for error, expected in (
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ):
        assert errors.is_out_of_memory(error) == expected, error
