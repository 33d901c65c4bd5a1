"""Hand a trained network over: a folder that a user can take away and load in two lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssr_exp.config import Config
from ssr_exp.datasets import user_data
from ssr_exp.datasets.images import Splits, Target
from ssr_exp.rescaling import adapt, codes, saved
from ssr_exp.rescaling.stored_parts import StoredPart
from ssr_exp.runs import provenance, studies
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import (
    LAST_CHECKPOINT,
    METRICS_FILE,
    PICTURE_FILE,
    RECORD_FILE,
    Store,
    network_weights,
)
from ssr_exp.training import learning, mask_pictures
from ssr_exp.training.opened_study import OpenedStudy

SCRIPT = "load.py"

LOAD = '''"""Load the network of this folder; {normalised}."""

from pathlib import Path

import torch

from ssr_exp.rescaling import saved

network = saved.load(Path(__file__).parent{trust}){predicts}{before}
{call}'''
CALL = """outputs = network({inputs}){picks}
print({prints})
"""


def write(
    study: OpenedStudy,
    conf: Config,
    record: Record,
    run_folder: Path,
    to: Path,
    metrics: Mapping[str, Any],
) -> None:
    """Copy a finished run's last weights, and all that loading them takes, to a folder.

    The folder is made aside and put in its place when it is whole and its network loads: whatever
    happens meanwhile, `to` is the old one, the new one, or not there. All of an old one is
    replaced. Other processes that hand over to the same folder wait.

    Args:
        study: the study that the run is of.
        conf: what it was configured with.
        record: the run's.
        run_folder: holds its `last.ckpt`.
        to: the new folder.
        metrics: goes to `metrics.json`.

    Raises:
        SsrError: if the checkpoint is missing or damaged, the disk is full, or the folder cannot
            be written.
    """
    if record.study != study.name:
        raise ValueError(f"the run is of study {record.study}, not of {study.name}")
    store = Store(conf.paths.runs)
    about = describe(study, conf, record)
    with store.replaced_folder(to) as fresh:
        saved.write(
            fresh,
            about,
            network_weights(run_folder / LAST_CHECKPOINT, about.weights_of or "network"),
        )
        loaded = saved.load(fresh, trust=True)
        if (images := _masked(study)) is not None and not about.model.part:
            mask_pictures.write(fresh / PICTURE_FILE, loaded, images)
        _add_papers(store, fresh, study, record, metrics)


def describe(study: OpenedStudy, conf: Config, record: Record | None = None) -> saved.Description:
    """Describe the network of a run, or the seed network, for those who have nothing else of it."""
    splits, plan = study.splits, study.plan
    code = codes.write(plan, plan.baseline) if record is None else record.network
    shares = plan.modifiers(plan.baseline) if record is None else record.modifiers
    moments = learning.target_moments(splits.train) if isinstance(splits, Splits) else None
    mean, std = moments or (None, None)
    return saved.Description(
        model=saved.Model.from_conf(conf.model, splits.image_shape, study.made),
        part=None if study.part is None else StoredPart.of(study.part),
        segment=saved.Segmentation.from_conf(conf.segment, study.plan.multiple),
        network=code,
        num_classes=splits.num_classes,
        input_shape=splits.image_shape,
        inputs=plan.inputs.stored,
        classes=splits.classes,
        mean=splits.mean,
        std=splits.std,
        modifiers=saved.Shares(depth=shares.depth, width=shares.width),
        weights_of=study.scored,
        target_mean=mean,
        target_std=std,
        segments=tuple(
            saved.SavedSegment(name=segment.name, blocks=len(segment.blocks), channels=channels)
            for segment, channels in zip(plan.segments, plan.channels(plan.baseline), strict=True)
        ),
    )


def export_words(study: OpenedStudy, conf: Config, folder: Path) -> list[str] | None:
    """Say what `ssr export` takes beside the folder of an answer; None: it cannot export a part."""
    if study.part is not None:
        return None
    is_safe = conf.dataset.target is None or user_data.is_trusted(conf.dataset, folder)
    needs_trust = not is_safe or describe(study, conf).model.calls_code()
    return ["trust=true"] if needs_trust else []


def _masked(study: OpenedStudy) -> Splits | None:
    """Return the images, where a class of each pixel is learnt of them."""
    splits = study.splits
    is_masked = isinstance(splits, Splits) and splits.train.target is Target.masks
    return splits if is_masked and isinstance(splits, Splits) else None


def _add_papers(
    store: Store, fresh: Path, study: OpenedStudy, record: Record, metrics: Mapping[str, Any]
) -> None:
    shape = ", ".join(map(str, (1, *study.splits.image_shape)))
    about = saved.read(fresh)
    inputs, before = f"torch.zeros({shape})", ""
    if about.inputs is not None:
        inputs = "*args, **kwargs"
        before = "\nargs, kwargs = saved.read(Path(__file__).parent).inputs.make(1)  # drawn"
    trust = ", trust=True" if about.model.calls_code() else ""
    moments = f"{about.target_mean} + {about.target_std}"
    predicts = "" if about.target_mean is None else f"  # predictions: {moments} * outputs"
    picks = ""
    if _masked(study) is not None:
        predicts = "  # the class of each pixel: outputs.argmax(1)"
        is_named = adapt.is_dictionary(study.seed_network, study.splits.image_shape)
        picks = '["out"]' if is_named else ""
    store.write_text(fresh / RECORD_FILE, record.to_json())
    store.write_text(fresh / studies.FILE, provenance.to_json(study.about))
    store.write_text(fresh / METRICS_FILE, provenance.to_json(dict(metrics)))
    prints = "outputs" if about.num_classes is None else "outputs.shape"  # whatever it puts out
    call = CALL.format(inputs=inputs, picks=picks, prints=prints)
    if about.part is not None:  # how the whole is called is not known
        call, before = "print(network)\n", ""
    normalised = "saved.read says how to normalise its images"
    if study.splits.preprocessing is None:  # data of the user's own, or a loop's
        normalised = "its inputs are as its own training had them"
    script = LOAD.format(
        normalised=normalised, trust=trust, predicts=predicts, before=before, call=call
    )
    store.write_text(fresh / SCRIPT, script)
