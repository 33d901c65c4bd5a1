from __future__ import annotations

import pytest
from torch import nn

from ssr_exp.rescaling import saved
from ssr_exp.rescaling.plan import Plan
from ssr_exp.rescaling.saved import Description
from tests.datasets.conftest import digits, one_thread
from tests.tasks.conftest import digits_module, quiet_trainer, small_task

__all__ = ["digits", "digits_module", "one_thread", "quiet_trainer", "small_task"]

BUILDS = {"model", "segment", "num_classes", "input_shape"}
TRACED: dict[str, tuple[nn.Module, Plan]] = {}


@pytest.fixture(autouse=True)
def traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trace the seed network of saved ones once a session: it takes most of reading them."""
    real = saved.seed_network

    def seed_network(description: Description) -> tuple[nn.Module, Plan]:
        key = description.model_dump_json(include=BUILDS)
        if key not in TRACED:
            TRACED[key] = real(description)
        return TRACED[key]

    monkeypatch.setattr(saved, "seed_network", seed_network)
