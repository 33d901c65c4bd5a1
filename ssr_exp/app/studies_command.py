"""`ssr studies`: the studies of a folder, what they differ in, and the space that they take."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ssr_exp import streams, terminal
from ssr_exp.config import PathsConf
from ssr_exp.errors import SsrError
from ssr_exp.report import page, study_overview, study_tables
from ssr_exp.report.study_overview import StudySummary
from ssr_exp.report.study_tables import bytes_text
from ssr_exp.runs import removal, studies, study_names
from ssr_exp.runs.removal import Removed
from ssr_exp.runs.store import Store
from ssr_exp.terminal import counted, printable

PROG = "ssr studies"
RUNS = PathsConf().runs
INTERRUPTED = 130  # as shells say it
NO_LONGER = (
    "No longer: to export one of these networks (run=CODE), to start or distill from one, to test "
    "one (trainer.test=true), and finalists.seeds=0. Their records stay: pages and searches are as "
    "before."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out what the command line asks for."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    try:
        carry_out: Callable[[Store, argparse.Namespace], None] = options.carry_out
        carry_out(_store(Path(options.runs).expanduser()), options)
    except SsrError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def spelled(command: str) -> list[str]:
    """Spell a command as it is typed."""
    return ["python", f"{command}.py"]


def _store(root: Path) -> Store:
    if not root.is_dir():
        raise SsrError(f"there is no folder {root}: type --runs DIR, the folder of the records.")
    if study_names.is_study(root):
        raise SsrError(f"{root} is a study: type --runs {root.parent}, the folder that it is in.")
    return Store(root, option="--runs DIR")


def _list(store: Store, options: argparse.Namespace) -> None:
    summaries = study_overview.read(store)
    if options.json:
        print(json.dumps([study_tables.as_data(one) for one in summaries], indent=1))
        return
    if not summaries:
        print(f"{store.root} holds no study yet: train.py or search.py begin one")
        return
    terminal.console().print(study_tables.listing(summaries))
    if left := removal.left_aside(store):
        print(f"{bytes_text(left)} are left of a removal that was ended: {PROG} remove ends it")
    print(f"{PROG} show NAME says more of one, and the command that goes on with it")


def _show(store: Store, options: argparse.Namespace) -> None:
    one = _one(study_overview.read(store), study_names.find(store.root, options.study))
    if options.json:
        print(json.dumps(study_tables.as_data(one), indent=1))
        return
    print(one.title if one.begun.name is None else f"{one.title}  ({one.folder})")
    print(f"  {one.network} on {one.dataset}; {study_tables.counts_text(one)}")
    for heading, text in study_tables.outcome(one).items():
        print(f"  {heading}: {text}")
    print(f"  size: {bytes_text(one.size)}, in {store.root / one.folder}")
    if said := study_tables.differences(one, [one]):
        print(f"  differs from others in: {printable(said)}")
    typed = commands(store, one)
    print("it goes on with:" if typed else "it goes on with the words that it was begun with")
    for words in typed:
        print(f"  {printable(shlex.join(words))}")


def commands(store: Store, one: StudySummary) -> list[list[str]]:
    """List the commands that go on with a study: short ones, then all that was typed.

    Of a study of an earlier version nothing is known.
    """
    place = [] if str(store.root) == RUNS else [f"paths.runs={store.root}"]
    named = [f"study={one.title}", *place]
    if studies.SETTINGS in one.fields:
        return [[*spelled("search"), *named, "task.target=MODULE.FUNCTION"]]
    if not one.begun.asked:
        return []
    short = [[*spelled(asked.command), *named] for asked in one.begun.asked]
    if all(asked.command != "search" for asked in one.begun.asked):
        short.append([*spelled("search"), *named, "rounds=3"])
    whole = [
        [*spelled(asked.command), *asked.words, *asked.launcher, *place]
        for asked in one.begun.asked
    ]
    return [*short, *whole]


def _name(store: Store, options: argparse.Namespace) -> None:
    study = study_names.find(store.root, options.study)
    study_names.rename(store, study, options.name)
    print(f"{study} is called {options.name}")
    _write_page(store)


def _compare(store: Store, options: argparse.Namespace) -> None:
    summaries = study_overview.read(store)
    names = [study_names.find(store.root, typed) for typed in (options.study, options.other)]
    one, other = (_one(summaries, name) for name in names)
    if one.folder == other.folder:
        raise SsrError(f"{options.study} and {options.other} are one study: name two.")
    if options.json:
        print(json.dumps(_compared(one, other), indent=1))
        return
    for part in study_tables.comparison(one, other):
        terminal.console().print(part)


def _compared(one: StudySummary, other: StudySummary) -> dict[str, object]:
    return {
        "studies": [study_tables.as_data(each) for each in (one, other)],
        "differ_in": study_tables.apart(one, other),
    }


def _remove(store: Store, options: argparse.Namespace) -> None:
    if (ended := removal.end_others(store)) and not options.json:
        print(f"ended a removal that was ended before: {bytes_text(ended)} freed")
    chosen = None if options.study is None else study_names.find(store.root, options.study)
    if options.failed or options.checkpoints:
        every = study_names.every(store.root) if chosen is None else [chosen]
        _remove_parts(store, options, list(every))
    elif chosen is not None:
        _remove_study(store, options, chosen)
    elif not ended:
        raise SsrError(
            f"name what is removed: {PROG} remove NAME, or --failed, or --checkpoints, of one "
            "study or of all."
        )
    _write_page(store)


def _remove_study(store: Store, options: argparse.Namespace, study: str) -> None:
    summaries = study_overview.read(store)
    one = _one(summaries, study)
    inside = store.study_folder(study).resolve()
    if any(inside in path.parents for path in removal.started_from(store)):
        print(f"runs of other studies start from networks of {one.title}, or learn from them")
    what = f"{one.title}: {study_tables.counts_text(one)}, {bytes_text(one.size)}"
    _confirm(options, f"remove all of {what}")
    freed = removal.remove_study(store, study)
    print(f"removed {one.title}: {bytes_text(freed)} freed")
    for other in summaries:
        if other.finalists_of == study:
            print(f"its finalists are a study of their own: {PROG} remove {other.title}")


def _remove_parts(store: Store, options: argparse.Namespace, chosen: Sequence[str]) -> None:
    runs = [run for one in chosen for run in removal.failed(store, one)] if options.failed else []
    weights = (
        [path for one in chosen for some in removal.weights(store, one).values() for path in some]
        if options.checkpoints
        else []
    )
    freed = sum(map(removal.size, runs)) + sum(path.stat().st_size for path in weights)
    if not runs and not weights:
        print("there is nothing to remove")
        return
    parts = [counted(len(runs), "failed run")] * bool(runs)
    parts += [counted(len(weights), "file") + " of weights"] * bool(weights)
    _confirm(options, f"remove {' and '.join(parts)}, {bytes_text(freed)}")
    for one in chosen:
        if options.failed:
            _say(store, one, removal.remove_failed(store, one), "")
        if options.checkpoints:
            _say(store, one, removal.remove_weights(store, one), "the weights of ")
    if weights:
        print(NO_LONGER)


def _say(store: Store, study: str, removed: Removed, of: str) -> None:
    name = study_names.title(store.root, study)
    if removed.runs:
        freed = bytes_text(removed.freed)
        print(f"{name}: removed {of}{counted(len(removed.runs), 'run')}, {freed} freed")
    for folder in removed.used:
        print(f"{name}: left {folder.relative_to(store.root)}, which another process uses")


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


def _write_page(store: Store) -> None:
    """Write the page anew, where there is one, so that it shows what there is."""
    if (store.root / page.FILE).exists():
        page.write(store)


def _one(summaries: Sequence[StudySummary], folder: str) -> StudySummary:
    return next(one for one in summaries if one.folder == folder)


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--runs", metavar="DIR", help=f"the folder of the records ({RUNS})")
    shared.add_argument("--json", action="store_true", help="print JSON")
    parser = argparse.ArgumentParser(
        prog=PROG, description="List the studies of a folder of runs.", parents=[shared]
    )
    parser.set_defaults(carry_out=_list, runs=RUNS, json=False)
    study = "a study's name, one of your own, or a beginning of it"
    adding = parser.add_subparsers(metavar="{show,name,compare,remove}")

    def add(name: str, carry_out: object, says: str) -> argparse.ArgumentParser:
        added = adding.add_parser(name, help=says, description=f"{says}.", parents=[shared])
        added.set_defaults(carry_out=carry_out)
        return added

    shows = add("show", _show, "Say more of one, and the commands that go on with it")
    shows.add_argument("study", help=study)
    names = add("name", _name, "Give a study a name of your own")
    names.add_argument("study", help=study)
    names.add_argument("name", help="up to 100 letters, digits, and . _ -")
    compares = add("compare", _compare, "Say in what two differ, and what came of them")
    compares.add_argument("study", help=study)
    compares.add_argument("other", help="another one")
    removes = add("remove", _remove, "Free space; what another process uses stays")
    removes.add_argument("study", nargs="?", help=f"{study}; of --failed, --checkpoints: none: all")
    removes.add_argument("--failed", action="store_true", help="only runs that failed")
    weights = "only weights that nothing goes on from; best/ and finalists stay"
    removes.add_argument("--checkpoints", action="store_true", help=weights)
    removes.add_argument("--yes", action="store_true", help="do not ask")
    return parser


if __name__ == "__main__":
    streams.outlive_readers()
    sys.exit(main())
