"""What is drawn anew for each training image: torchvision's transforms, and mixtures of images."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ssr_exp import messages
from ssr_exp.config import AutoAugment, CropFrom, DatasetConf
from ssr_exp.datasets.image_folder.file_pixels import Box
from ssr_exp.datasets.images import IGNORED, Splits, Target
from ssr_exp.datasets.share import Rows
from ssr_exp.errors import SsrError

log = logging.getLogger(__name__)
JITTER = ("brightness", "contrast", "saturation", "hue")
MOST_HUE = 0.5  # half of the circle of colours, either way
DEFAULT = DatasetConf()

Images = tuple[Tensor, Tensor]  # x: uint8, b x c x h x w; y: as `Images.labels`


@dataclass(frozen=True)
class Augmentation:
    """What is drawn anew for each training image in each epoch; see the keys of `DatasetConf`."""

    crop_padding: int = 0  # pixels on each side before a random crop; 0: none
    flip: bool = False  # left to right, half of the time
    cutout: int = 0  # side of the erased square in pixels; 0: none
    vertical_flip: bool = False  # half of the time
    crop_scale: tuple[float, ...] | None = None
    crop_ratio: tuple[float, ...] = tuple(DEFAULT.crop_ratio)
    crop_from: CropFrom = CropFrom.resized
    rotation: float = 0.0  # degrees
    color_jitter: tuple[float, ...] = ()
    auto_augment: AutoAugment = AutoAugment.none
    num_ops: int = DEFAULT.num_ops
    magnitude: int = DEFAULT.magnitude
    mixup: float = 0.0
    cutmix: float = 0.0
    erasing: float = 0.0  # how often a rectangle of an image is

    @property
    def crops_files(self) -> bool:
        """Whether resized crops are cut out of the files' own pixels."""
        return self.crop_scale is not None and self.crop_from is CropFrom.file

    @classmethod
    def from_conf(cls, conf: DatasetConf) -> Augmentation:
        """Take the fields of the same names."""
        values: dict[str, Any] = {}
        for name in (field.name for field in fields(cls)):
            value = getattr(conf, name)
            values[name] = tuple(value) if isinstance(value, list) else value
        return cls(**values)


@lru_cache(maxsize=8)
def image_transform(wanted: Augmentation, size: tuple[int, int]) -> Callable[..., Any] | None:
    """Return what torchvision does to one image, uint8 `c x h x w`, and to a mask of it.

    It draws from torch's global generator. What is laid beside a turned image is black, and
    ignored in its mask. None: nothing is asked for.

    Args:
        wanted: its resized crop, rotation, policy and colour jitter, in this order.
        size: height and width of the result.
    """
    from torchvision.transforms import v2

    from ssr_exp.datasets.mask_policies import MaskImage, with_masks

    bilinear = v2.InterpolationMode.BILINEAR
    fill: Any = {MaskImage: IGNORED, "others": 0}
    steps: list[Callable[..., Any]] = []
    if wanted.crop_scale is not None and not wanted.crops_files:
        steps.append(v2.RandomResizedCrop(size, wanted.crop_scale, wanted.crop_ratio))
    if wanted.rotation:
        steps.append(v2.RandomRotation(wanted.rotation, bilinear, fill=fill))
    if wanted.auto_augment is AutoAugment.trivial_augment_wide:
        steps.append(with_masks(v2.TrivialAugmentWide(interpolation=bilinear, fill=fill)))
    if wanted.auto_augment is AutoAugment.rand_augment:
        policy = v2.RandAugment(wanted.num_ops, wanted.magnitude, interpolation=bilinear, fill=fill)
        steps.append(with_masks(policy))
    if any(wanted.color_jitter):
        steps.append(v2.ColorJitter(*wanted.color_jitter))
    return v2.Compose(steps) if steps else None


