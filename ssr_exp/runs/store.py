"""The local store: `<runs>/<study>/<network>/seed<seed>/record.json`, one file for each run."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from ssr_exp import files, messages
from ssr_exp.errors import SsrError
from ssr_exp.files import cannot_write
from ssr_exp.runs import file_locks, leases
from ssr_exp.runs.record import SCHEMA, Record, Status
from ssr_exp.terminal import counted

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

RECORD_FILE = "record.json"
CONFIG_FILE = "config.json"  # what a run was asked to do, beside its record
LAST_CHECKPOINT, BEST_CHECKPOINT = "last.ckpt", "best.ckpt"  # likewise
BEST_FOLDER = "best"  # a search's answer, in the folder of its study
EXPORTS = "export"  # in a study's folder: of its answer, and of others
PICTURE_FILE = "predictions.png"  # of a segmentation: images with their masks, in `best/`
METRICS_FILE = "metrics.json"  # of the last comparison, in `best/`
EPOCHS_FILE = "epochs.txt"  # beside the record that is to come: how far its training is, `3/8/0`
LOCK_FILE = ".lock"
TELLING = "telling"  # in a run's folder: who has claimed it may write the record
NETWORK_FILE = "network.txt"  # a network's code, in a folder whose name is too short for it
BUSY = "busy"  # what a job returns that another process was training
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
SEED = re.compile(r"seed\d+")
LONGEST = 200  # characters of a folder's name; disks take 255
CUT = re.compile(rf"[A-Za-z0-9._-]{{{LONGEST}}}-[0-9a-f]{{8}}")
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
        """Make the folder, and try to write and to lock a file there.

        Without locks of the disk's own, that of a run that was killed on another machine would
        stay for ever.

        Raises:
            SsrError: if that fails.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.root, prefix=".check-") as file:
                file.write(b"\0" * 4096)
                has_locks = not file_locks.are_missing(file.fileno())
        except OSError as error:
            raise cannot_write(self.root, error, self.option) from error
        if not has_locks:
            raise SsrError(
                f"the disk of {self.root} cannot lock files (flock), so a run that is killed could "
                "stay locked: mount it with locks (NFS 4, Lustre with -o flock), or choose another "
                f"place with {self.option}."
            )

    def folder(self, study: str, network: str, seed: int) -> Path:
        """Name a run's folder; nothing in a name can leave the store."""
        return self.study_folder(study) / folder_name(network) / f"seed{seed}"

    def study_folder(self, study: str) -> Path:
        """Name the folder of a study's runs, and of what else is kept of it."""
        return self.root / folder_name(study)

    def name_network(self, folder: Path, network: str) -> None:
        """Write down of which network a run is, where its folders do not say it.

        Raises:
            SsrError: if the disk is full or the folder cannot be written.
        """
        if folder.parent.name != network:
            self.write_text(folder.parent / NETWORK_FILE, network)

    def network(self, folder: Path) -> str:
        """Say of which network a run is, by its code."""
        try:
            return (folder.parent / NETWORK_FILE).read_text()
        except OSError:
            return folder.parent.name

    def read(self, folder: Path) -> Record | None:
        """Read a run's record, or None if there is none that can be used (then with a warning)."""
        try:
            return files.read(folder / RECORD_FILE, Record, version=SCHEMA)
        except FileNotFoundError:
            return None
        except files.Unreadable as error:
            log.warning("skipped %s: %s", folder / RECORD_FILE, error)
            return None

    def answer(self, study: str) -> Record | None:
        """Read the record of the network that a study hands over, or None if there is none."""
        return self.read(self.study_folder(study) / BEST_FOLDER)

    def records(self, study: str | None = None) -> list[Record]:
        """Read all records, or those of one study, in the order of their paths.

        A record elsewhere than in a run's folder is a copy and no run. Those of a study whose
        folder was renamed are left out with a warning.
        """
        records = self._records_by_folder(study)
        for said in self._renamed(records).values():
            messages.say_once(log, said)
        own = [r for home, some in records.items() for r in some if home == folder_name(r.study)]
        # Its folder, which may stand for it, does not keep all letters of a name.
        return own if study is None else [r for r in own if r.study == study] or own

    def renamed(self, study: str | None = None) -> dict[str, str]:
        """Say of each folder of a study, or of this one, that was renamed, what it holds."""
        return self._renamed(self._records_by_folder(), study)

    def _records_by_folder(self, study: str | None = None) -> dict[str, list[Record]]:
        root, studies = (self.root, "[!.]*/") if study is None else (self.study_folder(study), "")
        records: dict[str, list[Record]] = {}
        for path in sorted(root.glob(f"{studies}*/seed*/{RECORD_FILE}")):
            run = path.parent
            if SEED.fullmatch(run.name) and (record := self.read(run)) is not None:
                records.setdefault(run.parents[1].name, []).append(record)
        return records

    def _renamed(
        self, records: Mapping[str, Sequence[Record]], of: str | None = None
    ) -> dict[str, str]:
        """Look for folders of the records of one study that has no other folder: no copies."""
        said = {}
        for home, some in records.items():
            study, *others = {record.study for record in some}
            folder = self.study_folder(study)
            is_asked = of in (None, study)
            if is_asked and not others and home != folder.name and not folder.exists():
                said[home] = (
                    f"{self.root / home} holds {counted(len(some), 'record')} of {study} and "
                    f"is left out: call the folder {folder} again, and give the study a name of "
                    "your own with ssr studies name"
                )
        return said

    def records_by_study(self) -> dict[str, list[Record]]:
        """Read all records, those of each study together."""
        studies: dict[str, list[Record]] = {}
        for record in self.records():
            studies.setdefault(record.study, []).append(record)
        return studies

    def write(self, folder: Path, record: Record) -> None:
        """Write a run's record: whole or not at all, and never lost once this returns.

        Raises:
            SsrError: if the disk is full or the folder cannot be written.
        """
        self._keep_unreadable(folder / RECORD_FILE)
        self.write_text(folder / RECORD_FILE, record.to_json())

    def _keep_unreadable(self, path: Path) -> None:
        """Move a record that cannot be used aside: it may be of a newer version, or of use."""
        try:
            if path.exists() and self.read(path.parent) is None:
                taken = len(list(path.parent.glob(f"{RECORD_FILE}.unreadable*")))
                path.rename(path.with_name(f"{RECORD_FILE}.unreadable{taken or ''}"))
        except OSError as error:
            raise cannot_write(path.parent, error, self.option) from error

    def write_text(self, path: Path, text: str) -> None:
        """Write a file atomically and flush it to the disk.

        Raises:
            SsrError: if the disk is full or the folder cannot be written.
        """
        try:
            files.write(path, text.encode(errors="backslashreplace"))
        except OSError as error:
            raise cannot_write(path.parent, error, self.option) from error

    def not_written(self, folder: Path, error: OSError) -> SsrError:
        """Say that a folder of this store cannot be written, and what to do."""
        return cannot_write(folder, error, self.option)

    @contextmanager
    def replaced_folder(self, to: Path) -> Iterator[Path]:
        """Make a folder aside, to be filled, and put it in its place unless filling it fails.

        Whatever happens, it is the old one, the new one, or none. Other processes that replace the
        same folder wait; what one that was killed left is undone by the next.

        Raises:
            SsrError: if the disk is full or the folder cannot be written.
        """
        aside = to.with_name(f".{to.name}")
        fresh, old = aside / "new", aside / "old"
        with self.claim(aside, wait=True):
            try:
                shutil.rmtree(fresh, ignore_errors=True)
                _restore(old, to)
                fresh.mkdir()
                yield fresh
                _swap(fresh, old, to)
            except OSError as error:
                raise cannot_write(to.parent, error, self.option) from error
            finally:
                shutil.rmtree(fresh, ignore_errors=True)

    @contextmanager
    def claim(self, folder: Path, *, wait: bool, patience_s: float = PATIENCE_S) -> Iterator[None]:
        """Keep other processes from training the same network; freed even by `kill -9`.

        What a killed write left in the folder is removed.

        Args:
            folder: of a run, or of what else one process has at a time.
            wait: for others, however long that takes.
            patience_s: for how long it is tried where `wait` is false.

        Raises:
            Busy: if another process has it and `wait` is false.
            SsrError: if the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            timeout = -1 if wait else patience_s
            lock = FileLock(folder / LOCK_FILE, timeout=timeout, thread_local=False)
            lock.acquire()
        except Timeout:
            raise Busy(f"another process is training {folder}") from None
        except OSError as error:
            raise cannot_write(folder, error, self.option) from error
        try:
            for path in folder.iterdir():
                if files.is_abandoned(path):
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    @contextmanager
    def claim_saying(self, folder: Path, said: str, *, patience_s: float = -1) -> Iterator[None]:
        """Claim a folder; where another process has it, say that it is waited for.

        Args:
            folder: what one process has at a time.
            said: what is waited for.
            patience_s: for how long at most; -1: as long as it takes.

        Raises:
            Busy: if another process has it that long.
            SsrError: if the folder cannot be written.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self.claim(folder, wait=False))
            except Busy:
                log.info("%s (%s)", said, folder)
                stack.enter_context(self.claim(folder, wait=False, patience_s=patience_s))
            yield

    def is_busy(self, folder: Path, *, glance_s: float | None = None) -> bool:
        """Say whether a process, this one included, is training the network, or has leased it.

        A claim that is made meanwhile waits for the answer, and is not refused because of it.

        Args:
            folder: the run's.
            glance_s: how long others that only look may be in the way; 0: they count as training;
                None: long enough.
        """
        if is_done(self.read(folder)):
            return False
        return self.is_claimed(folder, glance_s=GLANCE_S if glance_s is None else glance_s)

    def is_claimed(
        self, folder: Path, *, glance_s: float = GLANCE_S, read_only: bool = False
    ) -> bool:
        """Say whether a process, this one included, has a claim on a folder, or has leased it.

        Unlike `is_busy` this is of any folder, and of runs that are done, too.

        Args:
            folder: what one process has at a time.
            glance_s: as in `is_busy`.
            read_only: whether nothing is to be done there: then a lock that may not be written,
                another user's, is read; else it counts as a claim.
        """
        if leases.seconds_left(folder):
            return True
        if not os.path.exists(folder / LOCK_FILE):  # of what it may not read, too
            return False
        try:
            with FileLock(folder / LOCK_FILE, timeout=glance_s):
                return False
        except OSError as error:  # it was not given, or is another user's
            is_readable = read_only and error.errno in (errno.EACCES, errno.EROFS)
            return not (is_readable and file_locks.is_free(folder / LOCK_FILE))


