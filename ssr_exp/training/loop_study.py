"""A study whose networks a loop of the user's own trains: it asks for them, and tells their scores.

`ssr_exp.Study` begins it. Commands go on with it by its name, `study=pets`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from ssr_exp import files, messages, user_code
from ssr_exp.config import Config, PathsConf, TaskConf, TaskKind
from ssr_exp.datasets import reading
from ssr_exp.datasets.reading import Reading
from ssr_exp.datasets.user_data import UserData
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import cost, rescale, saved, seeds
from ssr_exp.rescaling.network_parts import Part
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.saved import Description
from ssr_exp.runs import studies, study_names
from ssr_exp.runs.score import Direction, Score
from ssr_exp.runs.store import LAST_CHECKPOINT, Store, is_done, network_weights
from ssr_exp.tasks.supervised import Diverged
from ssr_exp.training import loop_settings
from ssr_exp.training.candidate import Candidate, Told
from ssr_exp.training.config_key import ConfigKey
from ssr_exp.training.fingerprint import segmentation
from ssr_exp.training.fit import first_network
from ssr_exp.training.opened_study import Job, OpenedStudy
from ssr_exp.training.pretrained import Pretrained

DATASET = "own"
WRAPPERS = ("module.", "_orig_mod.")  # of DistributedDataParallel, and of torch.compile


def score(conf: TaskConf) -> Score:
    """Say how its networks are judged."""
    asked = conf.score
    assert asked.key is not None and asked.direction is not None
    low, high = asked.bounds
    direction = Direction(asked.direction)
    return Score(key=asked.key, direction=direction, unit=asked.unit, bounds=(low, high))


def make(
    conf: Config,
    seed_network: nn.Module,
    plan: Plan,
    taken: Pretrained,
    found: tuple[nn.Module, Part] | None = None,
) -> OpenedStudy:
    """Say what all runs of a study share.

    Args:
        conf: whose `study` is its name; parts of it say what its networks are (`loop_settings`).
        seed_network: as the user's function made it.
        plan: of it.
        taken: the weights that networks start from, if not from fresh ones.
        found: the whole that the seed network is a part of, and where; None: it is the whole.
    """
    assert conf.study is not None
    whole, part = found or (None, None)
    made = seed_network if whole is None else whole
    fields: dict[str, Any] = {
        "model": {
            **({} if part is None else _about(part)),
            "segments": [f"{s.name} ({len(s.blocks)})" for s in plan.segments],
            "parameters": sum(p.numel() for p in made.parameters()),
            "structure": structure(made),
        },
        "inputs": plan.inputs.text(),
        "segment": segmentation(conf.segment, plan.multiple),
        "dataset": {"name": conf.dataset.name},
        "task": {"name": TaskKind.loop.value, "score": score(conf.task).model_dump(mode="json")},
    }
    if taken.init:
        fields["init"] = taken.init
    return OpenedStudy(
        conf.study,
        fields,
        data(conf.dataset.name, plan),
        seed_network,
        plan,
        taken,
        score(conf.task),
        changed={studies.SETTINGS: loop_settings.settings(conf, plan)},
        whole=whole,
        part=part,
    )


def _about(part: Part) -> dict[str, Any]:
    return {"part": part.path, "readers": [*part.readers], "kept": [*part.kept]}


def data(
    name: str,
    plan: Plan,
    about: saved.Description | None = None,
    read: Mapping[str, Any] | None = None,
) -> UserData:
    """Say what is known of data that a loop of the user's own reads: next to nothing.

    Args:
        name: of it.
        plan: of the network that takes it.
        about: the classes, and how inputs are normalised, where a command began the study.
        read: what that read, as the study's file says it: how many images promises are made by.
    """
    inputs = f"inputs of {plan.inputs.text()}"
    parts, sizes = reading.counts_of(read or {})
    known = Reading(name, parts, {}, inputs, sizes, targets="a loop of your own")
    if about is None:
        return UserData(name, "", plan.input_shape, None, True, known)
    rest = (about.classes, about.mean, about.std)
    return UserData(name, "", plan.input_shape, about.num_classes, True, known, *rest)


def structure(network: nn.Module) -> str:
    """Fingerprint the layers of a network: their classes, their arguments, and their shapes."""
    lines = [
        f"{path} {user_code.name_of(type(module))} {module.extra_repr()}"
        for path, module in network.named_modules()
    ]
    lines += [f"{n} {tuple(t.shape)} {t.dtype}" for n, t in network.state_dict().items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def sums(state: Mapping[str, Tensor]) -> str:
    """Fingerprint trained weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def refuse_differences(root: Path, name: str, fields: Mapping[str, Any]) -> None:
    """Refuse to go on with a study of the same name that is another one.

    Raises:
        SsrError: names the first field that differs, or another study has it for a name.
    """
    study_names.refuse_taken(root, name, name, fields)
    theirs = studies.read_all(root).get(name)
    if theirs is None:
        return
    if differences := studies.differences(theirs, fields):
        raise SsrError(
            f"the study {name} in {root} is another one: {differences[0]}. Give this one another "
            "name, or go on with what that one was begun with."
        )


