"""How a command line is taken: words in any order, and a sentence for what cannot be met.

Hydra composes what is typed; what it would refuse in its own words, or take in silence, is found
here first, without composing anything.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from omegaconf.errors import OmegaConfBaseException

from ssr_exp import messages, streams
from ssr_exp.app.command_line import data_folder, quoting
from ssr_exp.app.command_line.overrides import Checker, no_preset, parse
from ssr_exp.errors import SsrError, cause, innermost, of_a_path

LAUNCHER = "hydra.launcher."
TRACES = "HYDRA_FULL_ERROR"  # environment: what it is set to 1 for
SHOWS = ("help", "hydra_help", "cfg", "info", "shell_completion")  # flags that run nothing


def run(main: Callable[[], Any], command: str) -> None:
    """Run an entry point on what was typed.

    Args:
        main: decorated by Hydra.
        command: train, search, export or report.

    Raises:
        SystemExit: with a sentence, if the command cannot be met.
    """
    streams.outlive_readers()
    typed = sys.argv
    try:
        with messages.command(), _refusals():
            _refuse_ranks(os.environ, command)
            sys.argv = [typed[0], *arguments(typed[1:], command)]
            main()
    finally:
        sys.argv = typed


def arguments(typed: Sequence[str], command: str) -> list[str]:
    """Check what was typed, and put it into the order that Hydra's parser takes.

    Raises:
        SsrError: if it cannot be met.
    """
    parser = get_args_parser()
    refuse = partial(_refuse, command, options=tuple(parser._option_string_actions))
    parser.error = refuse  # type: ignore[method-assign]
    options, unknown = parser.parse_known_intermixed_args(list(typed))
    if unknown:
        refuse(f"unrecognized arguments: {unknown[0]}")
    overrides = list(options.overrides or [])
    flags = list(typed)
    for word in overrides:
        flags.remove(word)
    shows = any(getattr(options, name) for name in SHOWS)
    if shows:
        flags = [flag for flag in flags if flag not in ("-m", "--multirun")]
    if options.shell_completion or options.experimental_rerun:
        return [*overrides, *flags]
    folders = [Path(options.config_dir)] if options.config_dir else []
    checked = Checker(command, folders).check(overrides)
    if not shows:
        data_folder.check(parse(checked))
    is_plain = not (shows or options.run or options.multirun)
    if is_plain and not any(word.startswith("hydra.mode=") for word in checked):
        flags.append("-m")  # as conf/ has it; Hydra asks, and reads the answer from an error, too
    return [*checked, *flags]


def _refuse_ranks(environment: Mapping[str, str], command: str) -> None:
    """Refuse to be one of several processes that are to train one network together.

    Raises:
        SsrError: if it is: each would do all that the command says.
    """
    world = environment.get("WORLD_SIZE", "1")
    if "RANK" in environment and world != "1":
        raise SsrError(
            f"this is process {environment['RANK']} of {world} (RANK, WORLD_SIZE), as torchrun "
            f"starts them, and each would repeat the command: type "
            f"{messages.typed(command, f'trainer.devices={world}')}, without torchrun."
        )


def _refuse(command: str, message: str, options: Collection[str] = ()) -> NoReturn:
    """Turn what argparse says into a sentence, with the nearest of its options."""
    word = message.removeprefix("unrecognized arguments: ")
    name, equals, value = word.partition("=")
    if word != message and (near := difflib.get_close_matches(name, options, 1, 0.85)):
        raise SsrError(
            f"{messages.named(command)} has no option {name}: type {near[0]}{equals}{value}."
        )
    if word != message and word.lstrip("-").partition("=")[1]:
        raise SsrError(f"{word}: settings are typed without dashes: {word.lstrip('-')}.")
    if word != message:
        raise SsrError(
            f"{messages.named(command)} has no option {word}: settings are typed as KEY=VALUE, and "
            f"{messages.typed(command, '--hydra-help')} lists the options."
        )
    raise SsrError(f"{message}: {messages.typed(command, '--hydra-help')} lists the options.")


@contextmanager
def _refusals() -> Iterator[None]:
    """End with one sentence where Hydra would print several lines, or a traceback.

    With HYDRA_FULL_ERROR=1 tracebacks are shown, as Hydra promises.

    Raises:
        SystemExit: with the sentence.
    """
    shows_traces = os.environ.get(TRACES) == "1"
    os.environ[TRACES] = "1"  # so that errors come here instead of being printed
    try:
        yield
    except Exception as error:
        if shows_traces and not isinstance(error, SsrError):
            raise
        raise SystemExit(quoting.shown(_sentence(error))) from None
    finally:
        if not shows_traces:
            os.environ.pop(TRACES, None)


def _sentence(error: Exception) -> str:
    """Say what Hydra or OmegaConf refuses."""
    first = error if isinstance(error, SsrError) else innermost(error)
    if isinstance(first, SsrError):
        return str(first)
    if (said := of_a_path(first)) is not None:
        return said
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        return no_preset(group, name, list(error.options))
    text = _joined(str(error).partition("Config search path:")[0])
    if text.startswith(f"Could not override '{LAUNCHER}"):
        key = text.split("'")[1]
        return f"{key} is a key of another launcher: type hydra/launcher=NAME with it."
    if text.startswith(("Ambiguous value", "Sweep parameters")):
        return "one configuration can be shown or run so: type one value of each key."
    if isinstance(error, ConfigCompositionException) and first is not error:
        return _joined(f"{text}: {first}" if text else str(first))
    if isinstance(error, HydraException | OmegaConfBaseException | ValueError):
        return text or cause(error)
    return f"this is a fault of ssr_exp's ({cause(error)}): {TRACES}=1 before the command shows it."


def _joined(text: str) -> str:
    """Put lines into one, without those that name OmegaConf's objects or advise a `+`."""
    lines = [line.strip() for line in text.splitlines()]
    dropped = ("To append", "full_key:", "object_type=", "Set the environment", "See https://")
    kept = [line for line in lines if line and not line.startswith(dropped)]
    return " ".join(kept)
