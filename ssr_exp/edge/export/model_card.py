"""The model card: what an exported network is, what it scores and costs, and how to load it.

Its head is what the Hugging Face Hub reads: https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from ssr_exp.config import ExportConfig
from ssr_exp.datasets.preprocessing import BACKGROUNDS, Preprocessing
from ssr_exp.edge.export import predictor
from ssr_exp.edge.export.exported import EAGER, Exported
from ssr_exp.edge.export.verification import Labelled
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.edge.selection import Selection
from ssr_exp.rescaling import saved
from ssr_exp.runs import provenance, store, studies
from ssr_exp.runs.record import Record, Status

LOADER = """import predict
run = predict.load(predict.Path("{file}"))
logits = run(predict.tensor(["photo.jpg"], predict.ABOUT))"""
RANGES = {"digits": " (scikit-learn's digits, 0 to 16, were multiplied by 255 / 16)"}
INERT = str.maketrans({"|": "\\|", "`": "'", "<": "&lt;", "[": "&#91;"})
RECIPE = ("optimizer", "lr", "batch_size", "weight_decay", "schedule", "label_smoothing")


def write(
    chosen: Selection,
    exported: Exported,
    parts: Sequence[Labelled],
    request: ExportConfig,
    how: Preprocessing,
) -> str:
    """Write the card, in Markdown."""
    records = store.Store(chosen.folder.parent).records(chosen.folder.name)
    finished = [record for record in records if record.status is Status.finished]
    sections = (
        _head(chosen, request),
        _what(chosen, finished),
        _accuracy(chosen, finished),
        _files(exported, parts, request),
        _usage(chosen, exported, request, how),
        _training(chosen, request),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _head(chosen: Selection, request: ExportConfig) -> Iterator[str]:
    record = chosen.record
    yield "---"
    yield "pipeline_tag: image-classification"
    if request.license is not None:
        yield f"license: {_yaml(request.license)}"
    yield f"datasets: [{_yaml(record.dataset)}]"
    tags = ["ssr_exp", "structured-segment-rescaling", *request.format]
    yield f"tags: [{', '.join(map(_yaml, tags))}]"
    yield "---"


def _what(chosen: Selection, finished: Sequence[Record]) -> Iterator[str]:
    record, about = chosen.record, chosen.about
    yield f"# {_plain(record.model)} rescaled: {_plain(about.network)}"
    yield ""
    yield (
        f"{_plain(about.model.name)} with {'-'.join(map(str, record.blocks))} blocks and "
        f"{'-'.join(map(str, record.widths))} channels in its {len(record.blocks)} segments, "
        f"classifying images into {about.num_classes} classes. Its code is "
        f"`{_plain(about.network)}`."
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
    yield _front(chosen, finished)


def _front(chosen: Selection, finished: Sequence[Record]) -> str:
    """Say which trained networks of the study beat it in score on val and in parameters.

    Networks that were trained with several seeds count by their mean.
    """
    if not finished:
        return (
            "The study that it comes from is not at hand, so its place on the front is not known."
        )
    trainings: dict[str, list[Record]] = {}
    for record in finished:
        if record.score is not None:
            trainings.setdefault(record.network, []).append(record)
    sign = chosen.record.scored_by.sign
    points = {n: (r[0].params, sign * mean(x.score or 0 for x in r)) for n, r in trainings.items()}
    if (own := points.get(chosen.record.network)) is None:
        return "It was not measured on val in its study, so its place on the front is not known."
    beaten = [p for p in points.values() if p != own and p[0] <= own[0] and p[1] >= own[1]]
    place = (
        f"{len(beaten)} of them have no more parameters and are no less accurate"
        if beaten
        else "none has fewer parameters and is as accurate: it is on the front"
    )
    study = _plain(chosen.folder.name)
    return f"Of the {len(points)} networks that were trained in study `{study}`, {place} (val)."


def _accuracy(chosen: Selection, finished: Sequence[Record]) -> Iterator[str]:
    record = chosen.record
    yield "## Accuracy"
    yield ""
    for part in ("val_acc", "test_acc"):
        if (value := getattr(record, part)) is not None:
            name = part.removesuffix("_acc")
            yield f"- {value:.2f} % on {name}: this training, seed {record.seed}."
    if chosen.has_seen_val:
        yield "- Its last training learned from train and val; accuracy on val flatters it."
    elif line := _seeds(record.network, finished):
        yield line
    yield from filter(None, map(_compared, chosen.comparison))


def _seeds(network: str, finished: Sequence[Record]) -> str | None:
    """Average over all seeds that the network was trained with; None if there is but one."""
    accuracies = {
        r.seed: r.val_acc for r in finished if r.network == network and r.val_acc is not None
    }
    if len(accuracies) < 2:
        return None
    seeds, values = ", ".join(map(str, accuracies)), accuracies.values()
    return (
        f"- {mean(values):.2f} +- {stdev(values):.2f} % on val, mean and standard deviation over "
        f"{len(values)} seeds ({seeds})."
    )


def _compared(row: Mapping[str, Any]) -> str | None:
    """Write a row of a search's last comparison; None if it is no such row."""
    mean_, deviation = (
        row.get(f"test_score_{name}", row.get(f"test_acc_{name}")) for name in ("mean", "std")
    )
    seeds = row.get("seeds")
    if not isinstance(mean_, int | float) or not isinstance(seeds, list):
        return None
    has_spread = isinstance(deviation, int | float)
    spread = f" +- {deviation:.2f}" if has_spread else ""
    words = "mean and standard deviation" if has_spread else "mean"
    who = f"{_plain(row.get('role'))}, {_plain(row.get('model'))} {_plain(row.get('network'))}"
    return (
        f"- {who}: {mean_:.2f}{spread} % on test, {words} over {len(seeds)} "
        f"seed{'s' if len(seeds) > 1 else ''} ({', '.join(map(_plain, seeds))})."
    )


