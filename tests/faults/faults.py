"""The faults: what strikes a command, and when. After each, the same command must complete."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import resource
import shutil
import signal
import socketserver
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from ssr_exp.rescaling import saved
from ssr_exp.runs import checkpoints, local, studies
from tests.faults import laws, processes
from tests.faults.laws import Broken, Witness
from tests.faults.processes import Child, Command

JOB = Command("train.py", ("modifiers=explicit", "modifiers.network=d1-1-1_w4-8-16"), epochs=2)
SWEEP = Command("train.py", ("modifiers=uniform_width",))
SEARCH = Command(
    "search.py",
    ("modifiers=uniform_width", "rounds=1", "batch=2", "finalists.seeds=1", "finalists.arms=[]"),
)
AT_ONCE = replace(SWEEP, words=(*SWEEP.words, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"))
READ_LATER = {checkpoints.LAST, checkpoints.BEST, local.CONFIG, studies.FILE, saved.NETWORK}
STOPS_S = 20.0  # a command that is told to stop has ended after so long, on a busy machine
HOUR_S, DAY_S = 3_600, 86_400
CLOCK = "SHIFTED_CLOCK"  # names the file that `clock.c` reads


@dataclass
class Tally:
    """What many trials of one fault came to.

    Args:
        fault: in words.
        tried: trials.
        struck: of them, those in which the command was still running.
        broken: the laws that were broken, in words.
    """

    fault: str
    tried: int = 0
    struck: int = 0
    broken: Broken = field(default_factory=Broken)

    def add(self, trial: Trial) -> None:
        self.tried += 1
        self.struck += trial.struck
        self.broken.add(trial.broken)


class Trial:
    """One command in a folder of its own, and the laws.

    Args:
        folder: where all of it happens.
        mutate: changes our own code in a new process.
    """

    def __init__(self, folder: Path, mutate: processes.Prepare = lambda: None) -> None:
        self._mutate = mutate
        self.folder, self.runs = folder, folder / "runs"
        self.witness, self.broken = Witness(folder), Broken()
        self.struck = False

    def blame(self, what: str) -> None:
        self.broken.incomplete.append(what)

    def look(self) -> None:
        self.broken.add(self.witness.look())

    def complete(self, command: Command, undisturbed: dict[str, Any] | None = None) -> Child:
        """Repeat the command as a user would; it must end with 0 and all results."""
        child = processes.start(command, self.folder, self._mutate)
        code = child.wait()
        self.look()
        if code:
            self.blame(f"the next command ended with {code}: {child.text[-300:]}")
        if undisturbed is not None:
            for line in laws.compared(laws.results(self.runs), undisturbed):
                self.blame(line)
        return child


@dataclass(frozen=True)
class Undisturbed:
    """A command to which nothing happened.

    Args:
        wall_s: how long it took.
        results: of its runs.
        size: of the files that it left, in bytes.
    """

    wall_s: float
    results: dict[str, Any]
    size: int


@dataclass
class Setting:
    """What trials share.

    Args:
        draw: draws moments and damage.
        mutate: a mutation of our own code, to be found; empty: none.
    """

    draw: random.Random
    mutate: str = ""
    _known: dict[Command, Undisturbed] = field(default_factory=dict)

    def undisturbed(self, command: Command) -> Undisturbed:
        """Run a command once, and remember what came of it."""
        if command not in self._known:
            with processes.workplace() as folder:
                start = time.monotonic()
                child = processes.start(command, folder)
                if code := child.wait():
                    raise RuntimeError(f"{command} ended with {code}: {child.text[-2000:]}")
                wall_s = time.monotonic() - start
                files = [p for p in (folder / "runs").rglob("*") if p.is_file()]
                size = sum(p.stat().st_size for p in files)
                found = laws.results(folder / "runs")
            self._known[command] = Undisturbed(wall_s, found, size)
        return self._known[command]

    def mutated(self) -> None:
        """Change our own code, if that is asked for."""
        if self.mutate:
            MUTATIONS[self.mutate]()

    def start(
        self, command: Command, folder: Path, prepare: processes.Prepare = lambda: None
    ) -> Child:
        def both() -> None:
            prepare()
            self.mutated()

        return processes.start(command, folder, both)

    def moment(self, command: Command) -> float:
        """Draw a moment of a command, in seconds after its start."""
        return self.draw.uniform(0, self.undisturbed(command).wall_s)


Fault = Callable[[Setting, Trial], None]


# Ends


def ended_by(command: Command, number: signal.Signals) -> Fault:
    """End a command at a random moment, and repeat it."""

    def fault(setting: Setting, trial: Trial) -> None:
        whole, moment = setting.undisturbed(command), setting.moment(command)
        child = setting.start(command, trial.folder)
        time.sleep(moment)
        trial.struck = child.send(number)
        code = child.wait(STOPS_S)
        if trial.struck and number is not signal.SIGKILL:
            _check_sentence(trial, child, code, number)
        trial.look()
        trial.complete(command, whole.results)

    return fault


def _check_sentence(trial: Trial, child: Child, code: int, number: signal.Signals) -> None:
    """Expect that a stopped command says so and how to go on; it may just have ended, too."""
    if code not in (0, 128 + number):
        trial.blame(f"{number.name}: it ended with {code}: {child.text[-300:]}")
    if "Traceback" in child.text:
        trial.blame(f"{number.name}: a traceback: {child.text[-300:]}")
    if code and "stopped" not in child.text:
        trial.blame(f"{number.name}: not a word")
    for path in trial.runs.glob(f"*/*/seed*/{local.FILE}"):
        if b'"failed"' in path.read_bytes():
            trial.blame(f"{number.name}: a training was recorded as failed")


def a_worker_is_killed(setting: Setting, trial: Trial) -> None:
    """Kill -9 one training among others; the command itself goes on and completes."""
    whole = setting.undisturbed(AT_ONCE)
    child = setting.start(AT_ONCE, trial.folder)
    victim, moment = None, setting.draw.uniform(0, 0.9) * whole.wall_s
    end = time.monotonic() + moment
    while time.monotonic() < end and not child.is_over():
        time.sleep(0.02)
    if workers := below(child.pid, "popen_loky"):
        victim = setting.draw.choice(workers)
        trial.struck = _kill(victim)
    if code := child.wait():
        trial.blame(f"a worker was killed, and the sweep ended with {code}: {child.text[-300:]}")
    trial.look()
    trial.complete(AT_ONCE, whole.results)


def below(pid: int, word: str) -> list[int]:
    """List the processes that a process started, itself or through others, with a word in them."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            number = int(folder.name)
            parents[number] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    below, found = {pid}, []
    while new := {p for p, parent in parents.items() if parent in below} - below:
        below |= new
    for one in below - {pid}:
        try:
            if word in Path(f"/proc/{one}/cmdline").read_text():
                found.append(one)
        except OSError:
            continue
    return sorted(found)


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


