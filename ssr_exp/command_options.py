"""What `ssr anatomy` and `ssr latency` take: read before PyTorch is imported."""

from __future__ import annotations

import argparse
from pathlib import Path

from ssr_exp.config import LatencyConf, PathsConf, Shortcut, Stem

# What rooms have, by name; a law holds them to it.
SEEDS = (
    "resnet8 resnet14 resnet20 resnet32 resnet44 resnet56 resnet110 resnet18 resnet34 resnet50 "
    "resnet101 resnet152 resnext50_32x4d resnext101_32x8d resnext101_64x4d wide_resnet50_2 "
    "wide_resnet101_2 unet"
).split()
KINDS = "stage superblock block channels whole manual".split()
RUNTIMES = "eager compile onnxruntime executorch cuda cuda_graphs onnxruntime_cuda".split()
NOISY = 0.3  # spread from which a latency says more of the machine than of the network
MODELS = f"{', '.join(SEEDS)}, torchvision/NAME, timm/NAME, or your own as my_package.MyNet"


def anatomy() -> argparse.ArgumentParser:
    """Make what reads `ssr anatomy`."""
    parser = argparse.ArgumentParser(
        prog="ssr anatomy",
        description="Print a network's segments, exact costs and lattice size; nothing is trained.",
    )
    parser.add_argument("model", help=MODELS)
    add_network(parser)
    return parser


def latency() -> argparse.ArgumentParser:
    """Make what reads `ssr latency`."""
    parser = argparse.ArgumentParser(
        prog="ssr latency",
        description="Measure latency on this machine, all networks and runtimes in turn.",
    )
    what = (
        f"a study's folder, paths.runs/<study>, or its name below {PathsConf().runs}/; or a model: "
        f"{MODELS}"
    )
    parser.add_argument("what", help=what)
    usual, add = LatencyConf(), parser.add_argument
    names, noisy = ", ".join(RUNTIMES), NOISY
    add("--runtime", nargs="+", default=["eager"], metavar="NAME", help=f"{names} (eager)")
    add("--network", nargs="+", metavar="CODE", help="these, trained or not")
    add("--batch", type=int, nargs="+", default=[1], help="images at once (1)")
    add("--threads", type=int, default=1, help="threads of the runtime (1)")
    add("--repeats", type=int, default=30, help="turns of each network (30)")
    noise = f"noise that is allowed: quartiles' distance over the median ({noisy:g})"
    add("--spread", type=float, default=noisy, help=noise)
    write = "put latencies into the records; latency_ms is that of the first runtime"
    add("--write", action="store_true", help=write)
    add("--markdown", action="store_true", help="print the table for a file")
    fit = f"measure N networks of the lattice and fit a latency model ({usual.networks})"
    add("--fit", type=int, nargs="?", const=usual.networks, metavar="N", help=fit)
    held_out = f"further networks, that check the model ({usual.held_out})"
    add("--held-out", type=int, default=usual.held_out, help=held_out)
    add("--out", type=Path, metavar="FILE", help="where --fit puts its table")
    add("--trust", action="store_true", help="call the function that makes the seed network")
    add_network(parser.add_argument_group("of a model"))
    return parser


def add_network(parser: argparse._ActionsContainer) -> None:
    """Let a parser read how a network meets its images, and how it is split."""
    parser.add_argument(
        "--size", type=int, help="image side in pixels (32; torchvision/, timm/, your own: 224)"
    )
    parser.add_argument("--channels", type=int, help="image channels (3)")
    parser.add_argument(
        "--shape",
        action="append",
        metavar="CxHxW",
        help="of one input without the batch, instead of --size and --channels: 3x64x96, 1x16000; "
        "once for each input of your own network",
    )
    parser.add_argument(
        "--example",
        metavar="FUNCTION",
        help="for all other inputs of your own network: my_package.function, which returns a batch "
        "of them: a tensor, tuple, dictionary or ssr_exp.Inputs",
    )
    parser.add_argument(
        "--classes",
        type=int,
        help="classes (10; torchvision/ and timm/ at 224 pixels: 1000; your own: as it is made)",
    )
    stems, shortcuts = ([one.value for one in kind] for kind in (Stem, Shortcut))
    meets = "how a network made for large images meets small ones (auto)"
    parser.add_argument("--stem", choices=stems, default=Stem.auto.value, help=meets)
    parser.add_argument("--shortcut", choices=shortcuts, default="A", help="of CIFAR ResNets (A)")
    kinds = ", ".join(KINDS)
    parser.add_argument("--segment", default="stage", metavar="KIND", help=f"{kinds} (stage)")
    parser.add_argument(
        "--patterns", nargs="*", default=[], help="for manual: modules' names, one a segment: a.*"
    )
    parser.add_argument(
        "--depth", action="store_true", help="for channels: stages keep fewer of their blocks, too"
    )
    parser.add_argument(
        "--at-most", type=int, metavar="N", help="segments: the most alike ones are merged"
    )
    parser.add_argument(
        "--multiple", type=int, help="round channels to it (4 for CIFAR ResNets and U-Nets, 8)"
    )
    parser.add_argument("--width-steps", type=int, default=8, help="lattice widths are k/N (8)")
    parser.add_argument("--frozen", nargs="*", default=[], help="segments that stay as they are")

    parser.set_defaults(inputs=None, assumes_size=False)
