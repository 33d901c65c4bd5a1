"""`ssr latency STUDY` measures networks where they will run.

Of a study it measures all finished networks, of a model's name the codes that are given; with
`--fit` a sample of all that the model can be rescaled to, and a latency model of the others.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from ssr_exp import command_options, messages, streams, terminal
from ssr_exp.config import LatencyConf, PathsConf, Source
from ssr_exp.edge import measured_networks
from ssr_exp.edge.latency import comparison, runtimes, stopwatch, table
from ssr_exp.edge.latency.runtimes import Runner
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.edge.latency.table import Subject
from ssr_exp.edge.latency.table_file import Setting
from ssr_exp.edge.measured_networks import MeasuredStudy
from ssr_exp.errors import SsrError, cause, is_out_of_memory
from ssr_exp.rescaling import arguments, lattice, saved, seeds
from ssr_exp.runs import study_names
from ssr_exp.runs.provenance import torch_threads

log = logging.getLogger(__name__)

RUNS = PathsConf().runs
INTERRUPTED = 130  # as shells say it
Measured = dict[Setting, dict[str, Latency]]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the networks that the command line names."""
    options = command_options.latency().parse_args(argv)
    logging.basicConfig(handlers=[messages.screen()], level=logging.INFO)
    try:
        _check(options)
        study = _study(options)
        if options.fit is None:
            _print(options, study)
        else:
            _fit(options, study)
    except SsrError as error:
        print(error, file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"out of memory ({cause(error)}): type {_less(options)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: {_left(options)}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _left(options: argparse.Namespace) -> str:
    """Say what an interrupted command has written."""
    if options.out is not None and options.out.exists():  # it was not there before
        return f"{options.out} holds what was measured"
    return "records may have been written" if options.write else "nothing was written"


def _check(options: argparse.Namespace) -> None:
    if options.write and options.batch != [1]:
        raise SsrError(
            "a record's latency is that of one image: type --batch 1, or leave --write out."
        )
    if options.write and not _folder(options.what).exists():
        raise SsrError(
            f"--write puts latencies into a study's records, and there is no folder {options.what}:"
            " name a study, or its folder, paths.runs/<study>."
        )
    if options.fit is not None and (options.write or options.network):
        raise SsrError("--fit chooses its own networks: leave --write and --network out.")
    if options.fit is not None and (len(options.runtime) > 1 or len(options.batch) > 1):
        raise SsrError("a latency model is of one setting: type --fit with one runtime and batch.")
    if options.out is not None and options.out.exists():
        raise SsrError(f"{options.out} is there already: remove it, or type another --out FILE.")
    if (options.fit is None) != (options.out is None):
        raise SsrError("--fit and --out belong together: type --fit --out FILE.")


def _less(options: argparse.Namespace) -> str:
    """Name what takes less memory than what was typed: all networks are held at once."""
    if max(options.batch) > 1:
        return "a smaller --batch"
    several = ["fewer --runtime"] if len(options.runtime) > 1 else []
    some = "fewer codes as --network" if options.network else "some codes as --network"
    fewer = some if options.fit is None else "a smaller --fit N"
    return " or ".join([*several, fewer, "of a model a smaller --size (or --shape)"])


def _study(options: argparse.Namespace) -> MeasuredStudy:
    """Read a study's folder, or build the seed network of a model's name.

    A word that is both is the model, which has no other name; the study has its folder. What is to
    be written is of the study.
    """
    folder = _folder(options.what)
    source, slash, _ = options.what.partition("/")
    is_model = options.what in seeds.names() and not options.write
    if is_model and (folder / saved.NETWORK).exists():
        place = folder if len(folder.parts) > 1 else f"./{folder}"
        said = "%s is the model; a study is called so, too: type %s for it"
        log.warning(said, options.what, place)
    if (folder.exists() and not is_model) or options.write or (slash and source not in set(Source)):
        study = measured_networks.read(folder, trust=options.trust)
    else:
        model = arguments.model(options.what, options)
        study = measured_networks.untrained(
            model,
            arguments.segment(options),
            num_classes=options.classes,
            input_shape=arguments.input_shape(options),
            inputs=arguments.inputs(options),
        )
    return study.only(options.network) if options.network else study


def _folder(what: str) -> Path:
    """Find the folder of a study that is named instead, where the current one has such runs."""
    folder, runs = Path(what).expanduser(), Path(RUNS)
    named = next((s for s, own in study_names.every(runs).items() if what in (s, own)), None)
    return folder if folder.exists() or named is None else runs / named


def _print(options: argparse.Namespace, study: MeasuredStudy) -> None:
    """Measure networks in all settings, in turn, and print them beside the seed network."""
    measured = _measured(options, study)
    console = terminal.console()
    several = len(options.batch) > 1
    short = {f"{s.runtime} batch {s.batch}" if several else s.runtime: s for s in measured}
    columns = {name: measured[setting] for name, setting in short.items()}
    console.print(comparison.lay_out(study, columns, markdown=options.markdown))
    for setting in measured:
        console.print(f"latency: median of {options.repeats} turns, {setting}")
    if note := arguments.assumed(options):
        console.print(note)
    if study.folder is not None and not study.networks[0].records:
        console.print("the seed network has no finished run: train it with modifiers=baseline")
    each = [(setting, *row) for setting, row_of in measured.items() for row in row_of.items()]
    noisy = [row for row in each if row[2].spread > options.spread]
    if noisy:
        setting, code, latency = max(noisy, key=lambda row: row[2].spread)
        sentence = (
            f"this machine is noisy: of {len(noisy)} latencies the quartiles lie far apart, most "
            f"({latency.spread:.0%}) of {code} in {setting.runtime}"
        )
        if options.write:
            raise SsrError(
                f"{sentence}, where {options.spread:.0%} are allowed, so nothing was written: end "
                "what else runs on it, raise --repeats, or allow more with --spread."
            )
        console.print(f"{sentence}; measure again before you believe it")
    if options.write:
        ms = {str(s): {code: row[code].ms for code in row} for s, row in measured.items()}
        console.print(f"written to {study.write(ms)} records")


def _measured(options: argparse.Namespace, study: MeasuredStudy) -> Measured:
    stopwatch.check(repeats=options.repeats)
    settings = [
        table.here(name, batch=batch, threads=options.threads)
        for name in options.runtime
        for batch in options.batch
    ]
    runners: dict[tuple[Setting, str], Runner] = {}
    with torch_threads(options.threads):
        for setting in settings:
            runtime, networks = runtimes.find(setting.runtime), study.build()
            for code in terminal.progress(list(networks), f"preparing for {setting.runtime}"):
                runners[setting, code] = stopwatch.prepare(
                    networks[code],
                    study.plan.inputs,
                    runtime,
                    batch=setting.batch,
                    threads=setting.threads,
                    all_outputs=study.seed.num_classes is None,
                )
        times = stopwatch.interleaved(runners, repeats=options.repeats)
    measured: Measured = {setting: {} for setting in settings}
    for (setting, code), latency in times.items():
        measured[setting][code] = latency
    return measured


def _fit(options: argparse.Namespace, study: MeasuredStudy) -> None:
    """Measure a sample of a lattice, fit a latency model, and say how well it predicts."""
    points = lattice.from_plan(study.plan, width_steps=options.width_steps)
    subject = Subject(study.seed, study.seed_network, points)
    effort = LatencyConf(
        networks=options.fit,
        held_out=options.held_out,
        repeats=options.repeats,
        spread=options.spread,
    )
    (runtime,), (batch,) = options.runtime, options.batch
    setting = table.here(runtime, batch=batch, threads=options.threads)
    latencies = table.start(subject, setting, options.out, effort, option="--out FILE")
    baseline = latencies.measured()[study.plan.baseline]
    smallest = float(latencies.ms(points.points([0]))[0])
    console = terminal.console()
    console.print(f"{study.name}: {setting}")
    console.print(
        f"lattice: {lattice.spell(points.size)} networks; the seed network takes {baseline:.3g} "
        f"ms, the smallest one {smallest:.3g} ms"
    )
    console.print(str(latencies.check()))
    console.print(
        f"written to {options.out}: "
        + messages.typed(
            "search", "latency=file", f"latency.file={options.out}", "cap.latency_ms=50%"
        )
    )


if __name__ == "__main__":
    streams.outlive_readers()
    sys.exit(main())
