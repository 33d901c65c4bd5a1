"""A seed network and its segments, from what a configuration says of both."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ssr_exp.config import ModelConf, SegmentConf
from ssr_exp.rescaling import planning, seeds
from ssr_exp.rescaling.plan import Plan


def build(
    model: ModelConf, segment: SegmentConf, *, num_classes: int, input_shape: Sequence[int]
) -> tuple[nn.Module, Plan]:
    """Construct a seed network, with weights from torch's global generator, and its plan.

    Args:
        model: the seed network.
        segment: how it is split; channels are rounded as its family asks where that is left open.
        num_classes: how many logits it puts out.
        input_shape: channels, height and width of the images, in pixels.

    Raises:
        SsrError: if the network cannot be built, or not be split like that.
    """
    network = seeds.build(model, num_classes=num_classes, input_shape=input_shape)
    plan = planning.trace(
        network,
        input_shape,
        multiple=seeds.multiple(model) if segment.multiple is None else segment.multiple,
        frozen=segment.frozen,
        kind=segment.kind,
        patterns=segment.patterns,
    )
    return network, plan