# Disks


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


# Company


def two_at_once(first: Command, second: Command, *, same: bool = False) -> Fault:
    """Start two commands in one folder, the second one at a random moment of the first.

    Args:
        first: one of them.
        second: the other.
        same: whether the second one may be refused, because it is the first.
    """

    def fault(setting: Setting, trial: Trial) -> None:
        moment = setting.moment(first) * 0.8
        children = [setting.start(first, trial.folder)]
        time.sleep(moment)
        trial.struck = not children[0].is_over()
        children.append(setting.start(second, trial.folder))
        for child in children:
            code = child.wait()
            refused = same and "is running already" in child.text
            if code and not refused:
                trial.blame(f"one of two ended with {code}: {child.text[-300:]}")
        trial.look()
        for command in (first, second):
            trial.complete(command, setting.undisturbed(first).results)

    return fault


# Time


def clock_set_back(setting: Setting, trial: Trial) -> None:
    """Set the clock back by days at a random moment; only under `clock.c`."""
    clock = Path(os.environ[CLOCK])
    set_clock(clock, 0)
    whole, moment = setting.undisturbed(SWEEP), setting.moment(SWEEP)
    before = time.time()
    child = setting.start(SWEEP, trial.folder)
    time.sleep(moment)
    set_clock(clock, -setting.draw.randint(1, 30) * DAY_S)
    trial.struck = not child.is_over() and time.time() < before
    if code := child.wait():
        trial.blame(f"it ended with {code}: {child.text[-300:]}")
    trial.look()
    trial.complete(SWEEP, whole.results)
    for path in trial.runs.glob(f"*/*/seed*/{local.FILE}"):
        record = laws.record.parse(path.read_bytes())
        if not 0 < record.wall_s < HOUR_S:
            trial.blame(f"it claims to have taken {record.wall_s} s")
    set_clock(clock, 0)


def set_clock(path: Path, shift_s: int) -> None:
    """Say how far the clock of `clock.c` is off, without a moment in which the file is short."""
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.write(struct.pack("q", shift_s))


# Damage


def damaged_files(kept: Path) -> Fault:
    """Damage a random file of a finished search, and repeat it.

    Args:
        kept: where such a search is, or will be, kept.
    """

    def fault(setting: Setting, trial: Trial) -> None:
        if not kept.exists():
            with processes.workplace() as folder:
                setting.start(SEARCH, folder).wait()
                shutil.copytree(folder / "runs", kept)
        whole = setting.undisturbed(SEARCH)
        shutil.copytree(kept, trial.runs)
        trial.look()
        paths = sorted(p for p in trial.runs.rglob("*") if p.is_file() and p.name != local.LOCK)
        path = setting.draw.choice(paths)
        trial.struck = True
        damage(path, setting.draw)
        if path.name == local.FILE:
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
    while not (left := list(trial.runs.glob(f"*/*/seed*/{checkpoints.LAST}"))):
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


