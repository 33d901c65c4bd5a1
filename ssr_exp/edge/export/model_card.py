"""The model card: what an exported network is, what it scores and costs, and how to load it.

Its head is what the Hugging Face Hub reads: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ssr_exp.config import ExportConfig
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge.export import card_files, card_scores, card_training, markdown, output_kinds
from ssr_exp.edge.export.exported import Exported
from ssr_exp.edge.export.verification import Part
from ssr_exp.edge.selection import Selection
from ssr_exp.runs import store, verdict
from ssr_exp.runs.record import Record, Status


def write(
    chosen: Selection,
    exported: Exported,
    parts: Sequence[Part],
    request: ExportConfig,
    how: Preprocessing | None,
) -> str:
    """Write the card, in Markdown; of a network without `predict.py`, `how` is None."""
    records = store.Store(chosen.folder.parent).records(chosen.folder.name)
    finished = [record for record in records if record.status is Status.finished]
    sections = (
        _head(chosen, exported, request),
        _what(chosen, finished),
        card_scores.section(chosen, finished),
        card_files.table(chosen, exported, parts, request, how),
        card_files.usage(chosen, exported, parts, request, how),
        card_training.section(chosen, finished),
        _licence(request),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _head(chosen: Selection, exported: Exported, request: ExportConfig) -> Iterator[str]:
    yield "---"
    if (tag := output_kinds.of(chosen.task).tag) is not None:
        yield f"pipeline_tag: {tag}"
    if request.license is not None:
        yield f"license: {markdown.quoted(request.license)}"
    if (dataset := card_training.public_data(chosen)) is not None:
        yield f"datasets: [{markdown.quoted(dataset)}]"
    formats = dict.fromkeys(one.format for one in exported.files)
    tags = ["ssr_exp", "structured-segment-rescaling", chosen.task, *formats]
    yield f"tags: [{', '.join(map(markdown.quoted, tags))}]"
    yield "---"


def _what(chosen: Selection, finished: Sequence[Record]) -> Iterator[str]:
    record, about = chosen.record, chosen.about
    kind = "at its full size" if record.is_whole else "rescaled"
    yield f"# {markdown.inert(record.model)} {kind}: {markdown.inert(about.network)}"
    yield ""
    if record.is_whole and chosen.told is not None:
        which = verdict.alternative(chosen.verdict)
        yield f"No {which} was good enough in its search, so this is the seed network."
        yield ""
    yield (
        f"{markdown.inert(about.model.name)} with {'-'.join(map(str, record.blocks))} blocks and "
        f"{'-'.join(map(str, record.widths))} channels in its {len(record.blocks)} segments, "
        f"{output_kinds.of(chosen.task).work.format(n=about.num_classes)}. Its code is "
        f"`{markdown.inert(about.network)}`."
    )
    yield ""
    yield "| cost | this network | seed network | share |"
    yield "|---|---|---|---|"
    for name, own, full in (
        ("parameters", record.params, record.baseline_params),
        (f"MACs for one {chosen.sample}", record.macs, record.baseline_macs),
        ("GeMMs", record.gemms, record.baseline_gemms),
    ):
        yield f"| {name} | {own:,} | {full:,} | {own / full:.1%} |"
    yield ""
    yield card_scores.front(chosen, finished)


def _licence(request: ExportConfig) -> Iterator[str]:
    yield "## Licence"
    yield ""
    stated = request.license and f"{markdown.inert(request.license)}."
    yield stated or "Not stated; `ssr export license=IDENTIFIER` states one."
