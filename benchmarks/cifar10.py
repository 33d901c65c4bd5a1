"""`python -m benchmarks.cifar10`: results/cifar10.md and README's table, from committed records.

`--keep RUNS` first takes over what the studies there have recorded since, without weights. All that
stands between the marks of a page is written anew, the rest by hand.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import cifar10_claims, cifar10_surrogate, figures
from benchmarks.cifar10_claims import DROP
from benchmarks.figures import RESULTS
from ssr_exp.report import search_results
from ssr_exp.runs import last_comparison, pareto, predictions, verdict
from ssr_exp.runs.record import Kind, Record, Status
from ssr_exp.runs.store import BEST_FOLDER, METRICS_FILE, Store

RUNS, PAGE, README = figures.CIFAR10, RESULTS / "cifar10.md", RESULTS.parent / "README.md"
CIFAR_RESNET = re.compile(r"resnet\d+")
PLAIN = re.compile(r"d(\d+)-\1-\1_w16-32-64")  # 6n + 2 layers (He et al. 2016, section 4.2)
BEGIN, END = "<!-- begin: python -m benchmarks.cifar10 -->", "<!-- end -->"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables into their page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cifar10", description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="RUNS", help="take over records from there")
    parser.add_argument("--runs", type=Path, default=RUNS, metavar="DIR")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE")
    options = parser.parse_args(arguments)
    if options.keep is not None:
        figures.keep(options.keep, options.runs)
    store = Store(options.runs)
    made = {options.page: tables(store)} | (
        {README: headline(store)} if options.page == PAGE else {}
    )
    for page, text in made.items():
        page.write_text(replaced(page.read_text(), text))
        print(page)


def replaced(text: str, made: str) -> str:
    """Put tables in the place of a page's."""
    found = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    assert found.search(text), f"the page has no {BEGIN}"
    return found.sub(lambda _: f"{BEGIN}\n\n{made}\n{END}", text)


def tables(store: Store) -> str:
    """Write what the records say of each study, as Markdown."""
    searched = _searched(store)
    every = [r for records, finals in searched.values() for r in (*records, *finals)]
    early = [r for r in every if r.kind is Kind.finalist and r.test_score is not None]
    parts = [
        "\n".join(_study(store, name, records, finals, early))
        for name, (records, finals) in searched.items()
    ]
    return "\n".join(parts)


def headline(store: Store) -> str:
    """Write what was tested in each study that is complete, for people in a hurry."""
    searched = _searched(store)
    return "\n".join(
        _headline(rows, *searched[name]) for name in searched if (rows := _rows(store, name))
    )


