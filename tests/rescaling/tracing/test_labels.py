"""Labels follow channels and stay as small as they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ssr_exp.rescaling.tracing.channel_groups import Form, Grouping
from ssr_exp.rescaling.tracing.labels import (
    FIXED,
    Ledger,
    along,
    channels_of,
    fixed_like,
    shrink,
    spread,
    varying,
)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_a_vector_read_back_along_its_dimension_is_itself(dim: int) -> None:
    shape = torch.Size([3, 4, 5, 6])
    labels = np.arange(shape[dim], dtype=np.int64)
    laid = spread(labels, shape, dim)
    assert laid.shape == shape
    assert varying(laid) == [dim]
    assert (along(laid, dim) == labels).all()
    assert along(laid, (dim + 1) % 4) is None
    assert shrink(laid).numel() == shape[dim]


def test_what_belongs_to_no_channel_is_fixed_everywhere() -> None:
    labels = fixed_like(torch.empty(2, 3))
    assert (labels == FIXED).all() and varying(labels) == []
    assert shrink(labels).numel() == 1


def test_producers_never_share_labels() -> None:
    ledger = Ledger()
    one, other = ledger.produce(4, "a"), ledger.produce(3, "b")
    assert sorted([*one, *other]) == list(range(7)) and ledger.n_labels == 7


def test_what_is_tied_to_fixed_elements_is_frozen() -> None:
    ledger = Ledger()
    labels = ledger.produce(3, "a")
    ledger.tie(labels, np.array([FIXED, FIXED, FIXED]), reason="because")
    grouping = Grouping(ledger, [labels])
    assert grouping.groups == () and grouping.frozen == {"because": 3}
    assert grouping.form(labels) == Form(3)


def test_tied_channels_are_one_group_and_repeated_ones_a_coefficient() -> None:
    ledger = Ledger()
    one, other, free = (ledger.produce(4, path) for path in "abc")
    ledger.tie(one, other, reason="added")
    both = np.concatenate([one, free, other])
    grouping = Grouping(ledger, [both])
    assert [group.paths for group in grouping.groups] == [("a", "b"), ("c",)]
    form = grouping.form(both)
    assert form == Form(0, ((0, 2), (1, 1)))
    assert form([2, 3]) == 7


def test_reading_only_some_channels_freezes_all_of_their_group() -> None:
    ledger = Ledger()
    labels = ledger.produce(6, "a")
    grouping = Grouping(ledger, [labels[:2]])
    assert grouping.groups == ()
    assert grouping.frozen == {"only some of the channels are read": 6}


def test_groups_of_a_grouped_convolution_stay_divisible() -> None:
    ledger = Ledger()
    labels = ledger.produce(12, "a")
    ledger.multiples.append((np.concatenate([labels, labels]), 4))
    (group,) = Grouping(ledger, [labels]).groups
    assert group.multiple == 2


def test_parts_of_a_split_that_are_made_apart_are_scaled_together() -> None:
    ledger = Ledger()
    one, other = ledger.produce(4, "a"), ledger.produce(4, "b")
    ledger.split([one, other])
    (group,) = Grouping(ledger, [one, other]).groups
    assert (group.size, group.multiple, group.paths) == (4, 1, ("a", "b"))


def test_halves_of_one_convolution_are_half_of_its_channels() -> None:
    ledger = Ledger()
    labels = ledger.produce(12, "a")
    ledger.split([labels[:6], labels[6:]])
    grouping = Grouping(ledger, [labels, labels[:6]])
    assert grouping.groups[0].multiple == 2
    assert grouping.form(labels[:6])([8]) == 4


def test_pieces_of_one_convolution_are_scaled_on_their_own() -> None:
    ledger = Ledger()
    labels = ledger.produce(12, "a")
    ledger.pieces += [labels[:4], labels[4:]]
    grouping = Grouping(ledger, [labels, labels[:4]])
    assert [group.size for group in grouping.groups] == [4, 8]
    assert grouping.form(labels)([1, 8]) == 9


def test_forms_divide_after_adding() -> None:
    form = Form(4, ((0, 2),), divisor=3)
    assert form([4]) == 4
    assert form({0: np.array([1, 4, 7])}).tolist() == [2, 4, 6]


def test_elements_that_lie_in_one_channel_go_together() -> None:
    ledger = Ledger()
    made = ledger.produce(8, "a")
    labels = spread(made, torch.Size([2, 8]), 1).reshape(2, 2, 2, 2)
    channels = channels_of(labels, 1, ledger)
    assert channels is not None and channels.tolist() == [0, 4]
    grouping = Grouping(ledger, [made])
    assert [group.size for group in grouping.groups] == [2]
    assert grouping.form(made) == Form(0, ((0, 4),))


def test_channels_that_stand_elsewhere_are_none_of_a_dimension() -> None:
    ledger = Ledger()
    made = ledger.produce(4, "a")
    assert channels_of(spread(made, torch.Size([2, 3, 4]), 2), 1, ledger) is None
    assert channels_of(spread(made, torch.Size([4, 3, 2]), 0), 1, ledger) is None
    assert not ledger.ties


def test_labels_of_a_single_number_have_no_dimension() -> None:
    assert varying(fixed_like(torch.empty(()))) == []
    assert shrink(fixed_like(torch.empty(()))).shape == ()
