"""Networks of the user's own: any importable callable that returns an `nn.Module`."""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib
import importlib.machinery
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ssr_exp.errors import SsrError, cause

CHANNELS = ("in_channels", "in_chans")  # what an argument for the image's channels may be called
LIBRARIES = ("torch", "torchvision", "timm", "builtins")  # whose versions are recorded


def build(
    target: str, arguments: Mapping[str, Any], *, num_classes: int, in_channels: int
) -> nn.Module:
    """Call the callable that `target` names, as `my_package.MyNet`, with arguments by keyword.

    It is told `num_classes`, and `in_channels` (or `in_chans`), if it names them in its signature.

    Raises:
        SsrError: if there is no such callable, it raises, or it returns something else.
    """
    make = find(target)
    offered = {"num_classes": num_classes} | dict.fromkeys(CHANNELS, in_channels)
    named = _named(make)
    told = {key: value for key, value in offered.items() if key in named}
    try:
        network = make(**(told | dict(arguments)))
    except SsrError:
        raise
    except Exception as error:
        raise SsrError(f"{target} cannot be called: {cause(error)}.") from error
    if not isinstance(network, nn.Module):
        raise SsrError(
            f"{target} returns {article(network)}, not a torch.nn.Module: model.target must name a "
            "class or a function that makes a network."
        )
    return network


def find(target: str) -> Callable[..., Any]:
    """Import what `target` names; the current folder is looked in, too.

    Raises:
        SsrError: if it is not there, its import fails, or it cannot be called.
    """
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise SsrError(
            f"model.target={target!r} names nothing that can be imported: type it as "
            "model.target=my_package.MyNet."
        )
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    value, count = _module(target, parts)
    for end in range(count, len(parts)):
        name = parts[end]
        if not hasattr(value, name):
            raise SsrError(
                f"{'.'.join(parts[:end])} has no {name!r}{nearest(name, dir(value))}: mend "
                f"model.target={target}."
            )
        value = getattr(value, name)
    if isinstance(value, nn.Module) or not callable(value):
        raise SsrError(
            f"{target} is {article(value)}, where a class or a function that makes a network is "
            "needed."
        )
    return value  # type: ignore[no-any-return]


def is_class(target: str) -> bool:
    """Say whether `target` names a class of networks, which making one runs no other code of."""
    value = find(target)
    return inspect.isclass(value) and issubclass(value, nn.Module)


def lies_in(target: str, folder: Path) -> bool:
    """Say whether importing `target` would first run code of a folder; nothing is imported.

    What this process imported already, or is installed, does not count.
    """
    top, below = target.partition(".")[0], folder.resolve()
    if top in sys.modules:
        return False
    try:
        spec = importlib.machinery.PathFinder.find_spec(top, [*sys.path, os.getcwd()])
    except (ImportError, ValueError):
        return False
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    paths = [Path(place).resolve() for place in places if place is not None]
    return any(p.is_relative_to(below) and not p.is_relative_to(sys.prefix) for p in paths)


def digest(target: str, network: nn.Module) -> str | None:
    """Fingerprint the files that define a network, or None where there is no source.

    The callable that made it (`target`), all classes of its modules, and what these inherit from,
    count; comments and layout do not matter.
    """
    made_by: Any = find(target)
    while isinstance(made_by, functools.partial):
        made_by = made_by.func
    kinds = {kind for module in network.modules() for kind in type(module).__mro__}
    files = {getattr(made_by, "__module__", None), *(kind.__module__ for kind in kinds)}
    names = {name for name in files if name and name.partition(".")[0] not in LIBRARIES}
    code = sorted(text for name in names if (text := _normal(name)) is not None)
    return hashlib.sha256("\n".join(code).encode()).hexdigest()[:16] if code else None


def _normal(module: str) -> str | None:
    """Read a module's source as Python writes it; `ast.dump` differs between its versions."""
    try:
        return ast.unparse(ast.parse(inspect.getsource(sys.modules[module])))
    except (KeyError, OSError, TypeError, SyntaxError):
        return None


def nearest(name: str, names: Iterable[str]) -> str:
    """End a sentence on an unknown name with those that it may be a typo of."""
    close = difflib.get_close_matches(name, list(names), n=4, cutoff=0.6)
    return f"; the nearest names are {', '.join(close)}" if close else ""


def article(value: object) -> str:
    """Name the type of a value: `a dict`, `an int`."""
    kind = type(value).__name__
    return f"an {kind}" if kind[0] in "aeiouAEIOU" else f"a {kind}"


def _module(target: str, parts: list[str]) -> tuple[Any, int]:
    """Import the longest part of a dotted name that is a module, and count its parts."""
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        try:
            return importlib.import_module(name), end
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
                continue
            raise SsrError(f"{name} cannot be imported: {cause(error)}.") from error
    raise SsrError(
        f"model.target={target} names no module that can be imported: there is no {parts[0]!r} in "
        "the current folder or on Python's path."
    )


def _named(make: Callable[..., Any]) -> set[str]:
    """List the arguments that a callable takes by these names; `**kwargs` names none."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):
        return set()
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name for p in parameters if p.kind in by_name}
