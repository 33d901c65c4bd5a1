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

EAGER = "(weights)"  # PyTorch's own line among the files


@dataclass(frozen=True)
class ExportedFile:
    """A verified file."""

    file: str  # its name
    format: str  # see `formats.NAMES`
    int8: bool  # whether it is quantised
    runtime: str  # that it was verified in, and its version
    size: int  # bytes
    agreement: Agreement  # how it compares with PyTorch
    remarks: tuple[str, ...] = ()  # what its user should know


@dataclass(frozen=True)
class Exported:
    """An export that ended."""

    folder: Path  # holds it
    files: tuple[ExportedFile, ...]  # that passed, one or more
    failed: tuple[str, ...]  # formats that did not, with the reason
    latencies: Mapping[str, Latency]  # of one image, by file, and of PyTorch as `EAGER`

    @property
    def eager(self) -> dict[str, float]:
        """PyTorch's accuracy on each part of the data set, in percent."""
        return self.files[0].agreement.eager


def report(exported: Exported, request: ExportConfig) -> dict[str, object]:
    """Write an export's figures as plain data; latencies in ms, of one image."""
    files = [
        {
            "file": one.file,
            "format": one.format,
            "int8": one.int8,
            "runtime": one.runtime,
            "bytes": one.size,
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
        "eager": _times(exported.latencies[EAGER]),
        "files": files,
        "failed": exported.failed,
        "request": {"formats": request.format, **asked, "licence": request.license},
    }


def _times(latency: Latency) -> dict[str, object]:
    return {"latency_ms": latency.ms, "quartiles_ms": latency.quartiles}


def print_table(exported: Exported, request: ExportConfig) -> None:
    """Print a row for each verified file, beside PyTorch, and what its user should know."""
    table = Table(title=f"verified files, one image on {provenance.cpu(request.threads)}")
    table.add_column("file", no_wrap=True)
    accuracies = (f"{part} acc %" for part in exported.eager)
    for heading in ("runtime", "KiB", "ms", "quartiles", *accuracies):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("same prediction %", "difference"):
        table.add_column(heading, justify="right")
    rows = [(EAGER, "PyTorch", "", exported.eager, "", "")]
    for one in exported.files:
        found, size = one.agreement, f"{one.size / 1024:,.1f}"
        shown = f"{found.agreement:.2f}", f"{found.difference:.1e}"
        rows.append((one.file, one.runtime, size, found.accuracy, *shown))
    for file, runtime, size, accuracy, agreement, difference in rows:
        latency = exported.latencies[file]
        low, high = latency.quartiles
        times = f"{latency.ms:.3f}", f"{low:.3f} - {high:.3f}"
        percent = (f"{accuracy[part]:.2f}" for part in exported.eager)
        table.add_row(file, runtime, size, *times, *percent, agreement, difference)
    console = terminal.console()
    console.print(table)
    for one in exported.files:
        for remark in one.remarks:
            console.print(f"{one.file}: {remark}")
