"""Code of the user's own: what a configuration names as `my_package.MyNet`, and calls."""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib
import importlib.machinery
import inspect
import logging
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from ssr_exp import signals
from ssr_exp.errors import SsrError, cause, is_out_of_memory

log = logging.getLogger(__name__)

MAIN = "__main__"
SCRIPT = (MAIN, "__mp_main__")  # the latter in processes that multiprocessing has spawned
TARGET, PARTIAL = "_target_", "_partial_"  # of an argument that is made, as Hydra spells it
SCRIPTS = Path(__file__).resolve().parents[1]  # where the clone has its own:
COMMANDS = ("train", "search", "report", "export")
LIBRARY = Path(__file__).resolve().parent
UNNAMED = "session."  # before the name of what cannot be imported
_session: dict[str, Callable[..., Any]] = {}
_imports: ContextVar[bool] = ContextVar("imports", default=False)
INSTALLED = [
    Path(sysconfig.get_paths()[name]).resolve()
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
]


def find(target: str, key: str = "model.target") -> Callable[..., Any]:
    """Import what `target` names; the current folder is looked in, too.

    Args:
        target: a dotted name.
        key: of the configuration that it is the value of, for errors.

    Raises:
        SsrError: if it is not there, its import fails, or it cannot be called.
    """
    if (make := _session.get(target)) is not None:
        return make
    if target.startswith(UNNAMED):
        raise SsrError(
            f"{target.removeprefix(UNNAMED)} was a lambda, a function in a function, a cell of "
            "another session's notebook, or in a script whose name is no name of a module (such as "
            "01-search.py): write it as a function of a module, and begin again."
        )
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise SsrError(
            f"{key}={target!r} names nothing that can be imported: type it as "
            f"{key}=my_package.MyName."
        )
    _look_here_first()
    value, count = _module(target, parts, key)
    for end in range(count, len(parts)):
        name = parts[end]
        if not hasattr(value, name):
            file = value.__file__ if _is_own(value) else None
            raise SsrError(
                f"{'.'.join(parts[:end])}{f' ({file})' if file else ''} has no {name!r}"
                f"{nearest(name, dir(value))}: mend {key}={target}."
            )
        value = getattr(value, name)
    if not callable(value) or (hasattr(value, "forward") and not inspect.isclass(value)):
        raise SsrError(
            f"{target} is {article(value)}, where a class or a function is needed: mend {key}."
        )
    return value  # type: ignore[no-any-return]


def _look_here_first() -> None:
    """Let the current folder come before all others, as a script's folder does in Python.

    Another folder on the path may hold a module of the same name: `train.py` is a usual one.
    """
    here = os.getcwd()
    if sys.path[:1] != [here]:
        sys.path[:] = [here, *(place for place in sys.path if place != here)]


def name_of(make: Callable[..., Any]) -> str | None:
    """Name what makes something as `find` reads it; None if it cannot be imported by a name.

    What stands in the script that runs is named by the script's file.
    """
    module, name = getattr(make, "__module__", None), getattr(make, "__qualname__", "")
    if module in SCRIPT:
        module = script_module()
    is_there = module is not None and all(part.isidentifier() for part in name.split("."))
    return f"{module}.{name}" if is_there else None


def is_found(name: str, make: Callable[..., Any]) -> bool:
    """Say whether a name finds this callable, as that of a method or of a wrapper may not.

    Of a module that was loaded anew it finds the new one.
    """
    try:
        found = find(name)
    except SsrError:
        return False
    return found == make or not (inspect.ismethod(make) or _n_wraps(found) != _n_wraps(make))


def _n_wraps(make: Callable[..., Any]) -> int:
    """Count the wrappers that stand around a function, as `functools.wraps` notes them."""
    return 1 + _n_wraps(make.__wrapped__) if hasattr(make, "__wrapped__") else 0


def name_for_session(make: Callable[..., Any]) -> str:
    """Name what cannot be imported by its name, so that `find` finds it in this process alone."""
    short = re.sub(r"\W+", "_", getattr(make, "__name__", type(make).__name__)).strip("_")
    name = f"{UNNAMED}{short}{len(_session) or ''}"
    _session[name] = make
    return name


