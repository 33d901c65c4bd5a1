"""Augmentation depends on seed, epoch and place alone, masks follow, and nonsense is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from ssr_exp.config import AutoAugment, DatasetConf
from ssr_exp.datasets import augmentation, in_memory
from ssr_exp.datasets.augmentation import Augmentation
from ssr_exp.datasets.batches import Batches
from ssr_exp.datasets.images import IGNORED, Images, Splits, Target
from ssr_exp.datasets.in_memory import TensorDataModule
from ssr_exp.datasets.mask_policies import MaskImage, with_masks
from ssr_exp.errors import SsrError

SIZE = (12, 10)
MOVES: dict[str, dict[str, Any]] = {
    "vertical flip": {"vertical_flip": True},
    "resized crop": {"crop_scale": (0.3, 1.0)},
    "rotation": {"rotation": 30.0},
    "all moves": {
        "crop_padding": 2,
        "flip": True,
        "vertical_flip": True,
        "crop_scale": (0.3, 1.0),
        "rotation": 30.0,
    },
}
COLORS: dict[str, dict[str, Any]] = {
    "jitter": {"color_jitter": (0.4, 0.4, 0.4, 0.1)},
    "trivial augment": {"auto_augment": AutoAugment.trivial_augment_wide},
    "rand augment": {"auto_augment": AutoAugment.rand_augment, "magnitude": 12},
}
MIXTURES: dict[str, dict[str, Any]] = {
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "both": {"mixup": 0.4, "cutmix": 1.0},
    "everything": {
        **MOVES["all moves"],
        **COLORS["trivial augment"],
        **{"cutout": 3, "erasing": 0.4, "mixup": 0.4, "cutmix": 1.0},
    },
}
ALL = {**MOVES, **COLORS, **MIXTURES, "erasing": {"erasing": 0.5}}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def images() -> Images:
    pixels = torch.randint(0, 256, (40, 3, *SIZE), generator=seeded(), dtype=torch.uint8)
    return Images(pixels, torch.arange(40) % 4, ("a", "b", "c", "d"))


def serve(images: Images, fields: dict[str, Any], **more: Any) -> Batches:
    c = images.pixels.shape[1]
    served = {"seed": 0, "batch_size": 16} | more
    wanted = Augmentation(**fields)
    return Batches(images, mean=(0.0,) * c, std=(1 / 255,) * c, augmentation=wanted, **served)


def epoch(served: Batches, number: int) -> list[tuple[Tensor, Tensor]]:
    served.set_epoch(number)
    return list(served)


def same(one: list[tuple[Tensor, Tensor]], other: list[tuple[Tensor, Tensor]]) -> bool:
    return all(
        torch.equal(x, x2) and torch.equal(y, y2)
        for (x, y), (x2, y2) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("name", ALL)
def test_seed_and_epoch_decide_all_that_is_drawn(name: str, images: Images) -> None:
    served = serve(images, ALL[name])
    epoch(served, 0)
    torch.manual_seed(99)
    second = epoch(served, 1)
    torch.manual_seed(7)
    assert same(second, epoch(serve(images, ALL[name]), 1))
    for other in (epoch(served, 0), epoch(serve(images, ALL[name], seed=1), 1)):
        assert not same(second, other)


@pytest.mark.parametrize("name", ALL)
def test_the_global_generator_is_not_disturbed(name: str, images: Images) -> None:
    before = torch.get_rng_state()
    epoch(serve(images, ALL[name]), 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ALL)
def test_shape_kind_and_images_stay(name: str, images: Images) -> None:
    before = images.pixels.clone()
    for last in (False, True):
        for x, y in serve(images, ALL[name], channels_last=last):
            assert (x.shape, x.dtype, len(y)) == ((16, 3, *SIZE), torch.float32, 16)
            assert 0 <= x.min() <= x.max() <= 256
            layout = torch.channels_last if last else torch.contiguous_format
            assert x.is_contiguous(memory_format=layout)
    assert torch.equal(images.pixels, before)


@pytest.mark.parametrize("name", [*MOVES, *COLORS])
def test_each_image_has_its_own_draw(name: str, images: Images) -> None:
    copies = replace(images, pixels=images.pixels[:1].repeat(40, 1, 1, 1))
    ((x, _),) = serve(copies, ALL[name], batch_size=40)
    assert len(x.unique(dim=0)) > (1 if name == "vertical flip" else 8)


@pytest.mark.slow
def test_workers_change_no_batch_and_no_global_draw(images: Images) -> None:
    before = torch.get_rng_state()
    alone, helped = (
        epoch(serve(images, MIXTURES["everything"], workers=workers), 3) for workers in (0, 2)
    )
    assert same(alone, helped)
    assert torch.equal(torch.get_rng_state(), before)


def test_erasing_takes_a_rectangle_of_so_many_images_and_leaves_the_others() -> None:
    x = torch.rand(400, 3, 20, 24, generator=seeded()) + 1
    out = augmentation.erased(x.clone(), 0.25, 5)
    gone = out.eq(0)
    assert torch.equal(gone.all(1), gone.any(1)) and torch.equal(out[~gone], x[~gone])
    touched = gone.flatten(1).any(1)
    assert 0.18 < touched.float().mean() < 0.32
    shares = gone[touched][:, 0].flatten(1).float().mean(1)
    assert shares.min() > 0.01 and shares.max() < 0.35 and len(shares.unique()) > 20
    rows, columns = gone[:, 0].any(2).sum(1), gone[:, 0].any(1).sum(1)
    assert torch.equal(gone[:, 0].flatten(1).sum(1), rows * columns)
    assert torch.equal(augmentation.erased(x.clone(), 0.25, 5), out)
    assert not torch.equal(augmentation.erased(x.clone(), 0.25, 6), out)


def test_an_order_is_the_same_with_and_without_augmentation(images: Images) -> None:
    plain, turned = (epoch(serve(images, fields), 2) for fields in ({}, MOVES["rotation"]))
    assert all(torch.equal(y, y2) for (_, y), (_, y2) in zip(plain, turned, strict=True))


def blocks(count: int, classes: int = 4, cells: int = 4, side: int = 16) -> Images:
    """Images whose grey says the class of each pixel, in blocks that resizing leaves whole."""
    masks = torch.randint(0, classes, (count, 1, cells, cells), generator=seeded(3)).float()
    masks = F.interpolate(masks, scale_factor=side)[:, 0].to(torch.uint8)
    return Images(60 + 60 * masks[:, None], masks, ("a", "b", "c", "d"), target=Target.masks)


@pytest.mark.parametrize("name", [*MOVES, "brightness"])
def test_masks_follow_their_images(name: str) -> None:
    """A pixel's grey gives its class away; near the edges of blocks, greys mix."""
    fields = {"color_jitter": (0.05,)} if name == "brightness" else MOVES[name]
    for x, y in serve(blocks(16), fields, batch_size=8):
        assert (y.dtype, y.shape) == (torch.int64, (8, 64, 64))
        grey, beside = x[:, 0], y == IGNORED
        assert y[~beside].max() < 4
        right = (grey / 60 - 1).round().long() == y
        assert right[~beside].float().mean() > 0.9
        black = (grey[beside] <= 130).float()  # or black mixed with the edge of an image
        assert not len(black) or black.mean() > 0.95
        assert beside.any() == (name in ("rotation", "all moves"))


