"""The seed network as a command line names it: `MODEL --size 32 --classes 10 --segment stage`."""

from __future__ import annotations

import argparse

from ssr_exp.config import ModelConf, SegmentConf, Shortcut, Source, Stem
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import seeds, segmentations

MODELS = f"{', '.join(seeds.names())}, torchvision/NAME, timm/NAME, or your own as my_package.MyNet"


def add_network(parser: argparse._ActionsContainer) -> None:
    """Let a parser read how a network meets its images, and how it is split."""
    parser.add_argument(
        "--size", type=int, help="image side in pixels (32; torchvision/, timm/, your own: 224)"
    )
    parser.add_argument("--channels", type=int, default=3, help="image channels (3)")
    parser.add_argument(
        "--classes", type=int, help="classes (10; torchvision/ and timm/ at 224 pixels: 1000)"
    )
    parser.add_argument("--stem", choices=[s.value for s in Stem], default=Stem.auto.value)
    parser.add_argument("--shortcut", choices=[s.value for s in Shortcut], default="A")
    kinds = ", ".join(segmentations.KINDS)
    parser.add_argument("--segment", default="stage", metavar="KIND", help=f"{kinds} (stage)")
    parser.add_argument(
        "--patterns", nargs="*", default=[], help="for manual: modules' names, one a segment: a.*"
    )
    parser.add_argument(
        "--multiple", type=int, help="round channels to it (4 for CIFAR ResNets, 8)"
    )
    parser.add_argument("--width-steps", type=int, default=8, help="lattice widths are k/N (8)")
    parser.add_argument("--frozen", nargs="*", default=[], help="segments that stay as they are")


def model(name: str, options: argparse.Namespace) -> ModelConf:
    """Read the seed network; sizes that were not given are set to those that it is known for.

    Raises:
        SsrError: if there is no such network, or a size is too small.
    """
    conf = seeds.parse(name, stem=Stem(options.stem), shortcut=Shortcut(options.shortcut))
    if options.size is None:
        options.size = 32 if conf.source is Source.builtin else 224
    if options.classes is None:
        is_imagenet = conf.source in (Source.torchvision, Source.timm) and options.size == 224
        options.classes = 1000 if is_imagenet else 10
    for size in ("size", "channels", "classes"):
        if getattr(options, size) < 1:
            raise SsrError(f"--{size} is {getattr(options, size)}; it must be 1 or more.")
    return conf


def input_shape(options: argparse.Namespace) -> tuple[int, int, int]:
    """Read channels, height and width of the images, in pixels."""
    return options.channels, options.size, options.size


def segment(options: argparse.Namespace) -> SegmentConf:
    """Read how the network is split."""
    return SegmentConf(
        kind=options.segment,
        multiple=options.multiple,
        frozen=options.frozen,
        patterns=options.patterns,
    )
