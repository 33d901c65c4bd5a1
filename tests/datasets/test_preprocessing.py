"""What becomes of files of all kinds of pixels, and that what is read is described."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, UnidentifiedImageError

from ssr_exp.config import DatasetConf
from ssr_exp.datasets import in_memory, preprocessing
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.preprocessing import FITS, Preprocessing
from tests.datasets.pictures import (
    as_mode,
    as_png,
    drawn_in_alpha,
    fill,
    float_tiff,
    icon,
    numbers,
    one_picture,
    phone,
    picture,
    red_icon,
    sixteen_bit,
    sixteen_bit_colours,
    twelve_bit,
)

Load = Callable[..., Splits]
Refused = Callable[..., str]
GREYS = np.random.default_rng(1)


def values(splits: Splits) -> torch.Tensor:
    parts = [part for part in (splits.train, splits.val, splits.test) if part is not None]
    return torch.cat([part.pixels for part in parts])


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("save", [as_png, phone, sixteen_bit, twelve_bit, float_tiff, red_icon])
def test_the_description_makes_the_same_pixels(root: Path, save: Any, fit: str, load: Load) -> None:
    fill(root, save=save, size=(20, 14), count=4)
    for background in ("white", "black") if save is red_icon or fit == "pad" else ("white",):
        splits = load(root, resize=8, fit=fit, background=background, val_fraction=0.4)
        how = splits.preprocessing
        assert (how.fit, how.size) == (fit, (8, 8))
        assert (how.mean, how.std) == (splits.mean, splits.std)
        for part in (splits.train, splits.val, splits.test):
            assert part is not None and len(part.files) == len(part)
            for pixels, file in zip(part.pixels, part.files, strict=True):
                assert np.array_equal(preprocessing.pixels(file, how), pixels.permute(1, 2, 0))


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(6, 10), (10, 6), (7, 7)])
def test_height_and_width_may_differ(
    root: Path, tmp_path: Path, fit: str, size: tuple[int, int], load: Load, digits: Splits
) -> None:
    splits = load(fill(root, size=(20, 14), count=4), resize=list(size), fit=fit, val_fraction=0.4)
    how = splits.preprocessing
    assert (splits.image_shape[1:], how.size) == (size, size)
    for pixels, file in zip(splits.train.pixels, splits.train.files, strict=True):
        assert np.array_equal(preprocessing.pixels(file, how), pixels.permute(1, 2, 0))
    small = in_memory.load(DatasetConf(name="digits", resize=list(size), fit=fit), tmp_path)
    assert small.image_shape == (1, *size)
    Image.fromarray(digits.train.pixels[3, 0].numpy()).save(tmp_path / "digit.png")
    read = preprocessing.pixels(tmp_path / "digit.png", small.preprocessing)
    assert np.array_equal(read[:, :, 0], small.train.pixels[3, 0])


def test_padding_to_a_shape_leaves_bars_and_cropping_keeps_the_middle(
    root: Path, load: Load
) -> None:
    for number in range(8):
        image = Image.new("RGB", (40, 20), (100 + number, 100, 100))
        image.paste((0, 200, 0), (0, 0, 8, 20))  # the left fifth
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)

    def loaded(**fields: Any) -> np.ndarray[Any, Any]:
        pixels = load(root, background="black", val_fraction=0.4, **fields).train.pixels
        return pixels.amax(0).permute(1, 2, 0).numpy()

    wide = loaded(resize=[10, 40], fit="pad").max((0, 2)) > 0
    assert wide[10:30].all() and not wide[:10].any() and not wide[30:].any()
    assert (loaded(resize=[10, 20], fit="pad") > 0).any(2).all()  # its own shape: no bars
    tall = loaded(resize=[20, 10])  # its middle, without the left fifth
    assert tall.shape == (20, 10, 3) and (tall[:, :, 1] == 100).all()
    assert (loaded(resize=[20, 10], fit="stretch")[:, 0, 1] > 150).all()


def test_a_strip_is_padded_however_thin_it_is(root: Path, load: Load) -> None:
    for number in range(8):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1000, 12), (100 + number, 100, 100)).save(path)
    pixels = load(root, background="black", resize=32, fit="pad", val_fraction=0.4).train.pixels
    rows = pixels.amax(0).amax((0, 2)) > 0
    assert pixels.shape[1:] == (3, 32, 32) and int(rows.sum()) == 1


def test_one_side_and_two_that_are_the_same_are_one_size(root: Path, load: Load) -> None:
    fill(root, size=(20, 14))
    one, two = load(root, resize=8), load(root, resize=[8, 8])
    assert one.fingerprint == two.fingerprint and one.preprocessing == two.preprocessing
    assert load(root, resize=[8, 9]).fingerprint != one.fingerprint


def test_without_a_size_nothing_is_fitted(root: Path, tmp_path: Path, load: Load) -> None:
    splits = load(fill(root, size=(20, 14)))
    assert (splits.preprocessing.fit, splits.preprocessing.size) == (None, (14, 20))
    other = fill(tmp_path / "other", size=(14, 20)) / "circle" / "000.png"
    with pytest.raises(ValueError, match="it has 14 x 20 pixels, and the network takes 20 x 14"):
        preprocessing.pixels(other, splits.preprocessing)


def test_sets_in_memory_are_fitted_as_files_of_them_are(tmp_path: Path, digits: Splits) -> None:
    for fit in FITS:
        small = in_memory.load(DatasetConf(name="digits", resize=12, fit=fit), tmp_path)
        assert small.preprocessing.size == (12, 12) and small.train.files == ()
        for number in range(20):
            Image.fromarray(digits.train.pixels[number, 0].numpy()).save(tmp_path / "digit.png")
            read = preprocessing.pixels(tmp_path / "digit.png", small.preprocessing)
            assert np.array_equal(read[:, :, 0], small.train.pixels[number, 0])


def test_files_stay_in_step_with_images(root: Path, load: Load) -> None:
    splits = load(fill(root))
    for part in (splits.train, splits.val, splits.test):
        assert part is not None
        for label, file in zip(part.labels, part.files, strict=True):
            assert part.classes[label] == file.parent.name


def test_unknown_fits_and_backgrounds_get_the_list(root: Path, refused: Refused) -> None:
    fits = "type dataset.fit=crop or dataset.fit=stretch or dataset.fit=pad"
    assert fits in refused(root, fit="zoom")
    backgrounds = "type dataset.background=white or dataset.background=black"
    assert backgrounds in refused(root, background="red")


def test_that_images_are_cropped_is_said(root: Path, tmp_path: Path, load: Load) -> None:
    fill(root, size=(32, 16))
    said = str(load(root, resize=16).reading)
    assert "32 x 16 pixels, RGB, of which the centre square is scaled to 16 x 16" in said
    assert "stretched to 16 x 16" in str(load(root, resize=16, fit="stretch").reading)
    assert "padded to a square" in str(load(root, resize=16, fit="pad").reading)
    wide = str(load(root, resize=[16, 24]).reading)
    assert "of which the centre of that shape is scaled to 24 x 16 (dataset.fit=stretch" in wide
    assert "padded to that shape" in str(load(root, resize=[16, 24], fit="pad").reading)
    assert "RGB, scaled to 16 x 8" in str(load(root, resize=[8, 16]).reading)
    square = fill(tmp_path / "square", size=(24, 24))
    assert "24 x 24 pixels, RGB, scaled to 16 x 16" in str(load(square, resize=16).reading)


def test_the_highest_value_of_all_is_the_depth(root: Path, tmp_path: Path, load: Load) -> None:
    plain = load(fill(root, save=as_mode("L")))
    assert (plain.preprocessing.depth, plain.preprocessing.white) == (None, None)
    for bits in (8, 10, 12, 14, 16):
        save = numbers("uint16", 2 ** (bits - 8))
        deep = load(fill(tmp_path / f"deep{bits}", save=save))
        assert (deep.preprocessing.depth, deep.preprocessing.white) == (bits, None)
        assert torch.equal(values(deep), values(plain))
        assert f"grey of {bits} bits" in str(deep.reading)


def test_one_bright_image_decides_for_the_dark_ones(root: Path, load: Load) -> None:
    fill(root, save=twelve_bit)
    Image.fromarray(np.full((16, 16), 2**15, np.uint16)).save(root / "circle" / "000.png")
    splits = load(root)
    assert splits.preprocessing.depth == 16
    assert "of one colour and nothing else (circle/000.png)" in str(splits.reading)


@pytest.mark.parametrize("kind", ["int32", "uint16"])
def test_integers_of_32_bits_are_read_alike(root: Path, kind: str, load: Load) -> None:
    splits = load(fill(root, save=numbers(kind, 16, ".tiff")))
    assert splits.preprocessing.depth == 12
    assert int(values(splits).max()) > 200


@pytest.mark.parametrize(
    ("kind", "factors", "said"),
    [
        ("int32", (-1, 2**12), "scale all images alike, to values in 0 to 65535"),
        ("float32", (-1 / 255, 20.0), "to values in 0 to 1 or in 0 to 255"),
    ],
)
def test_numbers_of_no_known_range_are_refused(
    root: Path, kind: str, factors: tuple[float, ...], said: str, refused: Refused
) -> None:
    for factor in factors:
        assert said in refused(fill(root, save=numbers(kind, factor)))


def test_floats_are_scaled_by_what_all_of_them_hold(root: Path, tmp_path: Path, load: Load) -> None:
    plain = load(fill(root, save=as_mode("L")))
    for white in (1, 255):
        splits = load(fill(tmp_path / f"white{white}", save=numbers("float32", white / 255)))
        assert (splits.preprocessing.depth, splits.preprocessing.white) == (None, white)
        assert torch.equal(values(splits), values(plain))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_floats_that_are_no_numbers_are_refused(root: Path, value: float, refused: Refused) -> None:
    def save(image: Image.Image, path: Path) -> None:
        values = np.array(image.convert("L"), np.float32) / 255
        values[3, 3] = value
        Image.fromarray(values).save(f"{path}.tiff")

    assert "some of its values are no finite numbers" in refused(fill(root, save=save))


def test_a_file_that_goes_between_the_passes_is_refused_and_not_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    fill(root, save=twelve_bit)
    read = preprocessing.read

    def gone(path: Path, **how: Any) -> Any:
        if path.name == "003.png" and how["how"].depth is not None:
            path.unlink(missing_ok=True)
        return read(path, **how)

    monkeypatch.setattr(preprocessing, "read", gone)
    assert "3 files cannot be read as an image" in refused(root)
    assert not list((tmp_path / "data" / "cache").glob("*.pt"))


# What predict.py is given and the training was not
@pytest.mark.parametrize(
    ("trained", "given", "said"),
    [
        (twelve_bit, sixteen_bit, "the images of the training lay in 0 to 4095"),
        (as_png, twelve_bit, "holds grey of more than 8 bits, and the images of the training did"),
        (as_png, float_tiff, "holds floating-point numbers, and the images of the training did"),
        (sixteen_bit, float_tiff, "holds floating-point numbers"),
        (float_tiff, numbers("float32", 1.0), "the images of the training lay in 0 to 1:"),
        (sixteen_bit, numbers("int32", -1), "it has values from -"),
        (twelve_bit, as_png, ""),
        (sixteen_bit, twelve_bit, ""),
    ],
)
def test_a_file_that_training_would_have_scaled_otherwise_is_refused(
    root: Path, tmp_path: Path, trained: Any, given: Any, said: str, load: Load
) -> None:
    how = load(fill(root, save=trained)).preprocessing
    (file, *_) = sorted((fill(tmp_path / "other", save=given, seed=5) / "circle").iterdir())
    if not said:
        assert preprocessing.pixels(file, how).dtype == np.uint8
        return
    with pytest.raises(ValueError, match=said):
        preprocessing.pixels(file, how)


PEAK = """
import sys
import numpy as np
from PIL import Image
from ssr_exp.datasets.preprocessing import Preprocessing, read