def _headline(
    rows: Sequence[dict[str, Any]], records: Sequence[Record], finals: Sequence[Record]
) -> str:
    model, seeds = records[0].model, len(rows[0]["seeds"])
    heads = f"{model}, {records[0].epochs} epochs", "network", "parameters", "of baseline"
    lines = [
        f"| {' | '.join(heads)} | test acc % ({seeds} seeds) | drop |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lost = rows[0]["test_score_mean"] - row["test_score_mean"]
        drop = "" if row is rows[0] else f"{lost:.2f}"
        network = row["network"] if row["model"] == model else f"{row['model']} {row['network']}"
        lines.append(
            f"| {_role(row)} | {network} | {row['params']:,} | "
            f"{row['params'] / rows[0]['params']:.1%} | {_score(row)} | {drop} |"
        )
    trainings = [*records, *finals]
    rounds = len({record.round for record in records} - {None})
    took = (
        f"{len(records)} trainings of the search ({rounds} round{'s' * (rounds != 1)}) and "
        f"{len(finals)} last ones took {_hours(trainings):.0f} hours, summed over trainings of "
        f"one thread each (commit {_commits(trainings)})."
    )
    return "\n".join([*lines, "", took, ""])


def _role(row: dict[str, Any]) -> str:
    """Write what a network is there for, and which plain one of its family it is."""
    plain = PLAIN.fullmatch(row["network"])
    if row["role"] == "baseline" or plain is None or not CIFAR_RESNET.fullmatch(row["model"]):
        return str(row["role"])
    return f"{row['role']} (plain ResNet-{6 * int(plain[1]) + 2})"


def _commits(records: Sequence[Record]) -> str:
    return ", ".join(sorted({(record.git_commit or "?")[:7] for record in records}))


def _hours(records: Sequence[Record]) -> float:
    """Sum what trainings took, without epochs that a stop cut short."""
    return sum(record.wall_s for record in records) / 3600


def _searched(store: Store) -> dict[str, tuple[list[Record], list[Record]]]:
    """List the records of each study with those of its finalists."""
    by_study = {name: store.records(name) for name in sorted(store.records_by_study())}
    beside = search_results.finalist_studies(store, by_study)
    others = {each for names in beside.values() for each in names}
    return {
        name: (records, [r for each in beside.get(name, ()) for r in by_study[each]])
        for name, records in by_study.items()
        if name not in others
    }


def _study(
    store: Store,
    name: str,
    records: Sequence[Record],
    finals: Sequence[Record],
    early: Sequence[Record],
) -> Iterator[str]:
    found = [r for r in records if r.status is Status.finished and r.score is not None]
    if not found:
        return
    is_derived = any(r.kind is Kind.scbp for r in found)
    of = "SCBP of " if is_derived else ""
    yield f"## {of}{found[0].model}, {found[0].epochs} epochs (`{name}`)\n"
    yield f"{_took([*records, *finals])}\n"
    if is_derived:
        yield from _derived(found)
        yield from cifar10_claims.scbp_table(found)
        return
    told, rows = predictions.latest(store, name), _rows(store, name)
    if not rows and (left := _left(store, name, records)):
        yield f"Of the networks that it planned, {left} are not trained yet, so nothing follows.\n"
        yield from _trained(found)
        return
    yield from _results(rows) if rows else _begun(found[0], early)
    yield from _promised(store, name, found[0]) if rows else ()
    yield from _trained(found)
    yield from _kept(found)
    yield from cifar10_claims.table(found, finals, told, answer=_answer(rows))
    if told is not None:
        yield from cifar10_surrogate.error_table(told)
        yield from cifar10_surrogate.random_search(told, found)


def _took(records: Sequence[Record]) -> str:
    """Say what trainings took; each has one thread."""
    first, last = (pick(r.started_at for r in records)[:10] for pick in (min, max))
    days = f"on {first}" if first == last else f"from {first} to {last}"
    devices = " and ".join(sorted({record.device for record in records}))
    failed = sum(record.status is Status.failed for record in records)
    return (
        f"{len(records)} trainings, {failed} of them failed; {_hours(records):.1f} hours, summed "
        f"over trainings of one thread each. Their last processes were started {days} ({devices}; "
        f"commit {_commits(records)})."
    )


def _begun(one: Record, tested: Sequence[Record]) -> Iterator[str]:
    """Say of a last comparison that is not complete which of its trainings have ended."""
    scores: dict[str, list[float]] = {}
    for record in tested:
        if (record.model, record.epochs) == (one.model, one.epochs):
            scores.setdefault(record.network, []).append(record.test_score or 0.0)
    ended = "; ".join(f"{n} {', '.join(f'{v:.2f}' for v in some)}" for n, some in scores.items())
    so_far = f": so far, test acc % of each seed, {ended}" if ended else ""
    yield f"The last comparison is not complete{so_far}.\n"


def _left(store: Store, name: str, records: Sequence[Record]) -> int:
    """Count the networks of a study's search, as far as it is planned, that nobody has tried."""
    plans = store.study_folder(name).glob(f"{predictions.FOLDER}/*/round*.json")
    planned = {one["network"] for path in plans for one in json.loads(path.read_text())["planned"]}
    return len(planned - {record.network for record in records})


def _answer(rows: Sequence[dict[str, Any]]) -> str | None:
    return next((row["network"] for row in rows if row["role"] == "answer"), None)


def _rows(store: Store, name: str) -> list[dict[str, Any]]:
    """Read what was tested; nothing of a last comparison that is not complete."""
    path = store.study_folder(name) / BEST_FOLDER / METRICS_FILE
    rows: list[dict[str, Any]] = []
    if path.exists():
        rows = json.loads(path.read_text()).get("results", [])
    return rows


def _score(row: dict[str, Any]) -> str:
    spread = row["test_score_std"]
    return f"{row['test_score_mean']:.2f}" + ("" if spread is None else f" +- {spread:.2f}")


def _results(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lay out what was tested, the baseline first."""
    full = rows[0]
    yield "| | network | parameters | MACs | GeMMs | test acc % | seeds | against the baseline |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        shares = " | ".join(_share(row, full, axis) for axis in ("params", "macs", "gemms"))
        lost = row["test_score_mean"] - full["test_score_mean"]
        yield (
            f"| {_role(row)} | {row['model']} {row['network']} | {shares} | "
            f"{_score(row)} | {len(row['seeds'])} | {lost:+.2f} |"
        )
    yield ""


def _promised(store: Store, name: str, one: Record) -> Iterator[str]:
    """Say what became of the answer's promise, and what speaks against it."""
    told = last_comparison.read(store.study_folder(name) / BEST_FOLDER)
    if told is not None and told.promise is not None:
        on = told.measured_on
        kept = verdict.promise_text(
            one.scored_by, told.promise.model_dump(), on=on, kept=told.is_kept
        )
        against = "" if told.verdict is None else f" {told.verdict}."
        yield f"The answer's promise: {kept}.{against}\n"


def _derived(records: Sequence[Record]) -> Iterator[str]:
    """List the networks of an SCBP study, the seed first, with what was measured of them."""
    settings = sorted({setting for r in records for setting in r.latencies or {}})
    heads = "network, parameters, MACs, GeMMs, val acc %, test acc %".split(", ")
    heads += [f"ms, {setting}" for setting in settings]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    ordered = sorted(records, key=lambda r: -r.params)
    for r in ordered:
        cells = [
            r.network,
            f"{r.params:,} ({r.params / r.baseline_params:.1%})",
            f"{r.macs / r.baseline_macs:.1%}",
            f"{r.gemms}",
            f"{r.score:.2f}",
            "" if r.test_score is None else f"{r.test_score:.2f}",
        ]
        for setting in settings:
            ms, full = ((one.latencies or {}).get(setting) for one in (r, ordered[0]))
            cells.append(f"{ms:.3f} ({ms / full:.0%})" if ms and full else "")
        yield f"| {' | '.join(cells)} |"
    yield ""


def _share(row: dict[str, Any], full: dict[str, Any], axis: str) -> str:
    return f"{row[axis]:,} ({row[axis] / full[axis]:.1%})"


def _trained(records: Sequence[Record]) -> Iterator[str]:
    """List one training of each network, the largest first, and whether none beats it."""
    ordered = _once(records)
    on = pareto.front(
        np.array([r.params for r in ordered]), np.array([r.score or 0.0 for r in ordered])
    )
    heads = "network, by, parameters, MACs, GeMMs, val acc %, of its best epoch, on the front"
    yield f"| {' | '.join(heads.split(', '))} |"
    yield f"|{'---|' * len(heads.split(', '))}"
    for at, r in enumerate(ordered):
        yield (
            f"| {r.network} | {r.origin} | {r.params:,} ({r.params / r.baseline_params:.1%}) | "
            f"{r.macs / r.baseline_macs:.1%} | {r.gemms} | {r.score:.2f} | {r.best_score:.2f} | "
            f"{'yes' if at in on else ''} |"
        )
    yield ""


def _once(records: Sequence[Record]) -> list[Record]:
    """Keep the training of each network's first seed, the largest network first."""
    first = {r.network: r for r in sorted(records, key=lambda r: -r.seed)}
    return sorted(first.values(), key=lambda r: (-r.params, r.network))


def _kept(records: Sequence[Record]) -> Iterator[str]:
    """Say which small networks lose little."""
    ordered = _once(records)
    full = next((r for r in ordered if r.params == r.baseline_params), None)
    if full is None or full.score is None:
        return
    kept = [r for r in ordered if r.score is not None and r.score >= full.score - DROP]
    for what, some in (
        ("the first networks", [r for r in kept if r.round is None]),
        ("all networks", kept),
    ):
        least = min(some, key=lambda r: r.params)
        share = 1 - least.params / full.params
        yield (
            f"- Of {what}, the smallest that loses at most {DROP:g} point of val in one "
            f"training: {least.network}, {share:.1%} fewer parameters, "
            f"{full.score - (least.score or 0):.2f} lost."
        )
    yield ""


if __name__ == "__main__":
    main()
