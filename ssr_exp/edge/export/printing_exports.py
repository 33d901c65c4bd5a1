"""What an export prints."""

from __future__ import annotations

from rich.table import Table

from ssr_exp import terminal
from ssr_exp.edge.export.exporter import Exported, ExportOutcome, Request
from ssr_exp.runs import provenance


def print_outcome(outcome: ExportOutcome, request: Request) -> None:
    """Print a row for each verified file, beside PyTorch, and what its user should know."""
    parts = list(outcome.files[0].found.eager)
    table = Table(title=f"verified files, one image on {provenance.cpu(request.threads)}")
    table.add_column("file", no_wrap=True)
    for heading in ("runtime", "KiB", "ms", "quartiles", *(f"{p} acc %" for p in parts)):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("same prediction %", justify="right")
    table.add_column("difference", justify="right")
    own = outcome.eager
    eager = [f"{outcome.files[0].found.eager[part]:.2f}" for part in parts]
    low, high = own.quartiles
    table.add_row(
        "(weights)", "PyTorch", "", f"{own.ms:.3f}", f"{low:.3f} - {high:.3f}", *eager, "", ""
    )
    for one in outcome.files:
        table.add_row(*_cells(one, parts))
    console = terminal.console()
    console.print(table)
    for one in outcome.files:
        for remark in one.remarks:
            console.print(f"{one.file}: {remark}")


def _cells(one: Exported, parts: list[str]) -> list[str]:
    assert one.latency is not None
    low, high = one.latency.quartiles
    return [
        one.file,
        one.runtime,
        f"{one.size / 1024:,.1f}",
        f"{one.latency.ms:.3f}",
        f"{low:.3f} - {high:.3f}",
        *(f"{one.found.accuracy[part]:.2f}" for part in parts),
        f"{one.found.agreement:.2f}",
        f"{one.found.difference:.1e}",
    ]
