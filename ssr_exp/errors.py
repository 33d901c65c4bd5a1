"""The errors that a user may meet, each one sentence that says what to type instead."""

import re

PATH = re.compile(r"(?<![\w./])(?:[A-Za-z]:|~)?[\\/][^\s'\",;()]*")


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


def innermost(error: BaseException) -> BaseException:
    """Follow an error's chain of causes to the first one, which says most."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def without_paths(text: str) -> str:
    """Take out of a text what names folders of a machine, before others see it."""
    return PATH.sub("<path>", text)