def file_crop(wanted: Augmentation, h: int, w: int, seed: int) -> Box:
    """Draw the part of an image of a file, of any size, that is scaled: torchvision's resized crop.

    Returns:
        Its left, upper, right and lower edge in pixels.
    """
    from torchvision.transforms import RandomResizedCrop

    assert wanted.crop_scale is not None
    image = torch.empty((1, h, w), device="meta")
    with seeded(seed):
        top, left, height, width = RandomResizedCrop.get_params(
            image, [*wanted.crop_scale], [*wanted.crop_ratio]
        )
    return left, top, left + width, top + height


def erased(x: Tensor, share: float, seed: int, rows: Rows | None = None) -> Tensor:
    """Set a rectangle of some images to zero, as torchvision does.

    On normalised images zero is the mean colour. A rectangle takes 2 to 33 % of the area, with
    sides of 0.3 to 3.3 (Zhong et al. 2017, https://arxiv.org/abs/1708.04896).

    Args:
        x: float, `b x c x h x w`; changed.
        share: how often an image loses one.
        seed: of all that is drawn, for the whole batch.
        rows: that `x` holds of a batch; None: all.
    """
    from torchvision.transforms import v2

    erase, rows = v2.RandomErasing(p=1.0, inplace=True), rows or Rows(0, len(x), len(x))
    another = torch.empty(1, *x.shape[2:])  # for what is drawn for other processes' images
    with seeded(seed):
        for at in (torch.rand(rows.count) < share).nonzero().flatten().tolist():
            row = (at - rows.start) % rows.count
            erase(x[row] if row < len(x) else another)
    return x


def transformed(x: Tensor, y: Tensor, transform: Callable[..., Any], seed: int) -> Images:
    """Transform the images of a batch one by one, and their masks where `y` is some.

    Args:
        x: uint8, `b x c x h x w`, on the CPU.
        y: of each image; masks where it is uint8, `b x h x w`.
        transform: see `image_transform`.
        seed: of all that is drawn.
    """
    from torchvision import tv_tensors

    from ssr_exp.datasets.mask_policies import MaskImage

    with seeded(seed):
        if y.dtype != torch.uint8:
            return torch.stack([transform(image) for image in x]), y
        pairs = [
            transform(tv_tensors.Image(image), MaskImage(mask[None]))
            for image, mask in zip(x, y, strict=True)
        ]
    images, masks = zip(*pairs, strict=True)
    return torch.stack(images), torch.stack(masks)[:, 0]  # plain tensors again


def mixture(wanted: Augmentation, num_classes: int) -> Callable[[Tensor, Tensor], Any] | None:
    """Return what mixes each image of a batch, and its target, with another one's.

    All images of a batch are mixed by one share, as in mixup (https://arxiv.org/abs/1710.09412)
    and CutMix (https://arxiv.org/abs/1905.04899). Classes, int64 `b`, become probabilities,
    `b x num_classes`. It draws from torch's global generator. None: nothing is asked for.
    """
    from torchvision.transforms import v2

    kinds = ((v2.MixUp, wanted.mixup), (v2.CutMix, wanted.cutmix))
    choices = [kind(alpha=alpha, num_classes=num_classes) for kind, alpha in kinds if alpha]
    return v2.RandomChoice(choices) if choices else None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generator of the CPU, and give it back as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed seeds all GPUs, too
        yield


def check(conf: DatasetConf, splits: Splits, batch_size: int) -> None:
    """Refuse augmentation that cannot be, or that images or targets have no use for.

    Raises:
        SsrError: says which, and what to type.
    """
    c, h, w = splits.image_shape
    _check_crop(conf)
    _check_jitter(conf.color_jitter, is_grey=c == 1)
    _check_policy(conf)
    _check_mixture(conf, splits.train.target, min(batch_size, len(splits.train)))
    _check_cutout(conf.cutout, h, w)


