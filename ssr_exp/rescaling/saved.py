"""A trained network as a folder that stands alone.

`network.json` says how to build it, `weights.pt` holds its weights. Two lines give it back, in eval
mode and on the CPU; no record, study or data set is needed:

    from ssr_exp.rescaling import saved
    network = saved.load("best")

It maps images, `b x c x h x w`, to logits, `b x num_classes`, in float32; where `about.inputs` is
given, it is called with those. The images are normalised
as in its training: with pixels in 0..1 and `about = saved.read("best")`, subtract `about.mean` and
divide by `about.std`, one number for each channel. Logit `i` is that of `about.classes[i]`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    model_validator,
)
from torch import Tensor, nn

from ssr_exp import files, user_code
from ssr_exp.config import ModelConf, SegmentConf, Shortcut, Stem
from ssr_exp.errors import SsrError
from ssr_exp.files import FileModel, unwritten
from ssr_exp.rescaling import codes, planning, rescale, seeds, segmentations, user_modules
from ssr_exp.rescaling.inputs import Signature
from ssr_exp.rescaling.network_parts import Part
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.rescaling.stored_parts import StoredPart

log = logging.getLogger(__name__)

SCHEMA = 1  # raise when a reader of today could misread what is written
NETWORK, WEIGHTS = "network.json", "weights.pt"

Size = Annotated[int, Field(ge=1, le=2**26)]  # channels, pixels, samples
InputShape = Annotated[tuple[Size, ...], Field(min_length=1, max_length=8)]
Share = Annotated[float, Field(gt=0, le=1)]


class Model(FileModel):
    """The seed network; see `ssr_exp.config.ModelConf`.

    Attributes:
        name: with its source, as `seeds.spell` writes it, so that a reader that does not know the
            source or its arguments knows no such network, and takes it for no other.
        code: a fingerprint of the files that define a network of the user's own.
    """

    name: str
    stem: Stem = Stem.auto
    shortcut: Shortcut = Shortcut.A
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    code: str | None = unwritten(None)

    @classmethod
    def from_conf(
        cls, conf: ModelConf, image_shape: Sequence[int], network: nn.Module | None = None
    ) -> Model:
        """Say how a seed network is built, with the stem that it is given for such images.

        The code of a `network` of the user's own is fingerprinted.
        """
        same = {} if network is None else seeds.identity(conf, image_shape, network)
        return cls(
            code=same.get("code"),
            name=seeds.spell(conf),
            stem=conf.stem if seeds.is_cifar(conf) else seeds.stem(conf, image_shape),
            shortcut=conf.shortcut,
            arguments=conf.arguments,
        )

    def conf(self) -> ModelConf:
        """Say it as a configuration does; an unknown source raises `SsrError`."""
        options = {"stem": self.stem, "shortcut": self.shortcut, "arguments": dict(self.arguments)}
        return seeds.parse(self.name, **options)

    @property
    def part(self) -> str:
        """The attribute of a module of the user's own that is the network; empty if it is none."""
        return self.name.partition(user_modules.PART)[2]

    def calls_code(self, beside: Path | None = None) -> bool:
        """Say whether making it calls a function, which may do anything with its arguments.

        So may code that lies `beside` the name, in its folder: even importing it runs it.

        Raises:
            SsrError: if the name is none, or names nothing that is there.
        """
        target = self.conf().target
        if target is None:
            return False
        came_along = beside is not None and user_modules.lies_in(target, beside)
        return came_along or user_code.calls(self.arguments) or not user_modules.is_class(target)


def _one_of_kinds(kind: str) -> str:
    if kind not in segmentations.KINDS:
        raise ValueError(f"it can be {', '.join(segmentations.KINDS)}")
    return kind