POLICIES = {
    "trivial augment": v2.TrivialAugmentWide,
    "rand augment": v2.RandAugment,
}


@pytest.mark.parametrize("name", POLICIES)
def test_masks_follow_policies_and_keep_their_classes(name: str) -> None:
    """Whatever happens to its colours, what was of one colour in an image still is."""
    held, fill = blocks(60), {MaskImage: IGNORED, "others": 0}
    policy = POLICIES[name](fill=fill)  # of images the nearest pixel, too, as of masks
    turned = 0
    for number, (image, mask) in enumerate(zip(held.pixels, held.labels, strict=True)):
        torch.manual_seed(number)
        moved, followed = with_masks(policy)(tv_tensors.Image(image), MaskImage(mask[None]))
        assert isinstance(followed, MaskImage) and followed.shape == (1, *mask.shape)
        followed = followed.as_subclass(Tensor)[0]
        assert set(followed.unique().tolist()) <= {0, 1, 2, 3, IGNORED}
        turned += not torch.equal(followed, mask)
        after = torch.get_rng_state()
        torch.manual_seed(number)
        assert torch.equal(policy(image), moved)  # a mask changes no image
        assert torch.equal(torch.get_rng_state(), after)
        for label in range(4):  # an operation on colours keeps one colour one colour
            greys = moved[0][followed == label].float()
            near = (greys - greys.median()).abs() < 20 if len(greys) else torch.ones(1)
            assert near.float().mean() > 0.8
    assert 15 < turned < 60