def script_module() -> str | None:
    """Name the script that runs as a module; None in a notebook, or without a file."""
    main = sys.modules.get(MAIN)
    if (spec := getattr(main, "__spec__", None)) is not None:
        return str(spec.name).removesuffix(f".{MAIN}")
    file = getattr(main, "__file__", None)
    path = Path(file or "")  # a console script such as `ssr` has no suffix, and is no module
    is_ours = path.resolve().parent == SCRIPTS and path.stem in COMMANDS
    return path.stem if path.suffix == ".py" and path.stem.isidentifier() and not is_ours else None


def misnamed_script(make: Callable[..., Any]) -> str | None:
    """Say which name the script that runs would need for what it makes to be imported.

    None where it is no script's name that stands in the way.
    """
    if getattr(make, "__module__", None) not in SCRIPT or script_module() is not None:
        return None
    if not all(part.isidentifier() for part in getattr(make, "__qualname__", "").split(".")):
        return None
    path = Path(getattr(sys.modules.get(MAIN), "__file__", None) or "")
    if path.suffix != ".py" or path.stem.isidentifier():
        return None
    better = re.sub(r"\W+", "_", path.stem).strip("_")
    if not better.isidentifier():
        better = f"script_{better}".rstrip("_")
    return f"{path.name} is no name of a module: call it {better}.py"


def takes(target: str, name: str) -> bool:
    """Say whether what `target` names has an argument of this name.

    Raises:
        SsrError: if it cannot be found.
    """
    return name in _named(find(target))


