from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssr_exp.datasets import batches, share
from ssr_exp.datasets.augmentation import Augmentation
from ssr_exp.datasets.batches import Batches
from ssr_exp.datasets.images import IGNORED, Images, Splits, Target
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.datasets.share import Share
from ssr_exp.errors import SsrError


def numbered(n: int) -> Images:
    pixels = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 4, 4).contiguous()
    return Images(pixels, torch.arange(n), ("a", "b"))


def serve(n: int = 10, *, batch_size: int = 4, **fields: object) -> Batches:
    return Batches(numbered(n), mean=(0.0,), std=(1 / 255,), batch_size=batch_size, **fields)  # type: ignore[arg-type]


def labels(served: Batches) -> list[list[int]]:
    return [y.tolist() for _, y in served]


def test_in_order_no_image_is_left_out() -> None:
    served = serve()
    assert labels(served) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert len(served) == 3


def test_shuffled_batches_are_full_and_repeat_no_image() -> None:
    served = serve(seed=0)
    found = labels(served)
    assert [len(batch) for batch in found] == [4, 4]
    assert len(served) == 2
    assert len(set(found[0] + found[1])) == 8


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    assert [len(batch) for batch in labels(serve(3, seed=0))] == [3]


def test_images_stay_with_their_labels() -> None:
    for x, y in serve(seed=3):
        assert torch.allclose(x[:, 0, 0, 0], y.float(), atol=1e-4)
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize(("device", "dtype"), [("cpu", torch.float64), ("mps", torch.float32)])
def test_weights_of_images_are_doubles_where_the_device_has_them(
    monkeypatch: pytest.MonkeyPatch, device: str, dtype: torch.dtype
) -> None:
    to = Tensor.to
    monkeypatch.setattr(Tensor, "to", lambda self, _, dtype: to(self, "cpu", dtype))
    weights = batches._weights(torch.tensor([0, 0, 0, 2]), torch.device(device))
    assert weights.dtype == dtype
    assert weights.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])


def epoch(served: Batches, number: int) -> list[Tensor]:
    served.set_epoch(number)
    return [x for x, _ in served]


def test_seed_and_epoch_decide_order_and_augmentation(digits: Splits) -> None:
    def fresh(seed: int) -> Batches:
        return TensorDataModule(
            digits, batch_size=32, seed=seed, augmentation=Augmentation(2, True, 3)
        ).train_dataloader()

    served = fresh(0)
    epoch(served, 0)
    second = epoch(served, 1)
    assert all(map(torch.equal, second, epoch(fresh(0), 1)))
    for other in (epoch(served, 0), epoch(fresh(1), 1), epoch(fresh(1), 0)):
        assert not any(map(torch.equal, second, other))


@pytest.mark.parametrize(
    ("is_balanced", "expected"), [(False, "1debea2c4924205d"), (True, "58e01b62faa15a1b")]
)
def test_batches_of_crops_flips_and_cutout_are_those_of_old_studies(
    is_balanced: bool, expected: str
) -> None:
    values = torch.arange(40 * 3 * 9 * 7).mul(2654435761).remainder(251).to(torch.uint8)
    images = Images(values.view(40, 3, 9, 7), torch.arange(40) % 4, tuple("abcd"))
    served = Batches(
        images,
        mean=(0.5, 0.4, 0.3),
        std=(0.25, 0.2, 0.5),
        batch_size=16,
        seed=5,
        augmentation=Augmentation(crop_padding=2, flip=True, cutout=4),
        is_balanced=is_balanced,
    )
    served.set_epoch(3)
    found = hashlib.sha256()
    for x, y in served:
        found.update(x.mul(2**10).round().to(torch.int64).numpy().tobytes())
        found.update(y.numpy().tobytes())
    assert found.hexdigest()[:16] == expected


@pytest.mark.parametrize("rotation", [0.0, 20.0])
def test_what_is_drawn_by_lives_where_the_images_do(rotation: float) -> None:
    """An order that is drawn on one device cannot index images on another one."""
    images = replace(numbered(10), labels=torch.arange(10) % 2)
    served = Batches(
        images,
        mean=(0.0,),
        std=(1.0,),
        batch_size=4,
        seed=0,
        augmentation=Augmentation(rotation=rotation),
        is_balanced=True,
        device=torch.device("meta"),
    )
    assert served._weights is not None
    assert served._weights.device == served._images.pixels.device == served._images.labels.device
    assert served._weights.device.type == ("cpu" if rotation else "meta")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("is_balanced", [False, True])