@pytest.mark.parametrize("name", ["trivial augment", "rand augment"])
def test_batches_of_masks_go_through_policies(name: str) -> None:
    first, again = (epoch(serve(blocks(16), COLORS[name]), 1) for _ in range(2))
    assert same(first, again)
    ((_, y),) = first
    assert (y.dtype, y.shape) == (torch.int64, (16, 64, 64))
    assert (y == IGNORED).any() and set(y.unique().tolist()) <= {0, 1, 2, 3, IGNORED}


@pytest.mark.parametrize("policy", [v2.TrivialAugmentWide, v2.RandAugment])
def test_every_operation_of_a_policy_is_known_to_move_or_to_colour(policy: Any) -> None:
    """An operation that torchvision adds would else recolour masks in silence."""
    known = {
        *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"),
        *("Brightness", "Color", "Contrast", "Sharpness", "Posterize", "Solarize"),
        *("AutoContrast", "Equalize", "Invert"),
    }
    assert set(policy._AUGMENTATION_SPACE) <= known


@pytest.mark.parametrize("name", ["vertical flip", "resized crop", "rotation"])
def test_masks_lie_on_their_images_to_a_part_of_a_pixel(name: str) -> None:
    """Of two classes, the nearer one of a mixture's is that of the nearest pixel."""
    for x, y in serve(blocks(64, classes=2, cells=8, side=4), MOVES[name], batch_size=64):
        assert type(x) is type(y) is Tensor
        right = (x[:, 0] / 60 - 1).round().long() == y
        beside = (y == IGNORED).float()[:, None]  # what is near it is mixed with black
        inside = F.max_pool2d(beside, kernel_size=7, stride=1, padding=3)[:, 0] == 0
        assert right[inside].float().mean() > 0.98


@pytest.mark.parametrize("name", [*MOVES, "brightness"])
def test_a_mask_changes_no_image(name: str) -> None:
    fields = {"color_jitter": (0.4,)} if name == "brightness" else MOVES[name]
    masks = blocks(16)
    alone = replace(masks, labels=torch.zeros(16).long(), target=Target.one_class)
    for (x, _), (x2, _) in zip(serve(masks, fields), serve(alone, fields), strict=True):
        assert torch.equal(x, x2)


def test_a_mask_that_does_not_follow_would_be_noticed() -> None:
    ((x, y),) = serve(blocks(16), MOVES["resized crop"], batch_size=16)
    right = (x[:, 0] / 60 - 1).round().long() == y.flip(0)
    assert right.float().mean() < 0.5


def test_mixtures_of_classes_are_probabilities(images: Images) -> None:
    for name in MIXTURES:
        for _, y in serve(images, MIXTURES[name]):
            assert (y.shape, y.dtype) == ((16, 4), torch.float32)
            torch.testing.assert_close(y.sum(1), torch.ones(16))
            assert ((y > 0).sum(1) <= 2).all()


@pytest.mark.parametrize("target", [Target.labels, Target.numbers])
def test_the_mean_of_mixed_targets_is_that_of_the_batch(images: Images, target: Target) -> None:
    values = torch.rand(40, 4, generator=seeded(1))
    told = replace(images, labels=values, target=target)
    for (_, plain), (_, mixed) in zip(serve(told, {}), serve(told, {"mixup": 1.0}), strict=True):
        torch.testing.assert_close(mixed.mean(0), plain.mean(0))
        assert not torch.equal(mixed, plain)