def reopen(conf: Config) -> OpenedStudy:
    """Open a study that `ssr_exp.Study` began, for a command.

    Raises:
        SsrError: if its networks cannot be made: they come from a function of the user's own.
    """
    store = Store(conf.paths.runs)
    assert conf.study is not None
    fields = studies.compared(files.read_or_empty(store.study_folder(conf.study) / studies.FILE))
    if "init" in fields:
        raise SsrError(
            f"the networks of {conf.study} start from weights that were trained before, which "
            "commands do not know: go on with ssr_exp.Study."
        )
    folder = store.study_folder(conf.study)
    about = saved.read(folder)
    if not conf.trust:
        saved.check_trust(folder, about, "type trust=true if you trust where it comes from")
    frozen = about.segment.model_copy(update={"frozen": tuple(conf.segment.frozen)})
    about = about.model_copy(update={"segment": frozen})
    target = about.model.conf().target
    maker = None if target is None else user_code.find(target)
    seed_network, plan, found = _traced(ConfigKey(about), maker)
    opened = make(conf, seed_network, plan, Pretrained(), found)
    refuse_differences(store.root, conf.study, opened.fields)
    settings = studies.read_all(store.root)[conf.study][studies.SETTINGS]
    return replace(opened, changed={studies.SETTINGS: settings})


@lru_cache(maxsize=8)
def _traced(
    about: ConfigKey[Description], maker: Callable[..., Any] | None
) -> tuple[nn.Module, Plan, tuple[nn.Module, Part] | None]:
    """Trace a network; what its `maker` is now, a session may have defined anew."""
    return saved.opened(about.part)


def candidate(job: Job, folder: Path) -> Candidate:
    """Offer the network of a job to a loop of the user's own."""
    return Candidate(
        code=job.network,
        seed=job.conf.seed,
        cost=cost.count_one(job.study.plan, job.architecture),
        folder=folder,
        origin=job.conf.origin or job.conf.modifiers.kind,
        _build=partial(build, job),
    )


def build(job: Job) -> nn.Module:
    """Make the network of a job: its weights follow from the job's seed alone.

    Of a whole of which a part is rescaled, all beside the part, and what reads it, is as the
    whole's constructor makes it under that seed; inherited slices are of that, too.
    """
    study, seed = job.study, job.conf.seed
    with isolate_rng():
        seed_everything(seed, verbose=False)
        if study.part is None:
            return first_network(job).train()
        whole = seeds.build(
            job.conf.model, num_classes=None, input_shape=study.plan.input_shape
        ).train()
        if (known := study.pretrained.state) is not None:
            state = {n: t for n, t in study.part.own_state(whole).items() if n in known}
            taken = replace(study.pretrained, state=state)
            job = replace(job, study=replace(study, pretrained=taken))
        seed_everything(seed, verbose=False)
        return study.part.put(whole, first_network(job))