def network_weights(path: Path, attribute: str = "network") -> dict[str, Tensor]:
    """Read the network's own `state_dict`, on the CPU, from a run's checkpoint.

    With averaged weights these are the averages, which are what `val` measured.

    Args:
        path: of the checkpoint.
        attribute: of the module that was trained, where the network is.

    Raises:
        SsrError: if the file is missing, damaged or no checkpoint of a training.
    """
    prefix, state = f"{attribute}.", module_weights(path)
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}


def module_weights(path: Path) -> dict[str, Tensor]:
    """Read the `state_dict` of all that was trained, on the CPU, from a run's checkpoint.

    Raises:
        SsrError: if the file is missing, damaged or no checkpoint of a training.
    """
    try:
        return files.read_state_dict(path)
    except (FileNotFoundError, files.Unreadable) as error:
        remedy, why = "name another one", str(error)
        if (path.parent / RECORD_FILE).exists():
            remedy = f"remove {path.parent}, and repeat the command to train that network again"
            if isinstance(error, FileNotFoundError):
                why = "there is none, as these weights were not kept or were removed"
        raise SsrError(f"{path} is not a readable checkpoint ({why}): {remedy}") from error


def written_ns(path: Path) -> int | None:
    """Say when a file was written, in ns; None if there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def read_epochs(folder: Path) -> tuple[int, int, int]:
    """Say how many epochs of a run are done, of how many, and after how many its process began.

    All are 0 where that is not known; the last one where an earlier version trains.
    """
    try:
        done, total, *begun = map(int, (folder / EPOCHS_FILE).read_text().split("/"))
        return done, total, begun[0] if begun else 0
    except (OSError, ValueError):
        return 0, 0, 0


def is_done(record: Record | None, *, tested: bool = False) -> bool:
    """Say whether a run need not be repeated: a failed one may be, a diverged one would again.

    Args:
        record: the run's record, None if it has none.
        tested: whether a finished run must have seen the test set, too.
    """
    if record is None or record.status is Status.failed:
        return False
    return not tested or record.status is Status.diverged or record.test_score is not None


def folder_name(name: str) -> str:
    """Name a folder; what is too long for one is cut, and told apart by a hash of all of it.

    The name of a folder names that very folder.
    """
    folder = UNSAFE.sub("-", name).strip(".") or "-"
    if len(folder) <= LONGEST or CUT.fullmatch(name):
        return folder
    return _cut(folder, name, LONGEST)


def shortened(name: str, longest: int) -> str:
    """Shorten a name to so many characters, its hash among them."""
    return name if len(name) <= longest else _cut(name, name, longest - 9)


def _cut(text: str, whole: str, length: int) -> str:
    return f"{text[:length]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def _restore(old: Path, to: Path) -> None:
    """Put a folder back that a process which was killed, or a move that failed, left aside."""
    if old.exists() and not to.exists():
        old.rename(to)
    shutil.rmtree(old, ignore_errors=True)


def _swap(fresh: Path, old: Path, to: Path) -> None:
    if to.exists():
        to.rename(old)
    try:
        fresh.rename(to)
    except OSError:
        _restore(old, to)
        raise
    shutil.rmtree(old, ignore_errors=True)
