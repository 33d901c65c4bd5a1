"""Structured Segment Rescaling: rebuild a ConvNet smaller, train few, predict the rest."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssr_exp.app.ask_tell.asking import Waiting as Waiting
    from ssr_exp.errors import SsrError as SsrError
    from ssr_exp.rescaling.inputs import Inputs as Inputs
    from ssr_exp.runs.score import Score as Score
    from ssr_exp.study import Study as Study
    from ssr_exp.training.candidate import Candidate as Candidate

__version__ = "0.1.0"

# Imported when they are asked for, so that `import ssr_exp` needs no torch.
_PUBLIC = {
    "Candidate": "ssr_exp.training.candidate",
    "Inputs": "ssr_exp.rescaling.inputs",
    "Score": "ssr_exp.runs.score",
    "SsrError": "ssr_exp.errors",
    "Study": "ssr_exp.study",
    "Waiting": "ssr_exp.app.ask_tell.asking",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ssr_exp' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
