"""A description of a network, for tests of what is done with one."""

from __future__ import annotations

from typing import Any

from ssr_exp.rescaling import saved


def description(**fields: Any) -> saved.Description:
    """Describe a ResNet-8: `description(classes=("a", "b"))`."""
    known: dict[str, Any] = {
        "model": saved.Model(name="resnet8"),
        "segment": saved.Segmentation(multiple=4),
        "network": "d1-1-1_w16-32-64",
        "input_shape": (1, 8, 8),
        "classes": ("a", "b"),
        "mean": (0.5,),
        "std": (0.5,),
        "modifiers": saved.Shares(depth=(1.0, 1.0, 1.0), width=(1.0, 1.0, 1.0)),
    } | fields
    return saved.Description(num_classes=len(known["classes"]) or None, **known)
