"""What makes two studies the same: all that decides a result, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from torch import nn

from ssr_exp import config, messages, user_code
from ssr_exp.config import OWN_DATA, Config, DatasetConf, SegmentConf, TaskConf, TaskKind
from ssr_exp.datasets.images import Splits
from ssr_exp.datasets.user_data import UserData
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import seeds, user_modules
from ssr_exp.runs import store, studies, study_names
from ssr_exp.terminal import counted
from ssr_exp.training import batch_norm, pretrained
from ssr_exp.training.pretrained import Pretrained

log = logging.getLogger(__name__)

# Where images lie does not change what they are, nor whether memory holds them, nor which are left
# out: that stands in their digest. How they are normalised is said in numbers.
NOT_COMPARED = ("root", "download", "file", "normalize", "stream", "memory", "skip_corrupt")
# Keys that must not rename the studies before them.
LATER = (
    *("train_on_val", "fit", "background", "image", "targets", "group", "split", *OWN_DATA),
    *("vertical_flip", "crop_scale", "crop_ratio", "rotation", "color_jitter", "auto_augment"),
    *("num_ops", "magnitude", "mixup", "cutmix", "crop_share", "crop_from", "erasing"),
)
SPLIT = ("patterns", "depth", "at_most")  # likewise, of how a network is split


def fields(
    conf: Config,
    splits: Splits | UserData,
    seed_network: nn.Module,
    multiple: int,
    taken: Pretrained,
) -> dict[str, Any]:
    """Say what decides the results of a study: all that its fingerprint is of.

    Args:
        conf: its configuration.
        splits: its data.
        seed_network: as its constructor left it.
        multiple: that channels are rounded to.
        taken: what it takes from networks trained before.
    """
    dataset = {k: v for k, v in asdict(conf.dataset).items() if k not in NOT_COMPARED}
    if isinstance(sides := dataset["resize"], list) and sides[0] == sides[1]:
        dataset["resize"] = sides[0]
    for key in LATER:
        if dataset[key] == getattr(DatasetConf(), key):
            del dataset[key]
    is_own = conf.task.name is TaskKind.module
    recipe = {k: v for k, v in asdict(conf.recipe).items() if k not in pretrained.KEYS}
    if is_own:
        read = config.read_of_recipe(is_own_data=conf.dataset.target is not None)
        recipe = {k: v for k, v in recipe.items() if k in read}
    if conf.dataset.target is not None:
        dataset = {k: v for k, v in dataset.items() if k in ("name", *OWN_DATA)}
        if not is_own and conf.dataset.version is None:
            dataset["code"] = _code(conf, [])
    training = {"epochs": conf.trainer.max_epochs, "precision": conf.trainer.precision}
    if batch_norm.depends_on_devices(conf, seed_network):
        training["devices"] = conf.trainer.devices
        if conf.trainer.sync_batch_norm and batch_norm.kinds(seed_network):
            training["sync_batch_norm"] = True
    decides = {
        "model": seeds.identity(conf.model, splits.image_shape, seed_network),
        "segment": segmentation(conf.segment, multiple),
        "dataset": dataset | {"content": splits.fingerprint},
        "recipe": recipe | ({"distill": taken.distill} if taken.distill else {}),
        "training": training,
    }
    if is_own:
        for key in ("code", "arguments"):
            decides["model"].pop(key, None)
        decides["task"] = _own_task(conf, seed_network)
    elif (task := replace(conf.task, unit="")) != TaskConf():
        usual = asdict(TaskConf())
        decides["task"] = {
            k: v for k, v in asdict(task).items() if k in ("name", "balance") or v != usual[k]
        }
    if taken.moments is not None:
        mean, std = map(list, taken.moments)  # as a study's file has them
        decides["normalization"] = {"mean": mean, "std": std}
    return decides | ({"init": taken.init} if taken.init else {})


def segmentation(conf: SegmentConf, multiple: int) -> dict[str, Any]:
    """Say how a network is split: what codes of its networks mean, whatever is frozen."""
    usual, asked = asdict(SegmentConf()), asdict(conf)
    given = {key: asked[key] for key in SPLIT if asked[key] != usual[key]}
    return {"kind": conf.kind, "multiple": multiple} | given


def _own_task(conf: Config, seed_network: nn.Module) -> dict[str, Any]:
    """Say what makes two modules of the user's own the same: their arguments and their code."""
    said = asdict(conf.task)
    for key in ("balance", "unit", "dice", "version", "study"):
        del said[key]
    if said["ignore_index"] == TaskConf().ignore_index:  # no module was told another one before
        del said["ignore_index"]
    said["score"]["test_key"] = None  # it decides nothing that networks are compared by
    if conf.task.version is not None:
        return said | {"version": conf.task.version}
    named = [str(conf.task.target), *user_code.targets([conf.task.arguments, conf.task.trainer])]
    return said | {"code": _code(conf, named, user_modules.sources(seed_network))}