def check_function(conf: Config) -> Callable[..., Any]:
    """Find the function of the user's own that trains one network, for a command.

    Raises:
        SsrError: if none is named, or there is none of its name.
    """
    if conf.task.target is None:
        usual, runs = PathsConf().runs, conf.paths.runs
        place = [] if runs == usual else [messages.setting("paths.runs", runs)]
        trusts = [study_names.TRUST] if conf.trust else []
        named = messages.setting("study", conf.study)
        shows = messages.typed("search", named, *trusts, *place, "rounds=0")
        raise SsrError(
            f"the networks of {conf.study} are trained by a loop of your own: let it go on, type "
            f"{shows} to see what is known so far, or name a function that trains one network: "
            "task.target=my_package.train. It takes a candidate (candidate.network) and returns "
            "its score."
        )
    return user_code.find(conf.task.target, "task.target")


def train(job: Job, folder: Path) -> dict[str, Any]:
    """Have a function of the user's own train a network, for a command.

    It is called with a `Candidate` and returns what `Study.tell` takes: the score, or a dictionary.

    Returns:
        Fields of the record.

    Raises:
        SsrError: if there is no such function, or it returns something else.
        Diverged: if the score that it returns is not finite.
    """
    conf, offered = job.conf, candidate(job, folder)
    function = check_function(conf)
    seed_everything(conf.seed, verbose=False)
    told = Told.read(function(offered, **user_code.made(conf.task.arguments)), job.study.score)
    if told.error:
        raise Diverged(told.error)
    if conf.trainer.test and told.test is None:
        raise SsrError(
            f"{conf.task.target} returned no test score, which finalists need: return "
            "{'score': ..., 'test': ...}, or type finalists.seeds=0."
        )
    is_told = is_done(Store(conf.paths.runs).read(folder), tested=conf.trainer.test)
    if offered.is_built and not is_told:  # else the weights there are of the result that stays
        keep_weights(job, offered, folder)
    return fields(told)


def fields(told: Told) -> dict[str, Any]:
    """Write what was told by the names that a record has for it."""
    named = {"score": told.score, "best_score": told.score, "test_score": told.test}
    return named | {"metrics": dict(told.metrics), "epochs": told.epochs}


def trained_network(job: Job, folder: Path) -> nn.Module:
    """Load the network of a job with what its training left: in eval mode, on the CPU.

    Raises:
        SsrError: if nothing is there, or it is of another network.
    """
    network, path = build(job), folder / LAST_CHECKPOINT
    if not path.exists():
        raise SsrError(f"no weights of {job.network} (seed {job.conf.seed}) are in {folder}.")
    state = network_weights(path, job.study.scored or "network")
    rescale.load(network, state, source=str(path))
    return network.eval()


def _unwrapped(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take off the prefixes that wrappers of a whole network put before its names."""
    found = dict(weights)
    for _ in WRAPPERS:  # in either order
        for prefix in WRAPPERS:
            if found and own.keys() != found.keys() and all(n.startswith(prefix) for n in found):
                found = {name.removeprefix(prefix): t for name, t in found.items()}
    return found


def keep_weights(job: Job, candidate: Candidate, folder: Path, state: object = None) -> None:
    """Keep what a training left, as the checkpoint of its run.

    Args:
        job: the run.
        candidate: whose network was trained.
        folder: of the run.
        state: a state dict of the network, which is checked; None: what its parameters are now.

    Raises:
        SsrError: if it is of another network, or no state dict.
        OSError: if the disk is full.
    """
    given: Any = candidate.network.state_dict() if state is None else state
    if not isinstance(given, Mapping) or not all(map(torch.is_tensor, given.values())):
        raise SsrError(
            f"the weights that were told for {job.network} are {user_code.article(given)}, and no "
            "state dict of tensors: give weights=network.state_dict()."
        )
    own = build(job).state_dict()
    weights = _unwrapped(given, own)
    rescale.check_fits(own, weights, f"the weights that were told for {job.network} do not fit")
    attribute = job.study.scored or "network"
    tensors = {f"{attribute}.{name}": t.detach().cpu() for name, t in weights.items()}
    files.write_checkpoint(folder / LAST_CHECKPOINT, {"state_dict": tensors})
