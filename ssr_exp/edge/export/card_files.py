"""The part of a model card about its files: what was measured of each, and how it is used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from ssr_exp.config import ExportConfig
from ssr_exp.datasets.preprocessing import BACKGROUNDS, Preprocessing
from ssr_exp.edge.export import markdown, output_kinds, predictor, recorded_scores
from ssr_exp.edge.export.exported import EAGER, SAME, Exported
from ssr_exp.edge.export.verification import DrawnSamples, Part, Samples
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.edge.selection import Selection
from ssr_exp.rescaling import saved
from ssr_exp.rescaling.inputs import Signature
from ssr_exp.runs import provenance

LOADER = """import predict
run = predict.load(predict.Path("{file}"))
outputs = run(predict.tensor(["photo.jpg"], predict.ABOUT))
{lines}"""
RANGES = {"digits": " (scikit-learn's digits, 0 to 16, were multiplied by 255 / 16)"}


def table(
    chosen: Selection,
    exported: Exported,
    parts: Sequence[Part],
    request: ExportConfig,
    how: Preprocessing | None,
) -> Iterator[str]:
    """Write a row for each file, beside the weights in PyTorch."""
    score, names = chosen.record.scored_by, list(exported.eager)
    yield "## Files"
    yield ""
    titles = [markdown.inert(heading) for heading in exported.headings(score)]
    same = [SAME] if exported.counts_predictions else []
    headings = ["file", "runtime", "KiB", "ms (quartiles)", *titles, *same, "difference"]
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    eager = [score.number(exported.eager[name]) for name in names] + ["100" for _ in same]
    first = ["weights.pt", "PyTorch", "", _ms(exported.latencies[EAGER]), *eager, ""]
    yield f"| {' | '.join(first)} |"
    for one in exported.files:
        found, size = one.agreement, f"{one.size / 1024:,.0f}"
        cells = [one.file, one.runtime, size, _ms(exported.latencies[one.file])]
        cells += [score.number(found.scores[name]) for name in names]
        cells += [] if found.agreement is None else [f"{found.agreement:.2f}"]
        yield f"| {' | '.join([*cells, f'{found.difference:.1e}'])} |"
    yield ""
    is_image = _signature(parts) is None and chosen.sample == "image"
    samples = "images" if is_image else "inputs"
    is_quantised = any(one.int8 for one in exported.files)
    calibrated = f" int8 files are calibrated on val {samples}." if is_quantised else ""
    made = "" if how is None else f"what `{predictor.SCRIPT}` makes of the files of "
    yield (
        f"Latency: one {chosen.sample}, median of {request.repeats} interleaved turns on "
        f"{provenance.cpu(request.threads)}. "
        f"{_measured(chosen, exported, parts)} on {made}"
        f"{' and '.join(f'{len(part):,} {part.name}' for part in parts)} {samples}; "
        "difference: of outputs, the largest one, as a share of the largest output."
        f"{calibrated}"
    )
    for difference in recorded_scores.differences(chosen.record, exported.eager):
        yield f"- `weights.pt`: {markdown.inert(difference)}."
    for one in exported.files:
        for remark in one.remarks:
            yield f"- `{one.file}`: {remark}."


def _measured(chosen: Selection, exported: Exported, parts: Sequence[Part]) -> str:
    """Say whose score it is: that of the weights in the files, and no mean over seeds."""
    compared = "Outputs: compared"
    if not exported.eager:
        return compared
    title = markdown.inert(chosen.record.scored_by.title)
    measured = f"{title} of these weights, of seed {chosen.record.seed}: measured"
    if any(isinstance(part, Samples) and part.own_validation for part in parts):
        return f"{measured} by the validation of the training's own code. {compared}"
    return measured


def _ms(latency: Latency) -> str:
    low, high = latency.quartiles
    return f"{latency.ms:.3g} ({low:.3g} - {high:.3g})"


def usage(
    chosen: Selection,
    exported: Exported,
    parts: Sequence[Part],
    request: ExportConfig,
    how: Preprocessing | None,
) -> Iterator[str]:
    """Write how the files, and the weights, are used."""
    about, kind = chosen.about, output_kinds.of(chosen.task)
    shape = kind.shape.format(n=about.num_classes)
    taken = " x ".join(["batch", *map(str, about.input_shape)])
    yield "## Use"
    yield ""
    if (signature := _signature(parts)) is not None:
        yield from _arrays(signature)
    elif how is None:
        yield f"The input `image` is {taken}, float32, as the network's own training had it."
        yield f"The output `{kind.name}` is {kind.meaning}."
    else:
        yield from _script(chosen, exported, request, how, taken)
        yield ""
        yield (
            f"The outputs of a file are `{kind.name}`, {shape}: {kind.meaning}. "
            f"`predict.predicted` does that, and returns {kind.made}. The labels, in order:"
        )
        yield ""
        yield f"```json\n{json.dumps(list(about.classes), ensure_ascii=False)}\n```"
        if about.target_mean is not None and about.target_std is not None:
            yield ""
            yield (
                f"target_mean is {markdown.numbers(about.target_mean)} and target_std "
                f"{markdown.numbers(about.target_std)}{_unit(chosen)}."
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
        lines = LOADER.format(file=one.file, lines=kind.lines)
        yield f"```python\n{lines}\n```"


def _unit(chosen: Selection) -> str:
    return f", in {markdown.inert(unit)}" if (unit := chosen.record.unit) else ""


def _taken(about: saved.Description, request: ExportConfig) -> str:
    """Say what a file takes."""
    mean, std = markdown.numbers(about.mean), markdown.numbers(about.std)
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
