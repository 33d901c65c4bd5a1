"""Refusals: their kinds, and which are right because it is documented that they come.

What the library does not understand is kept at full size and named. A network that is made of such
things alone is refused.
"""

from __future__ import annotations

import re

from tests.random_networks.descriptions import Description

BY_VALUES, NOTHING = "decides by values", "nothing can be rescaled"
NOT_LEARNT = "too little is learnt"
KINDS = {
    NOTHING: "nothing of .* can be rescaled: ",
    BY_VALUES: "cannot be traced: it decides",
    NOT_LEARNT: r"are not learnt \(requires_grad=False",
    "has no segment": "has no segment",
    "does not run": "does not run on",
    "cannot be counted": "cannot be counted",
    "cannot be rescaled": "cannot be rescaled",
}
ATTENTION = {"gram", "heads", "linear_attention", "channel_attention"}
UNKNOWN = {"permuted", "permutation", "sorted", "literal_view", "orthogonal", *ATTENTION}
FROZEN_RIGHTLY = (
    ("^the network's output$", None),
    ("uses index_select, which is not understood$", {"permuted", "permutation"}),
    ("uses sort, which is not understood$", {"sorted"}),
    ("uses bmm, which is not understood$", ATTENTION),
    ("cannot be narrower", {"heads", "literal_view"}),
    ("(groups|scales|passes|adds|meets) fixed channels$", UNKNOWN),
)
"""Reasons, and of which a network must have one; None: they are always right."""
COMPUTED = "uses convolution, which is not understood"
"""Said of a weight that an orthogonal parametrization computes; what it meets is frozen, too."""


def kind(text: str) -> str:
    """Name the kind of a refusal, for what is frozen with the reasons."""
    found = next((name for name, pattern in KINDS.items() if re.search(pattern, text)), text)
    if found != NOTHING:
        return found
    reasons = sorted(set(map(without_names, _reasons(text))) - {"the network's output"})
    return f"{NOTHING} ({'; '.join(reasons) or 'no reason'})"


def is_right(text: str, description: Description) -> bool:
    """Say whether a network of this description may be refused like that."""
    has = _kinds(description)
    if re.search(KINDS[BY_VALUES], text):
        return "asks" in has
    if re.search(KINDS[NOT_LEARNT], text):
        return bool(has & {"fixed", "frozen", "blur"})
    if not re.search(KINDS[NOTHING], text):
        return False
    if "orthogonal" in has and COMPUTED in text:
        return True
    return all(
        any(
            re.search(pattern, reason) and (needed is None or needed & has)
            for pattern, needed in FROZEN_RIGHTLY
        )
        for reason in _reasons(text)
    )


def _kinds(description: Description) -> set[str]:
    extras = {kind for kind, _, _ in description.extras}
    traits = {kind for kind, _ in description.traits}
    blocks = {stage.block for stage in description.stages}
    steps = {step.op for stage in description.stages for step in stage.steps}
    return extras | traits | blocks | steps


def _reasons(text: str) -> list[str]:
    return re.split(KINDS[NOTHING], text)[-1].rstrip(".").split("; ")


def without_names(reason: str) -> str:
    """Leave out which module a reason is about, and sizes."""
    reason = re.sub(r"\(.*\)", "", reason).strip()
    reason = re.sub(
        r"^\S+ (?=uses|meets|cannot|takes|is|groups|scales|adds|passes|changes)", "", reason
    )
    return re.sub(r"\S+\.\S+", "M", reason)
