"""Copies of modules around other tensors: what cannot be copied is shared, and nothing else."""

from __future__ import annotations

from threading import Lock

import torch
from torch import nn

from ssr_exp.rescaling import copying


class Holding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("table", torch.zeros(3))
        self.plain, self.alias = torch.ones(4), self.layer
        self.lock, self.parts = Lock(), [{"lock": Lock(), "sizes": [1, 2]}]
        self.generator = (n for n in range(3))


def test_all_tensors_are_named_once() -> None:
    names = [name for name, _ in copying.tensors(Holding())]
    assert sorted(names) == ["layer.bias", "layer.weight", "plain", "table"]


def test_what_cannot_be_copied_is_shared_and_the_rest_is_not() -> None:
    network = Holding()
    copied = copying.copied(network, {})
    assert copied.generator is network.generator
    assert copied.lock is network.lock and copied.parts[0]["lock"] is network.parts[0]["lock"]
    assert copied.parts[0]["sizes"] is not network.parts[0]["sizes"]
    assert copied.layer is not network.layer and copied.alias is copied.layer


def test_a_tensor_is_replaced_under_all_its_names() -> None:
    network = Holding()
    other = nn.Parameter(torch.zeros(5, 2))
    copied = copying.copied(network, {id(network.layer.weight): other})
    assert copied.layer.weight is other and copied.alias.weight is other


def test_an_activation_is_copied_without_its_history() -> None:
    network = Holding()
    network.last = [network.layer(torch.ones(1, 2))]
    copied = copying.copied(network, {})
    assert not copied.last[0].requires_grad and torch.equal(copied.last[0], network.last[0])
