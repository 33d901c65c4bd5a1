"""One pass over files knows what a tensor of all their pixels says."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from ssr_exp import terminal
from ssr_exp.datasets.image_folder import survey
from ssr_exp.datasets.image_folder.decoding import Decoded, decode
from ssr_exp.datasets.image_folder.file_index import FileNames
from ssr_exp.datasets.image_folder.survey import Survey
from ssr_exp.datasets.images import digest, histogram
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.errors import SsrError
from tests.datasets.pictures import Save, as_mode, fill, float_tiff, noise, twelve_bit

SAVES: dict[str, Save] = {
    "colours": as_mode("RGB"),
    "grey": as_mode("L"),
    "12 bits": twelve_bit,
    "floats": float_tiff,
}
ASKED = Preprocessing(channels=3, size=(6, 8), fit="crop")


def both(root: Path) -> tuple[Survey, Decoded]:
    names = sorted(str(path.relative_to(root)) for path in root.rglob("*.*"))
    members = (torch.arange(len(names)) * 7 % 3).to(torch.uint8)
    return survey.survey(root, FileNames.of(names), ASKED, members), decode(root, names, ASKED)


@pytest.mark.parametrize("chunk", [1, 4, 256])
@pytest.mark.parametrize("kind", SAVES)
def test_it_is_what_a_tensor_says_however_many_are_decoded_at_once(
    root: Path, kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "CHUNK", chunk)
    known, decoded = both(fill(root, save=SAVES[kind]))
    assert known.digest == digest(decoded.pixels)
    assert torch.equal(known.hashes, decoded.hashes)
    assert (known.preprocessing, known.contents) == (decoded.preprocessing, decoded.contents)
    for group in range(3):
        expected = histogram(decoded.pixels[known.members == group])
        assert torch.equal(known.counts[group], expected)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_any_images_are_counted_and_few_are_read_for_it(root: Path, share: float) -> None:
    known, decoded = both(noise(root, size=(9, 9), cat=25, dog=20))
    draw = torch.Generator().manual_seed(2)
    index = (torch.rand(45, generator=draw) < share).nonzero().flatten()
    read: list[int] = []

    def pixels(at: torch.Tensor) -> torch.Tensor:
        read.extend(at.tolist())
        return decoded.pixels[at]

    assert torch.equal(known.histogram(index, pixels), histogram(decoded.pixels[index]))
    assert len(read) <= min(len(index), 45 - len(index)) + 3
    assert len(set(read)) == len(read)


def test_a_whole_group_is_counted_without_reading(root: Path) -> None:
    known, decoded = both(noise(root, cat=12, dog=10))

    def never(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError("read again")

    index = (known.members != 1).nonzero().flatten()
    assert torch.equal(known.histogram(index, never), histogram(decoded.pixels[index]))


def test_a_pass_says_how_long_it_takes_yet(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(survey, "CHUNK", 2)
    monkeypatch.setattr(terminal, "EVERY_S", 0.0)
    both(noise(root, cat=9, dog=9))
    assert "looking at images by 2: 8 of 9, about 0 s left" in caplog.text
    assert [terminal.duration(s) for s in (5, 200, 9000)] == ["5 s", "3 min", "2.5 h"]


def test_a_disk_that_fails_in_the_pass_names_the_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise(root, cat=9, dog=9)
    taken: list[Any] = []
    look = survey._Pass._take

    def unplugged(self: Any, *chunk: Any) -> None:
        taken.append(chunk)
        if len(taken) == 1:
            os.rename(root / "dog", root / "gone")
        look(self, *chunk)

    monkeypatch.setattr(survey, "CHUNK", 1)
    monkeypatch.setattr(survey, "MOST_THREADS", 1)
    monkeypatch.setattr(survey._Pass, "_take", unplugged)
    names = FileNames.of(f"{kind}/{i}.png" for kind in ("cat", "dog") for i in range(9))
    members = torch.zeros(18, dtype=torch.uint8)
    with pytest.raises(SsrError, match=r"dog/\d\.png .*No such file"):  # and is not left out
        survey.survey(root, names, ASKED, members, allowed=99)
