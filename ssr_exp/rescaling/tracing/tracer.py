"""What is noted while the seed network runs: its channels, products and modules' calls.

What each operation means for the labels stands in `rules`; what is not understood there is frozen
at full size and named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ssr_exp.errors import SsrError
from ssr_exp.rescaling import copying, meta, nested
from ssr_exp.rescaling.inputs import Signature
from ssr_exp.rescaling.tracing.labels import BATCH, Vector, along, fixed_like, spread, varying
from ssr_exp.rescaling.tracing.rules import dispatch, operations, parameters
from ssr_exp.rescaling.tracing.rules.parameters import WeightOrigin
from ssr_exp.rescaling.tracing.trace import Call, MatrixProduct, Need, Trace, TracedTensor

_Tensors = list[Tensor]


class Tracer(TorchDispatchMode):
    """Carries labels along while the network runs.

    Attributes:
        images: how many images the running product treats: all of the batch, or one where it runs
            once for a whole batch.
        times_one: how many times the multiply-adds of one image the running product takes; more
            than `images` where images of a batch see each other.
    """

    def __init__(
        self, network: nn.Module, seed: nn.Module, signature: Signature, loads: Sequence[int]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trace = Trace(signature)
        self.ledger = self.trace.ledger
        self.modules = dict(network.named_modules())
        self.scope: list[str] = [""]
        self.images = self.times_one = BATCH
        self.training = False
        self._loads = loads
        self._n_products = 0
        self._seed = {id(tensor) for _, tensor in copying.tensors(seed)}
        self._stored: dict[int, str] = {}
        self._labels: dict[int, Tensor] = {}
        self._origin: dict[int, WeightOrigin] = {}
        self._parametric: set[int] = set()
        self._sized: set[int] = set()
        self._makers: set[str] = set()
        self._stretched: dict[int, Tensor] = {}
        self._slices: dict[int, tuple[Tensor, int, slice | None]] = {}
        self._unread: dict[int, Callable[[], None]] = {}
        self._known: set[int] = set()
        self._alive: list[Tensor] = []
        self._calls: list[tuple[str, bool, tuple[_Tensors, ...], list[list[Tensor | None]]]] = []
        for name, tensor in copying.tensors(network):
            self._adopt(name, tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation, then let its rule label what came out."""
        inputs = meta.tensors((args, kwargs))
        name = func.overloadpacket.__name__
        reads = not (name.endswith("_like") or name.startswith("new_"))  # else it asks for a shape
        for tensor in inputs:
            if reads and (note := self._unread.pop(id(tensor), None)) is not None:
                note()
            if id(tensor) not in self._known:
                self._meet(tensor)
            if (origin := self._origin.get(id(tensor))) is not None:
                self.trace.reached.add(origin.leaf.name)
            self.trace.readers[id(tensor)].add(self.path)
        out = meta.run(func, args, kwargs or {})
        results = meta.tensors(out)
        self._remember(results)
        if all(id(tensor) in self._parametric for tensor in inputs):
            self._parametric.update(map(id, results))
        if func.overloadpacket in flop_registry:
            self._note_product(meta.load(func, args, kwargs or {}, out))
        is_sized = _is_made(func, inputs) or (
            bool(inputs) and all(id(x) in self._sized for x in inputs)
        )
        if is_sized:
            self._sized.update(map(id, results))
        try:
            dispatch.find(func)(self, func, args, kwargs or {}, out)
        except Exception:  # a slip of a rule is no fault of the network's
            operations.unknown(self, func, args, kwargs or {}, out)
        if not is_sized:  # something else was written into what it held
            self._sized.difference_update(map(id, results))
        return out

    @property
    def path(self) -> str:
        """The module that is running."""
        return self.scope[-1]

    @property
    def named(self) -> str:
        """The module that is running, for people."""
        return self.path or "the network"

    def start(self, batch: Sequence[Tensor], *, training: bool) -> None:
        """Begin a run on the inputs of a batch."""
        self.training, self._n_products, self.scope[:] = training, 0, [""]
        self._remember(batch)

    def mark(self) -> Callable[[], None]:
        """Note what was seen so far; what this returns forgets all that was seen since."""
        ledger, trace = self.ledger, self.trace
        lists: list[list[Any]] = [ledger.producers, ledger.ties, ledger.frozen, ledger.multiples]
        lists += [ledger.units, ledger.splits, ledger.pieces]
        lists += [trace.training_products, trace.needs, self._calls]
        lengths = [len(each) for each in lists]

        def undo() -> None:
            for each, length in zip(lists, lengths, strict=True):
                del each[length:]

        return undo

    def labels(self, x: Tensor) -> Tensor:
        """Look up the labels of `x`; what was never labelled belongs to no channel."""
        labels = self._labels.get(id(x))
        return fixed_like(x) if labels is None else labels

    def label(self, x: Tensor, labels: Tensor) -> None:
        """Remember the labels of `x`."""
        self._alive.append(x)
        self._labels[id(x)] = labels

    def origin(self, x: Any) -> WeightOrigin | None:
        """Say which parameter or buffer `x` is, and where its dimensions have gone."""
        return self._origin.get(id(x))

    def derive(self, x: Tensor, origin: WeightOrigin) -> None:
        """Remember that `x` is a parameter or buffer, its dimensions maybe moved."""
        self._alive.append(x)
        self._origin[id(x)] = origin

    def stretch(self, x: Tensor, labels: Tensor) -> None:
        """Remember that `x` repeats what `labels` are of: there it fits any size."""
        self._alive.append(x)
        self._stretched[id(x)] = labels

    def meeting(self, x: Tensor) -> Tensor:
        """Look up the labels of `x` for a meeting: those of length 1 fit any number of channels.

        So does a tensor that was made of a size alone (`torch.zeros(n, c)`): its code is asked for
        another size in another network, and what does not ask the proof finds.
        """
        if id(x) in self._stretched:
            return self._stretched[id(x)]
        labels = self.labels(x)
        if id(x) in self._sized and not varying(labels):
            return fixed_like(torch.empty((1,) * x.ndim, device="meta"))
        return labels

    def cut(self, x: Tensor, part: Tensor, dim: int, where: slice | None) -> None:
        """Remember that `part` is a view of `x`: what is written there is written to `x`.

        `where` is None if it is one place of that dimension, which the view does not have.
        """
        self._alive.append(part)
        self._slices[id(part)] = (x, dim, where)

    def cut_from(self, part: Tensor) -> tuple[Tensor, int, slice | None] | None:
        """Say of which tensor `part` is a view, along which dimension, and where."""
        return self._slices.get(id(part))

    def when_read(self, x: Tensor, note: Callable[[], None]) -> None:
        """Note something once an operation reads the elements of `x`, not its shape alone."""
        self._alive.append(x)
        self._unread[id(x)] = note

    def is_unread(self, x: Tensor) -> bool:
        """Say whether `x` waits for `when_read`."""
        return id(x) in self._unread

    def is_sized(self, x: Tensor) -> bool:
        """Say whether `x` was made of integers alone."""
        return id(x) in self._sized

    def is_parametric(self, x: Tensor) -> bool:
        """Say whether `x` was computed from parameters, buffers and constants alone."""
        return id(x) in self._parametric

    def need(self, sizes: Sequence[int], labels: Sequence[Vector], divisor: int = 1) -> None:
        """Remember integers that the running operation was given and that count channels."""
        self.trace.needs.append(Need(self.path, tuple(sizes), tuple(labels), divisor))

    def name(self, size: int) -> Vector:
        """Make labels for what the running module puts out; it makes the same in either mode."""
        path = self.path
        if self.training and path in self._makers:
            return self.ledger.name(size)
        if not self.training:
            self._makers.add(path)
        return self.ledger.produce(size, path)

    def produce(self, *sizes: Any, **more: Any) -> None:
        """Remember a matrix product of the running module; those of train mode cost nothing."""
        product, trace = MatrixProduct(self.path, *sizes, **more), self.trace
        (trace.training_products if self.training else trace.products).append(product)

    def _note_product(self, load: int) -> None:
        """Compare with the same product of a run on one image: does it treat each image?"""
        once = self._loads[self._n_products] if self._n_products < len(self._loads) else None
        self._n_products += 1
        self.images = 1 if once == load and not self.training else BATCH
        self.times_one = load // once if once and load % once == 0 else self.images

    def _adopt(self, name: str, tensor: Tensor) -> None:
        leaf = TracedTensor(name, tuple(tensor.shape), [None] * tensor.ndim)
        self.trace.leaves[name] = leaf
        self.derive(tensor, WeightOrigin(leaf, parameters.whole(leaf)))
        self._parametric.add(id(tensor))
        self._known.add(id(tensor))
        if tensor.is_meta and tensor.numel():
            self._stored[tensor.untyped_storage()._cdata] = name
        if tensor.ndim and not leaf.is_weight:
            dim = max(range(tensor.ndim), key=lambda d: leaf.shape[d])
            labels = self.ledger.name(leaf.shape[dim])
            leaf.dims[dim] = labels
            self.label(tensor, spread(labels, tensor.shape, dim))

    def _remember(self, results: Sequence[Tensor]) -> None:
        self._alive += results  # so that no other tensor takes their identity
        self._known.update(map(id, results))

    def _meet(self, tensor: Tensor) -> None:
        """Look at a tensor that no operation of this run has made.

        Raises:
            SsrError: if it is the seed network's, or learnt outside of the network.
        """
        if id(tensor) in self._seed or (tensor.requires_grad and not tensor.is_meta):
            raise SsrError(
                f"{self.named} runs layers that the network does not hold (a forward that was "
                "replaced by a function, layers in a closure or a plain list): a smaller copy "
                "would still run them. Write it as a module that holds its layers."
            )
        self._remember([tensor])
        name = self._stored.get(tensor.untyped_storage()._cdata)
        leaf = None if name is None else self.trace.leaves[name]
        if leaf is not None and leaf.shape == tuple(tensor.shape):  # `weight.data`
            self.derive(tensor, WeightOrigin(leaf, parameters.whole(leaf)))
            dims = [dim for dim, labels in enumerate(leaf.dims) if labels is not None]
            if not leaf.is_weight and dims:
                self.label(tensor, spread(leaf.dims[dims[0]], tensor.shape, dims[0]))  # type: ignore[arg-type]
        self._parametric.add(id(tensor))

    def enter(self, path: str, module: nn.Module, args: Any) -> None:
        """Note which module is running."""
        caller = self.path
        is_lent = not path.startswith(f"{caller}." if caller else "")
        has_weights = any(True for _ in module.parameters())
        self.scope.append(caller if is_lent and not has_weights else path)

    def leave(self, path: str, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Note what went in and out of a module."""
        self.scope.pop()
        ends = nested.tensors((args, kwargs)), nested.tensors(output)
        self._alive += ends[0] + ends[1]
        labels = [[self._labels.get(id(x)) for x in end] for end in ends]
        self._calls.append((path, self.training, ends, labels))

    def calls(self) -> Iterator[Call]:
        """List the calls of modules, once the run is over."""
        for path, training, (reads, writes), (read, written) in self._calls:
            yield Call(
                path,
                reads=tuple(map(id, reads)),
                writes=tuple(map(id, writes)),
                in_shapes=tuple(tuple(x.shape[1:]) for x in reads),
                out_shapes=tuple(tuple(x.shape[1:]) for x in writes),
                in_labels=tuple(map(_channels, read)),
                out_labels=tuple(map(_channels, written)),
                training=training,
            )


def _is_made(func: Any, inputs: Sequence[Tensor]) -> bool:
    """Say whether an operation makes a tensor of a size that it is given."""
    name = func.overloadpacket.__name__
    return name in dispatch.MAKERS and (not inputs or name.startswith("new_"))


def _channels(labels: Tensor | None) -> Vector | None:
    """Read the labels of an activation, if they stand along one dimension."""
    if labels is None:
        return None
    dims = varying(labels)
    return along(labels, dims[0]) if len(dims) == 1 else None
