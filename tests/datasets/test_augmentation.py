from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ssr_exp.datasets import augmentation

Augment = Callable[[Tensor, torch.Generator], Tensor]

ALL: dict[str, Augment] = {
    "crop": lambda x, draw: augmentation.crop(x, 3, draw),
    "flip": augmentation.flip,
    "cutout": lambda x, draw: augmentation.cutout(x, 4, draw),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def x() -> Tensor:
    return torch.randint(1, 256, (64, 3, 10, 12), generator=seeded(7), dtype=torch.uint8)


@pytest.fixture(params=ALL)
def change(request: pytest.FixtureRequest) -> Augment:
    return ALL[request.param]


def test_same_seed_same_batch_and_another_seed_another(change: Augment, x: Tensor) -> None:
    assert torch.equal(change(x, seeded(1)), change(x, seeded(1)))
    assert not torch.equal(change(x, seeded(1)), change(x, seeded(2)))


def test_shape_dtype_and_input_stay(change: Augment, x: Tensor) -> None:
    before = x.clone()
    for given in (x, x.float(), x.float().to(memory_format=torch.channels_last)):
        out = change(given, seeded())
        assert out.shape == given.shape
        assert out.dtype == given.dtype
    assert torch.equal(x, before)


def test_images_are_drawn_independently(change: Augment, x: Tensor) -> None:
    same = x[:1].expand(64, -1, -1, -1)
    assert len(change(same, seeded()).unique(dim=0)) > 1


def test_crop_equals_a_loop_over_images(x: Tensor) -> None:
    padding, (b, _, h, w) = 3, x.shape
    top, left = torch.randint(2 * padding + 1, (2, b), generator=seeded(5)).tolist()
    padded = torch.zeros(b, 3, h + 2 * padding, w + 2 * padding, dtype=x.dtype)
    padded[:, :, padding:-padding, padding:-padding] = x
    expected = [padded[i, :, top[i] : top[i] + h, left[i] : left[i] + w] for i in range(b)]
    assert torch.equal(augmentation.crop(x, padding, seeded(5)), torch.stack(expected))


def test_crop_reaches_every_window_and_none_beyond() -> None:
    position = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3).expand(2000, -1, -1, -1)
    windows = augmentation.crop(position, 1, seeded()).unique(dim=0)
    assert len(windows) == 9
    assert (windows == 5).flatten(1).any(1).all()  # the centre is in every window


def test_crop_without_padding_changes_nothing(x: Tensor) -> None:
    assert torch.equal(augmentation.crop(x, 0, seeded()), x)


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others(x: Tensor) -> None:
    many = x.repeat(20, 1, 1, 1)
    out = augmentation.flip(many, seeded())
    mirrored = (out == many.flip(-1)).flatten(1).all(1)
    assert (mirrored | (out == many).flatten(1).all(1)).all()
    assert 0.45 < mirrored.float().mean() < 0.55


def test_cutout_erases_one_square_of_the_given_side(x: Tensor) -> None:
    side = 4
    erased = augmentation.cutout(x, side, seeded()) == 0
    assert torch.equal(erased.all(1), erased.any(1))  # all channels alike
    rows, columns = erased[:, 0].any(2).sum(1), erased[:, 0].any(1).sum(1)
    assert torch.equal(erased[:, 0].flatten(1).sum(1), rows * columns)
    assert rows.max() == columns.max() == side
    assert rows.min() >= side // 2  # the centre is inside the image
    assert torch.equal(augmentation.cutout(x, side, seeded())[~erased], x[~erased])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_runs_where_the_batch_is(change: Augment, x: Tensor) -> None:
    out = change(x.cuda(), torch.Generator("cuda").manual_seed(0))
    assert out.is_cuda
