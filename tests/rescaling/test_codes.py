"""Codes name networks, each its own, and parse back."""

from __future__ import annotations

import re

import pytest
from pydantic import TypeAdapter
from torch import nn

from ssr_exp.edge.latency.table_file import LatencyRow
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes, lattice, planning, rescale, saved
from ssr_exp.rescaling.modifiers import Modifiers
from ssr_exp.rescaling.plan import Architecture, Plan
from ssr_exp.runs import predictions
from tests.rescaling import probes

LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("resnet56", "resnet18")]
NETWORKS = ["resnet8", *LARGE, "Squeeze", "Inverted", "Tapped", "FlatHead"]
plan_of = probes.plan_of


@pytest.mark.parametrize("name", NETWORKS)
def test_codes_parse_back_and_no_two_widths_of_a_segment_have_one(name: str) -> None:
    plan = plan_of(name)
    for architecture in lattice.from_plan(plan).sample(8, seed=0) + probes.arbitrary(plan, 10):
        code = codes.write(plan, architecture)
        assert codes.parse(plan, code) == architecture
        assert codes.parse(plan, f" {name}_{code}\n") == architecture
    for s, widths in enumerate(plan.widths):
        assert len({codes.write(plan, a) for a in widths_of(plan, s)}) == len(widths)


def widths_of(plan: Plan, segment: int) -> list[Architecture]:
    full = plan.baseline
    return [
        Architecture(full.blocks, (*full.widths[:segment], width, *full.widths[segment + 1 :]))
        for width in range(len(plan.widths[segment]))
    ]


def test_letters_do_not_run_out() -> None:
    """A segment whose output is fixed, with more inner widths than there are letters."""
    network = probes.Tapped()
    for block in (network.c, network.d):
        block.conv1 = nn.Conv2d(16, 64, 3, padding=1)
        block.conv2 = nn.Conv2d(64, 16, 3, padding=1)
    plan = planning.trace(network, probes.SHAPE, multiple=1)
    twins = [codes.write(plan, architecture) for architecture in widths_of(plan, 1)]
    assert [codes.parse(plan, code) for code in twins] == widths_of(plan, 1)
    assert any(code[-2:].isalpha() for code in twins)


def test_the_code_of_the_baseline_counts_blocks_and_channels() -> None:
    plan = plan_of("resnet56")
    assert codes.write(plan, plan.baseline) == "d9-9-9_w16-32-64"
    assert codes.write(plan, plan.smallest) == "d1-1-1_w4-4-4"
    plan = plan_of("resnet18")
    assert codes.write(plan, plan.baseline) == "d2-2-2-2_w64-128-256-512"


def test_widths_that_differ_inside_the_blocks_get_letters() -> None:
    plan = plan_of("Inverted")
    letters = [codes.write(plan, a).rpartition("-")[2][-1] for a in widths_of(plan, 1)]
    assert "b" in letters and any(letter.isdigit() for letter in letters)


@pytest.mark.parametrize(
    "code",
    ["", "d", "baseline", "d9-9-9", "w16-32-64", "d9-9-9-w16-32-64", "d9-9-9_w16-32-64-", "d1_w-4",
     "d9-9-9_w16-32-64/x", "D9-9-9_W16-32-64", "d9-9-9_w16B-32-64"],
)  # fmt: skip
def test_a_malformed_code_is_quoted_beside_the_baselines(code: str) -> None:
    with pytest.raises(SsrError) as error:
        codes.parse(plan_of("resnet56"), code)
    assert str(error.value).startswith(f"{code!r} is not a network code")
    assert "d9-9-9_w16-32-64" in str(error.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "d9-9_w16-32",
            "has 2 depths and 2 widths, but the codes of this network have 3 depths and 3 widths",
        ),
        ("d9-9-9_w16-32", "has 3 depths and 2 widths"),
        ("d0-9-9_w16-32-64", "stage1 cannot keep 0 blocks; it can keep 1 to 9"),
        ("d9-10-9_w16-32-64", "stage2 cannot keep 10 blocks"),
        ("d9-9-9_w15-32-64", "stage1 cannot have 15 channels; it can have 4, 8, 12, 16"),
        ("d9-9-9_w16-32-128", "stage3 cannot have 128 channels"),
        ("d9-9-9_w16b-32-64", "stage1 cannot have 16b channels"),
        ("d9-9-9_w0-32-64", "stage1 cannot have 0 channels"),
    ],
)
def test_an_impossible_code_says_what_is_possible(code: str, said: str) -> None:
    with pytest.raises(SsrError, match=re.escape(said)):
        codes.parse(plan_of("resnet56"), code)


def test_files_hold_the_codes_of_a_thousand_segments() -> None:
    name = TypeAdapter(predictions.Code)
    fields = (saved.Description.model_fields["network"], LatencyRow.model_fields["network"])
    limits = [field.metadata[0].max_length for field in fields]
    assert limits == [codes.LONGEST] * 2 == [predictions.LONGEST_CODE] * 2
    code = f"w{'-'.join(['2048bc'] * 1000)}"
    assert 1000 < len(name.validate_python(code)) < codes.LONGEST


def test_a_network_has_one_code_whatever_is_asked_of_blocks_that_are_left_out() -> None:
    network = probes.build("Inverted")
    plan = planning.trace(network, probes.SHAPE, multiple=16)
    named: dict[str, set[str]] = {}
    for blocks in (1, 2):
        for width in range(len(plan.widths[1])):
            asked = Architecture((1, blocks), (0, width))
            shapes = str(probes.shapes(rescale.skeleton(network, plan, asked)))
            named.setdefault(shapes, set()).add(codes.write(plan, asked))
            written = codes._channels(plan.widths[1], width)
            assert codes.parse(plan, f"d1-{blocks}_w16-{written}") == plan.canonical(asked)
    assert all(len(codes_) == 1 for codes_ in named.values())
    assert len(set.union(*named.values())) == len(named) < 2 * len(plan.widths[1])
    for share in (1.0, 0.9):  # a full width is full still
        full = plan.effective(Modifiers([1 / 3, 0.5], [1, share]))
        assert plan.modifiers(full).width == (1, 1)