def peak():
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

how = Preprocessing(3, (8, 8), fit="crop")
Image.preinit()
before = peak()
read(sys.argv[1], size=how.size, how=how)
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the peak")
@pytest.mark.parametrize("kind", ["I;16", "RGBA", "RGB", "F"])
def test_a_large_image_takes_little_more_memory_than_its_pixels(tmp_path: Path, kind: str) -> None:
    side = 2500
    made = {
        "I;16": lambda: Image.fromarray(np.full((side, side), 999, np.uint16)),
        "F": lambda: Image.fromarray(np.full((side, side), 0.5, np.float32)),
    }.get(kind, lambda: Image.new(kind, (side, side), (9, 99, 200, 100)[: len(kind)]))()
    file = tmp_path / f"large.{'tiff' if kind == 'F' else 'png'}"
    made.save(file)
    ended = subprocess.run(
        [sys.executable, "-c", PEAK, str(file)], capture_output=True, text=True, check=True
    )
    assert int(ended.stdout) < 15 * side**2  # bytes; copies as int64 or float took 20


def test_8_bit_files_are_read_once(root: Path, monkeypatch: pytest.MonkeyPatch, load: Load) -> None:
    fill(root, ("circle", "square"))
    fill(root, ("cross",), save=twelve_bit)
    read, times = preprocessing.read, []
    monkeypatch.setattr(
        preprocessing, "read", lambda path, **how: (times.append(path), read(path, **how))[1]
    )
    load(root)
    counted = {path: times.count(path) for path in times}
    assert {n for path, n in counted.items() if path.parent.name == "cross"} == {2}
    assert sorted(n for path, n in counted.items() if path.parent.name != "cross") == [1] * 11 + [2]