def test_a_gpu_serves_images_that_live_there(is_balanced: bool) -> None:
    device = torch.device("cuda")
    for x, y in serve(seed=0, is_balanced=is_balanced, device=device):
        assert x.is_cuda and y.is_cuda
        assert torch.allclose(x[:, 0, 0, 0], y.float(), atol=1e-4)


def test_seeds_of_different_epochs_do_not_meet() -> None:
    mixed = {batches._mixed(seed, number) for seed in range(20) for number in range(20)}
    assert len(mixed) == 400


def test_training_images_are_normalised(digits: Splits) -> None:
    served = Batches(digits.train, mean=digits.mean, std=digits.std, batch_size=2000)
    ((x, _),) = served
    assert float(x.mean()) == pytest.approx(0, abs=1e-4)
    assert float(x.std()) == pytest.approx(1, abs=1e-4)


def test_channels_last_changes_the_layout_only() -> None:
    pixels = torch.randint(0, 256, (6, 3, 5, 5), dtype=torch.uint8)
    both = [
        Batches(
            Images(pixels, torch.zeros(6, dtype=torch.int64), ("a",)),
            mean=(0.5,) * 3,
            std=(0.2,) * 3,
            batch_size=6,
            channels_last=last,
        )
        for last in (False, True)
    ]
    (plain, _), (last, _) = (next(iter(served)) for served in both)
    assert torch.equal(plain, last)
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_lightning_copies_no_batch(digits: Splits) -> None:
    module = TensorDataModule(digits, batch_size=8)
    x, y = next(iter(module.val_dataloader()))
    moved = module.transfer_batch_to_device((x, y), torch.device("cpu"), 0)
    assert [t.data_ptr() for t in moved] == [x.data_ptr(), y.data_ptr()]
    assert y.data_ptr() == digits.val.labels.data_ptr()


def test_masks_move_with_their_images_and_are_not_erased() -> None:
    pixels = torch.randint(1, 200, (20, 1, 6, 8), generator=seeded(3), dtype=torch.uint8)
    images = Images(pixels, pixels[:, 0].clone(), ("a", "b"), target=Target.masks)
    wanted = Augmentation(crop_padding=2, flip=True, cutout=3)
    served = Batches(
        images, mean=(0.0,), std=(1 / 255,), batch_size=20, seed=0, augmentation=wanted
    )
    ((x, y),) = served
    beside = y == IGNORED
    assert (y.dtype, y.shape) == (torch.int64, (20, 6, 8))
    assert beside.any()
    assert x[:, 0][beside].eq(0).all()
    erased = x[:, 0].round().eq(0) & ~beside
    assert 0 < erased.sum() <= 9 * 20
    assert torch.equal(x[:, 0].round().long()[~beside & ~erased], y[~beside & ~erased])


def test_masks_do_not_change_what_images_are_drawn() -> None:
    pixels = torch.randint(0, 256, (9, 3, 6, 6), generator=seeded(3), dtype=torch.uint8)
    labels = (torch.arange(9), torch.zeros(9, 6, 6, dtype=torch.uint8))
    wanted = Augmentation(crop_padding=2, flip=True, cutout=3)
    one, other = (
        next(
            iter(
                Batches(
                    Images(pixels, y, ("a",)),
                    mean=(0.5,) * 3,
                    std=(0.2,) * 3,
                    batch_size=9,
                    seed=4,
                    augmentation=wanted,
                )
            )
        )[0]
        for y in labels
    )
    assert torch.equal(one, other)


def test_masks_in_order_are_as_they_are() -> None:
    masks = torch.randint(0, 256, (5, 4, 4), generator=seeded(3), dtype=torch.uint8)
    images = Images(numbered(5).pixels, masks, ("a",), target=Target.masks)
    served = Batches(images, mean=(0.0,), std=(1.0,), batch_size=2)
    assert torch.equal(torch.cat([y for _, y in served]), masks.long())


def together(world: int, images: Images, **fields: object) -> list[tuple[Tensor, Tensor]]:
    """Put the rows of several processes together again, batch by batch; padding is left out."""
    shares = [Share(rank, world) for rank in range(world)]
    moments = (0.5,) * images.pixels.shape[1], (0.2,) * images.pixels.shape[1]
    served = [Batches(images, mean=moments[0], std=moments[1], share=s, **fields) for s in shares]  # type: ignore[arg-type]
    for one in served:
        one.set_epoch(2)
    parts = [[(x[: len(y)], y) for x, y in one] for one in served]
    xs, ys = zip(*(zip(*batch, strict=True) for batch in zip(*parts, strict=True)), strict=True)
    return [(torch.cat(x), torch.cat(y)) for x, y in zip(xs, ys, strict=True)]