class Segmentation(FileModel):
    """How the seed network was split; see `ssr_exp.config.SegmentConf`."""

    kind: Annotated[str, AfterValidator(_one_of_kinds)] = "stage"
    multiple: Size
    frozen: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()
    depth: bool = unwritten(False)
    at_most: Size | None = unwritten(None)

    @classmethod
    def from_conf(cls, conf: SegmentConf, multiple: int) -> Segmentation:
        """Say how a seed network was split, with the multiple that it was given."""
        return cls.model_validate(asdict(conf) | {"multiple": multiple})

    def conf(self) -> SegmentConf:
        """Say it as a configuration does."""
        frozen, patterns = list(self.frozen), list(self.patterns)
        return SegmentConf(
            self.kind,
            self.multiple,
            frozen,
            patterns=patterns,
            depth=self.depth,
            at_most=self.at_most,
        )


class Shares(FileModel):
    """The effective modifiers: for each of `S` segments the share of blocks and of channels."""

    depth: tuple[Share, ...]
    width: tuple[Share, ...]


class SavedSegment(FileModel):
    """A segment of the seed network at its full size, for people."""

    name: str
    blocks: Annotated[int, Field(ge=1)]
    channels: Annotated[int, Field(ge=0)]


class Description(FileModel):
    """What `network.json` holds: all that building the network takes, and what its user needs.

    Attributes:
        network: the code of the rescaled network.
        num_classes: how many logits there are; None: code of the user's own says what the
            network puts out, and how its inputs are made: `classes`, `mean` and `std` are empty.
        input_shape: of one input: channels, height and width of images, in pixels.
        inputs: what the network is called with; None: one tensor of floats of `input_shape`.
        part: of what `model` makes, where that is rescaled; the network is the whole, and
            `input_shape` is that of the part's inputs. None: the whole is rescaled.
        classes: their names, in the order of the logits.
        mean: of each channel of the images that it was trained on, in 0..1; `std` likewise.
        modifiers: what the code stands for, for people; `segments` likewise.
        weights_of: the attribute of a module of the user's own whose weights were scored, and are
            the network's: itself, or a copy such as an average.
        target_mean: of a regression, whose predictions are `target_mean + target_std * outputs`;
            `target_std` likewise.
    """

    schema_version: int = SCHEMA
    model: Model
    segment: Segmentation
    network: Annotated[str, Field(max_length=codes.LONGEST)]
    num_classes: Annotated[int, Field(ge=1)] | None
    input_shape: InputShape
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[Annotated[float, Field(gt=0)], ...]
    modifiers: Shares
    segments: tuple[SavedSegment, ...] = ()
    weights_of: str = ""
    target_mean: tuple[float, ...] | None = None
    target_std: tuple[float, ...] | None = None
    inputs: Signature | None = unwritten(None)
    part: StoredPart | None = unwritten(None)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Description:
        if len(self.classes) != (self.num_classes or 0):
            raise ValueError(f"there are {len(self.classes)} classes for {self.num_classes} logits")
        channels = 0 if self.num_classes is None else self.input_shape[0]
        if not len(self.mean) == len(self.std) == channels:
            raise ValueError(f"mean and std are not those of {self.input_shape[0]} channels")
        return self

    @property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """What images were normalised by, mean and std; None where a user's DataModule did it."""
        is_own = not self.mean or (set(self.mean), set(self.std)) == ({0.0}, {1.0})
        return None if is_own else (self.mean, self.std)


def load(folder: str | Path, *, trust: bool = False) -> nn.Module:
    """Build the network of a folder and load its weights: in eval mode, on the CPU.

    It maps normalised images to logits; see this module's first lines. Torch's global generator
    stays as it is.

    With `trust`, it calls the function that the folder names, if a function makes its seed network,
    or imports code that lies in the folder. Other classes of networks need no trust.

    Raises:
        SsrError: if one of the two is missing, damaged or does not fit the other, or names a
            function and is not trusted.
    """
    folder = Path(folder)
    description = read(folder)
    try:
        if not trust:
            remedy = "if you trust where it comes from, type saved.load(folder, trust=True)"
            check_trust(folder, description, remedy)
        with torch.inference_mode(False):  # whose tensors could not be trained any more
            network, _, _ = build(description)
    except SsrError as error:
        raise SsrError(
            f"{folder / NETWORK} describes no network that can be built: {error}"
        ) from None
    weights = folder / WEIGHTS
    rescale.load(network, _state(weights), source=str(weights))
    return network.eval()


