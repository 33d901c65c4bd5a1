"""The part of a model card about the training: its images, its recipe, its studies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ssr_exp import files
from ssr_exp.config import DatasetConf, TaskKind
from ssr_exp.datasets import sources
from ssr_exp.edge.export import markdown
from ssr_exp.edge.selection import Selection
from ssr_exp.runs import studies
from ssr_exp.runs.record import FINALIST, NOT_TOLD, Record
from ssr_exp.runs.score import ACCURACY
from ssr_exp.terminal import counted

RECIPE = ("optimizer", "lr", "batch_size", "weight_decay", "schedule", "label_smoothing")
OWN_FILES = (sources.CSV, sources.FOLDER, sources.MASKS)  # data sets that are files of the user's
AUGMENTATIONS = (
    *("crop_padding", "crop_scale", "crop_ratio", "crop_from", "flip", "vertical_flip"),
    *("rotation", "color_jitter", "auto_augment", "num_ops", "magnitude"),
    *("cutout", "erasing", "mixup", "cutmix"),
)


def section(chosen: Selection, finished: Sequence[Record]) -> Iterator[str]:
    """Write how it was trained, and on what."""
    record = chosen.record
    yield "## Training"
    yield ""
    if is_of_a_loop(chosen):
        yield "- Data set and recipe: those of the loop that trained it."
    else:
        yield f"- Data set: {markdown.inert(record.dataset)}{_images(chosen, finished)}."
    if recipe := _recipe(chosen):
        yield f"- Recipe: {markdown.inert(recipe)}."
    if (augmented := _augmentation(chosen)) is not None:
        yield f"- Augmentation: {markdown.inert(augmented)}."
    first = chosen.study.get(studies.FIRST_WEIGHTS)
    if isinstance(first, dict):
        drawn = first.get("drawn") or ["nothing"]
        yield (
            f"- Its weights start from {markdown.inert(str(first.get('from')))}; drawn anew: "
            f"{markdown.inert(', '.join(map(str, drawn)))}."
        )
    yield f"- Seed {record.seed}{_took(record)}."
    yield f"- {_study(chosen, finished)}."
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    commit = f"; commit {record.git_commit} of ssr_exp" if record.git_commit else ""
    yield f"- {markdown.inert(versions + commit)}."
    yield "- All that decides the result: `study.json`; the run: `record.json`."


def is_of_a_loop(chosen: Selection) -> bool:
    """Say whether a loop of the user's own trained it, whose data and recipe nobody else knows."""
    return chosen.task == TaskKind.loop


def public_data(chosen: Selection) -> str | None:
    """Name the data set, if others know it by that name; None of images of the user's own."""
    dataset = _part_of(chosen.study, "dataset")
    is_own = dataset.get("target") is not None or chosen.record.dataset in OWN_FILES
    return None if is_own or is_of_a_loop(chosen) else chosen.record.dataset


def one_image(chosen: Selection, on: str) -> str | None:
    """Say how much of the accuracy one image is; None if it is not known, or no accuracy."""
    count = _counts(chosen.study).get(on)
    if not count or chosen.record.score_key != ACCURACY.key:
        return None
    each = chosen.record.scored_by.drop_text(100 / count)
    return f"one of the {count:,} {on} {chosen.sample}s is {each}"


def _images(chosen: Selection, finished: Sequence[Record]) -> str:
    """Count the images of each part; of train and val together, how many of them were val."""
    counts = _counts(chosen.study)
    words = [f"{count:,} {part}" for part, count in counts.items()]
    if chosen.has_seen_val and finished:
        before = _counts(files.read_or_empty(chosen.folder / studies.FILE))
        val = before.get("val", 0)  # its own study, without a search beside it, has none
        if val and before.get("train", 0) + val == counts.get("train"):
            words[0] = f"{counts['train']:,} train ({val:,} of them val in the search)"
    return f"; {chosen.sample}s: {', '.join(words)}" if words else ""


def _counts(study: Mapping[str, Any]) -> dict[str, int]:
    """Count the images of each part, as a study's file says them; nothing if it does not."""
    reading = _part_of(study, studies.READING)
    sizes, parts = _part_of(reading, "sizes"), _part_of(reading, "parts")
    counts = {
        part: sizes.get(part) or sum(n for n in classes.values() if isinstance(n, int))
        for part, classes in parts.items()
        if isinstance(classes, dict)
    }
    return {part: count for part, count in counts.items() if isinstance(count, int) and count}


def _recipe(chosen: Selection) -> str:
    """Write what is known of how it was trained; a loop may not tell its epochs."""
    epochs, precision = chosen.record.epochs, chosen.record.precision
    told = _part_of(chosen.study, "recipe")
    lines = [f"{key} {told[key]}" for key in RECIPE if key in told]
    measured = [] if precision == NOT_TOLD else [f"precision {precision}"]
    return ", ".join([*([counted(epochs, "epoch")] if epochs else []), *measured, *lines])


def _augmentation(chosen: Selection) -> str | None:
    """List what is done to images in training; None where a loop or data of the user's own do."""
    dataset, usual = _part_of(chosen.study, "dataset"), DatasetConf()
    if is_of_a_loop(chosen) or not dataset or dataset.get("target") is not None:
        return None
    asked = {key: dataset[key] for key in AUGMENTATIONS if key in dataset}
    changed = {key: value for key, value in asked.items() if value != getattr(usual, key)}
    words = [key if value is True else f"{key} {value}" for key, value in changed.items()]
    return ", ".join(words) or "none"


def _study(chosen: Selection, finished: Sequence[Record]) -> str:
    """Name its study; of finalists that have one of their own, that of their search, too."""
    record, study = chosen.record, f"`{markdown.inert(chosen.record.study)}`"
    if not finished or record.study == chosen.folder.name:
        return f"Study {study}"
    learnt = ", which learned from train and val" if chosen.has_seen_val else ""
    whose = f"its finalists{learnt}" if record.origin == FINALIST else f"its training{learnt}"
    search = markdown.inert(chosen.folder.name)
    return f"Two studies: the search is `{search}`, and {whose}, are {study}"


def _took(record: Record) -> str:
    """Write how long it was trained, and on what, where that is known."""
    where = "" if record.device == NOT_TOLD else f" on {markdown.inert(record.device)}"
    if not record.wall_s:
        return where
    return f"; {record.wall_s:,.{0 if record.wall_s >= 10 else 1}f} s{where}"


def _part_of(fields: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Read a part of a file that others may have written; nothing if it is none."""
    part = fields.get(key)
    return part if isinstance(part, dict) else {}
