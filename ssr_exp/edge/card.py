"""The model card: what an exported network is, what it scores and costs, and how to load it.

Its head is what the Hugging Face Hub reads: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ssr_exp import machine
from ssr_exp.edge.chosen import Chosen
from ssr_exp.edge.verify import Labelled
from ssr_exp.runs import local
from ssr_exp.runs.record import Record, Status

if TYPE_CHECKING:
    from ssr_exp.edge.export import Exported, Outcome, Request

LOADERS = {
    "onnx": """import onnxruntime
logits = onnxruntime.InferenceSession("{file}").run(["logits"], {{"image": images}})[0]""",
    "executorch": """from executorch.runtime import Runtime
logits = Runtime.get().load_program("{file}").load_method("forward").execute([images])[0]""",
    "torch_export": """import torch
logits = torch.export.load("{file}").module()(images)""",
}
KINDS = {"onnx": "a NumPy array", "executorch": "a tensor", "torch_export": "a tensor"}
RECIPE = ("optimizer", "lr", "batch_size", "weight_decay", "schedule", "label_smoothing")


def write(chosen: Chosen, outcome: Outcome, parts: Sequence[Labelled], request: Request) -> str:
    """Write the card, in Markdown."""
    sections = (
        _head(chosen, request),
        _what(chosen),
        _accuracy(chosen),
        _files(outcome, parts, request),
        _usage(chosen, outcome),
        _training(chosen, request),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _head(chosen: Chosen, request: Request) -> Iterator[str]:
    record = chosen.record
    yield "---"
    yield "pipeline_tag: image-classification"
    if request.licence is not None:
        yield f"license: {_yaml(request.licence)}"
    yield f"datasets: [{_yaml(record.dataset)}]"
    tags = ["ssr_exp", "structured-segment-rescaling", *request.formats]
    yield f"tags: [{', '.join(map(_yaml, tags))}]"
    yield "---"


def _what(chosen: Chosen) -> Iterator[str]:
    record, about = chosen.record, chosen.about
    yield f"# {_plain(record.model)} rescaled: {about.network}"
    yield ""
    yield (
        f"{_plain(about.model.name)} with {'-'.join(map(str, record.blocks))} blocks and "
        f"{'-'.join(map(str, record.widths))} channels in its {len(record.blocks)} segments, "
        f"classifying images into {about.num_classes} classes. Its code is `{about.network}`."
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
    yield _front(chosen)


def _front(chosen: Chosen) -> str:
    """Say which trained networks of the study beat it in accuracy on val and in parameters."""
    rows = [r for r in local.Store(chosen.folder.parent).records(chosen.folder.name) if _counts(r)]
    own = [r for r in rows if r.network == chosen.record.network]
    if not own:
        return (
            "The study that it comes from is not at hand, so its place on the front is not known."
        )
    best = max(own, key=lambda r: r.val_acc or 0.0)
    beaten = {
        r.network
        for r in rows
        if r.params <= best.params
        and (r.val_acc or 0) >= (best.val_acc or 0)
        and (r.params, r.val_acc) != (best.params, best.val_acc)
    } - {best.network}
    place = (
        f"{len(beaten)} of them have no more parameters and are no less accurate"
        if beaten
        else "none has fewer parameters and is as accurate: it is on the front"
    )
    trained = len({r.network for r in rows})
    return f"Of the {trained} networks that were trained in the same study, {place} (val)."


def _accuracy(chosen: Chosen) -> Iterator[str]:
    record = chosen.record
    yield "## Accuracy"
    yield ""
    for part, value in (("val", record.val_acc), ("test", record.test_acc)):
        if value is not None:
            yield f"- {value:.2f} % on {part}: this training, seed {record.seed}."
    if chosen.has_seen_val:
        yield "- Its last training learned from train and val; accuracy on val flatters it."
    for row in chosen.comparison:
        if (line := _compared(row)) is not None:
            yield line


def _compared(row: Mapping[str, Any]) -> str | None:
    """Write a row of a search's last comparison; None if it is no such row."""
    mean, deviation, seeds = (row.get(k) for k in ("test_acc_mean", "test_acc_std", "seeds"))
    if not isinstance(mean, int | float) or not isinstance(seeds, list):
        return None
    spread = f" +- {deviation:.2f}" if isinstance(deviation, int | float) else ""
    who = f"{_plain(row.get('role'))}, {_plain(row.get('model'))} {_plain(row.get('network'))}"
    return (
        f"- {who}: {mean:.2f}{spread} % on test, mean and standard deviation over "
        f"{len(seeds)} seeds ({', '.join(map(_plain, seeds))})."
    )