def _code(conf: Config, named: Sequence[str], modules: Iterable[str] = ()) -> dict[str, str]:
    """Fingerprint the code that callables of the user's own are made of, that of data, too."""
    if conf.dataset.target is not None:
        named = [*named, conf.dataset.target, *user_code.targets(conf.dataset.arguments)]
    found = {user_code.made_in(user_code.find(name, "task.target")) for name in named}
    return user_code.digests(frozenset([*filter(None, found), *modules]))


def same_code(conf: Config, ours: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Go on with the study that `task.study` names, or say which one an edit of the code left.

    Returns:
        What the fingerprint is of, and the code as it is now if that is not the study's.

    Raises:
        SsrError: if there is no such study, or more has changed than the code.
    """
    root = Path(conf.paths.runs)
    others = {n: studies.compared(f) for n, f in studies.read_all(root).items()}
    ours = _as_before(conf, ours, list(others.values()))
    if (asked := conf.task.study) is None:
        if ours not in others.values():
            edited = {name: studies.changed_code(theirs, ours) for name, theirs in others.items()}
            for name, modules in edited.items():
                if modules:
                    count = len(store.Store(conf.paths.runs).records(name))
                    messages.say_once(
                        log,
                        f"the code of {', '.join(modules)} is not that of study {name} "
                        f"({counted(count, 'run')}), so this is another study: if its results "
                        f"would be the same, type task.study={name} to go on with it.",
                    )
        return ours, {}
    asked = study_names.find(root, asked)
    theirs = others.get(asked, {})
    if theirs != ours and not studies.changed_code(theirs, ours):
        first = studies.differences(theirs, ours)[0]
        raise SsrError(f"more than the code is not as in study {asked}: {first}.")
    return theirs, {} if theirs == ours else {studies.CHANGED_CODE: ours["task"]["code"]}


def say_which_has_other_content(conf: Config, ours: dict[str, Any]) -> None:
    """Say which studies differ from a new one in the content of weights or code alone."""
    has_code = "code" in ours["model"] or "code" in ours["dataset"]
    is_own = conf.task.name is TaskKind.module  # see `same_code`
    if not (ours.get("init") or ours["recipe"].get("distill") or (has_code and not is_own)):
        return
    root = Path(conf.paths.runs)
    others = {n: studies.compared(f) for n, f in studies.read_all(root).items()}
    if ours in others.values():
        return
    kept, found = store.Store(conf.paths.runs), {}
    for name, theirs in others.items():
        if kinds := studies.other_content(theirs, ours):
            found[name] = len(kept.records(name)), " and ".join(kinds)
    if found:  # of several, after an edit and another, the one with most to lose
        name, (count, what) = max(found.items(), key=lambda item: item[1][0])
        messages.say_once(
            log,
            f"study {name} ({counted(count, 'run')}) differs in {what} alone, so this is another "
            "study: to go on with that one, take the change back.",
        )


def _as_before(
    conf: Config, ours: dict[str, Any], others: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Keep the name of a study that was begun when `task.score.test_key` was a part of it."""
    if (key := conf.task.score.test_key) is None:
        return ours
    task = ours["task"]
    older = ours | {"task": task | {"score": task["score"] | {"test_key": key}}}
    is_there = any(o == older or studies.changed_code(o, older) for o in others)
    return older if is_there and ours not in others else ours
