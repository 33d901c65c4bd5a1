"""Image folders that were made to do damage end in one sentence, and soon."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssr_exp.datasets.image_folder import decoding, listing
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.errors import SsrError
from tests.fuzz.folders import PROGRAM, declared

SMALL = Preprocessing(channels=3, size=(4, 4), fit="crop")
AS_THEY_ARE = Preprocessing(channels=3, size=(0, 0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of one image each."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name / "0.png")
    return tmp_path


def refused(root: Path, match: str) -> str:
    with pytest.raises(SsrError, match=match) as caught:
        found = listing.scan(root)
        decoding.decode(root, found.files, SMALL)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_links_in_circles_are_followed_once(root: Path) -> None:
    for number in range(5):  # 5 links to here, each of which holds 5 links: endless, or 5^40
        (root / "cat" / f"link{number}").symlink_to(".")
        (root / "cat" / f"up{number}").symlink_to("../cat")
    assert tuple(listing.scan(root).files) == ("cat/0.png", "dog/0.png")


def test_links_may_lead_elsewhere(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (root / "cat" / "0.png").rename(elsewhere / "0.png")
    (root / "cat" / "more").symlink_to(elsewhere)
    assert tuple(listing.scan(root).files) == ("cat/more/0.png", "dog/0.png")


def test_a_pipe_with_an_images_name_is_refused_and_not_waited_for(root: Path) -> None:
    os.mkfifo(root / "cat" / "1.png")
    refused(root, "no file that holds an image")


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null", "nowhere", "1.png"])
def test_a_link_to_no_file_is_refused(root: Path, target: str) -> None:
    (root / "cat" / "1.png").symlink_to(target)
    refused(root, "no file that holds an image|cannot read the folder")


@pytest.mark.parametrize("name", ["1.png", "1.jpg", "1.tiff"])
def test_postscript_under_an_images_name_is_not_run(root: Path, name: str) -> None:
    (root / "cat" / name).write_bytes(PROGRAM)
    refused(root, "cannot identify image file")


@pytest.mark.parametrize("sides", [(9_460, 9_460), (60_000, 60_000), (2**31 - 1, 1), (0, 4)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_said_to_be_huge_or_empty_is_refused(root: Path, sides: tuple[int, int]) -> None:
    (root / "cat" / "1.png").write_bytes(declared(*sides))
    said = refused(root, "cannot be read as an image")
    assert "1.png" in said and ("scale it down" in said) == (0 not in sides)


def test_images_beyond_all_memory_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SsrError, match=r"GiB of memory.* type dataset\.resize=32"):
        decoding._empty(10**9, 9_000, 9_000, 0, can_stream=False)


def test_a_class_that_is_not_named_in_text_is_refused(root: Path) -> None:
    try:
        os.mkdir(os.fsencode(root) + b"/\xff\xfe")
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    refused(root, "not named in UTF-8")


@pytest.mark.parametrize("name", ["a\0b", "x" * 5_000])
def test_a_folder_that_no_disk_can_hold_is_refused(name: str) -> None:
    refused(Path(name), "there is no folder|cannot read the folder")


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "P", "1", "RGBA", "LA", "YCbCr"])
def test_every_usual_mode_is_read(root: Path, mode: str) -> None:
    pixels = np.full((4, 4), 255 * 256, np.uint16)
    image = Image.fromarray(pixels) if mode == "I;16" else Image.new("RGB", (4, 4)).convert(mode)
    image.save(root / "cat" / ("1.jpg" if mode in ("CMYK", "YCbCr") else "1.png"))
    assert len(decoding.decode(root, listing.scan(root).files, AS_THEY_ARE).pixels) == 3


def test_a_cut_off_image_names_the_file(root: Path) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((32, 32), 90).save(buffer, "JPEG")
    (root / "cat" / "1.jpg").write_bytes(buffer.getvalue()[:300])
    assert "1.jpg" in refused(root, "cannot be read as an image")