def call(target: str, arguments: Mapping[str, Any], key: str, offered: Mapping[str, Any]) -> Any:
    """Call what `target` names with arguments by keyword.

    An argument that is a dictionary with `_target_` is made in the same way first, as Hydra does;
    with `_partial_: true` it is a function that waits for its further arguments.

    Args:
        target: a dotted name.
        arguments: by name.
        key: of the configuration that the target is the value of, for errors.
        offered: further arguments, given where the signature names them.

    Raises:
        SsrError: if it cannot be found, or raises.
    """
    make = find(target, key)
    told = {name: value for name, value in offered.items() if name in _named(make)}
    with explained(f"{target} cannot be called"):
        return make(**(told | {name: made(value, key) for name, value in arguments.items()}))


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Put into a sentence how code of the user's own fails; an `SsrError` is one already.

    Args:
        what: it does not do, as the sentence begins: `my_package.Data cannot be set up`.

    Raises:
        SsrError: names the file and the line, too.
    """
    try:
        yield
    except SsrError:
        raise
    except (Exception, SystemExit) as error:
        check_exit(error)
        log.debug("%s", what, exc_info=True)
        raise SsrError(f"{what}: {where(error)}{cause(error)}.") from error


def where(error: BaseException) -> str:
    """Name, before an error's cause, the innermost line of code that is the user's; else nothing.

    A lack of memory is of no line.
    """
    if is_out_of_memory(error):
        return "out of memory, "
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if is_own_file(frame.filename)
        and not Path(frame.filename).resolve().is_relative_to(LIBRARY)
    ]
    return f"in {Path(own[-1].filename).name}, line {own[-1].lineno}, " if own else ""


def check_exit(error: BaseException) -> None:
    """Raise again what ends the process where a handler of a signal, anyone's, did that.

    What Lightning makes of Ctrl-C and of SIGTERM is of that kind. An exit of other code is not,
    whatever its number: `sys.exit("no labels")` is 1, as is that of Ray's handler.
    """
    if isinstance(error, SystemExit):
        signals.check()
        is_of_ctrl_c = isinstance(error.__context__, KeyboardInterrupt)
        if type(error) is not SystemExit or is_of_ctrl_c or signals.is_of_handler(error):
            raise error


def targets(arguments: Any) -> Iterator[str]:
    """List what making arguments calls."""
    if isinstance(arguments, Mapping):
        if TARGET in arguments:
            yield str(arguments[TARGET])
        arguments = list(arguments.values())
    if isinstance(arguments, list | tuple):
        for part in arguments:
            yield from targets(part)


def calls(arguments: Any) -> bool:
    """Say whether making arguments calls something that they name."""
    return any(True for _ in targets(arguments))


def made(value: Any, key: str = "task.trainer") -> Any:
    """Make what an argument stands for; see `call`.

    Raises:
        SsrError: if something that it names cannot be found, or raises.
    """
    if isinstance(value, list | tuple):
        return [made(part, key) for part in value]
    if not isinstance(value, Mapping):
        return value
    if TARGET not in value:
        return {name: made(part, key) for name, part in value.items()}
    rest = {name: part for name, part in value.items() if name not in (TARGET, PARTIAL)}
    if value.get(PARTIAL):
        given = {name: made(part, key) for name, part in rest.items()}
        return functools.partial(find(str(value[TARGET]), key), **given)
    return call(str(value[TARGET]), rest, key, {})


def lies_in(target: str, folder: Path) -> bool:
    """Say whether importing `target` would first run code of a folder; nothing is imported.

    What this process imported already, or is installed, does not count.
    """
    top, below = target.partition(".")[0], folder.resolve()
    if top in sys.modules:
        return False
    try:
        spec = importlib.machinery.PathFinder.find_spec(top, [os.getcwd(), *sys.path])
    except (ImportError, ValueError):
        return False
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    paths = [Path(place).resolve() for place in places if place is not None]
    return any(p.is_relative_to(below) and not p.is_relative_to(sys.prefix) for p in paths)


@functools.cache
def digests(modules: frozenset[str]) -> dict[str, str]:
    """Fingerprint the files of some modules, and of all that these import, by the module's name.

    Comments and layout do not matter. What is installed does not count: its versions are recorded.
    They are read once in a process, which runs the code that it imported, whatever is edited.
    """
    waiting, found = list(modules), dict[str, str]()
    while waiting:
        name = waiting.pop()
        if name in found or not _is_own(module := sys.modules.get(name)):
            continue
        if (tree := parsed(name)) is not None:
            found[name] = hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]
            waiting += _imported(tree, module)
    return dict(sorted(found.items()))


def is_own_file(file: str) -> bool:
    """Say whether a file of code is one that nobody installed."""
    path = Path(file).resolve()
    return path.suffix == ".py" and not any(path.is_relative_to(folder) for folder in INSTALLED)


def made_in(make: Callable[..., Any]) -> str | None:
    """Name the module that defines a callable."""
    while isinstance(make, functools.partial):
        make = make.func
    return getattr(make, "__module__", None)


def parsed(module: str) -> ast.Module | None:
    """Parse a module's source; None where there is none."""
    try:
        return ast.parse(inspect.getsource(sys.modules[module]))
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


@contextmanager
def importing() -> Iterator[None]:
    """Meanwhile a module is imported for what it holds, and is not to begin anything."""
    token = _imports.set(True)
    try:
        yield
    finally:
        _imports.reset(token)


def is_importing() -> bool:
    """Say whether the code that runs is a module that is imported for what it holds."""
    return _imports.get()


def _module(target: str, parts: list[str], key: str) -> tuple[Any, int]:
    """Import the longest part of a dotted name that is a module, and count its parts."""
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        if name == script_module():  # once more, it would run once more
            return sys.modules[MAIN], end
        try:
            with importing():
                return importlib.import_module(name), end
        except SystemExit as error:
            check_exit(error)
            raise SsrError(
                f"{name} cannot be imported: it ends the process ({cause(error)}). What it does as "
                f'a script belongs below `if __name__ == "{MAIN}":`.'
            ) from error
        except Exception as error:
            if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
                continue
            raise SsrError(f"{name} cannot be imported: {where(error)}{cause(error)}.") from error
    raise SsrError(
        f"{key}={target} names no module that can be imported: there is no {parts[0]!r} in "
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


def _is_own(module: Any) -> TypeGuard[ModuleType]:
    file = getattr(module, "__file__", None)
    return file is not None and is_own_file(file)


def _imported(tree: ast.Module, module: ModuleType) -> Iterator[str]:
    """Name the modules that a module may have imported, as far as this process holds them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.__package__ or ""
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
