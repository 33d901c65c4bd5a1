"""Free the space of studies, of runs that failed, and of weights; never of what a process uses.

A folder is first moved aside, out of sight of whoever reads the store, and then removed: a removal
that is killed leaves all of it, or what is aside, which the next removal ends. What is aside is in
a folder of its own; on a disk that is too full to make one, it is beside other studies.
"""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.files import cannot_write
from ssr_exp.runs import leases
from ssr_exp.runs.predictions import FOLDER as SEARCH_FOLDER
from ssr_exp.runs.record import FINALIST, Record, Status
from ssr_exp.runs.store import (
    CONFIG_FILE,
    LOCK_FILE,
    SEED,
    Busy,
    Store,
    written_ns,
)

ASIDE = ".removed"  # in the store's folder, as the beginning of a name, too; no reader looks there
IN_USE = ".used"  # in a study's folder: who works on it, though no run is under way
CHECKPOINT = ".ckpt"
YOUNG_S = 60.0


@dataclass
class Removed:
    """What was removed, and what another process uses."""

    runs: list[Path] = field(default_factory=list)
    used: list[Path] = field(default_factory=list)
    freed: int = 0  # bytes


def size(folder: Path) -> int:
    """Add up the bytes that the files below a folder take, of links those of the link."""
    total, folders = 0, [os.fspath(folder)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
    return total


@contextmanager
def using(store: Store, study: str) -> Iterator[None]:
    """Keep others from removing a study while a command works on it, between two trainings, too."""
    folder = store.study_folder(study) / IN_USE
    mine = folder / f"{os.getpid()}-{secrets.token_hex(4)}"
    with store.claim(mine, wait=True):
        for other in folder.iterdir():
            if _is_old(other) and not store.is_claimed(other):  # its process was killed
                shutil.rmtree(other, ignore_errors=True)
        try:
            yield
        finally:
            shutil.rmtree(mine, ignore_errors=True)


def _is_old(folder: Path) -> bool:
    """Say whether a folder was not made just now, by a process that has no lock in it yet."""
    return time.time() - (written_ns(folder) or 0) / 1e9 > YOUNG_S


def searched(store: Store, study: str) -> list[Path]:
    """List the searches and sweeps of a study that are under way."""
    folder = store.study_folder(study)
    kinds = (SEARCH_FOLDER, IN_USE)
    places = [path for kind in kinds for path in folder.glob(f"{kind}/*/{LOCK_FILE}")]
    return [path.parent for path in sorted(places) if store.is_claimed(path.parent)]


def remove_study(store: Store, study: str) -> int:
    """Remove a study, all that it holds; returns the bytes that were freed.

    Raises:
        SsrError: if a process uses it, or its folder cannot be moved.
    """
    folder = store.study_folder(study)
    if folder.is_symlink():
        raise SsrError(f"{folder} is a link to {folder.resolve()}: remove both by hand.")
    _refuse_used(_claimed(store, folder), study)
    with _aside(store) as aside:
        with _disk(store):
            moved = _moved(folder, aside)
        if claimed := _claimed(store, moved):  # while this process looked
            _put_back(moved, folder)
            _refuse_used([folder / path.relative_to(moved) for path in claimed], study)
        return _removed(moved)


def failed(store: Store, study: str) -> list[Path]:
    """List the runs of a study that failed."""
    return [folder for folder in _runs(store, study) if _has_failed(store, folder)]


def remove_failed(store: Store, study: str) -> Removed:
    """Remove the runs of a study that failed, but those that a process uses."""
    done = Removed(used=searched(store, study))
    if done.used:
        return done
    with _aside(store) as aside:
        for folder in failed(store, study):
            with _claim(store, folder, done) as is_ours:
                if not is_ours or not _has_failed(store, folder):
                    continue
                with _disk(store):
                    moved = _moved(folder, aside)
                done.runs.append(folder)
            done.freed += _removed(moved)
            with suppress(OSError):  # of other seeds there is more
                folder.parent.rmdir()
    return done


def weights(
    store: Store, study: str, needed: Collection[Path] | None = None
) -> dict[Path, list[Path]]:
    """List the weights of runs that are done and that nothing goes on from, by the run's folder.

    `needed` is what `started_from` says, which reads what all runs were asked to do.

    Those of finalists, of the answer and of a run that other studies start from are not there: a
    search hands an answer over anew, tests it, or starts networks from it.
    """
    here = [folder for folder in _runs(store, study) if not _is_needed(store, study, folder)]
    starts = frozenset(started_from(store) if needed is None else needed)
    found = {folder: sorted(folder.glob(f"*{CHECKPOINT}")) for folder in here}
    return {
        folder: paths
        for folder, paths in found.items()
        if paths and starts.isdisjoint(path.resolve() for path in (folder, *paths))
    }


def remove_weights(store: Store, study: str, needed: Collection[Path] | None = None) -> Removed:
    """Remove those weights of a study's runs, but those of runs that a process uses."""
    done = Removed(used=searched(store, study))
    for folder, paths in ({} if done.used else weights(store, study, needed)).items():
        with _claim(store, folder, done) as is_ours:
            if not is_ours or _is_needed(store, study, folder):
                continue
            for path in paths:
                with _disk(store):
                    taken = path.stat().st_size
                    path.unlink()
                done.freed += taken
            done.runs.append(folder)
    return done


def started_from(store: Store) -> set[Path]:
    """List the folders whose networks the runs of a store start from, or learn from."""
    named: set[str] = set()
    for path in store.root.glob(f"[!.]*/*/seed*/{CONFIG_FILE}"):
        asked = files.read_or_empty(path)
        recipe = asked.get("recipe")
        teacher = recipe.get("distill") if isinstance(recipe, dict) else None
        named |= {one for one in (asked.get("checkpoint"), teacher) if isinstance(one, str)}
    # Relative to where the command was typed, which is not known: here, or above the runs.
    bases = (Path(), *store.root.absolute().parents)
    return {(base / Path(one).expanduser()).resolve() for one in named - {""} for base in bases}


def left_aside(store: Store) -> int:
    """Say how many bytes a removal that was killed left."""
    return sum(map(size, _left(store)))


def is_under_way(store: Store) -> bool:
    """Say whether another process removes something now."""
    return store.is_claimed(store.root / ASIDE, read_only=True)


def end_others(store: Store) -> int:
    """End the removals that were killed; returns the bytes that were freed."""
    if not _left(store) or is_under_way(store):
        return 0
    before = left_aside(store)
    with _aside(store):
        pass
    return before - left_aside(store)


def _left(store: Store) -> list[Path]:
    """List what is aside."""
    inside = (path for path in store.root.glob(f"{ASIDE}/*") if path.name != LOCK_FILE)
    return sorted([*inside, *store.root.glob(f"{ASIDE}-*")])


def _runs(store: Store, study: str) -> list[Path]:
    folders = sorted(store.study_folder(study).glob("*/seed*/"))
    return [folder for folder in folders if SEED.fullmatch(folder.name)]


def _has_failed(store: Store, folder: Path) -> bool:
    record = store.read(folder)
    return record is not None and record.status is Status.failed


def _is_needed(store: Store, study: str, folder: Path) -> bool:
    """Say whether a run's weights are: it goes on, it is a finalist, or the answer."""
    record = store.read(folder)
    if record is None or record.status is Status.failed or record.origin == FINALIST:
        return True
    answer = store.answer(study)
    return answer is not None and _same_run(record, answer)


def _same_run(one: Record, other: Record) -> bool:
    return all(getattr(one, key) == getattr(other, key) for key in ("study", "network", "seed"))


def _claimed(store: Store, folder: Path) -> list[Path]:
    names = (LOCK_FILE, leases.FILE)
    places = {path.parent for name in names for path in folder.rglob(name)}
    return [place for place in sorted(places) if store.is_claimed(place)]


def _refuse_used(claimed: Sequence[Path], study: str) -> None:
    if claimed:
        more = f", and {len(claimed) - 1} more" if len(claimed) > 1 else ""
        raise Busy(
            f"another process uses {claimed[0]}{more}, so nothing of {study} was removed: wait for "
            "it, or end it first."
        )


@contextmanager
def _claim(store: Store, folder: Path, done: Removed) -> Iterator[bool]:
    """Claim a run, or note that another process uses it."""
    with ExitStack() as stack:
        is_ours = not store.is_claimed(folder)  # a lease is no lock
        try:
            if is_ours:
                stack.enter_context(store.claim(folder, wait=False))
        except Busy:
            is_ours = False
        if not is_ours:
            done.used.append(folder)
        yield is_ours


@contextmanager
def _aside(store: Store) -> Iterator[Path]:
    """Say where what is removed is moved to; what was left there is removed.

    One process at a time has it, unless the disk is too full for its folder and lock. Then one may
    end what another is about to put back: so what a process uses stays.
    """
    aside = store.root / ASIDE
    with ExitStack() as stack:
        try:
            stack.enter_context(store.claim(aside, wait=True))
        except SsrError as error:
            if not files.is_disk_full(error):
                raise
            aside = store.root
        for left in _left(store):
            if not _claimed(store, left):
                _removed(left)
        yield aside


def _moved(folder: Path, aside: Path) -> Path:
    """Move a folder aside; returns where it is."""
    return folder.rename(aside / f"{ASIDE}-{folder.name}.{secrets.token_hex(4)}")


@contextmanager
def _disk(store: Store) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(store.root, error, "--runs DIR") from error


def _put_back(moved: Path, folder: Path) -> None:
    """Undo a move; a process that goes on may have made some of the folder anew."""
    if not folder.exists():
        moved.rename(folder)
        return
    for path in moved.iterdir():
        there = folder / path.name
        if not there.exists():
            path.rename(there)
        elif path.is_dir() and there.is_dir():
            _put_back(path, there)


def _removed(path: Path) -> int:
    """Remove what is aside; returns the bytes that it took."""
    taken = size(path)
    shutil.rmtree(path, ignore_errors=True)
    return taken - (size(path) if path.exists() else 0)