def test_mixup_mixes_images_by_the_share_of_their_targets() -> None:
    pixels = torch.tensor([0, 200], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    two = Images(pixels.contiguous(), torch.tensor([0, 1]), ("dark", "bright"))
    ((x, y),) = serve(two, {"mixup": 1.0}, batch_size=2)
    torch.testing.assert_close(x.mean((1, 2, 3)) / 200, y[:, 1], atol=1e-3, rtol=0)
    ((x, y),) = serve(two, {"cutmix": 1.0}, batch_size=2)
    torch.testing.assert_close(x.mean((1, 2, 3)) / 200, y[:, 1], atol=1e-3, rtol=0)
    assert x.round().unique().tolist() == [0, 200]


def test_balanced_drawing_holds_with_every_augmentation(images: Images) -> None:
    rare = replace(images, labels=(torch.arange(40) > 35).long(), classes=("many", "few"))
    served = serve(rare, MIXTURES["everything"], batch_size=40, is_balanced=True)
    shares = torch.cat([y for number in range(5) for _, y in epoch(served, number)]).mean(0)
    assert shares[1] == pytest.approx(0.5, abs=0.12)


def test_val_images_are_not_augmented(digits: Splits) -> None:
    wanted = Augmentation(**ALL["everything"])
    served, plain = (
        TensorDataModule(digits, batch_size=64, augmentation=some).val_dataloader()
        for some in (wanted, None)
    )
    assert same(list(served), list(plain))


def test_a_configuration_gives_each_field_of_its_name() -> None:
    conf = DatasetConf(crop_scale=[0.2, 1.0], color_jitter=[0.4], mixup=0.2, vertical_flip=True)
    expected = Augmentation(
        crop_scale=(0.2, 1.0), color_jitter=(0.4,), mixup=0.2, vertical_flip=True
    )
    assert Augmentation.from_conf(conf) == expected
    assert Augmentation.from_conf(DatasetConf()) == Augmentation()


@pytest.fixture
def splits(digits: Splits) -> Splits:
    """Grey images of 8 x 8 pixels."""
    return digits


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"crop_scale": [0.5]}, r"dataset\.crop_scale=\[0\.5\] is no range"),
    ({"crop_scale": [0.0, 1.0]}, r"above 0 and up to 1"),
    ({"crop_scale": [0.9, 0.1]}, r"\[0\.9,0\.1\] is no range"),
    ({"crop_scale": [0.1, 1.0], "crop_ratio": [2.0, 1.0]}, r"dataset\.crop_ratio=\[2,1\]"),
    ({"crop_ratio": [1.0, 1.0]}, r"type dataset\.crop_scale=\[0\.08,1\] with it"),
    ({"crop_scale": [0.1, 1.0], "crop_padding": 4}, r"type dataset\.crop_padding=0 with"),
    ({"color_jitter": [0.1] * 5}, r"not up to four numbers"),
    ({"color_jitter": [-0.1]}, r"not up to four numbers"),
    ({"color_jitter": [float("nan")]}, r"not up to four numbers"),
    ({"color_jitter": [0, 0, 0, 0.6]}, r"the hue, its last number, goes from 0 to 0\.5"),
    ({"color_jitter": [0.4, 0.3, 0.2]}, r"images are grey: type dataset\.color_jitter=\[0\.4,0\.3"),
    ({"color_jitter": [0.4, 0.3, 0, 0.1]}, r"images are grey"),
    ({"num_ops": 3}, r"type dataset\.auto_augment=rand_augment"),
    (
        {"magnitude": 3, "auto_augment": AutoAugment.trivial_augment_wide},
        r"dataset\.magnitude=3 is of RandAugment",
    ),
    ({"cutout": 15}, r"dataset\.cutout=15 always erases images of 8 x 8 pixels whole"),
]


@pytest.mark.parametrize(("fields", "said"), REFUSED)
def test_what_cannot_be_is_refused(fields: dict[str, Any], said: str, splits: Splits) -> None:
    with pytest.raises(SsrError, match=said):
        augmentation.check(DatasetConf(**fields), splits, 128)