def _files(outcome: Outcome, parts: Sequence[Labelled], request: Request) -> Iterator[str]:
    names = [part.name for part in parts]
    yield "## Files"
    yield ""
    titles = [f"{part.name} acc %{' (learned from)' if part.learnt else ''}" for part in parts]
    yield f"| file | runtime | KiB | ms | {' | '.join(titles)} | same prediction % | difference |"
    yield f"|{'---|' * (len(names) + 6)}"
    eager = outcome.files[0].found.eager
    shown = " | ".join(f"{eager[name]:.2f}" for name in names)
    yield f"| weights.pt | PyTorch | | {outcome.eager.ms:.3f} | {shown} | 100 | |"
    for one in outcome.files:
        yield _row(one, names)
    yield ""
    yield (
        f"Latency: one image, median of {request.repeats} interleaved turns on "
        f"{machine.cpu(request.threads)}. "
        f"Accuracy: re-measured in the runtime on {' and '.join(_count(p) for p in parts)} images; "
        "difference: of logits, the largest one, as a share of the largest logit."
    )
    for one in outcome.files:
        for remark in one.remarks:
            yield f"- `{one.file}`: {remark}."


def _row(one: Exported, names: Sequence[str]) -> str:
    accuracies = " | ".join(f"{one.found.accuracy[name]:.2f}" for name in names)
    ms = "" if one.latency is None else f"{one.latency.ms:.3f}"
    return (
        f"| {one.file} | {one.runtime} | {one.size / 1024:,.0f} | {ms} | {accuracies} | "
        f"{one.found.agreement:.2f} | {one.found.difference:.1e} |"
    )


def _usage(chosen: Chosen, outcome: Outcome) -> Iterator[str]:
    about = chosen.about
    channels, height, width = about.input_shape
    yield "## Use"
    yield ""
    yield (
        f"Input `image`: batch x {channels} x {height} x {width}, float32, normalised for each "
        f"channel: `(pixel / 255 - mean) / std` with mean {_numbers(about.mean)} and std "
        f"{_numbers(about.std)}. Output `logits`: batch x {about.num_classes}, one for each label:"
    )
    yield ""
    yield f"```json\n{json.dumps(list(about.classes), ensure_ascii=False)}\n```"
    yield ""
    yield "Labels, mean, std and size are inside the files, too, and in `network.json`."
    for one in outcome.files:
        yield ""
        yield f"`{one.file}` (`images` is {KINDS[one.format]}):"
        yield ""
        yield f"```python\n{LOADERS[one.format].format(file=one.file)}\n```"
    yield ""
    yield "The trained weights, in PyTorch with ssr_exp:"
    yield ""
    trust = ", trust=True" if about.model.calls_code() else ""
    yield f'```python\nfrom ssr_exp.rescaling import saved\nnetwork = saved.load("."{trust})\n```'


def _training(chosen: Chosen, request: Request) -> Iterator[str]:
    record = chosen.record
    recipe = chosen.study.get("recipe", {})
    told = [f"{key} {recipe[key]}" for key in RECIPE if isinstance(recipe, dict) and key in recipe]
    yield "## Training"
    yield ""
    yield f"- Data set: {_plain(record.dataset)}; study `{_plain(record.study)}`."
    yield f"- Recipe: {record.epochs} epochs, {_plain(', '.join(told)) or 'not recorded'}."
    yield f"- Seed {record.seed}; {record.wall_s:.0f} s on {_plain(record.device)}."
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    yield f"- {_plain(versions)}; commit {record.git_commit or 'not known'}."
    yield "- All that decides the result: `study.json`; the run: `record.json`."
    yield ""
    yield "## Licence"
    yield ""
    stated = request.licence and f"{_plain(request.licence)}."
    yield stated or "Not stated; `export.py license=IDENTIFIER` states one."


def _counts(record: Record) -> bool:
    return record.status is Status.finished and record.val_acc is not None


def _count(part: Labelled) -> str:
    return f"{len(part.labels):,} {part.name}"


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"


def _yaml(text: str) -> str:
    """Quote a string for YAML, of which JSON is a part."""
    return json.dumps(text)


def _plain(value: object) -> str:
    """Keep a name from being read as Markdown or HTML."""
    text = str(value).replace("\n", " ").replace("|", "\\|").replace("`", "'")
    return text.replace("<", "&lt;")
