"""Networks of different kinds pass all that the zoo asks; `make zoo` asks it of all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.zoo import check, members, rows, table
from tests.zoo.rows import Row

FAST = """
torchvision/mobilenet_v3_small torchvision/shufflenet_v2_x0_5 torchvision/squeezenet1_1
timm/regnety_002 timm/resnest14d timm/skresnet18 timm/starnet_s050 timm/test_convnext3
timm/test_nfnet timm/vovnet39a
""".split()
SLOW = """
torchvision/alexnet torchvision/densenet121 torchvision/efficientnet_b0 torchvision/googlenet
torchvision/resnext50_32x4d timm/cspresnext50 timm/dla46x_c timm/ecaresnet26t timm/fasternet_t0
timm/ghostnet_050 timm/inception_next_atto timm/mixnet_s timm/repvgg_a0 timm/res2net50_14w_8s
timm/rexnet_100
""".split()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def passes(name: str) -> None:
    row = check.check(name)
    assert row.problems == []
    assert row.smallest < 1


@pytest.mark.parametrize("name", FAST)
def test_networks_of_ten_kinds_pass_all_checks(name: str) -> None:
    passes(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_networks_of_more_kinds_pass_all_checks(name: str) -> None:
    passes(name)


def test_each_member_is_listed_once_and_each_explanation_is_of_a_member() -> None:
    names = members.names()
    assert len(names) == len(set(names))
    assert set(members.EXPLAINED) <= set(names)
    assert set(FAST + SLOW) <= set(names)


def test_the_table_says_who_fails_and_why(tmp_path: Path) -> None:
    good = Row("timm/resnet18", pixels=64, blocks=[2, 2], frozen={"a.b slices channels (x)": 8})
    bad = Row("timm/regnety_002", problems=["plan: RuntimeError: no"])
    rows.save(tmp_path / "zoo.jsonl", [good, bad])
    text = table.write([*rows.load(tmp_path / "zoo.jsonl").values()])
    assert f"timm: 1 of {len(members.TIMM)} pass" in text
    assert "8 channels: slices channels" in text
    assert "- **timm/regnety_002**: Not yet explained. (1 found, the first: plan:" in text