def _files(exported: Exported, parts: Sequence[Labelled], request: ExportConfig) -> Iterator[str]:
    names = [part.name for part in parts]
    yield "## Files"
    yield ""
    titles = [f"{part.name} acc %{' (learned from)' if part.learnt else ''}" for part in parts]
    headings = ["file", "runtime", "KiB", "ms (quartiles)", *titles, "same prediction %"]
    yield f"| {' | '.join([*headings, 'difference'])} |"
    yield f"|{'---|' * (len(names) + 6)}"
    shown = " | ".join(f"{exported.eager[name]:.2f}" for name in names)
    yield f"| weights.pt | PyTorch | | {_ms(exported.latencies[EAGER])} | {shown} | 100 | |"
    for one in exported.files:
        found, ms = one.agreement, _ms(exported.latencies[one.file])
        accuracies = " | ".join(f"{found.accuracy[name]:.2f}" for name in names)
        yield (
            f"| {one.file} | {one.runtime} | {one.size / 1024:,.0f} | {ms} | {accuracies} | "
            f"{found.agreement:.2f} | {found.difference:.1e} |"
        )
    yield ""
    yield (
        f"Latency: one image, median of {request.repeats} interleaved turns on "
        f"{provenance.cpu(request.threads)}. "
        f"Accuracy: measured by `{predictor.SCRIPT}` on the files of "
        f"{' and '.join(f'{len(part.labels):,} {part.name}' for part in parts)} images; "
        "difference: of logits, the largest one, as a share of the largest logit. int8 files are "
        "calibrated on val images."
    )
    for one in exported.files:
        for remark in one.remarks:
            yield f"- `{one.file}`: {remark}."


def _ms(latency: Latency) -> str:
    low, high = latency.quartiles
    return f"{latency.ms:.3g} ({low:.3g} - {high:.3g})"


