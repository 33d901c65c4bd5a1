"""A disk that is full, or may not be written, and files that it damaged."""

from __future__ import annotations

import ctypes
import random
import shutil
import signal
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from ssr_exp.rescaling import saved
from ssr_exp.runs import store, studies
from ssr_exp.runs.store import BEST_CHECKPOINT, LAST_CHECKPOINT
from tests.faults import processes
from tests.faults.processes import Child, Command
from tests.faults.trials import JOB, SEARCH, Fault, Setting, Trial

READ_LATER = {LAST_CHECKPOINT, BEST_CHECKPOINT, store.CONFIG_FILE, studies.FILE, saved.NETWORK}


def disk_full(command: Command) -> Fault:
    """Run a command on a disk with random little room; then make room."""

    def fault(setting: Setting, trial: Trial) -> None:
        whole = setting.undisturbed(command)
        room = int(4096 * (whole.size * 1.2 / 4096) ** setting.draw.random())
        with _disk(trial.runs, room):
            child = setting.start(command, trial.folder)
            code = child.wait()
            trial.struck = _is_told(trial, child, code, "disk is full", "No space")
            trial.look()
            _mount("-o", "remount,size=512m", str(trial.runs))
            trial.complete(command, whole.results)

    return fault


def _is_told(trial: Trial, child: Child, code: int, *words: str) -> bool:
    """Expect a sentence where something failed; returns whether anything did."""
    told = any(word in child.text for word in words)
    if code and not told:
        trial.blame(f"it ended with {code} and did not say why: {child.text[-300:]}")
    if "Traceback" in child.text:
        trial.blame(f"a traceback: {child.text[-600:]}")
    return told


@contextmanager
def _disk(folder: Path, size: int) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={max(size, 4096)}", "tmpfs", str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


def read_only(command: Command) -> Fault:
    """Take away the right to write at a random moment; then give it back."""

    def fault(setting: Setting, trial: Trial) -> None:
        whole, moment = setting.undisturbed(command), setting.moment(command)
        trial.runs.mkdir()
        child = setting.start(command, trial.folder, _obey_permissions)
        time.sleep(moment)
        folders = [trial.runs, *(p for p in trial.runs.rglob("*") if p.is_dir())]
        for path in folders:
            path.chmod(0o555)
        code = child.wait()
        trial.struck = _is_told(trial, child, code, "Permission denied", "cannot write")
        trial.look()
        for path in folders:
            path.chmod(0o755)
        trial.complete(command, whole.results)

    return fault


def _obey_permissions() -> None:
    """Give up what lets root write everywhere: CAP_DAC_OVERRIDE, the second capability."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("Ii", 0x20080522, 0)
    held = ctypes.create_string_buffer(24)  # effective, permitted, inheritable; twice
    if libc.capget(header, held):
        raise OSError(ctypes.get_errno(), "capget")
    effective, permitted, *rest = struct.unpack("6I", held.raw)
    less = struct.pack("6I", effective & ~2, permitted & ~2, *rest)
    if libc.capset(header, less):
        raise OSError(ctypes.get_errno(), "capset")


def can_mount(folder: Path) -> bool:
    try:
        with _disk(folder / "disk", 2**16):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def damaged_files(kept: Path) -> Fault:
    """Damage a random file of a finished search, which is or will be `kept`, and repeat it."""

    def fault(setting: Setting, trial: Trial) -> None:
        if not kept.exists():
            with processes.workplace() as folder:
                setting.start(SEARCH, folder).wait()
                shutil.copytree(folder / "runs", kept)
        whole = setting.undisturbed(SEARCH)
        shutil.copytree(kept, trial.runs)
        trial.look()
        paths = (p for p in trial.runs.rglob("*") if p.is_file() and p.name != store.LOCK_FILE)
        path = setting.draw.choice(sorted(paths))
        trial.struck = True
        damage(path, setting.draw)
        if path.name == store.RECORD_FILE:
            trial.witness.forgive(str(path.parent.relative_to(trial.runs)))
        child = setting.start(SEARCH, trial.folder)
        if code := child.wait():
            if str(path) not in child.text or "Traceback" in child.text:
                trial.blame(f"{path.name} damaged: {code}, no word of it: {child.text[-300:]}")
            path.unlink()  # as the sentence says
        if path.name in READ_LATER and path.exists():
            path.unlink()  # this command needs it no more; who does is told, see `laws.is_whole`
        trial.complete(SEARCH, whole.results)

    return fault


def damaged_checkpoint(setting: Setting, trial: Trial) -> None:
    """Kill a training between its epochs, damage what it left, and repeat it."""
    command = replace(JOB, epochs=6)
    whole = setting.undisturbed(command)
    child = setting.start(command, trial.folder)
    left: list[Path] = []
    while not (left := list(trial.runs.glob(f"*/*/seed*/{LAST_CHECKPOINT}"))):
        if child.is_over():
            break
        time.sleep(0.005)
    trial.struck = child.send(signal.SIGKILL)
    child.wait()
    if left and trial.struck:
        damage(left[0], setting.draw)
    trial.complete(command, whole.results)


def damage(path: Path, draw: random.Random) -> None:
    """Cut a file short, empty it, or flip one of its bits."""
    content = bytearray(path.read_bytes())
    kind = draw.choice(("cut", "empty", "bit", "bit"))
    if kind == "bit" and content:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content if kind == "bit" else content[: draw.randrange(1 + len(content))])
    if kind == "empty":
        path.write_bytes(b"")
