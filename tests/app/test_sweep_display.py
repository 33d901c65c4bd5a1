"""What is on a terminal while a command trains, and what it leaves there, however it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from vt import read

from ssr_exp.app.sweep_display import SweepDisplay
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import Store
from ssr_exp.training.sweep import Member
from tests.conftest import ROOT, small

MakeRecord = Callable[..., Record]
COLUMNS = 60


def on_a_terminal(folder: Path, words: Sequence[str], stop_at: str | None) -> tuple[int, str]:
    """Run `train.py` on a terminal of 60 columns; Ctrl-C once a text is there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, COLUMNS, 0, 0))
    env = os.environ | {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        env.pop(name, None)
    line = [sys.executable, str(ROOT / "train.py"), *words]
    process = subprocess.Popen(
        line,
        cwd=folder,
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        # A shell starts what it puts in the background with Ctrl-C ignored; undo that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(theirs)
    sent, until = b"", time.monotonic() + 200
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.2)[0]:
            try:
                sent += os.read(ours, 65536)
            except OSError:  # its other end is closed
                break
        if stop_at is not None and stop_at in sent.decode(errors="replace"):
            process.send_signal(signal.SIGINT)
            stop_at = None
    os.close(ours)
    return process.wait(timeout=60), sent.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop_at",
    [pytest.param(None, marks=pytest.mark.more, id="ends"), pytest.param("1/3 ", id="is stopped")],
)
def test_a_command_leaves_a_line_a_network_and_the_cursor(
    tmp_path: Path, stop_at: str | None
) -> None:
    epochs = "trainer.max_epochs=2" if stop_at is None else "trainer.max_epochs=60"
    words = small(tmp_path, ("modifiers=uniform_width", epochs, "trainer.progress=true"))
    code, sent = on_a_terminal(tmp_path, words, stop_at)
    lines, is_visible = read(sent, COLUMNS)
    text = "\n".join(lines)
    assert is_visible
    assert "\x1b[?25l" in sent and "running" in sent  # there was a table
    assert "running" not in text and "it/s" not in sent and "Epoch" not in sent
    done = re.findall(r"^(\d)/3 (\S+) ", text, flags=re.MULTILINE)
    ended = {path.parts[-3] for path in tmp_path.glob("runs/*/*/seed0/record.json")}
    assert [number for number, _ in done] == [str(n + 1) for n in range(len(ended))]
    assert {network for _, network in done} == ended
    if stop_at is None:
        assert code == 0 and len(ended) == 3 and "page: " in text
    else:
        assert code == 130 and 1 <= len(ended) < 3
        assert f"stopped; {len(ended)} of 3 networks are done" in text
        (study,) = (path.name for path in tmp_path.glob("runs/resnet8-*"))
        assert f"(ssrstudiesshow{study}--runs{tmp_path}/runs" in "".join(text.split())  # wrapped


def members(store: Store, *names: str) -> list[Member]:
    return [Member((), store, store.folder("s", n, 0), n, network=n) for n in names]


def test_launches_that_are_under_way_at_once_share_a_display_and_its_numbers(
    tmp_path: Path, make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    store, display = Store(tmp_path), SweepDisplay(moves=True, total=5)
    one, two, three = members(store, "d1_w4", "d2_w4", "d3_w4")

    def end(member: Member) -> None:
        store.write(member.folder, make_record(network=member.network))

    with display.showing([one]), display.showing([two]):
        end(two)
        end(one)
    with display.showing([three]):
        end(three)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["1/5", "d2_w4"],
        ["2/5", "d1_w4"],
        ["3/5", "d3_w4"],
    ]


def test_launches_one_after_the_other_count_their_own(
    tmp_path: Path, make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    store, display = Store(tmp_path), SweepDisplay(moves=True)
    for some in (members(store, "d1_w4", "d2_w4"), members(store, "d3_w4")):
        with display.showing(some):
            for member in some:
                store.write(member.folder, make_record(network=member.network))
    numbers = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert numbers == ["1/2", "2/2", "1/1"]


def test_launches_that_come_one_by_one_do_not_count_what_was_trained_before_them(
    tmp_path: Path, make_record: MakeRecord, capsys: pytest.CaptureFixture[str]
) -> None:
    """As an asynchronous search, after what was enqueued."""
    store, display = Store(tmp_path), SweepDisplay(moves=True)
    for network, total in (("d1_w4", 0), ("d2_w4", 2), ("d3_w4", 2)):
        display.total = total
        (member,) = members(store, network)
        with display.showing([member]):
            store.write(member.folder, make_record(network=network))
    numbers = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert numbers == ["1/1", "1/2", "2/2"]