def _usage(
    chosen: Selection, exported: Exported, request: ExportConfig, how: Preprocessing
) -> Iterator[str]:
    about = chosen.about
    channels, height, width = about.input_shape
    yield "## Use"
    yield ""
    yield f"```bash\npython {predictor.SCRIPT} photo.jpg\n```"
    yield ""
    yield (
        f"prints the labels of image files and their probabilities. It needs this folder, Pillow, "
        f"NumPy and the runtime alone, and is what the accuracies above were measured with. What "
        f"it does to an image: {_preprocessing(how)}."
    )
    yield ""
    yield (
        f"In a program of yours: the input `image` is batch x {channels} x {height} x {width}, "
        f"{_taken(about, request)}. Pixels are bytes, 0 to 255; others are brought to that range "
        f"first{RANGES.get(chosen.record.dataset, '')}."
    )
    for one in exported.files:
        yield ""
        yield f"```python\n{LOADER.format(file=one.file)}\n```"
    yield ""
    yield f"Output `logits`: batch x {about.num_classes}, one for each label:"
    yield ""
    yield f"```json\n{json.dumps(list(about.classes), ensure_ascii=False)}\n```"
    yield ""
    yield "Labels and what is done to an image are inside the files, too."
    yield ""
    needs = f", where `{about.model.name}` can be imported" if about.model.conf().target else ""
    yield f"The trained weights, in PyTorch with ssr_exp{needs}:"
    yield ""
    trust = ", trust=True" if about.model.calls_code() else ""
    yield f'```python\nfrom ssr_exp.rescaling import saved\nnetwork = saved.load("."{trust})\n```'


def _taken(about: saved.Description, request: ExportConfig) -> str:
    """Say what a file takes."""
    mean, std = _numbers(about.mean), _numbers(about.std)
    if request.uint8_input:
        return f"uint8: pixels, which are normalised inside (mean {mean}, std {std} of 0 to 1)"
    return (
        f"float32, normalised for each channel: `(pixel / 255 - mean) / std` with mean {mean} and "
        f"std {std}"
    )


def _preprocessing(how: Preprocessing) -> str:
    """Say what is done to an image file, in the order in which it is."""
    height, width = how.size
    behind = next((k for k, v in BACKGROUNDS.items() if v == how.background), str(how.background))
    fits = {
        "crop": f"its centre is cropped to the shape of {width} x {height}, and scaled to it",
        "stretch": f"it is stretched to {width} x {height}",
        "pad": f"it is scaled into {width} x {height}, and {behind} is laid beside it",
    }
    steps = (
        "it is turned as its EXIF data say",
        f"what is transparent in it shows {behind}",
        *_numbers_of_files(how),
        "it becomes " + ("grey" if how.channels == 1 else "RGB"),
        f"{fits[how.fit]}, by Pillow's bilinear filter"
        if how.fit
        else f"it must have {width} x {height} pixels",
        "its pixels are normalised",
    )
    return "; ".join(steps)


def _numbers_of_files(how: Preprocessing) -> Iterator[str]:
    """Say how more than 8 bits are read, where the training had such images."""
    if how.depth is not None:
        yield f"grey of more than 8 bits is taken for {how.depth} bits and shifted to 8"
    if how.white is not None:
        yield f"in floating-point images {how.white:g} is white"


def _training(chosen: Selection, request: ExportConfig) -> Iterator[str]:
    record = chosen.record
    recipe = chosen.study.get("recipe", {})
    lines = [f"{key} {recipe[key]}" for key in RECIPE if isinstance(recipe, dict) and key in recipe]
    yield "## Training"
    yield ""
    yield f"- Data set: {_plain(record.dataset)}; study `{_plain(record.study)}`."
    yield f"- Recipe: {record.epochs} epochs, {_plain(', '.join(lines)) or 'not recorded'}."
    first = chosen.study.get(studies.FIRST_WEIGHTS)
    if isinstance(first, dict):
        drawn = first.get("drawn") or ["nothing"]
        yield (
            f"- Its weights start from {_plain(str(first.get('from')))}; drawn anew: "
            f"{_plain(', '.join(map(str, drawn)))}."
        )
    yield f"- Seed {record.seed}; {record.wall_s:.0f} s on {_plain(record.device)}."
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    yield f"- {_plain(versions)}; commit {_plain(record.git_commit or 'not known')}."
    yield "- All that decides the result: `study.json`; the run: `record.json`."
    yield ""
    yield "## Licence"
    yield ""
    stated = request.license and f"{_plain(request.license)}."
    yield stated or "Not stated; `export.py license=IDENTIFIER` states one."


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"


def _yaml(text: str) -> str:
    """Quote a string for YAML, of which JSON is a part."""
    return json.dumps(text)


def _plain(value: object) -> str:
    """Keep a name from being read as Markdown or HTML, or from being shown as another one."""
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text.translate(INERT)
