"""What an export is verified by: the images or inputs of val, and what scores its files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from ssr_exp.config import (
    Config,
    DatasetConf,
    ExportConfig,
    PathsConf,
    RecipeConf,
    TaskConf,
    TaskKind,
    check,
)
from ssr_exp.datasets import in_memory, sources, user_data
from ssr_exp.datasets.batches import as_targets
from ssr_exp.datasets.image_folder.listing import UNREADABLE
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.datasets.reading import Reading
from ssr_exp.datasets.user_data import UserData
from ssr_exp.edge import selection
from ssr_exp.edge.export.formats import Model
from ssr_exp.edge.export.formats.flat import FlatNetwork
from ssr_exp.edge.export.verification import DrawnSamples, Measure, Part, Samples
from ssr_exp.edge.selection import Selection
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.inputs import of_shape
from ssr_exp.runs import studies
from ssr_exp.runs.store import LAST_CHECKPOINT, Store, module_weights
from ssr_exp.tasks.supervised import VAL, Supervised
from ssr_exp.training import learning, study_parts
from ssr_exp.training.own_validation import OwnValidation
from ssr_exp.training.study_parts import TARGETS

log = logging.getLogger(__name__)

COMPARED = 32  # inputs of validation, where none are to calibrate int8

Read = TypeVar("Read")


def find(conf: ExportConfig, chosen: Selection) -> tuple[list[Part], Preprocessing | None]:
    """Load the images that a network was compared by; for one that learned from val, test, too.

    Returns what is done to image files, too, by the statistics that the network was trained with;
    None where a module of the user's own prepares its inputs.

    Raises:
        SsrError: if they are not where they were, or are others.
    """
    signature = chosen.about.inputs
    if signature is None and chosen.task == TaskKind.loop:
        signature = of_shape(chosen.about.input_shape, chosen.network)
    if signature is not None:
        log.info("files are compared by outputs alone, on drawn inputs of %s", signature.text())
        return [DrawnSamples(FlatNetwork(chosen.network, signature))], None
    task, asked = task_of(chosen), dataset_of(conf, chosen)
    if asked.target is not None or task.name is TaskKind.module:
        return own_inputs(conf, chosen, task, asked), None
    return _images(chosen, task, asked, Path(conf.paths.data))


def _images(
    chosen: Selection, task: TaskConf, asked: DatasetConf, folder: Path
) -> tuple[list[Part], Preprocessing]:
    """Load images of a data set of ours, to be scored by a task of ours."""
    learnt_of = (TARGETS[task.name], task.ignore_index)
    try:
        splits = in_memory.load(asked, folder, *learnt_of)
    except SsrError as error:
        place = "file=TABLE.csv, root=DIR" if asked.name == sources.CSV else "root=DIR"
        raise SsrError(
            f"the images of {asked.name}, by which an export is verified, cannot be read: "
            f"{str(error).rstrip('.')}; type {place} or paths.data=DIR."
        ) from None
    seen, about = chosen.has_seen_val, chosen.about
    # its fingerprint, and the targets' mean, are of train and val together
    whole = replace(asked, train_on_val=True)
    learnt = in_memory.load(whole, folder, *learnt_of) if seen else splits
    _check(learnt, asked, chosen, folder)
    if splits.val is None:
        raise SsrError(f"data set {asked.name} has no val images to verify an export by.")
    named = {"val": splits.val} | ({"test": splits.test} if seen and splits.test else {})
    module = learning.task(Config(task=task), learnt, nn.Identity())
    assert isinstance(module, Supervised)
    parts: list[Part] = [
        Samples(
            name,
            images.pixels,
            partial(_measured, module, images.labels),
            seen and name == "val",
            images.files,
            about.mean,
            about.std,
        )
        for name, images in named.items()
    ]
    return parts, replace(splits.preprocessing, mean=about.mean, std=about.std)


def own_inputs(
    conf: ExportConfig, chosen: Selection, task: TaskConf, asked: DatasetConf
) -> list[Part]:
    """Take inputs of val, and the score, from modules of the user's own.

    Raises:
        SsrError: if they call a function that nobody trusts, or cannot be made.
    """
    _check_calls(conf, chosen, task, asked)
    recipe = RecipeConf(batch_size=_batch_size(chosen))
    shared = Config(task=task, dataset=asked, recipe=recipe, paths=conf.paths)
    learnt = asked.target is None and chosen.has_seen_val
    validation = _validation(conf.max_batch, chosen, shared, learnt=learnt)
    name = chosen.about.weights_of
    if task.name is TaskKind.module:
        log.info("files are scored by the validation of %s, in the network's place", task.target)
    most = conf.calibration if conf.int8 else min(conf.calibration, max(COMPARED, conf.max_batch))
    inputs = validation.inputs(most)
    has_several = task.name is TaskKind.module and validation.puts_out == "several"
    if inputs is None or has_several:
        drawn = FlatNetwork(chosen.network, of_shape(chosen.about.input_shape, chosen.network))
        log.info(
            "files are compared by outputs alone, on drawn inputs, not scored: %s",
            f"validation calls parts of {name} alone"
            if inputs is None
            else f"{name} puts out {', '.join(drawn.names)}",
        )
        return [DrawnSamples(drawn)]
    if (why := _why_unscored(validation, chosen) or _why_not_by_files(validation)) is None:
        return [Samples("val", inputs, _through(validation), learnt, own_validation=True)]
    log.info("files are compared by outputs alone, not scored: %s", why)
    return [Samples("val", inputs, learnt=learnt)]


def _check_calls(conf: ExportConfig, chosen: Selection, task: TaskConf, asked: DatasetConf) -> None:
    """Refuse to call what nobody trusts.

    Raises:
        SsrError: then.
    """
    if task.name is TaskKind.module:  # what is called stands in the file whose trust was checked
        model = chosen.about.model
        same = (f"{task.target}:{task.network}", task.arguments) == (model.name, model.arguments)
        if not same:
            raise SsrError(
                f"the study.json of {chosen.folder} says another module than its network.json, "
                f"{model.name}: export it from the folder of its runs."
            )
    is_safe = asked.target is None or user_data.is_trusted(asked, chosen.folder)
    if not (is_safe or conf.trust):
        raise SsrError(f"{chosen.folder} calls {asked.target} for its data: {selection.TRUST}.")


def _validation(batch: int, chosen: Selection, shared: Config, *, learnt: bool) -> OwnValidation:
    """Validate as a project does, on data of its own or of ours.

    Args:
        batch: inputs at once, at most.
        chosen: the trained network.
        shared: its task, data and folders.
        learnt: whether the network learned from val of ours, too.

    Raises:
        SsrError: if images of ours are not those that it was trained by.
    """
    about, task, asked = chosen.about, shared.task, shared.dataset
    if asked.target is None:
        whole = replace(shared, dataset=replace(asked, train_on_val=learnt))
        _check(study_parts.images(whole), asked, chosen, Path(shared.paths.data))
        images = study_parts.images(shared)
        splits: Splits | UserData = images.normalised_by(about.mean, about.std)
    else:
        nothing = Reading(asked.name, {}, {}, "")
        splits = UserData(
            asked.name, "", about.input_shape, about.num_classes, has_test=False, reading=nothing
        )
    return OwnValidation(
        lambda network, other: learning.task(
            shared, splits, network, stands_in=(about.weights_of, other)
        ),
        partial(learning.data, shared, splits),
        chosen.network,
        chosen.record.scored_by,
        batch,
        {k: v for k, v in task.trainer.items() if k == "limit_val_batches"},
        _module_weights(chosen),
        (task.network, *task.copies),
    )


def _why_unscored(validation: OwnValidation, chosen: Selection) -> str | None:
    """Say why validation, which has run, cannot score a file in the network's place; else None."""
    # Our own tasks judge the first output.
    if chosen.task == TaskKind.module and validation.puts_out != "tensor":
        name = chosen.about.weights_of
        return f"a file puts out one tensor, and validation reads more of {name}"
    if not validation.logs_score:
        key = chosen.record.scored_by.key
        return f"validation logs no {key} without task.trainer.callbacks"
    if lost := validation.lost():
        return f"the run's {LAST_CHECKPOINT}, which holds {lost}, is gone"
    return None


