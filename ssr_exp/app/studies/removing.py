"""What `ssr studies remove` does: it says what is freed, asks, and names what stays."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ssr_exp.errors import SsrError
from ssr_exp.report import page, study_overview, study_tables
from ssr_exp.report.study_tables import bytes_text
from ssr_exp.runs import removal, study_names
from ssr_exp.runs.removal import Removed
from ssr_exp.runs.store import Store
from ssr_exp.terminal import counted

PROG = "ssr studies"
NO_LONGER = (
    "No longer: to export or load one of these networks (run=CODE, study.trained), to start or "
    "distill from one, to test one (trainer.test=true), and finalists.seeds=0. Their records stay: "
    "pages and searches are as before."
)


def remove(store: Store, options: argparse.Namespace) -> None:
    """Remove what the command line names: a study, or runs or weights of one or of all.

    Raises:
        SsrError: if there is no such study, a process uses it, or nobody says yes.
    """
    if ended := removal.end_others(store):
        print(f"ended a removal that was killed: {bytes_text(ended)} freed")
    chosen = (
        None if options.study is None else study_names.find(store.root, options.study, whole=True)
    )
    if options.failed or options.checkpoints:
        every = study_names.every(store.root) if chosen is None else [chosen]
        _remove_parts(store, options, list(every))
    elif chosen is not None:
        _remove_study(store, options, chosen)
    elif not ended:
        place = study_names.at(store.root)
        raise SsrError(
            f"name what is removed: {PROG} remove NAME{place}, or --failed, or --checkpoints, of "
            "one study or of all."
        )
    else:
        write_page(store)


def _remove_study(store: Store, options: argparse.Namespace, study: str) -> None:
    summaries = study_overview.read(store)
    one = study_overview.one_of(summaries, study)
    inside = store.study_folder(study).resolve()
    if any(inside in path.parents for path in removal.started_from(store)):
        print(f"runs of other studies start from networks of {one.title}, or learn from them")
    name = one.title if one.title == study else f"{one.title} ({study})"
    what = f"{name}: {study_tables.counts_text(one)}, {bytes_text(one.size)}"
    _confirm(options, f"remove all of {what}")
    freed = removal.remove_study(store, study)
    print(f"removed {name}: {bytes_text(freed)} freed")
    write_page(store)
    for other in summaries:
        if other.finalists_of == study:
            typed = f"{PROG} remove {other.title}{study_names.at(store.root)}"
            print(f"its finalists are a study of their own: {typed}")


def _remove_parts(store: Store, options: argparse.Namespace, chosen: Sequence[str]) -> None:
    runs = [run for one in chosen for run in removal.failed(store, one)] if options.failed else []
    weights = list[Path]()
    if options.checkpoints:
        needed = removal.started_from(store)
        for one in chosen:
            weights += itertools.chain(*removal.weights(store, one, needed).values())
    freed = sum(map(removal.size, runs)) + sum(map(_size, weights))
    if not runs and not weights:
        print("there is nothing to remove")
        write_page(store)  # of a removal that was killed
        return
    parts = [counted(len(runs), "failed run")] * bool(runs)
    parts += [counted(len(weights), "file") + " of weights"] * bool(weights)
    _confirm(options, f"remove {' and '.join(parts)}, {bytes_text(freed)}")
    needed = removal.started_from(store) if options.checkpoints else set()  # after the answer
    left, gone = set[Path](), False
    try:
        for one in chosen:
            if options.failed:
                _say(store, one, removal.remove_failed(store, one), "", left)
            if options.checkpoints:
                removed = removal.remove_weights(store, one, needed)
                _say(store, one, removed, "the weights of ", left)
                gone = gone or bool(removed.runs)
    finally:  # of what is gone by then
        write_page(store)
    if gone:
        print(NO_LONGER)
    if left:
        raise SsrError(
            f"{counted(len(left), 'folder')} stayed: repeat the command when nothing uses them."
        )


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):  # it has just gone
        return path.stat().st_size
    return 0


def _say(store: Store, study: str, removed: Removed, of: str, left: set[Path]) -> None:
    """Say what was removed, and what was not, once; that is added to what is left."""
    name = study_names.title(store.root, study)
    if removed.runs:
        freed = bytes_text(removed.freed)
        print(f"{name}: removed {of}{counted(len(removed.runs), 'run')}, {freed} freed")
    for folder in removed.used:
        if folder not in left:
            print(f"{name}: left {folder.relative_to(store.root)}, which another process uses")
    left.update(removed.used)


def _confirm(options: argparse.Namespace, what: str) -> None:
    """Ask before something is removed.

    Raises:
        SsrError: if nobody can be asked, or the answer is no.
    """
    if options.yes:
        return
    if not sys.stdin.isatty():
        raise SsrError(f"this would {what}: type --yes with it.")
    try:
        answer = input(f"{what}? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in ("y", "yes"):
        raise SsrError("nothing was removed.")


def write_page(store: Store) -> None:
    """Write the page anew, where there is one, so that it shows what there is."""
    if (store.root / page.FILE).exists():
        page.write(store)
