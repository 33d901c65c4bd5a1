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
from ssr_exp.edge.export import output_kinds, predictor
from ssr_exp.edge.export.exported import EAGER, SAME, Exported
from ssr_exp.edge.export.verification import DrawnSamples, Part
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.edge.selection import Selection
from ssr_exp.rescaling import saved
from ssr_exp.rescaling.inputs import Signature
from ssr_exp.runs import provenance, store, studies
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.score import Score

LOADER = """import predict
run = predict.load(predict.Path("{file}"))
{output} = run(predict.tensor(["photo.jpg"], predict.ABOUT))
print(predict.predicted({output}, predict.ABOUT))"""
RANGES = {"digits": " (scikit-learn's digits, 0 to 16, were multiplied by 255 / 16)"}
INERT = str.maketrans({"|": "\\|", "`": "'", "<": "&lt;", "[": "&#91;"})
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
        _scores(chosen, finished),
        _files(chosen, exported, parts, request, how),
        _usage(chosen, exported, request, how, _signature(parts)),
        _training(chosen, request),
    )
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _head(chosen: Selection, request: ExportConfig) -> Iterator[str]:
    record = chosen.record
    yield "---"
    if (tag := output_kinds.of(chosen.task).tag) is not None:
        yield f"pipeline_tag: {tag}"
    if request.license is not None:
        yield f"license: {_yaml(request.license)}"
    yield f"datasets: [{_yaml(record.dataset)}]"
    tags = ["ssr_exp", "structured-segment-rescaling", chosen.task, *request.format]
    yield f"tags: [{', '.join(map(_yaml, tags))}]"
    yield "---"


