"""What an export gave: verified files, as data and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

from ssr_exp import terminal
from ssr_exp.config import ExportConfig
from ssr_exp.edge.export.verification import Agreement
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.runs import provenance
from ssr_exp.runs.score import Score

REPORT = "export.json"  # the figures of an export, beside its files
EAGER = "(weights)"  # PyTorch's own line among the files
SAME = "same prediction %"
LEARNT = " (learned from)"  # behind a score that flatters the network


@dataclass(frozen=True)
class ExportedFile:
    """A verified file."""

    file: str  # its name
    format: str  # see `formats.NAMES`
    int8: bool  # whether it is quantised
    runtime: str  # that it was verified in, and its version
    size: int  # bytes
    agreement: Agreement  # how it compares with PyTorch
    max_batch: int  # inputs at once that it was made for, where its runtime reserves memory
    remarks: tuple[str, ...] = ()  # what its user should know


@dataclass(frozen=True)
class Exported:
    """An export that ended."""

    folder: Path  # holds it
    files: tuple[ExportedFile, ...]  # that passed, one or more
    failed: tuple[str, ...]  # formats that did not, with the reason
    latencies: Mapping[str, Latency]  # of one sample, by file, and of PyTorch as `EAGER`
    learnt: frozenset[str] = frozenset()  # parts of the data set that the network learned from

    @property
    def eager(self) -> dict[str, float]:
        """PyTorch's score on each part of the data set."""
        return self.files[0].agreement.eager

    @property
    def counts_predictions(self) -> bool:
        """Whether predictions of a file can be the same as PyTorch's, as classes can."""
        return self.files[0].agreement.agreement is not None

    def headings(self, score: Score) -> list[str]:
        """Name the score on each part of the data set, with a mark where it flatters."""
        return [
            f"{score.on(part).heading}{LEARNT if part in self.learnt else ''}"
            for part in self.eager
        ]


def report(exported: Exported, score: Score, request: ExportConfig) -> dict[str, object]:
    """Write an export's figures as plain data; latencies in ms, of one sample."""
    files = [
        {
            "file": one.file,
            "format": one.format,
            "int8": one.int8,
            "runtime": one.runtime,
            "bytes": one.size,
            "max_batch": one.max_batch,
            **asdict(one.agreement),
            **_times(exported.latencies[one.file]),
            "remarks": one.remarks,
        }
        for one in exported.files
    ]
    keys = ("int8", "uint8_input", "max_batch", "calibration", "tolerance", "int8_drop")
    asked = {key: getattr(request, key) for key in (*keys, "threads", "repeats")}
    return {
        "device": provenance.cpu(request.threads),
        **score.fields(),
        "learned_from": sorted(exported.learnt),
        "eager": _times(exported.latencies[EAGER]),
        "files": files,
        "failed": exported.failed,
        "request": {"formats": request.format, **asked, "licence": request.license},
    }


def _times(latency: Latency) -> dict[str, object]:
    return {"latency_ms": latency.ms, "quartiles_ms": latency.quartiles}


def print_table(
    exported: Exported, score: Score, request: ExportConfig, *, sample: str = "image"
) -> None:
    """Print a row for each verified file, beside PyTorch, and what its user should know.

    `sample` is what the network takes one of.
    """
    by = "" if exported.eager else " (their outputs are PyTorch's on drawn inputs)"
    table = Table(title=f"verified files{by}, one {sample} on {provenance.cpu(request.threads)}")
    table.add_column("file", no_wrap=True)
    for heading in ("runtime", "KiB", "ms", "quartiles", *exported.headings(score)):
        table.add_column(heading, justify="right", no_wrap=True)
    agreements = [SAME] if exported.counts_predictions else []
    for heading in (*agreements, "difference"):
        table.add_column(heading, justify="right")
    rows = [(EAGER, "PyTorch", "", exported.eager, [*("" for _ in agreements), ""])]
    for one in exported.files:
        found, size = one.agreement, f"{one.size / 1024:,.1f}"
        same = [] if found.agreement is None else [f"{found.agreement:.2f}"]
        shown = [*same, f"{found.difference:.1e}"]
        rows.append((one.file, one.runtime, size, found.scores, shown))
    for file, runtime, size, scores, shown in rows:
        latency = exported.latencies[file]
        low, high = latency.quartiles
        times = f"{latency.ms:.3f}", f"{low:.3f} - {high:.3f}"
        numbers = (score.number(scores[part]) for part in exported.eager)
        table.add_row(file, runtime, size, *times, *numbers, *shown)
    console = terminal.console()
    console.print(table)
    for one in exported.files:
        for remark in one.remarks:
            console.print(f"{one.file}: {remark}")
