"""Standard output and error that nobody reads any more end nothing that is being done.

`ssr train ... | head` closes the pipe after ten lines, a terminal may be closed, a disk that output
goes to may be full. Trainings go on, and what is said afterwards is dropped.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any

NAMES = {"stdout": 1, "stderr": 2}
GONE = (errno.EPIPE, errno.EBADF, errno.EIO)  # who read has left, as `head` does: nothing is wrong


def outlive_readers() -> None:
    """Let the process outlive the readers of its output; repeated calls change nothing.

    Streams that somebody replaced, a notebook or a test, stay as they are.
    """
    for number in range(3):
        _fill(number)
    for name, number in NAMES.items():
        usual = getattr(sys, f"__{name}__")
        if getattr(sys, name) is usual and not isinstance(_raw(usual), _Endless):
            stream = _stream(usual, name, number)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


class _Endless(io.FileIO):
    """A descriptor that takes everything: after its first error, into nothing."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            _silence(self.fileno(), error)
            return memoryview(data).nbytes


def _stream(usual: io.TextIOWrapper | None, name: str, number: int) -> io.TextIOWrapper:
    """Open a descriptor as Python does, but for errors; None was closed when Python started."""
    raw = _Endless(number, "w", closefd=False)
    if usual is None:
        return io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace")
    with suppress(OSError, ValueError):
        usual.flush()
    errors = "backslashreplace" if usual.errors == "strict" else usual.errors
    # -u and PYTHONUNBUFFERED: nothing between text and descriptor. mypy knows no raw ones here.
    buffer: Any = raw if usual.write_through else io.BufferedWriter(raw)
    is_prompt = usual.line_buffering
    return io.TextIOWrapper(
        buffer,
        usual.encoding,
        errors,
        line_buffering=is_prompt,
        write_through=usual.write_through,
    )


def _raw(stream: Any) -> Any:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def _fill(number: int) -> None:
    """Keep a file that is opened later from getting the number of a stream that was closed."""
    try:
        os.fstat(number)
    except OSError:
        with suppress(OSError):
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one


def _silence(number: int, error: OSError) -> None:
    """Send what a stream is given from now on into nothing, for child processes, too."""
    with suppress(OSError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, number)
        os.close(nothing)
    if error.errno not in GONE and number != NAMES["stderr"]:
        sentence = f"the output cannot be written ({error.strerror}): going on without it.\n"
        with suppress(OSError):
            os.write(NAMES["stderr"], sentence.encode())
