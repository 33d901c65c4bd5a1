"""Weights are what was written, or they are not read at all."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Any

import pytest
import torch

from ssr_exp import archives
from ssr_exp.archives import Damaged
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import saved
from ssr_exp.runs import checkpoints
from ssr_exp.training import pretrained, resume

STATE = {"network.weight": torch.linspace(-1, 1, 60).reshape(3, 20), "network.n": torch.tensor(7)}


@pytest.fixture(scope="module")
def whole() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": STATE, "epoch": 3}, buffer)
    return buffer.getvalue()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def same(held: Any) -> bool:
    state = held["state_dict"]
    return state.keys() == STATE.keys() and all(torch.equal(state[k], STATE[k]) for k in STATE)


def unnoticed(whole: bytes, bits: list[int]) -> tuple[list[int], int]:
    """Flip bits one by one; returns those that make other weights, and how many were refused."""
    wrong, refused = [], 0
    for bit in bits:
        content = flipped(whole, bit)
        try:
            archives.check(io.BytesIO(content))
            held = torch.load(io.BytesIO(content), weights_only=True)
        except Exception:
            refused += 1
            continue
        if not same(held):
            wrong.append(bit)
    return wrong, refused


def test_no_flipped_bit_becomes_another_weight(whole: bytes) -> None:
    bits = random.Random(0).sample(range(8 * len(whole)), 1500)
    wrong, refused = unnoticed(whole, bits)
    assert wrong == [] and refused > 300


@pytest.mark.slow
def test_not_one_of_all_bits_becomes_another_weight(whole: bytes) -> None:
    assert unnoticed(whole, list(range(8 * len(whole))))[0] == []


def test_a_part_that_became_a_folder_is_refused(whole: bytes) -> None:
    """Torch would hand out memory as it was."""
    entry = whole.rindex(b"PK\x01\x02", 0, whole.rindex(b"data/0"))
    (attributes,) = struct.unpack_from("<I", whole, entry + 38)
    assert attributes == 0
    damaged = flipped(whole, 8 * (entry + 38) + 4)
    torch.load(io.BytesIO(damaged), weights_only=True)
    with pytest.raises(Damaged, match="data/0"):
        archives.check(io.BytesIO(damaged))


def test_a_file_cut_short_or_empty_is_refused(whole: bytes) -> None:
    for length in (0, 1, 64, len(whole) // 2, len(whole) - 1):
        with pytest.raises(Damaged):
            archives.check(io.BytesIO(whole[:length]))
    archives.check(io.BytesIO(whole))


def test_every_reader_of_weights_notices(
    whole: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    value = whole.index(STATE["network.weight"].numpy().tobytes())
    path = tmp_path / checkpoints.LAST
    path.write_bytes(flipped(whole, 8 * value + 3))
    for read in (checkpoints.network_weights, pretrained.state_dict, saved._state):
        with pytest.raises(SsrError, match="does not match"):
            read(path)
    assert resume.last_checkpoint(tmp_path) is None
    assert "does not match" in caplog.text and "from the start" in caplog.text


def test_a_file_of_an_older_torch_is_read_all_the_same(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert pretrained.state_dict(tmp_path / "old.pth").keys() == {"weight", "n"}