# Weights & Biases


class _Trouble(BaseHTTPRequestHandler):
    """Answers nothing of use, at once or late."""

    delay_s, status = 0.0, 500

    def _answer(self) -> None:
        time.sleep(self.delay_s)
        self.send_response(self.status)
        self.end_headers()

    do_GET = do_POST = do_PUT = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def _server(delay_s: float, status: int) -> Iterator[str]:
    """Serve as W&B would on a bad day, in a process of its own."""
    handler = type("Handler", (_Trouble,), {"delay_s": delay_s, "status": status})
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler, bind_and_activate=True)
    pid = os.fork()
    if pid == 0:
        try:
            server.serve_forever()
        finally:
            os._exit(0)
    server.server_close()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        _kill(pid)
        os.waitpid(pid, 0)


def wandb_in_trouble(delay_s: float, status: int) -> Fault:
    """Train online where the server is slow or refuses."""
    online = replace(JOB, logger="online", words=(*JOB.words, "logger.timeout_s=3"))

    def fault(setting: Setting, trial: Trial) -> None:
        whole = setting.undisturbed(JOB)
        with _server(delay_s, status) as url:
            child = setting.start(online, trial.folder, lambda: _alone(trial.folder, url))
            if code := child.wait():
                trial.blame(f"it ended with {code}: {child.text[-300:]}")
        trial.struck = "logging offline" in child.text
        trial.look()
        trial.complete(JOB, whole.results)

    return fault


def wandb_is_killed(setting: Setting, trial: Trial) -> None:
    """Kill -9 W&B's own process at a random moment of a training."""
    offline = replace(JOB, epochs=6, logger="offline")
    whole = setting.undisturbed(replace(JOB, epochs=6))
    child = setting.start(offline, trial.folder, lambda: _alone(trial.folder, ""))
    found: list[int] = []
    while not found and not child.is_over():
        found = below(child.pid, "wandb-core")
    time.sleep(setting.draw.uniform(0, whole.wall_s))
    trial.struck = bool([pid for pid in found if _kill(pid)]) and not child.is_over()
    if code := child.wait():
        trial.blame(f"it ended with {code}: {child.text[-600:]}")
    trial.look()
    trial.complete(replace(JOB, epochs=6), whole.results)


def _alone(folder: Path, url: str) -> None:
    """Give W&B an environment of its own: no account, no settings, no server but loopback."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    for name in ("CONFIG", "CACHE", "DATA"):
        os.environ[f"WANDB_{name}_DIR"] = str(folder / "own" / name.lower())
    os.environ |= {"WANDB_API_KEY": "0" * 40, "NETRC": str(folder / "netrc")}
    if url:
        os.environ["WANDB_BASE_URL"] = url


# Networks and memory


def divergence(setting: Setting, trial: Trial) -> None:
    """Train with a rate that no network stands; that is a result, and not tried again."""
    wild = replace(SWEEP, words=(*SWEEP.words, f"recipe.lr={10 ** setting.draw.uniform(5, 8):.0f}"))
    child = setting.start(wild, trial.folder)
    if code := child.wait():
        trial.blame(f"it ended with {code}: {child.text[-300:]}")
    trial.struck = "diverged" in child.text
    trial.look()
    trial.complete(wild)


def out_of_memory(setting: Setting, trial: Trial) -> None:
    """Give a sweep little memory; then enough."""
    whole = setting.undisturbed(SWEEP)
    more = int(2**20 * 300 ** setting.draw.random())
    child = setting.start(SWEEP, trial.folder, lambda: _limit_memory(more))
    trial.struck = child.wait() != 0
    trial.look()
    trial.complete(SWEEP, whole.results)


def _limit_memory(more: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + more
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


# Faults of our own, to see that they are found


def _torn() -> None:
    """Write files where they belong, in two halves; the first time, take long over it."""
    pauses = iter([2.0])

    def write_text(self: local.Store, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text[: len(text) // 2])
        time.sleep(next(pauses, 0.0))
        path.write_text(text)

    local.Store.write_text = write_text  # type: ignore[method-assign]


def _forgetful() -> None:
    """Take no run for done."""
    local.is_done = lambda *_, **__: False  # type: ignore[assignment]


def _careless() -> None:
    """Say that a training has ended without keeping its record."""
    written = local.Store.write_text

    def write_text(self: local.Store, path: Path, text: str) -> None:
        if path.name != local.FILE:
            written(self, path, text)

    local.Store.write_text = write_text  # type: ignore[method-assign]


MUTATIONS = {"torn": _torn, "forgetful": _forgetful, "careless": _careless}


def can_mount(folder: Path) -> bool:
    """Say whether this process may mount a small disk."""
    try:
        with _disk(folder / "disk", 2**16):
            return True
    except (OSError, subprocess.CalledProcessError) as error:
        return getattr(error, "errno", None) == errno.EEXIST
