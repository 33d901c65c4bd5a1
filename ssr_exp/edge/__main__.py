"""`python -m ssr_exp.edge STUDY` measures a study's networks and prints them beside the seed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ssr_exp import terminal
from ssr_exp.edge import finished, latency, table
from ssr_exp.errors import SsrError


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the networks of the study that the command line names."""
    options = _parser().parse_args(arguments)
    try:
        _check(options)
        _print(options)
    except SsrError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _print(options: argparse.Namespace) -> None:
    study = finished.read(options.study, trust=options.trust)
    latencies = latency.measure(
        study.build(),
        study.input_shape,
        batch=options.batch,
        threads=options.threads,
        repeats=options.repeats,
    )
    device, console = latency.device(options.threads), terminal.console()
    console.print(table.lay_out(study, latencies, markdown=options.markdown))
    console.print(
        f"latency: median of {options.repeats} turns, batch {options.batch}, on {device}, "
        f"PyTorch {torch.__version__}"
    )
    if not study.networks[0].records:
        console.print("the seed network has no finished run: train it with modifiers=baseline")
    if options.write:
        medians = {network: own.ms for network, own in latencies.items()}
        console.print(f"written to {study.write(medians, device)} records")


def _check(options: argparse.Namespace) -> None:
    if options.write and options.batch != 1:
        raise SsrError(
            f"--batch is {options.batch}, but a record's latency is that of one image: type "
            "--batch 1, or leave --write out."
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ssr_exp.edge",
        description="Measure the latency of a study's finished networks on this CPU, and print "
        "size, latency and accuracy against the seed network.",
    )
    parser.add_argument("study", type=Path, help="the study's folder, paths.runs/<study>")
    parser.add_argument("--batch", type=int, default=1, help="images at once (1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (1)")
    parser.add_argument("--repeats", type=int, default=30, help="turns of each network (30)")
    parser.add_argument("--write", action="store_true", help="put latencies into the records")
    parser.add_argument("--markdown", action="store_true", help="print the table for a file")
    parser.add_argument(
        "--trust", action="store_true", help="call the function that makes the seed network"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
