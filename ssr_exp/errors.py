"""The errors that a user may meet, each one sentence that says what to type instead."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

ABSOLUTE = re.compile(r"[A-Za-z]:[\\/]|[~/\\]")  # how a text begins that is a path, spaces and all
PATH = re.compile(r"(?<![\w./])(?:[A-Za-z]:|~)?[\\/][^\s'\",;()]*")
NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")


class SsrError(Exception):
    """Base of every error that the user can mend: wrong input, missing data, a full disk.

    The message says what was wrong, what is allowed and what to type. Entry points print it
    without a traceback and exit with a code other than 0. It holds one string, so that it
    survives being pickled between the processes of a launcher.
    """


def cause(error: BaseException) -> str:
    """Put someone else's error into a part of a sentence: its kind and its first line."""
    text, kind = str(error).strip().partition("\n")[0].rstrip("."), type(error).__name__
    return f"{kind}: {text}" if text else kind


def one_line(text: str) -> str:
    """Replace what would break a line, or act on a terminal, as the name of a file may hold it."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


@contextmanager
def in_one_line() -> Iterator[None]:
    """Keep the sentence of an error one line, whatever names are in it."""
    try:
        yield
    except SsrError as error:
        raise SsrError(one_line(str(error))) from error.__cause__


@contextmanager
def only_ssr_errors(what: str) -> Iterator[None]:
    """Turn every error but `SsrError` into one: it is a fault of this library's, and says so.

    Args:
        what: could not be done, as the sentence begins.
    """
    try:
        yield
    except SsrError:
        raise
    except Exception as error:
        raise SsrError(
            f"{what} ({cause(error)}): a fault of ssr_exp's, not of yours. Please report it, with "
            "the code of the network."
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Recognise a lack of memory, of the device or of the host; torch's error is a RuntimeError."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(t in str(error).lower() for t in NO_MEMORY)


def of_a_path(error: BaseException) -> str | None:
    """Say in a sentence what is wrong with a path that somebody typed; None of other errors."""
    if isinstance(error, PermissionError) and error.filename is not None:
        return f"{error.filename} is not open to you ({error.strerror}): name another place."
    if isinstance(error, RuntimeError) and "home directory" in str(error):  # Path.expanduser's
        return "a path begins with ~, and no such home folder is known: type the whole path."
    return None


def innermost(error: BaseException) -> BaseException:
    """Follow an error's chain of causes to the first one, which says most."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def without_paths(text: str) -> str:
    """Take out of a text what names folders of a machine, before others see it."""
    return PATH.sub("<path>", text)


def unlocated(value: Any) -> Any:
    """Copy nested settings without what names folders of a machine, before others see them."""
    if isinstance(value, Mapping):
        return {key: unlocated(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [unlocated(part) for part in value]
    if type(value) is not str:
        return value
    return "<path>" if ABSOLUTE.match(value) else without_paths(value)