FITTING: list[dict[str, Any]] = [
    {"cutout": 8},
    {"cutout": 9},
    {"cutout": 14},
    {"color_jitter": [0.4, 0.4, 0.0, 0.0]},
    {"crop_scale": [0.08, 1.0], "crop_ratio": [1.0, 1.0]},
    {"auto_augment": AutoAugment.rand_augment, "num_ops": 3, "magnitude": 0},
    {"mixup": 0.2, "cutmix": 1.0},
]


@pytest.mark.parametrize("fields", FITTING)
def test_what_can_be_is_not_refused(fields: dict[str, Any], splits: Splits) -> None:
    augmentation.check(DatasetConf(**fields), splits, 128)
    served = TensorDataModule(
        splits, batch_size=32, augmentation=Augmentation.from_conf(DatasetConf(**fields))
    )
    assert len(next(iter(served.train_dataloader()))) == 2


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 5), (6, 2)])
def test_a_square_is_refused_if_it_leaves_nothing_of_any_image(
    size: tuple[int, int], splits: Splits, caplog: pytest.LogCaptureFixture
) -> None:
    """Those of old studies, larger than an image, are not."""
    held = Images(
        torch.full((300, 1, *size), 9, dtype=torch.uint8), torch.zeros(300).long(), ("a",)
    )
    told = replace(splits, train=held)
    for side in range(1, 2 * max(size) + 2):
        conf, said = DatasetConf(cutout=side), f"dataset.cutout={side} erases most of many"
        ((x, _),) = serve(held, {"cutout": side}, batch_size=300)
        if x.any():
            augmentation.check(conf, told, 128)
            assert (said in caplog.text) == (side > min(size))
        else:
            with pytest.raises(SsrError, match="whole: type"):
                augmentation.check(conf, told, 128)
        caplog.clear()


@pytest.mark.parametrize(
    ("target", "fields", "said"),
    [
        (Target.masks, {"mixup": 0.2}, r"a mask has one for each pixel: type dataset\.mixup=0"),
        (Target.masks, {"cutmix": 1.0}, r"type dataset\.cutmix=0"),
        (Target.numbers, {"cutmix": 1.0}, r"dataset\.mixup mixes the numbers"),
    ],
)
def test_what_targets_cannot_follow_is_refused(
    target: Target, fields: dict[str, Any], said: str, splits: Splits
) -> None:
    told = replace(splits, train=replace(splits.train, target=target))
    with pytest.raises(SsrError, match=said):
        augmentation.check(DatasetConf(**fields), told, 128)


def test_a_batch_of_one_cannot_be_mixed(splits: Splits) -> None:
    with pytest.raises(SsrError, match=r"type recipe\.batch_size=2"):
        augmentation.check(DatasetConf(mixup=0.2), splits, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("is_balanced", [False, True])
@pytest.mark.parametrize("name", [*MOVES, *COLORS])
def test_a_gpu_gets_the_same_images(name: str, is_balanced: bool, images: Images) -> None:
    """What torchvision transforms is drawn on the CPU wherever the training runs."""
    if "crop_scale" not in ALL[name] and name == "vertical flip":
        pytest.skip("flips alone are drawn on the GPU")
    fields, gpu = ALL[name], torch.device("cuda")
    served = serve(images, fields, device=gpu, workers=2, is_balanced=is_balanced)
    expected = serve(images, fields, is_balanced=is_balanced)
    for (x, y), (x2, y2) in zip(served, expected, strict=True):
        assert x.is_cuda and y.is_cuda
        torch.testing.assert_close(x.cpu(), x2)
        assert torch.equal(y.cpu(), y2)


def test_the_images_of_a_data_set_stay_where_they_are(tmp_path: Path) -> None:
    splits = in_memory.load(DatasetConf(name="digits"), tmp_path)
    before = splits.train.pixels.clone()
    wanted = Augmentation(rotation=20.0, flip=True)
    list(TensorDataModule(splits, batch_size=64, augmentation=wanted).train_dataloader())
    assert torch.equal(splits.train.pixels, before)
