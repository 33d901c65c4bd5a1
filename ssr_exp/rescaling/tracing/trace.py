"""What a trace sees of a network: products, calls, parameters, and integers that repeat a width."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from ssr_exp.rescaling.inputs import Signature
from ssr_exp.rescaling.tracing.labels import BATCH, Ledger, Vector
from ssr_exp.rescaling.tracing.positions import Reads

CALLER = "<caller>"  # no module: who called the network reads what it puts out


@dataclass(frozen=True)
class MatrixProduct:
    """One call of a convolution or linear map by the module at `path`, as a matrix product.

    Args:
        positions: rows of the product for one image (M), for each of `rows` if that is given.
        out: labels of its output channels (N).
        inp: labels of its input channels.
        kernel: elements of the kernel for each pair of channels; K is `inp` times `kernel`.
        groups: into how many independent products it falls.
        narrow: whether, on rescaling, a group keeps its width (and their number changes).
        rows: labels of channels that stand in its rows: it treats each channel alike.
        times: how often it runs for one image.
        is_transposed: whether the kernel's elements are put out for each input, and added up later:
            N is `out` times `kernel`, and K is `inp`.
    """

    path: str
    positions: int
    out: Vector
    inp: Vector
    kernel: int
    groups: int
    narrow: bool
    rows: Vector | None = None
    times: int = 1
    is_transposed: bool = False


@dataclass(frozen=True)
class Call:
    """One call of a module: the tensors that go in, and those that come out.

    Args:
        reads: identities of all tensors among its arguments; `writes`: of those in its result.
        in_shapes: their shapes, without the batch; `out_shapes` likewise.
        in_labels: for each tensor read the labels of its channels, None if they are on no or
            several dimensions; `out_labels` likewise.
        training: whether the network ran in train mode.
    """

    path: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    in_shapes: tuple[tuple[int, ...], ...]
    out_shapes: tuple[tuple[int, ...], ...]
    in_labels: tuple[Vector | None, ...]
    out_labels: tuple[Vector | None, ...]
    training: bool = False


@dataclass(frozen=True)
class Need:
    """Integers that an operation was given and that follow the channels.

    If the module at `path` stores just these `sizes` (as an integer, or as a list of them), the
    stored ones are changed with the channels that each of them counts, `divisor` at a time; else
    the module computed them, and will again.
    """

    path: str
    sizes: tuple[int, ...]
    labels: tuple[Vector, ...]
    divisor: int = 1


@dataclass
class TracedTensor:
    """A parameter or buffer; `dims[d]` labels dimension `d`, None where its size is fixed.

    A weight has several long dimensions and is labelled by the product that uses it; any other
    leaf (a gain, a bias, a statistic) takes the channels that it meets. Along the dimensions `out`
    of a weight stand channels that a product puts out; along the others, those that it reads.
    """

    name: str
    shape: tuple[int, ...]
    dims: list[Vector | None]
    out: set[int] = field(default_factory=set)

    @property
    def is_weight(self) -> bool:
        """Say whether more than one dimension is longer than 1."""
        return sum(size > 1 for size in self.shape) > 1


Shapes = tuple[tuple[int, ...], ...]


@dataclass
class Trace:
    """What was seen: everything that planning reads.

    Attributes:
        inputs: what the network was called with.
        products: of a run in eval mode (what an image costs); `training_products` in train mode.
        calls: of modules, in eval mode, then in train mode.
        leaves: parameters, buffers and tensors that modules hold, by name.
        readers: for each tensor the modules in which it was read.
        needs: integers that follow the channels.
        reached: names of the leaves that an operation read.
        batch: how many images the outputs in eval mode are of; 1 where it runs on one.
        outputs: shapes of the network's outputs, for each mode (train or not) that it runs in.
        reads: how its sequences were read.
        uncounted: operations whose multiply-adds no rule counts, and where they ran.
        untrained: why it does not run in train mode; None if it does.
        left_alone: integers that modules store, by path and name, and that follow no width.
        stays: modules whose blocks can not be removed, though they are alike, and why.
        operations: how often each module ran one at full size; those that only move are left out.
        width_dependent: modules that run an operation more or less often where they are narrower.
    """

    inputs: Signature
    ledger: Ledger = field(default_factory=Ledger)
    products: list[MatrixProduct] = field(default_factory=list)
    training_products: list[MatrixProduct] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    leaves: dict[str, TracedTensor] = field(default_factory=dict)
    readers: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    needs: list[Need] = field(default_factory=list)
    reached: set[str] = field(default_factory=set)
    batch: int = BATCH
    outputs: dict[bool, Shapes] = field(default_factory=dict)
    reads: Reads = field(default_factory=Reads)
    uncounted: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    untrained: str | None = None
    left_alone: set[tuple[str, str]] = field(default_factory=set)
    stays: dict[str, str] = field(default_factory=dict)
    operations: Counter[tuple[str, str]] = field(default_factory=Counter)
    width_dependent: dict[str, str] = field(default_factory=dict)