def _why_not_by_files(validation: OwnValidation) -> str | None:
    """Say why validation fails where something else computes the network's outputs; else None."""
    try:
        validation.measure(validation.network)
    except SsrError as error:
        return f"with a file in the network's place, {str(error).rstrip('.')}"
    return None


def _batch_size(chosen: Selection) -> int:
    """Read how many samples of data sets of ours the study's module was given at once."""
    recipe = chosen.study.get("recipe")
    size = recipe.get("batch_size") if isinstance(recipe, dict) else None
    return size if isinstance(size, int) and size > 0 else RecipeConf().batch_size


def _module_weights(chosen: Selection) -> dict[str, Tensor]:
    """Read all that a run's module has learnt; nothing where its checkpoint is gone."""
    record = chosen.record
    run = Store(chosen.folder.parent).folder(record.study, record.network, record.seed)
    path = run / LAST_CHECKPOINT
    return module_weights(path) if path.exists() else {}


def _through(validation: OwnValidation) -> Measure:
    return lambda model, _: validation.measure(model)


def _measured(task: Supervised, targets: Tensor, _: Model, outputs: Iterator[Tensor]) -> float:
    """Score a network's outputs as its training did: by the same task, around no network."""
    tally, first = task.tally(VAL), 0
    tally.reset()
    for one in outputs:
        task.validation_step((one, as_targets(targets[first : first + len(one)])), 0)
        first += len(one)
    return tally.values()[task.score.key.rpartition("/")[2]]