def check_trust(folder: Path, description: Description, remedy: str) -> None:
    """Refuse to call a function that a folder names, or to import code that lies in it.

    Either may do anything. Other classes of networks need no trust.

    Raises:
        SsrError: says the remedy.
    """
    if description.model.calls_code(folder):
        raise SsrError(
            f"{folder} calls the function {description.model.name} with arguments of its own, or "
            f"brings its code, which may do anything: {remedy}."
        )


def read(folder: str | Path) -> Description:
    """Read what a folder's network is, what it takes and what its logits mean.

    Raises:
        SsrError: if `network.json` is missing or damaged.
    """
    path = Path(folder) / NETWORK
    try:
        return files.read(path, Description, version=SCHEMA)
    except FileNotFoundError:
        raise _missing(path) from None
    except files.Unreadable as error:
        raise SsrError(f"{path} cannot be used: {error}; save the network again.") from None


def write(folder: str | Path, description: Description, state: Mapping[str, Tensor]) -> None:
    """Write a network and its `state_dict`, each file whole or not at all, the weights first.

    Raises:
        OSError: if the disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    files.write_checkpoint(folder / WEIGHTS, {n: t.detach().cpu() for n, t in state.items()})
    files.write(folder / NETWORK, files.to_json(description).encode())


def build(
    description: Description, network: str | None = None
) -> tuple[nn.Module, Plan, Architecture]:
    """Build a network that a description names, with weights that are to be filled.

    Torch's global generator stays as it is.

    Args:
        description: of it.
        network: the code of another one of the same seed network.

    Raises:
        SsrError: if there is none.
    """
    seed, plan, found = opened(description)
    architecture = codes.parse(plan, network or description.network)
    with torch.random.fork_rng(devices=[]):
        built = rescale.build(seed, plan, architecture, inherits=True)
    if found is not None:
        whole, part = found
        built = part.put(whole, built)
    return built, plan, architecture


def seed_network(description: Description) -> tuple[nn.Module, Plan]:
    """Build the seed network that a description names, with fresh weights, and its plan.

    Of a whole of which a part is rescaled, it is the part with what reads it.

    Raises:
        SsrError: if it names none, or one that cannot be split so.
    """
    return opened(description)[:2]


def opened(
    description: Description,
) -> tuple[nn.Module, Plan, tuple[nn.Module, Part] | None]:
    """Build a seed network and its plan, as `seed_network`; and the whole that it is a part of."""
    model, shape = description.model, description.input_shape
    found: tuple[nn.Module, Part] | None = None
    with torch.random.fork_rng(devices=[]):
        if description.part is None:
            made, plan = planning.seed_and_plan(
                model.conf(),
                description.segment.conf(),
                num_classes=description.num_classes,
                input_shape=shape,
                inputs=description.inputs,
            )
            seed = made
        else:
            made = seeds.build(model.conf(), num_classes=None, input_shape=shape)
            part = description.part.find(made, shape)
            seed, plan = part.network, part.plan(**description.segment.model_dump())
            found = made, part
        if model.code is not None and Model.from_conf(model.conf(), shape, made).code != model.code:
            log.warning(
                "the code of %s is not what %s was trained with: its outputs may be others",
                model.name,
                description.network,
            )
    return seed, plan, found


def _state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, as data only."""
    try:
        return files.read_state_dict(path)
    except FileNotFoundError:
        raise _missing(path) from None
    except files.Unreadable as error:
        raise SsrError(
            f"{path} is damaged ({error}); save the network again (a search's best/: repeat the "
            "search)."
        ) from None


def _missing(path: Path) -> SsrError:
    return SsrError(
        f"there is no {path}: name a folder that holds {NETWORK} and {WEIGHTS}, such as the best/ "
        "of a search."
    )
