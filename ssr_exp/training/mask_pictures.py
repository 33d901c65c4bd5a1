"""A picture of what a network makes of images, for people: each beside both its masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import ImageColor
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.utils import draw_segmentation_masks, make_grid, save_image

from ssr_exp.datasets.batches import Batches
from ssr_exp.datasets.images import Images, Splits, Target
from ssr_exp.outputs import tensors

COUNT = 4  # images
SIDE, LONGEST = 128, 256  # pixels: the least of a short side, and the most of a long one
OPACITY = 0.6  # of masks
FIRST_HUE, GOLDEN_ANGLE = 215, 137.5  # degrees: hues so far apart are all different


def write(path: Path, network: nn.Module, splits: Splits) -> None:
    """Draw a few images of val, or of test where val was learnt from; nothing where there is none.

    A row is an image, the image under its true mask, and under the predicted one. Pixels that count
    nowhere have no colour.
    """
    part = splits.val or splits.test
    if part is None or part.target is not Target.masks:
        return
    some = part.subset(torch.linspace(0, len(part) - 1, min(COUNT, len(part))).long().numpy())
    batches = Batches(some, mean=splits.mean, std=splits.std, batch_size=len(some))
    with torch.inference_mode():
        predicted = torch.cat([next(tensors(network(x))).argmax(1) for x, _ in batches]).byte()
    rows = [
        picture
        for pixels, truth, guess in zip(some.pixels[:], some.labels, predicted, strict=True)
        for picture in (
            _drawn(pixels),
            _masked(pixels, truth, some),
            _masked(pixels, guess, some),
        )
    ]
    save_image(make_grid(torch.stack(rows).float() / 255, nrow=3, pad_value=1.0), path)


def _masked(pixels: Tensor, mask: Tensor, images: Images) -> Tensor:
    """Lay the colours of its classes over an image, uint8 `3 x h x w`."""
    shown = _fitted(mask[None], mode="nearest-exact")  # mixes no classes
    held = shown == torch.arange(len(images.classes))[:, None, None]
    hues = [(FIRST_HUE + GOLDEN_ANGLE * place) % 360 for place in range(len(images.classes))]
    colors = [ImageColor.getrgb(f"hsl({hue:.0f},85%,50%)") for hue in hues]
    drawn: Tensor = draw_segmentation_masks(_drawn(pixels), held, alpha=OPACITY, colors=colors)
    return drawn


def _drawn(pixels: Tensor) -> Tensor:
    return _fitted(pixels.expand(3, -1, -1), mode="bilinear", antialias=True)


def _fitted(picture: Tensor, **how: Any) -> Tensor:
    """Shrink a large picture, uint8 `c x h x w`, and repeat each pixel of a small one."""
    h, w = picture.shape[-2:]
    if (longer := max(h, w)) > LONGEST:
        size = [max(1, round(side * LONGEST / longer)) for side in (h, w)]
        return F.interpolate(picture[None], size, **how)[0]
    factor = max(1, min(-(-SIDE // min(h, w)), LONGEST // longer))
    return picture.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