@pytest.mark.parametrize(
    "wanted",
    [
        Augmentation(crop_padding=2, flip=True, vertical_flip=True, cutout=3),
        Augmentation(crop_padding=1, flip=True, mixup=0.4, cutmix=1.0),
        Augmentation(erasing=0.7, mixup=0.4),
    ],
)
@pytest.mark.parametrize("is_balanced", [False, True])
def test_rows_of_several_processes_are_the_batches_of_one(
    wanted: Augmentation, is_balanced: bool
) -> None:
    images = replace(noise(40), labels=torch.arange(40) % 5, classes=tuple("abcde"))
    fields = {"batch_size": 12, "seed": 4, "augmentation": wanted, "is_balanced": is_balanced}
    for (x, y), (x1, y1) in zip(
        together(3, images, **fields), together(1, images, **fields), strict=True
    ):
        assert torch.equal(x, x1) and torch.equal(y, y1)


def test_transforms_of_single_images_do_not_depend_on_the_number_of_processes() -> None:
    """Unless there is one alone, whose numbers are drawn one after another, as of old."""
    fields = {"batch_size": 12, "seed": 4, "augmentation": Augmentation(rotation=30, mixup=0.3)}
    images = replace(noise(24), labels=torch.arange(24) % 2)
    one, other, alone = (together(world, images, **fields) for world in (2, 4, 1))
    for (x, y), (x1, y1), (_, y2) in zip(one, other, alone, strict=True):
        assert torch.equal(x, x1) and torch.equal(y, y1) and torch.equal(y, y2)


@pytest.mark.parametrize("count", [1, 5, 8, 9])
def test_each_image_in_order_is_in_one_process(count: int) -> None:
    """Some have no row of the last batch, and as many batches as all others."""
    batches = together(4, noise(count), batch_size=8)
    assert [y.tolist() for _, y in batches] == [
        list(range(at, min(at + 8, count))) for at in range(0, count, 8)
    ]
    (_, *_, (x, y)) = [
        (),
        *Batches(noise(count), mean=(0.5,), std=(0.2,), batch_size=8, share=Share(0, 4)),
    ]
    assert len(x) == max(len(y), 1)


def noise(count: int) -> Images:
    pixels = torch.randint(0, 256, (count, 1, 6, 6), generator=seeded(3), dtype=torch.uint8)
    return Images(pixels, torch.arange(count), ("a", "b"))


@pytest.mark.parametrize(
    ("batch_size", "images", "said"),
    [
        (10, 100, r"recipe\.batch_size=10 counts all devices.* type recipe\.batch_size=9 or 12,"),
        (2, 100, r"type recipe\.batch_size=3,"),
        (128, 100, r"the 100 training images are one batch.* type recipe\.batch_size=99,"),
        (128, 2, r"evenly: type fewer devices"),
    ],
)
def test_batches_that_devices_cannot_share_are_refused(
    batch_size: int, images: int, said: str
) -> None:
    with pytest.raises(SsrError, match=said):
        share.check(batch_size, images, 3)
    share.check(12, 100, 3)
    share.check(10, 100, 1)


Augment = Callable[[Tensor, torch.Generator], Tensor]
ALL: dict[str, Augment] = {
    "crop": lambda x, draw: batches.crop(x, 3, draw),
    "flip": batches.flip,
    "cutout": lambda x, draw: batches.cutout(x, 4, draw),
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
    assert torch.equal(batches.crop(x, padding, seeded(5)), torch.stack(expected))


def test_flip_mirrors_about_half_of_the_images_and_leaves_the_others(x: Tensor) -> None:
    many = x.repeat(20, 1, 1, 1)
    out = batches.flip(many, seeded())
    mirrored = (out == many.flip(-1)).flatten(1).all(1)
    assert (mirrored | (out == many).flatten(1).all(1)).all()
    assert 0.45 < mirrored.float().mean() < 0.55


def test_cutout_erases_one_square_of_the_given_side(x: Tensor) -> None:
    side = 4
    erased = batches.cutout(x, side, seeded()) == 0
    assert torch.equal(erased.all(1), erased.any(1))  # all channels alike
    rows, columns = erased[:, 0].any(2).sum(1), erased[:, 0].any(1).sum(1)
    assert torch.equal(erased[:, 0].flatten(1).sum(1), rows * columns)
    assert rows.max() == columns.max() == side
    assert rows.min() >= side // 2  # the centre is inside the image
    assert torch.equal(batches.cutout(x, side, seeded())[~erased], x[~erased])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_runs_where_the_batch_is(change: Augment, x: Tensor) -> None:
    out = change(x.cuda(), torch.Generator("cuda").manual_seed(0))
    assert out.is_cuda
