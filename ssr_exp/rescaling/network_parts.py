"""A part of a network, where the whole cannot be traced: what reads its outputs follows.

A detector's outputs depend on values, so the whole cannot be traced, but its backbone can. What
reads the backbone's outputs shows in one run of the whole. Layers that are called with nothing else
(a convolution, with the norms and activations before it) are traced behind the part, and lose
inputs with it. Where anything else reads an output, the part keeps its channels there:

    part = network_parts.find(whole, "backbone", call)
    plan = part.plan()
    part.prove(whole, plan, call)
    part.put(make_whole(), rescale.build(part.network, plan, modifiers))
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ssr_exp import user_code
from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import copying, meta, nested, output_readers, planning, replacing, rescale
from ssr_exp.rescaling.output_readers import Function, OutputWatch, Run, Value, is_end
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.tracing.labels import FOLLOWS_INPUT, FOLLOWS_OUTPUT

WIDTHS = (*FOLLOWS_INPUT, "num_features", "num_channels")  # what a layer calls its inputs' channels


@dataclass(frozen=True)
class OutputFlow:
    """What becomes of a part's outputs in one mode.

    Attributes:
        values: what is made of them, as it is made.
        outputs: which of these, and of the part's outputs, anything else reads, or nothing does.
    """

    values: tuple[Value, ...]
    outputs: tuple[Value, ...]


class NetworkPart(nn.Module):
    """A part of a network and the layers that read its outputs, by their names in the whole.

    It maps the part's input to a list of tensors: what these layers put out, and those outputs of
    the part that anything else reads, or nothing.

    Args:
        whole: holds the part; its modules are shared, not copied.
        path: of the part in it.
        flows: what becomes of its outputs, in eval mode and in train mode.
    """

    def __init__(self, whole: nn.Module, path: str, flows: Mapping[bool, OutputFlow]) -> None:
        super().__init__()
        name, about = f"{type(whole).__name__}.{path}", {"__module__": __name__}
        self.__class__ = type(name, (NetworkPart,), about)  # errors name a network by its class
        self._path, self._flows = path, dict(flows)
        for each in (path, *_readers(flows)):
            *holders, name = each.split(".")
            holder: nn.Module = self
            for part in holders:
                if part not in dict(holder.named_children()):
                    holder.add_module(part, nn.Module())
                holder = holder.get_submodule(part)
            holder.add_module(name, whole.get_submodule(each))

    def forward(self, *args: Any, **kwargs: Any) -> list[Tensor]:
        """Run the part, then what reads it."""
        outputs = nested.tensors(self.get_submodule(self._path)(*args, **kwargs))
        made: dict[Value, Tensor] = {(n,): output for n, output in enumerate(outputs)}
        flow = self._flows[self.training]
        for value in flow.values:
            *before, step = value
            if isinstance(step, Function):
                made[value] = step.call(made[tuple(before)], *step.args, **dict(step.kwargs))
            else:
                made[value] = self.get_submodule(str(step))(made[tuple(before)])
        return [made[value] for value in flow.outputs]


def _layers(values: Sequence[Sequence[int | str | Function]]) -> Iterator[str]:
    return (step for step in chain.from_iterable(values) if isinstance(step, str))


def _readers(flows: Mapping[bool, OutputFlow]) -> tuple[str, ...]:
    values = chain.from_iterable(flow.values for flow in flows.values())
    return tuple(dict.fromkeys(_layers([*values])))


@dataclass(frozen=True)
class Part:
    """A part of a whole network that can be rescaled by itself.

    Attributes:
        path: of the part in the whole.
        network: the part and the layers that read it: to be traced, counted and rescaled. Its costs
            are those of both; multiply-adds are of one input of the part.
        flows: what becomes of the part's outputs, in eval mode and in train mode.
        input_shape: of one input of the part, without the batch.
        rest: how many parameters the whole has beside those of `network`: they stay.
        kept: numbers of the part's outputs that keep their channels.
        copies: modules of the whole that hold weights like the part's (an average of them): they
            stay of full size.
        untrained: why the whole does not run in train mode on what it was run on; None if it does.
            What reads the part in training alone was not looked at then.
    """

    path: str
    network: NetworkPart
    flows: Mapping[bool, OutputFlow]
    input_shape: tuple[int, ...]
    rest: int
    kept: tuple[int, ...]
    copies: tuple[str, ...]
    untrained: str | None

    @property
    def readers(self) -> tuple[str, ...]:
        """The layers that read the part's outputs, and are rescaled with it."""
        return _readers(self.flows)

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a user should know of it, each a sentence without its full stop."""
        remarks = [
            f"costs are those of {self.path} and of the layers that read it "
            f"({len(self.readers)}); {self.rest} parameters beside them stay"
        ]
        if self.kept:
            numbers = ", ".join(map(str, self.kept))
            remarks.append(
                f"{self.path} keeps the channels of its outputs {numbers} (counted from 0): they "
                "are read by something else than a convolution or linear map, or by nothing"
            )
        if self.copies:
            remarks.append(
                f"a copy of weights of {self.path} is in {', '.join(self.copies[:4])}, and stays "
                "of full size: copy the rescaled network where that is to be of its size"
            )
        if self.untrained is not None:
            remarks.append(
                f"the whole does not train on its example inputs ({self.untrained}): what reads "
                f"{self.path} in training alone was not looked at"
            )
        return tuple(remarks)

    def own_state(self, whole: nn.Module) -> dict[str, Tensor]:
        """Take the state dict of `network` out of that of a whole.

        Raises:
            SsrError: if it is another network than the one in which the part was found.
        """
        self._check(whole)
        state = whole.state_dict()
        return {name: state[name].clone() for name in self.network.state_dict()}

    def plan(self, **options: Any) -> Plan:
        """Trace `network`, with the options of `planning.trace`; the plan's remarks are both's.

        Raises:
            SsrError: as `planning.trace`.
        """
        plan = planning.trace(self.network, self.input_shape, **options)
        return replace(plan, remarks=(*self.remarks, *plan.remarks))

    def put(self, whole: nn.Module, rescaled: nn.Module) -> nn.Module:
        """Put a rescaled part, and what reads it, into a whole network, wherever that holds them.

        Integers of what holds them that repeat a width follow (`backbone.out_channels`).

        Args:
            whole: as its constructor left it; it is changed. All else in it stays as it is.
            rescaled: what `rescale.build` made of `network`; its modules are taken, not copied.

        Returns:
            The whole.

        Raises:
            SsrError: if it is another network, or holds a layer of the part that a smaller one
                lacks, or weights of it outside of modules.
        """
        self._check(whole)
        pairs = [
            (whole.get_submodule(path), rescaled.get_submodule(path))
            for path in (self.path, *self.readers)
        ]
        for holder, name, width in [*self._repeated(whole, rescaled)]:
            setattr(holder, name, width)
        for old, new in pairs:
            new.train(old.training)
        replacing.put(whole, self.path, pairs, type(whole).__name__)
        return whole

    def _check(self, whole: nn.Module) -> None:
        """Refuse another whole than the one in which the part was found."""
        theirs = {name: tensor.shape for name, tensor in whole.state_dict().items()}
        for name, tensor in self.network.state_dict().items():
            if theirs.get(name) != tensor.shape:
                there = "x".join(map(str, theirs.get(name, ()))) or "missing"
                raise SsrError(
                    f"this {type(whole).__name__} is not as the one in which {self.path} was "
                    f"found: {name} is {there} and not {'x'.join(map(str, tensor.shape))}; give "
                    "it as its constructor makes it, each time with the same arguments."
                )

    def _repeated(
        self, whole: nn.Module, rescaled: nn.Module
    ) -> Iterator[tuple[nn.Module, str, int]]:
        """Find the integers of what holds the part, or a reader, that repeat a width."""
        changed: dict[tuple[str, str, int], set[int]] = {}
        values = chain.from_iterable(flow.values for flow in self.flows.values())
        firsts = (next(_layers([value]), None) for value in values)
        for reader in dict.fromkeys(first for first in firsts if first is not None):
            old, new = (_width(each.get_submodule(reader)) for each in (whole, rescaled))
            if old is None or new is None:
                continue
            for names, path in ((FOLLOWS_OUTPUT, self.path), (FOLLOWS_INPUT, reader)):
                for holder in _holders(path):
                    stored = vars(whole.get_submodule(holder))
                    for name in (name for name in names if stored.get(name) == old):
                        changed.setdefault((holder, name, old), set()).add(new)
        for (holder, name, old), widths in changed.items():
            if len(widths) > 1:
                raise SsrError(
                    f"{holder or type(whole).__name__}.{name} is {old}, the width of several "
                    f"outputs of {self.path} that are {' and '.join(map(str, sorted(widths)))} "
                    "wide now, so what it should be is not known: name a part that holds it."
                )
            yield whole.get_submodule(holder), name, widths.pop()

    def prove(self, whole: nn.Module, plan: Plan, call: Run) -> None:
        """Run the whole once with the smallest part of a plan.

        Args:
            whole: is not changed.
            plan: of `network`.
            call: as `find` takes it.

        Raises:
            SsrError: if it does not run, or puts out what is not finite where it did not before.
        """
        copy = copying.copied(whole, {})
        with meta.undrawn(), torch.inference_mode(False), torch.no_grad():
            self.put(copy, rescale.build(self.network, plan, plan.smallest, inherits=True))
            try:
                result = call(copy.eval())
                if self.untrained is None:
                    call(copying.copied(copy, {}).train())
            except Exception as error:  # of anyone's code
                raise self._refused(whole, user_code.where(error) + cause(error)) from error
            if nested.is_finite(result):
                return
            if nested.is_finite(call(copying.copied(whole, {}).eval())):
                raise self._refused(whole, "what it puts out is not finite, and its own is")

    def _refused(self, whole: nn.Module, reason: str) -> SsrError:
        return SsrError(
            f"{type(whole).__name__} does not run with a smaller {self.path} ({reason}): something "
            f"that reads it needs its width. Name a part of it instead"
            f"{_children(whole, self.path)}."
        )


def _width(layer: nn.Module) -> int | None:
    """Read how many channels a layer says it reads."""
    widths = (vars(layer).get(name) for name in WIDTHS)
    return next((width for width in widths if isinstance(width, int)), None)


def _holders(path: str) -> list[str]:
    names = path.split(".")
    return [".".join(names[:end]) for end in range(len(names))]


def _children(module: nn.Module, path: str) -> str:
    """List what a module holds, for the end of a sentence."""
    names = [name for name, _ in module.get_submodule(path).named_children()]
    paths = [f"{path}.{name}".lstrip(".") for name in names[:12]]
    return f", such as {', '.join(paths)}" if paths else ""


def find(whole: nn.Module, path: str, call: Run) -> Part:
    """Find what reads a part of a network.

    Args:
        whole: any network; it is neither changed nor run itself.
        path: of the part, as `backbone` or `model.backbone`.
        call: runs a network like the whole once, on real inputs and on the CPU. It is called with a
            copy in eval mode, then with one in train mode; it may fail in that, as a detector does
            without targets.

    Raises:
        SsrError: if there is no such part, the whole does not run, or does not call the part, or
            not with one tensor, or with several shapes, or shares its layers or weights.

    Example:
        >>> from ssr_exp.rescaling import planning
        >>> from ssr_exp.rescaling.resnet import CifarResNet
        >>> whole = nn.Sequential(CifarResNet(20), nn.Softmax(-1))
        >>> part = find(whole, "0", lambda network: network(torch.zeros(2, 3, 32, 32)))
        >>> planning.trace(part.network, part.input_shape).segments[0].name
        '0.stage1'
    """
    name = type(whole).__name__
    if not path or path not in dict(whole.named_modules(remove_duplicate=False)):
        holder = next((h for h in reversed(_holders(path)) if _has(whole, h)), "")
        raise SsrError(
            f"{name} has no part {path!r}: name one that it has{_children(whole, holder)}."
        )
    with meta.undrawn(), torch.inference_mode(False), torch.no_grad():
        with user_code.explained(f"{name} does not run on its example inputs"):
            watches = {False: output_readers.watched(whole, path, call, training=False)}
        shape = _input_shape(watches[False], name, path)
        untrained = None
        try:
            watches[True] = output_readers.watched(whole, path, call, training=True)
        except SsrError:
            raise
        except Exception as error:  # of anyone's code
            untrained = cause(error)
    stay = _staying(whole, path, [*watches.values()])
    flows = {training: _flow(watch, stay) for training, watch in watches.items()}
    flows.setdefault(True, flows[False])
    return made(whole, path, flows, shape, untrained)


def made(
    whole: nn.Module,
    path: str,
    flows: Mapping[bool, OutputFlow],
    input_shape: tuple[int, ...],
    untrained: str | None,
) -> Part:
    """Say what a part of a network is, once it is known what becomes of its outputs.

    Raises:
        SsrError: if the whole has no such part, or lacks what reads it.
    """
    names = dict(whole.named_modules(remove_duplicate=False))
    if missing := [each for each in (path, *_readers(flows)) if not each or each not in names]:
        raise SsrError(f"{type(whole).__name__} has no part {missing[0]!r}.")
    network = NetworkPart(whole, path, flows)
    own = {id(parameter) for parameter in network.parameters()}
    rest = sum(p.numel() for p in whole.parameters() if id(p) not in own)
    outputs = chain.from_iterable(flow.outputs for flow in flows.values())
    kept = {int(str(value[0])) for value in outputs if not is_end(_last(whole, value))}
    copies = tuple(replacing.copies(whole, whole.get_submodule(path)))
    return Part(path, network, flows, input_shape, rest, tuple(sorted(kept)), copies, untrained)


def _has(whole: nn.Module, path: str) -> bool:
    return path in dict(whole.named_modules(remove_duplicate=False))


def _last(whole: nn.Module, value: Value) -> nn.Module | None:
    step = value[-1]
    return whole.get_submodule(step) if isinstance(step, str) else None


def _input_shape(watch: OutputWatch, name: str, path: str) -> tuple[int, ...]:
    if not watch.inputs:
        raise SsrError(
            f"{name} does not call its part {path} when it runs (it may call what that holds): "
            f"name a part that it calls."
        )
    for args, kwargs in watch.inputs:
        is_tensor = len(args) == 1 and isinstance(args[0], Tensor) and args[0].ndim > 1
        if kwargs or not is_tensor:
            raise SsrError(
                f"{name} calls {path} with something else than one tensor, a batch: name a part "
                "that is called with one."
            )
    shapes = [*dict.fromkeys(tuple(args[0].shape) for args, _ in watch.inputs)]
    if len(shapes) > 1:
        listed = " and ".join("x".join(map(str, shape)) for shape in shapes)
        raise SsrError(
            f"{name} calls {path} with several shapes in one run ({listed}), and its costs are "
            "those of one: name a part that is called with one shape."
        )
    return shapes[0][1:]


def _staying(whole: nn.Module, path: str, watches: Sequence[OutputWatch]) -> set[str]:
    """Name the layers that read the part's outputs and do not follow.

    A layer follows if all that it is ever called with does, and its weights are its own.
    """
    inside = {id(module) for module in whole.get_submodule(path).modules()}
    owners: dict[int, set[str]] = {}
    for name, module in whole.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(path if id(module) in inside else name)
    shared = [names for names in owners.values() if len(names) > 1]
    if both := next((names for names in shared if path in names), None):
        raise SsrError(
            f"{path} of {type(whole).__name__} shares weights with {min(both - {path})}, which "
            "would not fit a smaller one: name a part that holds both."
        )
    free = {n for n, module in whole.named_modules() if _is_stateless(module)}
    stay = set().union(*shared, *(watch.otherwise for watch in watches)) - free
    values = [[*_layers([value])] for watch in watches for value in watch.made]
    while later := {n for v in values for i, n in enumerate(v) if stay & {*v[:i]}} - free - stay:
        stay |= later  # what is called with something that does not follow does not, either
    return stay


def _flow(watch: OutputWatch, stay: set[str]) -> OutputFlow:
    """List what becomes of a part's outputs, up to the layers that do not follow."""
    read, values = set(watch.read), list[Value]()
    for value in watch.made:
        first = next((n for n, step in enumerate(value) if step in stay), None)
        if first is None:
            values.append(value)
        else:
            read.add(value[:first])
    continued = {value[:-1] for value in values}
    made = [*((number,) for number in watch.numbers), *values]
    return OutputFlow(tuple(values), tuple(v for v in made if v in read or v not in continued))


def _is_stateless(layer: nn.Module) -> bool:
    """Say whether a layer of PyTorch's may be called with anything: it has no weights."""
    tensors = chain(layer.parameters(), layer.buffers())
    return type(layer).__module__.startswith("torch.nn.") and not any(True for _ in tensors)
