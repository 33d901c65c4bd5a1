"""Masks that follow what torchvision does to images: its policies take nothing else.

And its resizing shifts its own masks by up to half a pixel against their images. So a mask is a
tv_tensor of another kind: what moves images moves it, too, and what recolours them leaves it as it
is. How kinds are registered:
https://docs.pytorch.org/vision/stable/auto_examples/transforms/plot_custom_tv_tensors.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

COLORS = (
    *(F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue),
    *(F.adjust_sharpness, F.autocontrast, F.equalize, F.invert, F.posterize, F.solarize),
)


class MaskImage(tv_tensors.Image):  # type: ignore[misc]
    """A mask as an image, uint8 `1 x h x w`."""


def with_masks(policy: Callable[..., Any]) -> Callable[..., Any]:
    """Let a policy take a mask behind an image, too, and return both."""

    def transform(image: Tensor, mask: MaskImage | None = None) -> Any:
        if mask is None:
            return policy(image)
        before = torch.get_rng_state()
        moved = policy(image)
        torch.set_rng_state(before)  # the mask's draws are the image's
        return moved, policy(mask)

    return transform


def _kept(mask: MaskImage, *_: Any, **__: Any) -> MaskImage:
    return mask


def _moved(
    kernel: Callable[..., Tensor], nearest: InterpolationMode = InterpolationMode.NEAREST
) -> Callable[..., Any]:
    def move(mask: MaskImage, *args: Any, **options: Any) -> Any:
        options["interpolation"] = nearest  # mixes no classes
        return tv_tensors.wrap(kernel(mask.as_subclass(Tensor), *args, **options), like=mask)

    return move


for _operation in COLORS:
    F.register_kernel(_operation, MaskImage)(_kept)
F.register_kernel(F.affine, MaskImage)(_moved(F.affine_image))
F.register_kernel(F.resized_crop, MaskImage)(
    _moved(F.resized_crop_image, InterpolationMode.NEAREST_EXACT)  # NEAREST takes the pixel above
)
F.register_kernel(F.rotate, MaskImage)(_moved(F.rotate_image))
