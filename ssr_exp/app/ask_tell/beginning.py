"""What a study in Python is begun with: a function that makes a network, and settings."""

from __future__ import annotations

import copy
import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn

from ssr_exp import config, user_code
from ssr_exp.app import configuration, continuing
from ssr_exp.app.command_line import keys
from ssr_exp.config import ChannelChoice, ModelConf, SearchConfig, Source
from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import (
    input_examples,
    inputs,
    meta,
    network_parts,
    planning,
    saved,
    transfer,
)
from ssr_exp.rescaling.inputs import Inputs
from ssr_exp.rescaling.network_parts import Part
from ssr_exp.rescaling.output_readers import Run
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.transfer import Constructed
from ssr_exp.runs import studies, study_names
from ssr_exp.runs.score import Score
from ssr_exp.runs.store import Store
from ssr_exp.training import first_weights, loop_settings, loop_study
from ssr_exp.training.opened_study import OpenedStudy
from ssr_exp.training.pretrained import Pretrained

log = logging.getLogger(__name__)

FRESH, INHERIT = "fresh", "inherit"
# What a process leaves that was killed in its beginning, or writes just now.
BEGINNING = ("latency", "search", studies.FILE, saved.NETWORK, study_names.FILE)
READ = ("segment", "init.channels")  # of what a command decides when it begins a study
SPLIT = ("multiple", "frozen", "kind", "patterns", "depth", "at_most")  # of a segmentation


def begun(
    make_network: Callable[[], nn.Module],
    example_inputs: Any,
    options: Mapping[str, Any],
    *,
    name: str,
    score: Score,
    network: str | None,
    init: str,
) -> tuple[OpenedStudy, SearchConfig]:
    """Make a study, and the configuration of its search, of what `ssr_exp.Study` is given.

    Args:
        make_network: makes the seed network.
        example_inputs: what it is called with.
        options: settings by their keys, `paths.runs` among them.
        name: of the study.
        score: what will be told.
        network: the path of the part that is rescaled; None: all of it is.
        init: which weights networks start from.

    Raises:
        SsrError: if a part of it cannot be met, or another study has this name.
    """
    study_names.check_name(name)
    score = check_score(score)
    whole, weights = seed_network(make_network, init, network)
    told = {"task.name": "loop", "task.score": score.model_dump(mode="json")}
    before = loop_settings.seeds(Path(str(options["paths.runs"])), name)
    given = {**told, "dataset.name": loop_study.DATASET, **before, **options}
    conf = settings(given, model(make_network))
    conf.study = name
    split = {key: getattr(conf.segment, key) for key in SPLIT}
    traced_network, plan, found = traced(whole, example_inputs, network, split)
    pretrained = taken(traced_network, init, weights, network, conf.init.channels)
    opened = loop_study.make(conf, traced_network, plan, pretrained, found)
    store = Store(conf.paths.runs)
    loop_study.refuse_differences(store.root, name, opened.fields)
    _refuse_other_folder(store.study_folder(name))
    return loop_settings.with_earlier_finalists(opened, store), conf


