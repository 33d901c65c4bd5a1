"""The local store: `<runs>/<study>/<network>/seed<seed>/record.json`, one file for each run."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.runs import record as records
from ssr_exp.runs.record import Record, Status

log = logging.getLogger(__name__)

FILE = "record.json"
CONFIG = "config.json"  # what a run was asked to do, beside its record
BEST = "best"  # a search's answer, in the folder of its study
METRICS = "metrics.json"  # of the last comparison, in `best/`
LOCK = ".lock"
BUSY = "busy"  # what a job returns that another process was training
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
SEED = re.compile(r"seed\d+")
FULL = (errno.ENOSPC, errno.EDQUOT)
IS_FULL = "the disk is full"
UNFINISHED = re.compile(r"\.\w.*\.\d+-[0-9a-f]{8}")  # what a write that is killed leaves
LONGEST = 200  # characters of a folder's name; disks take 255
GLANCE_S = 0.1  # how long `is_busy` tries; all but the first moment of it only if a process trains
PATIENCE_S = 0.4  # how long a claim outlasts such glances


class Busy(SsrError):
    """Another process is training this very network."""


class Store:
    """Records below one folder.

    Args:
        root: the folder, `paths.runs`; made when the first run starts.
        option: what chooses another one, for the sentence that says that it cannot be written.
    """

    def __init__(self, root: str | Path, option: str = "paths.runs=DIR") -> None:
        self.root, self.option = Path(root), option

    def check(self) -> None:
        """Make the folder and try to write there.

        Raises:
            SsrError: if that fails.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.root, prefix=".check-") as file:
                file.write(b"\0" * 4096)
        except OSError as error:
            raise cannot_write(self.root, error, self.option) from error

    def folder(self, study: str, network: str, seed: int) -> Path:
        """Name a run's folder; nothing in a name can leave the store."""
        return self.study_folder(study) / safe(network) / f"seed{seed}"

    def study_folder(self, study: str) -> Path:
        """Name the folder of a study's runs, and of what else is kept of it."""
        return self.root / safe(study)

    def read(self, folder: Path) -> Record | None:
        """Read a run's record, or None if there is none that can be used (then with a warning)."""
        try:
            return records.parse((folder / FILE).read_bytes())
        except FileNotFoundError:
            return None
        except (files.Unreadable, OSError) as error:
            log.warning("skipped %s: %s", folder / FILE, error)
            return None

    def records(self, study: str | None = None) -> list[Record]:
        """Read all records, or those of one study, in the order of their paths.

        A record elsewhere than in a run's folder is a copy and no run.
        """
        root, studies = (self.root, "*/") if study is None else (self.study_folder(study), "")
        paths = sorted(root.glob(f"{studies}*/seed*/{FILE}"))
        found = (self.read(p.parent) for p in paths if SEED.fullmatch(p.parent.name))
        return [r for r in found if r is not None and study in (None, r.study)]

    def write(self, folder: Path, record: Record) -> None:
        """Write a run's record: whole or not at all, and never lost once this returns.

        Raises:
            SsrError: if the disk is full or the folder cannot be written.
        """
        self._keep_unreadable(folder / FILE)
        self.write_text(folder / FILE, record.to_json())

    def _keep_unreadable(self, path: Path) -> None:
        """Move a record that cannot be used aside: it may be of a newer version, or of use."""
        try:
            if path.exists() and self.read(path.parent) is None:
                taken = len(list(path.parent.glob(f"{FILE}.unreadable*")))
                path.rename(path.with_name(f"{FILE}.unreadable{taken or ''}"))
        except OSError as error:
            raise cannot_write(path.parent, error, self.option) from error

    def write_text(self, path: Path, text: str) -> None:
        """Write a file atomically and flush it to the disk.

        Raises:
            SsrError: if the disk is full or the folder cannot be written.
        """
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            move(temporary, path)
        except OSError as error:
            raise cannot_write(path.parent, error, self.option) from error
        finally:  # also of what is stopped
            _discard(temporary)

    @contextmanager
    def claim(self, folder: Path, *, wait: bool) -> Iterator[None]:
        """Keep other processes from training the same network; freed even by `kill -9`.

        What a killed write left in the folder is removed.

        Raises:
            Busy: if another process has it and `wait` is false.
            SsrError: if the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / LOCK, timeout=-1 if wait else PATIENCE_S)
            lock.acquire()
        except Timeout:
            raise Busy(f"another process is training {folder}") from None
        except OSError as error:
            raise cannot_write(folder, error, self.option) from error
        try:
            for path in folder.iterdir():
                if UNFINISHED.fullmatch(path.name):
                    _discard(path)
            yield
        finally:
            lock.release()

    def is_busy(self, folder: Path, *, glance_s: float | None = None) -> bool:
        """Say whether a process, this one included, is training the network right now.

        A claim that is made meanwhile waits for the answer, and is not refused because of it.

        Args:
            folder: the run's.
            glance_s: how long others that only look may be in the way; 0: they count as training;
                None: long enough.
        """
        patience = GLANCE_S if glance_s is None else glance_s
        if not (folder / LOCK).exists() or is_done(self.read(folder)):
            return False
        try:
            with FileLock(folder / LOCK, timeout=patience):
                return False
        except OSError:  # it was not given, or is another user's
            return True


def move(temporary: Path, path: Path) -> None:
    """Give a file that is written and flushed its name, so that a loss of power keeps the name."""
    os.replace(temporary, path)
    with suppress(OSError):  # of file systems that do not flush folders
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def written_ns(path: Path) -> int | None:
    """Say when a file was written, in ns; None if there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def is_done(record: Record | None, *, tested: bool = False) -> bool:
    """Say whether a run need not be repeated: a failed one may be, a diverged one would again.

    Args:
        record: the run's record, None if it has none.
        tested: whether a finished run must have seen the test set, too.
    """
    if record is None or record.status is Status.failed:
        return False
    return not tested or record.status is Status.diverged or record.test_acc is not None


def cannot_write(folder: Path, error: OSError, option: str = "paths.runs=DIR") -> SsrError:
    """Put an error of the disk into a sentence; `option` chooses another folder."""
    full = error.errno in FULL
    why = IS_FULL if full else error.strerror or str(error)
    remedy = "free some space there, or choose" if full else "choose"
    return SsrError(f"cannot write to {folder}: {why}; {remedy} another place with {option}.")


def is_of_disk(error: object) -> bool:
    """Say whether a job ended because the disk took no more, as others would after it.

    A launcher carries only the sentence of `cannot_write` from there to here.
    """
    text = str(error)
    reasons = (IS_FULL, os.strerror(errno.EROFS))
    return text.startswith("cannot write to ") and any(f": {why}; " in text for why in reasons)


def safe(name: str) -> str:
    """Name a folder; what is too long for one is cut, and told apart by a hash of all of it."""
    folder = UNSAFE.sub("-", name).strip(".") or "-"
    if len(folder) <= LONGEST:
        return folder
    return f"{folder[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _discard(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        log.debug("could not remove %s", path)
