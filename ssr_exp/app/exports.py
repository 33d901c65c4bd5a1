"""What `ssr export` calls: where a network's images are known, its files are written."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from ssr_exp.app import configuration
from ssr_exp.config import Config, DatasetConf, ExportConfig, PathsConf, TaskConf, TaskKind, check
from ssr_exp.datasets import in_memory, sources, user_data
from ssr_exp.datasets.batches import as_targets
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.datasets.reading import Reading
from ssr_exp.datasets.user_data import UserData
from ssr_exp.edge import selection
from ssr_exp.edge.export import exported, exporter, hub
from ssr_exp.edge.export.formats import Model
from ssr_exp.edge.export.formats.flat import FlatNetwork
from ssr_exp.edge.export.verification import DrawnSamples, Measure, Part, Samples
from ssr_exp.edge.selection import Selection
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.inputs import of_shape
from ssr_exp.runs import verdict
from ssr_exp.runs.store import EXPORTS, LAST_CHECKPOINT, Store, module_weights
from ssr_exp.tasks.supervised import VAL, Supervised
from ssr_exp.training import learning, opened_study
from ssr_exp.training.opened_study import TARGETS
from ssr_exp.training.own_validation import OwnValidation

log = logging.getLogger(__name__)

COMPARED = 32  # inputs of validation, where none are to calibrate int8

Read = TypeVar("Read")


def write(composed: Any) -> str:
    """Export the network that a configuration names; prints the files, and last their folder.

    Raises:
        SsrError: if it cannot be exported, or one of its formats failed.
    """
    request = configuration.read(composed, ExportConfig)
    if isinstance(request.format, str):
        request.format = [request.format]
    exporter.check(request)
    if request.push is not None:
        hub.check(request.push)
    chosen = selection.find(
        Path(request.paths.runs),
        request.run,
        study=request.study,
        seed=request.seed,
        trust=request.trust,
    )
    if (part := chosen.about.part) is not None:
        raise SsrError(
            f"{chosen.label} is a whole network of which {part.path} was rescaled, and a study "
            "does not keep how the whole is called: export study.trained(code) with your own code."
        )
    to = Path(request.to) if request.to else chosen.folder / EXPORTS / chosen.label
    to = to.expanduser().resolve()
    exporter.check_folder(to)
    parts, how = _inputs(request, chosen)
    outcome = exporter.write(chosen, parts, request, to, how=how)
    exported.print_table(outcome, chosen.record.scored_by, request, sample=chosen.sample)
    print(f"weights of {chosen.record.network}: {verdict.weights(chosen.record)}")
    if chosen.verdict is not None:
        log.warning("%s: %s", chosen.record.network, chosen.verdict)
    if request.push is not None:
        address = hub.push(outcome.folder, request.push)
        later = hub.command(outcome.folder, request.push)
        offline = f"not pushed, HF_HUB_OFFLINE is set; type later: {later}"
        print(offline if address is None else f"pushed to {address}")
    print(f"export: {outcome.folder}", flush=True)
    if outcome.failed:
        raise SsrError(f"{len(outcome.failed)} files failed: {'; '.join(outcome.failed)}.")
    return str(outcome.folder)


def _inputs(conf: ExportConfig, chosen: Selection) -> tuple[list[Part], Preprocessing | None]:
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
    task, asked, folder = _task(chosen), _dataset(conf, chosen), Path(conf.paths.data)
    if asked.target is not None or task.name is TaskKind.module:
        return _own_inputs(conf, chosen, task, asked), None
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


def _own_inputs(
    conf: ExportConfig, chosen: Selection, task: TaskConf, asked: DatasetConf
) -> list[Part]:
    """Take inputs of val, and the score, from modules of the user's own.

    Raises:
        SsrError: if they call a function that nobody trusts, or cannot be made.
    """
    about, shared = chosen.about, Config(task=task, dataset=asked, paths=conf.paths)
    if task.name is TaskKind.module:  # what is called stands in the file whose trust was checked
        model = about.model
        same = (f"{task.target}:{task.network}", task.arguments) == (model.name, model.arguments)
        if not same:
            raise SsrError(
                f"the study.json of {chosen.folder} says another module than its network.json, "
                f"{model.name}: export it from the folder of its runs."
            )
    is_safe = asked.target is None or user_data.is_trusted(asked, chosen.folder)
    if not (is_safe or conf.trust):
        raise SsrError(f"{chosen.folder} calls {asked.target} for its data: {selection.TRUST}.")
    splits: Splits | UserData = UserData(
        asked.name, "", about.input_shape, about.num_classes, False, Reading(asked.name, {}, {}, "")
    )
    seen = asked.target is None and chosen.has_seen_val
    if asked.target is None:
        learnt = replace(shared, dataset=replace(asked, train_on_val=seen))
        _check(opened_study.images(learnt), asked, chosen, Path(conf.paths.data))
        splits = opened_study.images(shared).normalised_by(about.mean, about.std)
    validation = OwnValidation(
        lambda network, other: learning.task(
            shared, splits, network, stands_in=(about.weights_of, other)
        ),
        partial(learning.data, shared, splits),
        chosen.network,
        chosen.record.scored_by,
        conf.max_batch,
        {k: v for k, v in task.trainer.items() if k == "limit_val_batches"},
        _module_weights(chosen),
        (task.network, *task.copies),
    )
    if task.name is TaskKind.module:
        log.info("files are scored by the validation of %s, in the network's place", task.target)
    most = conf.calibration if conf.int8 else min(conf.calibration, max(COMPARED, conf.max_batch))
    inputs = validation.inputs(most)
    has_several = task.name is TaskKind.module and validation.puts_out == "several"
    if inputs is None or has_several:  # our own tasks judge the first output
        drawn = FlatNetwork(chosen.network, of_shape(about.input_shape, chosen.network))
        log.info(
            "files are compared by outputs alone, on drawn inputs, not scored: %s",
            f"validation calls parts of {about.weights_of} alone"
            if inputs is None
            else f"{about.weights_of} puts out {', '.join(drawn.names)}",
        )
        return [DrawnSamples(drawn)]
    lost = validation.lost()
    if validation.puts_out != "tensor":
        why = f"a file puts out one tensor, and validation reads more of {about.weights_of}"
    elif not validation.logs_score:
        why = f"validation logs no {chosen.record.scored_by.key} without task.trainer.callbacks"
    elif lost:
        why = f"the run's {LAST_CHECKPOINT}, which holds {lost}, is gone"
    else:
        return [Samples("val", inputs, _through(validation), seen, own_validation=True)]
    log.info("files are compared by outputs alone, not scored: %s", why)
    return [Samples("val", inputs, learnt=seen)]


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


def _task(chosen: Selection) -> TaskConf:
    """Say what a network learnt, from what its study says.

    Raises:
        SsrError: if a study is of a task that this version does not know.
    """
    theirs = chosen.study.get("task")
    unit = chosen.record.unit if chosen.task == TaskKind.regression else ""
    read = _validated(TaskConf, theirs if isinstance(theirs, dict) else {}, "task")
    return replace(read, unit=unit)


def _dataset(conf: ExportConfig, chosen: Selection) -> DatasetConf:
    """Say which images they are, from what the study and the run say."""
    theirs = chosen.study.get("dataset")
    if not isinstance(theirs, dict) or "name" not in theirs:
        raise SsrError(
            f"the study of {chosen.record.network} does not say its images: its study.json is "
            "missing or damaged; export it from the folder of its runs."
        )
    known = {f.name for f in fields(DatasetConf)} - {"train_on_val"}
    theirs = {key: value for key, value in theirs.items() if key in known}
    asked = _validated(DatasetConf, theirs, "dataset")
    before = chosen.asked.get("dataset", {})
    before = before if isinstance(before, dict) else {}
    asked.root, asked.file = (getattr(conf, key) or before.get(key) for key in ("root", "file"))
    paths = chosen.asked.get("paths")
    if conf.paths.data == PathsConf().data and isinstance(paths, dict):
        conf.paths.data = str(paths.get("data", conf.paths.data))
    # Those that nothing read when the study was begun are refused today.
    usual = DatasetConf()
    return replace(asked, **{key: getattr(usual, key) for key in sources.unread(asked)})


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