def _check_crop(conf: DatasetConf) -> None:
    scale, ratio = conf.crop_scale, conf.crop_ratio
    if scale is None:
        if ratio != DEFAULT.crop_ratio:
            raise SsrError(
                "dataset.crop_ratio is of resized crops, and none are asked for: type "
                "dataset.crop_scale=[0.08,1] with it, or leave it out."
            )
        return
    if not (len(scale) == 2 and 0 < scale[0] <= scale[1] <= 1):
        raise SsrError(
            f"dataset.crop_scale={_listed(scale)} is no range of shares of an image's area: type "
            "two numbers above 0 and up to 1, such as dataset.crop_scale=[0.08,1]."
        )
    if not (len(ratio) == 2 and 0 < ratio[0] <= ratio[1] < math.inf):
        raise SsrError(
            f"dataset.crop_ratio={_listed(ratio)} is no range of width over height: type two "
            "numbers above 0, such as dataset.crop_ratio=[0.75,1.33]."
        )
    if conf.crop_padding:
        raise SsrError(
            f"dataset.crop_scale and dataset.crop_padding={conf.crop_padding} both crop: type "
            "dataset.crop_padding=0 with dataset.crop_scale, or leave dataset.crop_scale out."
        )


def _check_jitter(jitter: list[float], *, is_grey: bool) -> None:
    if len(jitter) > len(JITTER) or not all(0 <= x < math.inf for x in jitter):
        raise SsrError(
            f"dataset.color_jitter={_listed(jitter)} is not up to four numbers from 0: type "
            f"[{','.join(JITTER)}], such as dataset.color_jitter=[0.4,0.4,0.4,0.1]."
        )
    if any(hue > MOST_HUE for hue in jitter[3:]):
        raise SsrError(
            f"dataset.color_jitter={_listed(jitter)}: the hue, its last number, goes from 0 to "
            f"{MOST_HUE}: type a lower one."
        )
    if is_grey and any(jitter[2:]):
        raise SsrError(
            f"dataset.color_jitter={_listed(jitter)} changes saturation or hue, and the images are "
            f"grey: type dataset.color_jitter={_listed(jitter[:2])}."
        )


def _check_policy(conf: DatasetConf) -> None:
    given = {k: getattr(conf, k) for k in ("num_ops", "magnitude")}
    idle = [k for k, value in given.items() if value != getattr(DEFAULT, k)]
    if idle and conf.auto_augment is not AutoAugment.rand_augment:
        raise SsrError(
            f"dataset.{idle[0]}={given[idle[0]]} is of RandAugment: type "
            "dataset.auto_augment=rand_augment with it, or leave it out."
        )


def _check_mixture(conf: DatasetConf, target: Target, batch_size: int) -> None:
    for key in ("mixup", "cutmix"):
        if not (alpha := getattr(conf, key)):
            continue
        if target is Target.masks:
            raise SsrError(
                f"dataset.{key}={alpha:g} mixes the targets of whole images, and a mask has one "
                f"for each pixel: type dataset.{key}=0."
            )
        if target is Target.numbers and key == "cutmix":
            raise SsrError(
                f"dataset.cutmix={alpha:g} takes a part of another image, which says nothing of "
                "its numbers: type dataset.cutmix=0 (dataset.mixup mixes the numbers, too)."
            )
        if batch_size < 2:
            raise SsrError(
                f"dataset.{key}={alpha:g} mixes the images of a batch, and recipe.batch_size is "
                f"1: type recipe.batch_size=2 or more, or dataset.{key}=0."
            )


def _check_cutout(side: int, h: int, w: int) -> None:
    """Refuse a square that erases images whole wherever its centre lies; warn of a large one."""
    images = f"images of {w} x {h} pixels"
    advice = f"type dataset.cutout={min(h, w) // 2} or another side, or 0 for none."
    if side and side >= 2 * max(h, w) - 1:
        raise SsrError(f"dataset.cutout={side} always erases {images} whole: {advice}")
    if side > min(h, w):
        messages.say_once(
            log, f"dataset.cutout={side} erases most of many {images}, or all: {advice}"
        )


def _listed(numbers: list[float]) -> str:
    return f"[{','.join(f'{x:g}' for x in numbers)}]"
