"""Output that nobody reads any more."""

from __future__ import annotations

import subprocess
import sys

import pytest

HARD = "import os, sys; from ssr_exp.streams import outlive_readers as o; o(); o()\n"
MANY = HARD + "for n in range(9999): print('line', n)\nprint('last', file=sys.stderr)\n"


def shell(command: str, code: str) -> subprocess.CompletedProcess[str]:
    line = command.replace("CODE", '"$0" -c "$1"')
    return subprocess.run(
        ["bash", "-c", line, sys.executable, code], capture_output=True, text=True
    )


@pytest.mark.parametrize("unbuffered", ["", "-u "])
@pytest.mark.parametrize("count", [0, 1])
def test_a_reader_that_leaves_ends_nothing(count: int, unbuffered: str) -> None:
    command = f'"$0" {unbuffered}-c "$1" | head -{count}; exit ${{PIPESTATUS[0]}}'
    done = shell(command, MANY)
    assert (done.returncode, done.stderr) == (0, "last\n")
    assert done.stdout == "line 0\n" * count


def test_both_streams_may_lose_their_reader() -> None:
    done = shell("CODE 2>&1 | head -1; exit ${PIPESTATUS[0]}", MANY + "sys.exit(3)")
    assert (done.returncode, done.stdout, done.stderr) == (3, "line 0\n", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_ends_nothing_and_no_file_takes_its_number(closed: str) -> None:
    code = MANY + "import tempfile\nwith tempfile.TemporaryFile() as f: assert f.fileno() > 2"
    assert shell(f"CODE {closed}", code).returncode == 0


def test_a_full_disk_is_told_once_and_ends_nothing() -> None:
    done = shell("CODE > /dev/full", MANY)
    assert done.returncode == 0
    told = "the output cannot be written (No space left on device): going on without it."
    assert done.stderr.splitlines().count(told) == 1 and "last" in done.stderr


def test_what_is_printed_is_what_it_was() -> None:
    code = HARD + "print('ümlaut', end=''); print('\\udcff', file=sys.stderr)"
    done = shell("CODE", code)
    assert (done.stdout, done.stderr) == ("ümlaut", "\\udcff\n")


def test_a_stream_that_somebody_replaced_stays() -> None:
    code = (
        "import io, sys; sys.stdout = mine = io.StringIO()\n" + HARD + "assert sys.stdout is mine"
    )
    assert shell("CODE", code).returncode == 0
