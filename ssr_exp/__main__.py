"""The command `ssr`, and `python -m ssr_exp`: `ssr search model=resnet56`, from any folder."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable

import ssr_exp
from ssr_exp import command_options, messages, signals, streams

HYDRA = {
    "train": "train rescaled versions of a network, each once, and print their trade-offs",
    "search": "train few of them, predict the others, hand over the smallest good enough",
    "report": "write the page of all trade-offs, or W&B dashboards",
    "export": "write a trained network for a device: ONNX, ExecuTorch, torch.export",
}
OWN = {
    "latency": "measure networks on this machine",
    "anatomy": "show a network's segments, costs and lattice; nothing is trained",
    "studies": "list, compare, name and remove studies",
}
HELP = """\
Structured Segment Rescaling: rebuild a ConvNet smaller, train few, predict the rest.

  ssr anatomy resnet56
  ssr train model=resnet56 modifiers=sentinel_all dataset=cifar10
  ssr search model=resnet56 dataset=cifar10 rounds=3 batch=4
  ssr search model=module model.target=my_package.MyNet \\
    dataset=image_folder dataset.root=DIR dataset.resize=96
  ssr export run=best format=onnx

{commands}

`ssr COMMAND --help` says more. train, search, report and export take KEY=VALUE, and presets of
your own from --config-dir DIR (DIR/recipe/mine.yaml is recipe=mine)."""


def main(command: str | None = None) -> int:
    """Carry out what was typed, `sys.argv`.

    Args:
        command: that it is of; None: its first word.

    Returns:
        The exit code; 0 if all is well.
    """
    streams.outlive_readers()
    script, *words = sys.argv
    with messages.called_as(script if command else None):
        if command is None:
            command, *words = words or ["--help"]
        if command in HYDRA:
            with signals.at_once():  # from the first moment on
                from ssr_exp.app.command_line import hydra_main

                sys.argv = [script, *words]
                hydra_main.run(command)
            return 0
        return _own(command, words) if command in OWN else _about(command)


def _own(command: str, words: list[str]) -> int:
    """Carry out a command that has nothing to compose."""
    with signals.at_once():
        if command in ("anatomy", "latency"):  # --help and slips, before PyTorch is imported
            getattr(command_options, command)().parse_args(words)
        carry_out = _imported(command)
        if command == "anatomy":  # it writes nothing; the others end Ctrl-C in their own order
            return carry_out(words)
    return carry_out(words)


def _imported(command: str) -> Callable[[list[str]], int]:
    if command == "latency":
        from ssr_exp.edge.__main__ import main as carry_out
    elif command == "anatomy":
        from ssr_exp.rescaling.__main__ import main as carry_out
    else:
        from ssr_exp.app.studies.__main__ import main as carry_out
    return carry_out


def _about(word: str) -> int:
    """Print what is asked of `ssr` itself."""
    commands = HYDRA | OWN
    if word in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {n:<9}{what}" for n, what in commands.items())))
        return 0
    if word == "--version":
        print(f"ssr_exp {ssr_exp.__version__}")
        return 0
    near = difflib.get_close_matches(word, commands, n=1)
    meant = f"the nearest is {near[0]}" if near else f"there are {', '.join(commands)}"
    print(f"ssr {word}: there is no such command, {meant}: ssr --help says what.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