def read_of_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings that a loop of the user's own has a use for.

    Raises:
        SsrError: names the first that it has none for.
    """
    for key in options:
        if continuing.is_decided(key) and not key.startswith(READ):
            raise SsrError(
                f"options={{{key!r}: ...}} is of trainings of ours, and yours is your own loop's: "
                "leave it out (what a study is made of are arguments of Study)."
            )
    return options


def _refuse_other_folder(folder: Path) -> None:
    """Refuse a folder that holds something else: who removes the study would remove that, too.

    Raises:
        SsrError: names what is there.
    """
    if study_names.is_study(folder) or not folder.is_dir():
        return
    found = (path.name for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    if (other := next((name for name in found if name not in BEGINNING), None)) is not None:
        raise SsrError(
            f"{folder} is there already, with {other}, and is no study: give this one another "
            "name, or keep studies in a folder of their own, runs=."
        )


def check_score(score: Score) -> Score:
    """Complete a score by what nobody said: no unit, no bounds.

    Raises:
        SsrError: if its direction was not said, which is never guessed.
    """
    if not isinstance(score, Score):
        raise SsrError(
            f"score is {user_code.article(score)}: give one as ssr_exp.Score('dice', 'max', "
            "bounds=(0, 1))."
        )
    said = score.model_fields_set
    if not {"key", "direction"} <= said:
        raise SsrError(
            "a score needs a name and a direction: ssr_exp.Score('dice', 'max', bounds=(0, 1)), "
            "or 'min' where lower is better."
        )
    usual = {"unit": "", "bounds": (None, None)}
    score = score.model_copy(update={k: v for k, v in usual.items() if k not in said})
    low, high = score.limits
    if not low < high:
        raise SsrError(f"bounds are {low:g} and {high:g}: give the least first, as (0, 1).")
    return score


def call(make_network: Callable[[], nn.Module]) -> nn.Module:
    """Make the seed network.

    Raises:
        SsrError: if the function raises, or makes something else.
    """
    if isinstance(make_network, nn.Module) or not callable(make_network):
        raise SsrError(
            f"make_network is {user_code.article(make_network)}: give a function without "
            "arguments that makes the network anew each time, such as a class, or "
            "functools.partial(MyNet, width=64)."
        )
    with user_code.explained("make_network() fails"):
        made = make_network()
    if not isinstance(made, nn.Module):
        raise SsrError(f"make_network() returns {user_code.article(made)}, not a torch.nn.Module.")
    return made


def seed_network(
    make_network: Callable[[], nn.Module], init: str, part: str | None = None
) -> tuple[nn.Module, Constructed]:
    """Make the seed network, and look whether it is the same each time.

    Args:
        make_network: makes it.
        init: which weights networks start from.
        part: the path of what is rescaled in it; None: all of it is.

    Returns:
        The seed network, and which weights of the part are the same each time.

    Raises:
        SsrError: if two calls make two networks, or there is nothing to inherit.
    """
    with torch.random.fork_rng():
        torch.manual_seed(1)
        other = call(make_network)
        torch.manual_seed(0)
        network = call(make_network)
    here, there = (_layers(one) for one in (network, other))
    if network is other:
        raise SsrError(
            "make_network() returns one and the same network each time: it must make a new one."
        )
    if here != there:
        names = [n for n in {**here, **there} if here.get(n) != there.get(n)]
        raise SsrError(
            f"make_network() does not make the same network twice: {names[0] or 'the whole'} is "
            f"{here.get(names[0], 'missing')}, and {there.get(names[0], 'missing')} the other "
            "time. Whatever it draws or reads must not decide on its layers."
        )
    weights = transfer.constructed(network, other, part)
    if weights.is_trained and init == FRESH:
        log.warning(
            "make_network() gives trained weights%s, and every network here starts from fresh "
            "ones, the baseline, too: pass init='inherit' to start each from slices of them.",
            "" if part is None else f" of {part}",
        )
    if not weights.share and init == INHERIT:
        raise SsrError(
            "init='inherit' starts networks from slices of the weights that make_network() gives, "
            "and these are drawn anew each time: load trained ones there, or leave init out."
        )
    if weights.drawn and init == INHERIT:
        log.info(
            "networks start from slices of the weights that make_network() gives; drawn anew: %s.",
            first_weights.named(weights.drawn),
        )
    return network, weights


def _layers(network: nn.Module) -> dict[str, str]:
    """Describe each layer, by its path."""
    described = {p: f"{type(m).__name__}({m.extra_repr()})" for p, m in network.named_modules()}
    shapes = {n: "x".join(map(str, t.shape)) for n, t in network.state_dict().items()}
    return described | shapes


def _inside(state: Mapping[str, Tensor], part: str | None) -> dict[str, Tensor]:
    """Keep the tensors of a part."""
    return {n: t for n, t in state.items() if part is None or n.startswith(f"{part}.")}


def traced(
    whole: nn.Module, example_inputs: Any, part: str | None, split: Mapping[str, Any]
) -> tuple[nn.Module, Plan, tuple[nn.Module, Part] | None]:
    """Find what is rescaled in what `make_network` makes, and trace that.

    Args:
        whole: what it made.
        example_inputs: what that is called with. With a part, a list is one input, such as a
            detector's images.
        part: the path of what is rescaled; None: all of it.
        split: further arguments of `planning.trace`.

    Returns:
        The seed network, its plan, and where it is a part: of which whole, and where.

    Raises:
        SsrError: if it cannot be traced, or the whole does not run with a smaller part.
    """
    if part is not None:
        call = _call(whole, example_inputs)
        found = network_parts.find(whole, part, call)
        plan = found.plan(**split)
        found.prove(whole, plan, call)
        return found.network, plan, (whole, found)
    try:
        return whole, planning.trace(whole, example_inputs, **split), None
    except SsrError as error:
        names = ", ".join(name for name, _ in [*whole.named_children()][:12])
        if not ((meta.asks_for_values(error) or _is_one_list(example_inputs)) and names):
            raise
        raise SsrError(
            f"{error} Or rescale a part of it that is called with one tensor: pass network=, with "
            f"one of {names}, or a path inside of one."
        ) from None


def _is_one_list(example_inputs: Any) -> bool:
    """Say whether example inputs are a list of tensors, as a detector takes its images."""
    if not (isinstance(example_inputs, list) and example_inputs):
        return False
    return all(isinstance(one, Tensor) for one in example_inputs)


def _call(whole: nn.Module, example_inputs: Any) -> Run:
    if input_examples.is_shape(example_inputs):
        draw = torch.Generator().manual_seed(0)
        args, kwargs = inputs.of_shape(example_inputs, whole).make(2, generator=draw)
        given = Inputs(args, kwargs)
    else:
        example = (example_inputs,) if isinstance(example_inputs, list) else example_inputs
        given = input_examples.as_inputs(example)

    def run(network: nn.Module) -> object:
        args, kwargs = copy.deepcopy((given.args, given.kwargs))
        return network(*args, **kwargs)

    return run


def taken(
    network: nn.Module,
    init: str,
    weights: Constructed,
    part: str | None = None,
    channels: ChannelChoice = ChannelChoice.l1,
) -> Pretrained:
    """Say which weights networks start from: all that `make_network` gives the same each time.

    Args:
        network: the seed network.
        init: `fresh` or `inherit`.
        weights: as its constructor left them.
        part: the path of the part that is rescaled.
        channels: which ones narrower networks take.

    Raises:
        SsrError: if `init` is neither.
    """
    if init not in (FRESH, INHERIT):
        raise SsrError(f"init={init!r} is neither 'fresh' nor 'inherit'.")
    if init == FRESH:
        return Pretrained()
    own = {n: t for n, t in network.state_dict().items() if n not in weights.drawn}
    state: dict[str, Tensor] = {n: t.detach().clone() for n, t in own.items()}
    sums = loop_study.sums(_inside(state, part))  # what is beside a part may be drawn
    how = {} if channels is ChannelChoice.l1 else {"channels": channels.value}
    return Pretrained(state=state, init={"kind": INHERIT, "weights": sums} | how)


def model(make_network: Callable[[], nn.Module]) -> ModelConf:
    """Say by which name commands find what makes the network.

    Of a `functools.partial` its keywords are kept, where JSON can hold them.
    """
    make: Callable[..., Any] = make_network
    arguments: dict[str, Any] = {}
    if isinstance(make_network, functools.partial) and not make_network.args:
        make, arguments = make_network.func, dict(make_network.keywords)
    name = user_code.name_of(make)
    name = name if name is not None and user_code.is_found(name, make) else None
    try:
        json.dumps(arguments)
    except (TypeError, ValueError):
        name = None
    if name is None:
        script = user_code.misnamed_script(make)
        why = script or "a lambda, a function in a function, a method, a notebook's cell"
        remedy = "" if script else " Write it as a function of a module."
        log.warning(
            "make_network has no name that can be imported (%s): this session trains all the same, "
            "but commands such as ssr export cannot make its networks, and edits of a cell are not "
            "noticed.%s",
            why,
            remedy,
        )
        name, arguments = user_code.name_for_session(make_network), {}
    short = name.rpartition(".")[2]
    return ModelConf(name=short, source=Source.module, target=name, arguments=arguments)


def narrow(plan: Plan) -> Iterator[str]:
    """Name the segments that have one width because channels go in steps."""
    pairs = zip(plan.segments, plan.channels(plan.baseline), strict=True)
    for segment, channels in pairs:
        if 1 < channels <= plan.multiple and not segment.frozen:
            yield (
                f"{segment.name} has {channels} channels, and widths go in steps of "
                f"{plan.multiple}, so it keeps them: multiple={max(1, plan.multiple // 2)} gives "
                "more networks"
            )


def settings(options: Mapping[str, Any], model: ModelConf) -> SearchConfig:
    """Make a configuration from values by their keys, as `ssr search` takes them.

    Args:
        options: the values.
        model: makes the seed network.

    Raises:
        SsrError: if there is no such key, or it does not take its value.
    """
    container = composed(SearchConfig, options)
    container.model = OmegaConf.structured(model)
    return configuration.read(container, SearchConfig)


def composed(schema: type[config.AnyConfig], options: Mapping[str, Any]) -> Any:
    """Compose the configuration of a command from values by their keys.

    Raises:
        SsrError: if there is no such key, or it does not take its value.
    """
    container = copy.deepcopy(configuration.default_values(schema))
    known = keys.keys_of_schema(schema)
    for key, value in options.items():
        try:
            OmegaConf.update(container, key, value, force_add=False)
        except OmegaConfBaseException as error:
            if below := [one for one in known if one.startswith(f"{key}.")]:
                some = ", ".join(below[:4])
                raise SsrError(f"{key} is several settings: give them by {some}.") from None
            if key not in known:
                near = user_code.nearest(key, known)
                raise SsrError(f"there is no setting {key!r}{near}.") from None
            raise SsrError(f"{key} does not take {value!r}: {cause(error)}.") from None
    return container