def task_of(chosen: Selection) -> TaskConf:
    """Say what a network learnt, from what its study says.

    Raises:
        SsrError: if a study is of a task that this version does not know.
    """
    theirs = chosen.study.get("task")
    unit = chosen.record.unit if chosen.task == TaskKind.regression else ""
    read = _validated(TaskConf, theirs if isinstance(theirs, dict) else {}, "task")
    return replace(read, unit=unit)


def dataset_of(conf: ExportConfig, chosen: Selection) -> DatasetConf:
    """Say which images they are, from what the study and the run say."""
    theirs = chosen.study.get("dataset")
    if not isinstance(theirs, dict) or "name" not in theirs:
        raise SsrError(
            f"the study of {chosen.record.network} does not say its images: its study.json is "
            "missing or damaged; export it from the folder of its runs."
        )
    known = {f.name for f in fields(DatasetConf)} - {"train_on_val"}
    before = chosen.asked.get("dataset", {})
    before = before if isinstance(before, dict) else {}
    # No field of a study, as their digest tells images apart; `best/` has no configuration.
    theirs = theirs | {"skip_corrupt": before.get("skip_corrupt", _damaged(chosen.study))}
    theirs = {key: value for key, value in theirs.items() if key in known}
    asked = _validated(DatasetConf, theirs, "dataset")
    asked.root, asked.file = (getattr(conf, key) or before.get(key) for key in ("root", "file"))
    paths = chosen.asked.get("paths")
    recorded = str(paths.get("data", "")) if isinstance(paths, dict) else ""
    if conf.paths.data == PathsConf().data and recorded and Path(recorded).exists():
        conf.paths.data = recorded  # else it may be typed, or be found where commands look
    # Those that nothing read when the study was begun are refused today.
    usual = DatasetConf()
    return replace(asked, **{key: getattr(usual, key) for key in sources.unread(asked)})


def _damaged(study: Mapping[str, Any]) -> int:
    """Count the image files that a study left out, as they could not be read."""
    reading = study.get(studies.READING)
    left_out = reading.get("left_out") if isinstance(reading, dict) else None
    count = left_out.get(UNREADABLE) if isinstance(left_out, dict) else None
    return count if isinstance(count, int) else 0


def _validated(kind: type[Read], values: Mapping[str, Any], name: str) -> Read:
    """Read a part of a configuration as data, from a file that others may have written."""
    try:
        asked: Read = TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SsrError(
            f"the study.json of this network is damaged ({name}.{where}: "
            f"{first['msg'].lower()}): export another run of it."
        ) from None
    check(asked, f"{name}.")
    return asked


def _check(learnt: Splits, asked: DatasetConf, chosen: Selection, folder: Path) -> None:
    """Refuse other images than those that the network was trained by."""
    if chosen.study["dataset"].get("content") != learnt.fingerprint:
        place = "file=TABLE.csv, root=DIR" if asked.name == sources.CSV else "root=DIR"
        raise SsrError(
            f"the images of {asked.name} in {asked.file or asked.root or folder} are not those "
            f"that {chosen.record.network} was trained by: type {place} or paths.data=DIR."
        )
