from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ssr_exp.datasets.image_folder import decoding, listing
from ssr_exp.datasets.image_folder.decoding import Decoded
from ssr_exp.datasets.images import Splits
from tests.datasets.pictures import noise

Load = Callable[..., Splits]


def undecodable(*_: object) -> Decoded:
    raise AssertionError("decoded again")


def test_a_folder_is_decoded_once(root: Path, monkeypatch: pytest.MonkeyPatch, load: Load) -> None:
    noise(root, cat=9, dog=9)
    first = load(root)
    monkeypatch.setattr("ssr_exp.datasets.image_folder.folder_images.decode", undecodable)
    again = load(root)
    assert torch.equal(again.train.pixels, first.train.pixels)
    assert again.fingerprint == first.fingerprint
    assert (again.reading, again.preprocessing) == (first.reading, first.preprocessing)
    with pytest.raises(AssertionError, match="decoded again"):
        load(root, resize=3)


def test_a_changed_file_is_decoded_again(root: Path, load: Load) -> None:
    noise(root, cat=9, dog=9)
    first = load(root)
    Image.new("RGB", (6, 6), "red").save(root / "cat" / "0.png")
    assert load(root).fingerprint != first.fingerprint


@pytest.mark.parametrize("damage", ["cut short", "bit flipped", "no cache at all"])
def test_a_damaged_cache_is_made_anew(
    root: Path, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture, load: Load
) -> None:
    noise(root, cat=9, dog=9)
    first = load(root)
    (cache,) = (tmp_path / "data" / "cache").glob("*.pt")
    whole = cache.read_bytes()
    middle = whole.index(first.train.pixels[0].numpy().tobytes())
    cache.write_bytes(
        {
            "cut short": whole[: len(whole) // 2],
            "bit flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "no cache at all": b"hello",
        }[damage]
    )
    assert load(root).fingerprint == first.fingerprint
    assert caplog.text.count("is damaged: ") == 1
    caplog.clear()
    assert load(root).fingerprint == first.fingerprint
    assert "damaged" not in caplog.text


def test_names_in_bytes_are_kept(root: Path, caplog: pytest.LogCaptureFixture, load: Load) -> None:
    noise(root, cat=9, dog=9)
    Image.new("RGBA", (6, 6), (9, 9, 9, 99)).save(root / "cat" / "\udcff.png")
    first = load(root)
    assert load(root).reading == first.reading
    assert "damaged" not in caplog.text
    assert "1 transparent image (cat/\N{REPLACEMENT CHARACTER}.png)" in str(first.reading)


def test_a_cache_of_another_format_is_not_looked_at(
    root: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    load: Load,
) -> None:
    noise(root, cat=9, dog=9)
    first = load(root)
    monkeypatch.setattr(listing, "CACHE", listing.CACHE + 1)
    assert load(root).fingerprint == first.fingerprint
    assert "damaged" not in caplog.text
    assert len(list((tmp_path / "data" / "cache").glob("*.pt"))) == 2


@pytest.mark.parametrize("moment", ["folder", "file"])
def test_without_a_writable_cache_it_goes_on_with_a_warning(
    root: Path,
    tmp_path: Path,
    moment: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    load: Load,
) -> None:
    noise(root, cat=9, dog=9)
    if moment == "folder":
        (tmp_path / "data").write_text("a file where the folder should be")
    else:
        monkeypatch.setattr(torch, "save", full_disk)
    assert len(load(root).val) == 4
    assert "going on without" in caplog.text
    assert not list(tmp_path.glob("data/cache/*.tmp"))


def full_disk(_: object, path: Path) -> None:
    path.write_bytes(b"half")
    raise OSError(28, "No space left on device")


def test_two_at_once_decode_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, load: Load
) -> None:
    caplog.set_level(logging.INFO)
    decoded: list[int] = []

    def slow(*args: Any) -> Decoded:
        decoded.append(1)
        time.sleep(0.3)
        return decoding.decode(*args)

    monkeypatch.setattr("ssr_exp.datasets.image_folder.folder_images.decode", slow)
    noise(root, cat=9, dog=9)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(load, [root, root])
    assert first.fingerprint == second.fingerprint
    assert decoded == [1]
    assert re.search(r"waiting for another process .* remove .*\.lock", caplog.text)


def test_decoding_without_a_terminal_logs_lines_only(
    root: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], load: Load
) -> None:
    caplog.set_level(logging.INFO)
    load(noise(root, cat=9, dog=9))
    assert "decoding 18 images" in caplog.text
    assert capfd.readouterr() == ("", "")
