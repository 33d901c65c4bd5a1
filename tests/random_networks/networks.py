"""A description becomes a network: `build(description)`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.random_networks import ends, traits
from tests.random_networks.descriptions import Description
from tests.random_networks.extras import EXTRAS
from tests.random_networks.holders import apply
from tests.random_networks.layers import Part, Style, layer, space
from tests.random_networks.levels import Level, reads_time, style
from tests.random_networks.resizes import resize

IMAGE_CHANNELS = 3
NECK = 12  # channels that nothing but the next layer reads: they can always be fewer
EMBEDDED = 12  # features of the embedding that some blocks read


def input_shape(description: Description) -> tuple[int, ...]:
    """Say what one input is: channels and pixels, or a vector."""
    twins = 2 if description.kind == "siamese" else 1
    if description.kind == "layers":
        return (IMAGE_CHANNELS, *[description.size] * description.dims)
    if description.stem == "latent":
        return (twins * ends.LATENT,)
    frames = ends.STEPS if description.stem in ends.FRAMES else 1
    return (twins * frames * IMAGE_CHANNELS, *[description.size] * description.dims)


def build(description: Description, *, seed: int = 0) -> nn.Module:
    """Make the network of a description, with weights that a seed draws."""
    torch.manual_seed(seed)
    network = KINDS[description.kind](description)
    image = torch.randn(2, *input_shape(description))
    traits.give(network, description.traits, image)
    return network


class Embedding(Part):  # sines of the image's mean, as of a time, then linear layers
    def make(self) -> None:
        self.layers = nn.Sequential(nn.Linear(8, EMBEDDED), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        angles = x.flatten(1).mean(1, keepdim=True) * torch.arange(1, 5)
        return self.layers(torch.cat([angles.sin(), angles.cos()], 1))


class Forward(Part):  # a stem, stages, a head
    def make(self, description: Description) -> None:
        self.description = description
        first, last = description.stages[0], description.stages[-1]
        made = style(description, first)
        self.stem = ends.STEMS[description.stem](made, IMAGE_CHANNELS, NECK)
        self.neck = made.unit(NECK, first.channels, 1)
        size = ends.START if description.stem == "latent" else description.size
        size = size // 2 if description.stem == "patch" else size
        is_timed = any(map(reads_time, description.stages))
        self.embedding = Embedding() if is_timed else None
        self.sprinkled = nn.ModuleDict()
        if description.stem != "latent":
            self._sprinkle("image", made, input_shape(description)[0], description.size)
        self._sprinkle("stem", made, first.channels, size)
        self.levels, channels = nn.ModuleList(), first.channels
        for number, stage in enumerate(description.stages):
            level = Level(description, stage, channels, size)
            size, channels = level.size, stage.channels
            self.levels.append(level)
            if number == 0:
                self._sprinkle("stage", style(description, stage), channels, size)
        self.connect(size)
        made = style(description, last)
        self._sprinkle("head", made, self.head_channels, self.head_size)
        self.head = ends.HEADS[description.head](made, self.head_channels)
        self.more = self._more(made)

    def connect(self, size: int) -> None:
        """Make what stands between the last stage, of this size, and the head."""
        self.head_channels, self.head_size = self.description.stages[-1].channels, size

    def _sprinkle(self, place: str, made: Style, channels: int, size: int) -> None:
        for number, (kind, where, _) in enumerate(self.description.extras):
            if where == place:
                self.sprinkled[f"{place}{number}"] = EXTRAS[kind](made, channels, size)

    def _extra(self, place: str, x: Tensor) -> Tensor:
        for number, (_, where, direct) in enumerate(self.description.extras):
            if where == place and f"{place}{number}" in self.sprinkled:
                extra = self.sprinkled[f"{place}{number}"]
                x = extra.forward(x) if direct else extra(x)
        return x

    def _more(self, made: Style) -> nn.ModuleList:
        if self.description.taps not in ("heads", "in_training"):
            return nn.ModuleList()
        widths = [stage.channels for stage in self.description.stages]
        return nn.ModuleList(made.layer("Conv")(channels, 2, 1) for channels in widths)

    def features(self, x: Tensor) -> list[Tensor]:
        """List what the stages put out."""
        t = () if self.embedding is None else (self.embedding(x),)
        x = self._extra("stem", self.neck(self.stem(self._extra("image", x))))
        features = []
        for number, level in enumerate(self.levels):
            x = apply(level, x, *t)
            x = self._extra("stage", x) if number == 0 else x
            features.append(x)
        return features

    def join(self, features: Sequence[Tensor]) -> Tensor:
        """Choose what the head reads."""
        return features[-1]

    def main(self, features: Sequence[Tensor]) -> Tensor:
        return self.head(self._extra("head", self.join(features)))

    def forward(self, x: Tensor) -> Any:
        features = self.features(x)
        return ends.packed(self.description.output, [self.main(features), *self._taps(features)])

    def _taps(self, features: Sequence[Tensor]) -> Iterator[Tensor]:
        kind = self.description.taps
        if kind == "features":
            yield features[0]
        elif kind == "pooled":
            yield from (x.mean(space(x)) for x in features)
        elif kind == "heads" or (kind == "in_training" and self.training):
            yield from (head(x) for head, x in zip(self.more, features, strict=True))


class UNet(Forward):  # goes back up through all sizes, and reads what was put out there
    def connect(self, size: int) -> None:
        stages, self.ups = self.description.stages, nn.ModuleList()
        channels = stages[-1].channels
        for stage in reversed(stages[:-1]):
            made = style(self.description, stage)
            self.ups.append(made.unit(channels + stage.channels, stage.channels))
            channels = stage.channels
        self.head_channels, self.head_size = channels, self.levels[0].size

    def join(self, features: Sequence[Tensor]) -> Tensor:
        x = features[-1]
        for up, skip in zip(self.ups, reversed(features[:-1]), strict=True):
            if x.shape[2:] != skip.shape[2:]:
                x = F.interpolate(x, size=skip.shape[2:])
            x = up(torch.cat([x, skip], 1))
        return x


class Pyramid(Forward):  # FPN: sums from the top down, and one head that all levels share
    def connect(self, size: int) -> None:
        conv = layer("Conv", self.description.dims)
        self.lateral = nn.ModuleList(conv(s.channels, 16, 1) for s in self.description.stages)
        self.head_channels, self.head_size = 16, self.levels[0].size

    def join(self, features: Sequence[Tensor]) -> Tensor:
        *low, x = (layer(y) for layer, y in zip(self.lateral, features, strict=True))
        for y in reversed(low):
            x = y + F.interpolate(x, size=y.shape[2:])
        return x

    def main(self, features: Sequence[Tensor]) -> Any:
        low = self.head(self._extra("head", self.join(features)))
        return low, self.head(self.lateral[-1](features[-1]))


class Layers(Part):  # all layers in one sequence (VGG), which is read by position where it has taps
    def make(self, description: Description) -> None:
        self.description = description
        stages, size, ends_at = description.stages, description.size, []
        channels = stages[0].channels
        layers = [*style(description, stages[0]).unit(IMAGE_CHANNELS, NECK).children()]
        layers += [*style(description, stages[0]).unit(NECK, channels).children()]
        for stage in stages:
            made = style(description, stage)
            layer, size = resize(stage.resize, made, channels, size)
            layers.append(layer)
            for _ in range(stage.count):
                layers += [*made.unit(channels, stage.channels).children()]
                channels = stage.channels
            ends_at.append(len(layers))
        self.features, self.taps = nn.Sequential(*layers), ends_at
        self.head = ends.HEADS[description.head](made, channels)

    def forward(self, x: Tensor) -> Any:
        kind, found = self.description.taps, []
        if kind == "features":
            for number, layer in enumerate(self.features, start=1):
                x = layer(x)
                found += [x] if number in self.taps[:-1] else []
        elif kind == "pooled":
            x = self.features[: self.taps[0]](x)
            found.append(x.mean(space(x)))
            x = self.features[self.taps[0] :](x)
        else:
            x = self.features(x)
        return ends.packed(self.description.output, [self.head(x), *found])


class Siamese(Part):  # one encoder, called on both halves of the channels
    def make(self, description: Description) -> None:
        self.output = description.output
        inner = dataclasses.replace(description, kind="forward", output="tensor", taps="none")
        self.encoder = Forward(inner)
        self.compare = nn.Linear(ends.CLASSES, 2)

    def forward(self, x: Tensor) -> Any:
        one, other = (self.encoder(half) for half in x.chunk(2, 1))
        apart = (one - other).abs().movedim(1, -1)
        return ends.packed(self.output, [self.compare(apart)])


TAPS = ("none", "features", "pooled", "heads", "in_training")
KINDS: dict[str, type[nn.Module]] = {
    "forward": Forward,
    "unet": UNet,
    "pyramid": Pyramid,
    "siamese": Siamese,
    "layers": Layers,
}