def test_what_is_transparent_shows_the_background(root: Path, load: Load) -> None:
    fill(root, save=red_icon)
    white, black = load(root), load(root, background="black", resize=16)
    assert values(white)[:, 1].unique().tolist() == [0, 255]
    assert values(black)[:, 0].unique().tolist() == [0, 200]
    assert "18 transparent images (circle/000.png): dataset.background=white" in str(white.reading)
    assert white.preprocessing.background == 255
    assert black.preprocessing.background == 0


def test_shapes_of_the_background_get_advice(root: Path, load: Load, refused: Refused) -> None:
    fill(root, save=icon)
    message = refused(root, background="black")
    assert "they are transparent: type dataset.background=white" in message
    load(root, background="white")


@pytest.mark.parametrize("mode", ["LA", "PA", "P", "RGBA"])
def test_transparency_counts_in_every_mode(root: Path, mode: str, load: Load) -> None:
    def save(image: Image.Image, path: Path) -> None:
        drawn = drawn_in_alpha(image, (200, 0, 0, 255))
        if mode == "P":
            drawn.save(f"{path}.gif")
        else:
            drawn.convert(mode).save(f"{path}.{'png' if mode != 'PA' else 'webp'}", lossless=True)

    splits = load(fill(root, save=save))
    assert "transparent image" in str(splits.reading)
    corners = values(splits)[:, :, 0, 0]
    assert (corners > 200).any()


