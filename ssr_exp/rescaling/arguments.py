"""The seed network as a command line names it: `MODEL --size 32 --classes 10 --segment stage`."""

from __future__ import annotations

import argparse
import re

import torch

from ssr_exp import user_code
from ssr_exp.config import ModelConf, SegmentConf, Shortcut, Source, Stem
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import seeds
from ssr_exp.rescaling.inputs import Example, Inputs

SHAPE = re.compile(r"[1-9]\d{0,6}(x[1-9]\d{0,6}){0,7}", re.IGNORECASE)


def model(name: str, options: argparse.Namespace) -> ModelConf:
    """Read the seed network; sizes that were not given are set to those that it is known for.

    Raises:
        SsrError: if there is no such network, or a size is too small.
    """
    conf = seeds.parse(name, stem=Stem(options.stem), shortcut=Shortcut(options.shortcut))
    _check_inputs(options)
    options.inputs = _inputs(conf, options)
    if options.inputs is not None:
        return conf
    if options.shape is not None:
        (shape,) = _shapes(options)
        options.channels, options.size = shape[0], max(shape[1:])
    own = conf.target if conf.source is Source.module else None
    options.assumes_size = own is not None and options.size is None
    if options.channels is None:
        options.channels = 3
    if options.size is None:
        options.size = 32 if conf.source is Source.builtin else 224
    if options.classes is None and (own is None or user_code.takes(own, "num_classes")):
        is_imagenet = conf.source in (Source.torchvision, Source.timm) and options.size == 224
        options.classes = 1000 if is_imagenet else 10
    for size in ("size", "channels", "classes"):
        if (value := getattr(options, size)) is not None and value < 1:
            raise SsrError(f"--{size} is {value}; it must be 1 or more.")
    return conf


def assumed(options: argparse.Namespace) -> str:
    """Say which size of images nobody gave; empty: it was given, or is what the network is for."""
    if options.inputs is not None or not options.assumes_size:
        return ""
    return f"images of {options.size} pixels are assumed: --size or --shape says another"


def input_shape(options: argparse.Namespace) -> tuple[int, ...]:
    """Read channels, height and width of the images, in pixels; of other inputs the first."""
    if options.shape is not None:
        return _shapes(options)[0]
    return (options.channels or 1, options.size or 1, options.size or 1)


def inputs(options: argparse.Namespace) -> Example | None:
    """Say what a network of the user's own is called with, once `model` read it.

    None: one batch of images.
    """
    example: Example | None = options.inputs
    return example


def _inputs(conf: ModelConf, options: argparse.Namespace) -> Example | None:
    if options.example is not None:
        example: Example = user_code.call(options.example, {}, "--example", {})
        return example
    shapes = _shapes(options)
    if len(shapes) == 1:
        is_fitted = options.classes is not None or conf.source is not Source.module
        return None if len(shapes[0]) == 3 and is_fitted else shapes[0]
    return Inputs(tuple(torch.zeros(2, *shape) for shape in shapes)) if shapes else None


def _check_inputs(options: argparse.Namespace) -> None:
    given = options.size, options.channels
    if options.shape is not None and options.example is not None:
        raise SsrError("--shape and --example say the same: type one of them.")
    if (options.shape or options.example) and given != (None, None):
        raise SsrError("--size and --channels are of images: leave them out with --shape.")


def _shapes(options: argparse.Namespace) -> list[tuple[int, ...]]:
    """Read shapes such as `1x16000`."""
    shapes = []
    for text in options.shape or ():
        if not SHAPE.fullmatch(text):
            raise SsrError(
                f"--shape {text} is no shape: type the sizes of one input without the batch, as "
                "3x64x96 or 1x16000."
            )
        shapes.append(tuple(map(int, text.lower().split("x"))))
    return shapes


def segment(options: argparse.Namespace) -> SegmentConf:
    """Read how the network is split."""
    return SegmentConf(
        kind=options.segment,
        multiple=options.multiple,
        frozen=options.frozen,
        patterns=options.patterns,
        depth=options.depth,
        at_most=options.at_most,
    )