def _what(chosen: Selection, finished: Sequence[Record]) -> Iterator[str]:
    record, about = chosen.record, chosen.about
    yield f"# {_plain(record.model)} rescaled: {_plain(about.network)}"
    yield ""
    yield (
        f"{_plain(about.model.name)} with {'-'.join(map(str, record.blocks))} blocks and "
        f"{'-'.join(map(str, record.widths))} channels in its {len(record.blocks)} segments, "
        f"{output_kinds.of(chosen.task).work.format(n=about.num_classes)}. Its code is "
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
    score = chosen.record.scored_by
    points = {
        n: (r[0].params, score.sign * mean(x.score or 0 for x in r)) for n, r in trainings.items()
    }
    if (own := points.get(chosen.record.network)) is None:
        return "It was not measured on val in its study, so its place on the front is not known."
    beaten = [p for p in points.values() if p != own and p[0] <= own[0] and p[1] >= own[1]]
    place = (
        f"{len(beaten)} of them have no more parameters and are no worse in {score.name}"
        if beaten
        else f"none has fewer parameters and is as good in {score.name}: it is on the front"
    )
    study = _plain(chosen.folder.name)
    return f"Of the {len(points)} networks that were trained in study `{study}`, {place}."


def _scores(chosen: Selection, finished: Sequence[Record]) -> Iterator[str]:
    record, score = chosen.record, chosen.record.scored_by
    better = "larger" if score.sign > 0 else "smaller"
    yield "## Score"
    yield ""
    yield f"Networks are judged by `{_plain(score.key)}`: {better} is better."
    yield ""
    for part, value in (("val", record.score), ("test", record.test_score)):
        if value is not None:
            yield f"- {_text(score, value)} on {part}: this training, seed {record.seed}."
    if chosen.has_seen_val:
        yield f"- Its last training learned from train and val; its {score.name} flatters it."
    elif line := _seeds(record, finished):
        yield line
    for row in chosen.comparison:
        if line := _compared(row, score):
            yield line
    if chosen.verdict is not None:
        yield f"- Against it: {_plain(chosen.verdict)}."


def _seeds(record: Record, finished: Sequence[Record]) -> str | None:
    """Average over all seeds that the network was trained with; None if there is but one."""
    scores = {
        r.seed: r.score for r in finished if r.network == record.network and r.score is not None
    }
    if len(scores) < 2:
        return None
    seeds, values, score = ", ".join(map(str, scores)), scores.values(), record.scored_by
    return (
        f"- {score.number(mean(values))} +- {_text(score, stdev(values))} on val, mean and "
        f"standard deviation over {len(values)} seeds ({seeds})."
    )


def _compared(row: Mapping[str, Any], score: Score) -> str | None:
    """Write a row of a search's last comparison; None if it is no such row."""
    mean_, deviation = (
        row.get(f"test_score_{name}", row.get(f"test_acc_{name}")) for name in ("mean", "std")
    )
    seeds = row.get("seeds")
    if not isinstance(mean_, int | float) or not isinstance(seeds, list):
        return None
    has_spread = isinstance(deviation, int | float)
    spread = f" +- {score.number(deviation)}" if has_spread else ""
    words = "mean and standard deviation" if has_spread else "mean"
    who = f"{_plain(row.get('role'))}, {_plain(row.get('model'))} {_plain(row.get('network'))}"
    return (
        f"- {who}: {score.number(mean_)}{spread} {_plain(score.unit)}".rstrip()
        + f" on test, {words} over {len(seeds)} seed{'s' if len(seeds) > 1 else ''} "
        f"({', '.join(map(_plain, seeds))})."
    )


def _text(score: Score, value: float) -> str:
    return _plain(score.text(value))


def _files(
    chosen: Selection,
    exported: Exported,
    parts: Sequence[Part],
    request: ExportConfig,
    how: Preprocessing | None,
) -> Iterator[str]:
    score, names = chosen.record.scored_by, list(exported.eager)
    learnt = {part.name for part in parts if part.learnt}
    yield "## Files"
    yield ""
    titles = [
        f"{_plain(score.on(name).heading)}{' (learned from)' if name in learnt else ''}"
        for name in names
    ]
    same = [SAME] if exported.counts_predictions else []
    headings = ["file", "runtime", "KiB", "ms (quartiles)", *titles, *same, "difference"]
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    eager = [score.number(exported.eager[name]) for name in names] + ["100" for _ in same]
    yield f"| weights.pt | PyTorch | | {_ms(exported.latencies[EAGER])} | {' | '.join(eager)} | |"
    for one in exported.files:
        found, size = one.agreement, f"{one.size / 1024:,.0f}"
        cells = [one.file, one.runtime, size, _ms(exported.latencies[one.file])]
        cells += [score.number(found.scores[name]) for name in names]
        cells += [] if found.agreement is None else [f"{found.agreement:.2f}"]
        yield f"| {' | '.join([*cells, f'{found.difference:.1e}'])} |"
    yield ""
    signature = _signature(parts)
    samples = "images" if signature is None else "inputs"
    made = "" if how is None else f"what `{predictor.SCRIPT}` makes of the files of "
    yield (
        f"Latency: one {samples[:-1]}, median of {request.repeats} interleaved turns on "
        f"{provenance.cpu(request.threads)}. "
        f"{_plain(score.title) if exported.eager else 'Outputs'}: "
        f"{'measured' if exported.eager else 'compared'} on {made}"
        f"{' and '.join(f'{len(part):,} {part.name}' for part in parts)} {samples}; "
        "difference: of outputs, the largest one, as a share of the largest output."
        f"{' int8 files are calibrated on val images.' if request.int8 else ''}"
    )
    for one in exported.files:
        for remark in one.remarks:
            yield f"- `{one.file}`: {remark}."


def _ms(latency: Latency) -> str:
    low, high = latency.quartiles
    return f"{latency.ms:.3g} ({low:.3g} - {high:.3g})"


def _usage(
    chosen: Selection,
    exported: Exported,
    request: ExportConfig,
    how: Preprocessing | None,
    signature: Signature | None,
) -> Iterator[str]:
    about, kind = chosen.about, output_kinds.of(chosen.task)
    shape = kind.shape.format(n=about.num_classes)
    taken = " x ".join(["batch", *map(str, about.input_shape)])
    yield "## Use"
    yield ""
    if signature is not None:
        yield from _arrays(signature)
    elif how is None:
        yield f"The input `image` is {taken}, float32, as the network's own training had it."
        yield f"The output `{kind.name}` is {kind.meaning}."
    else:
        yield from _script(chosen, exported, request, how, taken)
        yield ""
        yield f"Output `{kind.name}`: {shape}, {kind.meaning}:"
        yield ""
        yield f"```json\n{json.dumps(list(about.classes), ensure_ascii=False)}\n```"
        if about.target_mean is not None and about.target_std is not None:
            yield ""
            yield (
                f"target_mean is {_numbers(about.target_mean)} and target_std "
                f"{_numbers(about.target_std)}{_unit(chosen)}; `predict.predicted` does it."
            )
        yield ""
        yield "Labels and what is done to an image are inside the files, too."
    yield ""
    needs = f", where `{about.model.name}` can be imported" if about.model.conf().target else ""
    yield f"The trained weights, in PyTorch with ssr_exp{needs}:"
    yield ""
    trust = ", trust=True" if about.model.calls_code() else ""
    yield f'```python\nfrom ssr_exp.rescaling import saved\nnetwork = saved.load("."{trust})\n```'


def _signature(parts: Sequence[Part]) -> Signature | None:
    """Say what a network takes whose files were run on drawn inputs; None: on real images."""
    drawn = [part for part in parts if isinstance(part, DrawnSamples)]
    return drawn[0].network.signature if drawn else None


def _arrays(signature: Signature) -> Iterator[str]:
    """Say how `predict.py` is used on arrays."""
    yield f"```bash\npython {predictor.SCRIPT} inputs.npz --to outputs.npz\n```"
    yield ""
    yield (
        "`inputs.npz` holds an array for each input, by its name, with a batch, and `outputs.npz` "
        "will hold the outputs by theirs. The script needs this folder, NumPy and the runtime "
        "alone. The inputs, without the batch:"
    )
    yield ""
    for tensor in signature.tensors:
        yield f"- `{tensor.name}`: {tensor.text()}"


def _script(
    chosen: Selection, exported: Exported, request: ExportConfig, how: Preprocessing, taken: str
) -> Iterator[str]:
    """Say how `predict.py` is used, alone and in a program."""
    kind = output_kinds.of(chosen.task)
    yield f"```bash\npython {predictor.SCRIPT} photo.jpg\n```"
    yield ""
    yield (
        f"prints {kind.printed}. It needs this folder, Pillow, NumPy and the runtime alone, and "
        f"the files above were measured with it. What it does to an image: {_preprocessing(how)}."
    )
    yield ""
    yield (
        f"In a program of yours: the input `image` is {taken}, {_taken(chosen.about, request)}. "
        "Pixels are bytes, 0 to 255; others are brought to that range "
        f"first{RANGES.get(chosen.record.dataset, '')}."
    )
    for one in exported.files:
        yield ""
        yield f"```python\n{LOADER.format(file=one.file, output=kind.name)}\n```"


def _unit(chosen: Selection) -> str:
    return f", in {_plain(unit)}" if (unit := chosen.record.unit) else ""


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
    share = "" if how.crop_share == 1 else f"{100 * how.crop_share:g} % of each side of "
    behind = next((k for k, v in BACKGROUNDS.items() if v == how.background), str(how.background))
    fits = {
        "crop": f"{share}its centre is cropped to the shape of {width} x {height}, "
        "and scaled to it",
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
    yield stated or "Not stated; `ssr export license=IDENTIFIER` states one."


def _numbers(values: Sequence[float]) -> str:
    return f"[{', '.join(f'{value:.6g}' for value in values)}]"


def _yaml(text: str) -> str:
    """Quote a string for YAML, of which JSON is a part."""
    return json.dumps(text)


def _plain(value: object) -> str:
    """Keep a name from being read as Markdown or HTML, or from being shown as another one."""
    text = "".join(c if c.isprintable() else " " for c in str(value))
    return text.translate(INERT)