def test_a_mixture_of_grey_and_colour_is_said(root: Path, load: Load) -> None:
    fill(root, ("circle", "square"))
    fill(root, ("cross",), save=as_mode("L"))
    splits = load(root)
    assert splits.image_shape[0] == 3
    assert "12 RGB, 6 grey, read as RGB of 8 bits" in str(splits.reading)


def test_cmyk_is_read_as_rgb(root: Path, tmp_path: Path, load: Load) -> None:
    fill(root, save=lambda i, p: i.convert("CMYK").save(f"{p}.jpg", quality=95))
    plain = values(load(fill(tmp_path / "plain"))).double()
    splits = load(root)
    assert "CMYK, read as RGB" in str(splits.reading)
    assert (values(splits).double().mean() - plain.mean()).abs() < 5


@pytest.mark.parametrize("suffix", ["gif", "webp", "tiff", "png"])
def test_of_several_frames_the_first_is_read_and_said(root: Path, suffix: str, load: Load) -> None:
    red, others = Image.new("RGB", (16, 16), "red"), [Image.new("RGB", (16, 16), "blue")] * 2

    fill(root)
    red.save(root / "circle" / f"film.{suffix}", save_all=True, append_images=others, lossless=True)
    splits = load(root)
    assert f"1 file of several frames or pages (circle/film.{suffix})" in str(splits.reading)
    film = [
        pixels
        for part in (splits.train, splits.val, splits.test)
        if part is not None
        for pixels, file in zip(part.pixels, part.files, strict=True)
        if file.stem == "film"
    ]
    assert film[0][:, 3, 3].tolist() == [pytest.approx(255, abs=2), 0, 0]


def test_images_that_are_all_one_picture_are_refused(root: Path, refused: Refused) -> None:
    message = refused(fill(root, save=one_picture))
    assert "all 18 images are the same picture" in message


