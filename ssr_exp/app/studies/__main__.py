"""`ssr studies`: the studies of a folder, what they differ in, and the space that they take."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ssr_exp import messages, streams, terminal
from ssr_exp.app.studies import removing
from ssr_exp.config import PathsConf
from ssr_exp.errors import SsrError, of_a_path, one_line
from ssr_exp.report import study_outcome, study_overview, study_tables
from ssr_exp.report.study_overview import StudySummary
from ssr_exp.report.study_tables import bytes_text
from ssr_exp.runs import removal, studies, study_names
from ssr_exp.runs.store import Store
from ssr_exp.runs.study_names import Command

RUNS = PathsConf().runs
INTERRUPTED = 130  # as shells say it


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out what the command line asks for."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.json and options.carry_out in (_name, removing.remove):
        parser.error("--json is of the list, show and compare: leave it out.")
    logging.basicConfig(handlers=[messages.screen()], level=logging.INFO)
    try:
        carry_out: Callable[[Store, argparse.Namespace], None] = options.carry_out
        carry_out(_store(Path(options.runs).expanduser()), options)
    except (SsrError, PermissionError, RuntimeError) as error:
        said = str(error) if isinstance(error, SsrError) else of_a_path(error)
        if said is None:
            raise
        print(one_line(said), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


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
        print(f"{store.root} holds no study yet: {messages.typed('train')} begins one")
        return
    terminal.console().print(study_tables.listing(summaries))
    if (left := removal.left_aside(store)) and not removal.is_under_way(store):
        ends = f"{removing.PROG} remove{study_names.at(store.root)}"
        print(f"a removal that was killed left {bytes_text(left)}: {ends} ends it")
    shows = f"{removing.PROG} show NAME{study_names.at(store.root)}"
    print(f"{shows} says more of one, and the command that goes on with it")


def _show(store: Store, options: argparse.Namespace) -> None:
    summaries = study_overview.read(store)
    one = study_overview.one_of(summaries, study_names.find(store.root, options.study))
    if options.json:
        print(json.dumps(study_tables.as_data(one), indent=1))
        return
    lines = [one.title if one.begun.name is None else f"{one.title}  ({one.folder})"]
    lines.append(f"  {one.network} on {one.dataset}; {study_tables.counts_text(one)}")
    outcome = study_outcome.describe(one).items()
    lines += [f"  {heading}: {text}" for heading, text in outcome if text != study_outcome.NONE]
    lines.append(f"  size: {bytes_text(one.size)}, in {store.root / one.folder}")
    if said := study_tables.differences(one, summaries):
        lines.append(f"  {'' if one.holds_finalists else 'differs from others in: '}{said}")
    typed = _commands_of(store, one, summaries)
    goes_on = "its search goes on with" if one.holds_finalists else "goes on with"
    lines.append(f"{goes_on}:" if typed else f"{goes_on} the words that it was begun with")
    lines += [f"  {shlex.join(words)}" for words in typed]
    print("\n".join(map(one_line, lines)))


def _commands_of(
    store: Store, one: StudySummary, summaries: Sequence[StudySummary]
) -> list[list[str]]:
    """List the commands that go on with a study; finalists are trained by their search's."""
    if one.finalists_of is None:
        return commands(store, one)
    typed = commands(store, study_overview.one_of(summaries, one.finalists_of))
    start = messages.spelled("search")
    return [words for words in typed if words[: len(start)] == start][:1]


def commands(store: Store, one: StudySummary) -> list[list[str]]:
    """List the commands that go on with a study: short ones, then all that was typed.

    Of a study of an earlier version nothing is known.
    """
    where = messages.setting("paths.runs", store.root)
    place = [] if str(store.root) == RUNS else [where]
    named, begun = [f"study={one.title}", *place], one.begun
    is_loop = studies.SETTINGS in one.fields
    makes = [study_names.TRUST] if is_loop and studies.calls_code(one.fields) else []
    if not begun.asked:
        aside = [*named, *makes, study_names.FUNCTION]
        return [[*messages.spelled("search"), *aside]] if is_loop else []

    def short(command: Command) -> list[str]:
        trust = makes or study_names.trusting(begun, command)
        asked = begun.by(command) or begun.asked[0]
        return [*messages.spelled(command), *asked.presets, *named, *trust]

    typed = [short(asked.command) for asked in begun.asked]
    if begun.by("search") is None:
        typed.append([*short("search"), "rounds=3"])
    start, end = ([*named, *makes], []) if is_loop else ([], place)
    whole = [
        [
            *(*messages.spelled(asked.command), *asked.presets, *start),
            *(*asked.words, *asked.launcher),
            *(end or [where] * study_names.says_place(asked.words)),
        ]
        for asked in begun.asked
    ]
    trains = (
        [[*short("search"), study_names.FUNCTION]] if is_loop and not _has_function(begun) else []
    )
    return [list(words) for words in dict.fromkeys(map(tuple, [*typed, *trains, *whole]))]


def _has_function(begun: study_names.Begun) -> bool:
    """Say whether commands on a loop's study were told what trains its networks."""
    return any(word.startswith("task.target=") for one in begun.asked for word in one.words)


def _name(store: Store, options: argparse.Namespace) -> None:
    study = study_names.find(store.root, options.study)
    study_names.rename(store, study, options.name)
    print(f"{study} is called {options.name}")
    removing.write_page(store)


def _compare(store: Store, options: argparse.Namespace) -> None:
    summaries = study_overview.read(store)
    names = [study_names.find(store.root, typed) for typed in (options.study, options.other)]
    one, other = (study_overview.one_of(summaries, name) for name in names)
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


def _parser() -> argparse.ArgumentParser:
    place = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    place.add_argument("--runs", metavar="DIR", help=f"the folder of the records ({RUNS})")
    shown = argparse.ArgumentParser(
        add_help=False, argument_default=argparse.SUPPRESS, parents=[place]
    )
    shown.add_argument("--json", action="store_true", help="print JSON")
    parser = argparse.ArgumentParser(
        prog=removing.PROG, description="List the studies of a folder of runs.", parents=[shown]
    )
    parser.set_defaults(carry_out=_list, runs=RUNS, json=False)
    study = "a study's name, one of your own, or a beginning of it"
    adding = parser.add_subparsers(metavar="{show,name,compare,remove}")

    def add(
        name: str, carry_out: object, says: str, options: argparse.ArgumentParser
    ) -> argparse.ArgumentParser:
        added = adding.add_parser(name, help=says, description=f"{says}.", parents=[options])
        added.set_defaults(carry_out=carry_out)
        return added

    shows = add("show", _show, "Say more of one, and the commands that go on with it", shown)
    shows.add_argument("study", help=study)
    names = add("name", _name, "Give a study a name of your own", place)
    names.add_argument("study", help=study)
    names.add_argument("name", help="up to 100 letters, digits, and . _ -")
    compares = add("compare", _compare, "Say in what two differ, and what came of them", shown)
    compares.add_argument("study", help=study)
    compares.add_argument("other", help="another one")
    says = "Free space; what another process uses stays"
    removes = add("remove", removing.remove, says, place)
    whole = "a study's whole name, or one of your own; left out with --failed or --checkpoints: all"
    removes.add_argument("study", nargs="?", help=whole)
    removes.add_argument("--failed", action="store_true", help="only runs that failed")
    weights = "only weights that nothing goes on from; best/ and finalists stay"
    removes.add_argument("--checkpoints", action="store_true", help=weights)
    removes.add_argument("--yes", action="store_true", help="do not ask")
    return parser


if __name__ == "__main__":
    streams.outlive_readers()
    sys.exit(main())
