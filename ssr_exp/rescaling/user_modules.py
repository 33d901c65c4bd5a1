"""Networks of the user's own: what a callable returns, or a part of that."""

from __future__ import annotations

import ast
import hashlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ssr_exp import user_code
from ssr_exp.errors import SsrError

CHANNELS = ("in_channels", "in_chans")  # what an argument for the image's channels may be called
LIBRARIES = ("torch", "torchvision", "timm", "builtins")  # whose versions are recorded
PART = ":"  # between a callable and the attribute that is the network: `my_package.LitNet:net`


def build(
    target: str,
    arguments: Mapping[str, Any],
    *,
    num_classes: int | None,
    in_channels: int | None,
) -> nn.Module:
    """Call what `target` names, as `my_package.MyNet`, with arguments by keyword.

    It is told `num_classes`, and `in_channels` (or `in_chans`), if it names them in its signature;
    nothing, where there are no classes to tell. Of `my_package.LitNet:net` the network is the
    attribute `net`.

    Raises:
        SsrError: if there is no such callable, it raises, or it returns something else.
    """
    name, _, attribute = target.partition(PART)
    key = "task.target" if attribute else "model.target"
    made = user_code.call(name, arguments, key, offered(num_classes, in_channels))
    if attribute:
        return part(made, attribute, name)
    if not isinstance(made, nn.Module):
        raise SsrError(
            f"{name} returns {user_code.article(made)}, not a torch.nn.Module: model.target must "
            "name a class or a function that makes a network."
        )
    return made


def offered(num_classes: int | None, in_channels: int | None) -> dict[str, Any]:
    """List the arguments that a callable is told; none where there are no classes to tell."""
    if num_classes is None:
        return {}
    channels = {} if in_channels is None else dict.fromkeys(CHANNELS, in_channels)
    return {"num_classes": num_classes} | channels


def part(holder: Any, attribute: str, name: str) -> nn.Module:
    """Look up the network that an object holds.

    Args:
        holder: the object.
        attribute: its name there, with dots where it lies deeper.
        name: of what made the object, for errors.

    Raises:
        SsrError: if nothing is there, or no network is.
    """
    value = holder
    for each in attribute.split("."):
        if not hasattr(value, each):
            known = [n for n, _ in value.named_children()] if isinstance(value, nn.Module) else []
            instead = f"; it has {', '.join(known)}" if known else ""
            raise SsrError(
                f"{name} has no {attribute} once it is made{instead}: type task.network=NAME with "
                "the attribute that is the network. One that is made later, in setup or "
                "configure_model, has to be made in __init__, or in a function that task.target "
                "names."
            )
        value = getattr(value, each)
    if not isinstance(value, nn.Module):
        raise SsrError(
            f"{attribute} of {name} is {user_code.article(value)}, not a torch.nn.Module: type "
            "task.network=NAME with the attribute that is the network (made in __init__)."
        )
    if not any(True for _ in value.parameters()):
        raise SsrError(f"{attribute} of {name} has no parameters: there is nothing to rescale.")
    return value


def is_class(target: str) -> bool:
    """Say whether `target` names a class of networks, which making one runs no other code of."""
    value = user_code.find(target.partition(PART)[0])
    return inspect.isclass(value) and issubclass(value, nn.Module)


def lies_in(target: str, folder: Path) -> bool:
    """Say whether importing `target` would first run code of a folder; nothing is imported."""
    return user_code.lies_in(target.partition(PART)[0], folder)


def digest(target: str, network: nn.Module) -> str | None:
    """Fingerprint the files that define a network, or None where there is no source.

    The callable that made it (`target`), all classes of its modules, and what these inherit from,
    count; comments and layout do not matter.
    """
    files = {user_code.made_in(user_code.find(target.partition(PART)[0])), *sources(network)}
    names = {name for name in files if name and name.partition(".")[0] not in LIBRARIES}
    trees = [tree for name in names if (tree := user_code.parsed(name)) is not None]
    code = sorted(map(ast.unparse, trees))  # `ast.dump` differs between Python's versions
    return hashlib.sha256("\n".join(code).encode()).hexdigest()[:16] if code else None


def sources(network: nn.Module) -> set[str]:
    """Name the modules that define a network's classes, and what these inherit from."""
    kinds = {kind for module in network.modules() for kind in type(module).__mro__}
    return {kind.__module__ for kind in kinds}