def dark(image: Image.Image, path: Path) -> None:
    """Use few values but in one odd pixel, which does not hide that."""
    image = image.point(lambda v: v // 32)
    image.putpixel((0, 0), (255, 255, 255))
    as_png(image, path)


@pytest.mark.parametrize(
    ("save", "said"),
    [
        (dark, "nearly all pixels lie between"),
        (partial(sixteen_bit_colours, bits=12), "nearly all pixels lie"),  # the high byte is read
        (partial(sixteen_bit_colours, bits=14), "no pixel is"),
        (as_mode("1"), "the pixels have 2 of 256 values"),
    ],
)
def test_pictures_of_few_values_are_warned_of(root: Path, save: Any, said: str, load: Load) -> None:
    assert said in load(fill(root, save=save, size=(64, 64))).reading.warnings[0]


@pytest.mark.parametrize(("mode", "more"), [("RGB", ""), ("RGBA", " with transparency")])
def test_deep_colour_is_said(root: Path, tmp_path: Path, mode: str, more: str, load: Load) -> None:
    splits = load(fill(root, save=lambda i, p: sixteen_bit_colours(i.convert(mode), p)))
    assert f"colours of 16 bits{more}, read as RGB of 8 bits" in str(splits.reading)
    assert not splits.reading.warnings
    plain = load(fill(tmp_path / "plain", save=as_mode(mode)))
    assert torch.equal(values(splits), values(plain))
    assert "of 16 bits" not in str(plain.reading)


def test_usual_images_are_not_warned_of(root: Path, tmp_path: Path, load: Load) -> None:
    assert not load(fill(root)).reading.warnings
    digits = in_memory.load(DatasetConf(name="digits"), tmp_path)
    assert not digits.reading.warnings and not digits.reading.notes


def test_black_pictures_among_others_are_counted(root: Path, load: Load) -> None:
    fill(root)
    for number in range(3):
        as_png(Image.new("RGB", (16, 16)), root / "cross" / f"black{number}")
    assert "3 images of one colour and nothing else (cross/black0.png)" in str(load(root).reading)


def test_kinds_are_drawn_apart() -> None:
    assert picture("circle", GREYS).tobytes() != picture("cross", GREYS).tobytes()


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.transpose(a, (1, 0, 2)),
    6: lambda a: np.rot90(a, 3),
    7: lambda a: np.rot90(np.transpose(a, (1, 0, 2)), 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        ("png", {}),
        ("webp", {"lossless": True}),
        ("tif", {}),
        ("tif", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_an_image_is_upright_however_its_file_is_turned(
    tmp_path: Path, mode: str, suffix: str, words: dict[str, Any], orientation: int
) -> None:
    """Uncompressed TIFF, which Pillow would map by its name, was read as noise."""
    draw, exif = np.random.default_rng(0), Image.Exif()
    values = draw.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    values = values if mode == "RGB" else values[..., :1].repeat(3, 2)
    exif[0x0112] = orientation
    image = Image.fromarray(values if mode == "RGB" else values[..., 0])
    image.save(path := tmp_path / f"a.{suffix}", exif=exif, **words)
    upright = TURNS[orientation](values)
    rgb, _ = preprocessing.read(path, size=None, how=Preprocessing(3, (0, 0)))
    np.testing.assert_array_equal(rgb, upright)
    assert preprocessing.size_of(path) == rgb.shape[:2]


def test_a_damaged_exif_header_turns_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (6, 4), "white").save(path, exif=b"Exif\0\0no header", dpi=(72, 72))
    rgb, _ = preprocessing.read(path, size=None, how=Preprocessing(3, (0, 0)))
    assert rgb.shape == (4, 6, 3) and preprocessing.size_of(path) == (4, 6)


def test_an_orientation_that_there_is_not_turns_nothing(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    Image.new("RGB", (6, 4)).save(path := tmp_path / "a.png", exif=exif)
    rgb, _ = preprocessing.read(path, size=None, how=Preprocessing(3, (0, 0)))
    assert rgb.shape[:2] == preprocessing.size_of(path) == (4, 6)


def test_what_is_no_image_is_named_by_its_path(tmp_path: Path) -> None:
    (path := tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UnidentifiedImageError, match=r"^cannot identify image file '.*/a\.png'$"):
        preprocessing.read(path, size=None, how=Preprocessing(3, (0, 0)))
