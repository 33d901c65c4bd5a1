"""The model card: what an exported network is, what it scores and costs, and how to load it.

Its head is what the Hugging Face Hub reads: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ssr_exp.config import ExportConfig, TaskKind
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge.export import card_files, card_scores, markdown, output_kinds
from ssr_exp.edge.export.exported import Exported
from ssr_exp.edge.export.verification import Part
from ssr_exp.edge.selection import Selection
from ssr_exp.runs import store, studies
from ssr_exp.runs.record import NOT_TOLD, Record, Status
from ssr_exp.terminal import counted

RECIPE = ("optimizer", "lr", "batch_size", "weight_decay", "schedule", "label_smoothing")


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
        _head(chosen, request),
        _what(chosen, finished),
        card_scores.section(chosen, finished),
        card_files.table(chosen, exported, parts, request, how),
        card_files.usage(chosen, exported, parts, request, how),
        _training(chosen, request),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _head(chosen: Selection, request: ExportConfig) -> Iterator[str]:
    record = chosen.record
    yield "---"
    if (tag := output_kinds.of(chosen.task).tag) is not None:
        yield f"pipeline_tag: {tag}"
    if request.license is not None:
        yield f"license: {markdown.quoted(request.license)}"
    if not _is_of_a_loop(chosen):
        yield f"datasets: [{markdown.quoted(record.dataset)}]"
    tags = ["ssr_exp", "structured-segment-rescaling", chosen.task, *request.format]
    yield f"tags: [{', '.join(map(markdown.quoted, tags))}]"
    yield "---"


def _what(chosen: Selection, finished: Sequence[Record]) -> Iterator[str]:
    record, about = chosen.record, chosen.about
    yield f"# {markdown.inert(record.model)} rescaled: {markdown.inert(about.network)}"
    yield ""
    yield (
        f"{markdown.inert(about.model.name)} with {'-'.join(map(str, record.blocks))} blocks and "
        f"{'-'.join(map(str, record.widths))} channels in its {len(record.blocks)} segments, "
        f"{output_kinds.of(chosen.task).work.format(n=about.num_classes)}. Its code is "
        f"`{markdown.inert(about.network)}`."
    )
    yield ""
    yield "| cost | this network | of the seed network |"
    yield "|---|---|---|"
    for name, own, full in (
        ("parameters", record.params, record.baseline_params),
        ("MACs for one image", record.macs, record.baseline_macs),
        ("GeMMs", record.gemms, record.baseline_gemms),
    ):
        yield f"| {name} | {own:,} | {own / full:.1%} |"
    yield ""
    yield card_scores.front(chosen, finished)


def _training(chosen: Selection, request: ExportConfig) -> Iterator[str]:
    record, study = chosen.record, markdown.inert(chosen.record.study)
    yield "## Training"
    yield ""
    if _is_of_a_loop(chosen):
        yield f"- Data set and recipe: those of the loop that trained it; study `{study}`."
    else:
        yield f"- Data set: {markdown.inert(record.dataset)}; study `{study}`."
    if recipe := _recipe(chosen):
        yield f"- Recipe: {markdown.inert(recipe)}."
    first = chosen.study.get(studies.FIRST_WEIGHTS)
    if isinstance(first, dict):
        drawn = first.get("drawn") or ["nothing"]
        yield (
            f"- Its weights start from {markdown.inert(str(first.get('from')))}; drawn anew: "
            f"{markdown.inert(', '.join(map(str, drawn)))}."
        )
    yield f"- Seed {record.seed}{_took(record)}."
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    commit = markdown.inert(record.git_commit or "not known")
    yield f"- {markdown.inert(versions)}; commit {commit}."
    yield "- All that decides the result: `study.json`; the run: `record.json`."
    yield ""
    yield "## Licence"
    yield ""
    stated = request.license and f"{markdown.inert(request.license)}."
    yield stated or "Not stated; `ssr export license=IDENTIFIER` states one."


def _is_of_a_loop(chosen: Selection) -> bool:
    """Say whether a loop of the user's own trained it, whose data and recipe nobody else knows."""
    return chosen.task == TaskKind.loop


def _recipe(chosen: Selection) -> str:
    """Write what is known of how it was trained; a loop may not tell its epochs."""
    recipe, epochs = chosen.study.get("recipe", {}), chosen.record.epochs
    told = recipe if isinstance(recipe, dict) else {}
    lines = [f"{key} {told[key]}" for key in RECIPE if key in told]
    return ", ".join([*([counted(epochs, "epoch")] if epochs else []), *lines])


def _took(record: Record) -> str:
    """Write how long it was trained, and on what, where that is known."""
    where = "" if record.device == NOT_TOLD else f" on {markdown.inert(record.device)}"
    if not record.wall_s:
        return where
    return f"; {record.wall_s:,.{0 if record.wall_s >= 10 else 1}f} s{where}"
