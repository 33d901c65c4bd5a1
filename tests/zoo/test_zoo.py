"""Networks of different kinds pass all that the zoo asks; `make zoo` asks it of all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.zoo import check, members, pool, rows, table
from tests.zoo.dense import check as dense_check
from tests.zoo.dense import members as dense_members
from tests.zoo.dense import table as dense_table
from tests.zoo.rows import DenseRow, Row, Split

CLASSIFIERS = """
torchvision/googlenet torchvision/mobilenet_v3_small torchvision/shufflenet_v2_x0_5
torchvision/squeezenet1_1 timm/ghostnet_050 timm/mixnet_s timm/regnety_002 timm/resnest14d
timm/skresnet18 timm/starnet_s050 timm/test_convnext3 timm/test_nfnet timm/vovnet39a
""".split()
MORE_CLASSIFIERS = """
torchvision/alexnet torchvision/densenet121 torchvision/efficientnet_b0
torchvision/resnext50_32x4d timm/cspresnext50 timm/dla46x_c timm/ecaresnet26t timm/fasternet_t0
timm/inception_next_atto timm/repvgg_a0 timm/res2net50_14w_8s timm/rexnet_100
""".split()
DENSE = """
monai/SegResNetDS3d monai/UNet2d sequences/ResNet1d sequences/Tcn sequences/Tcn_weight_norm
timm-features/mobilenetv3_small_050
""".split()
MORE_DENSE = """
monai/AttentionUnet2d monai/resnet10_3d sequences/WaveNet smp/Unet/resnet18
torchvision/detection/resnet18_fpn torchvision/segmentation/deeplabv3_mobilenet_v3_large+aux
""".split()
MORE = pytest.mark.more  # not in CI


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize(
    "name", [*CLASSIFIERS, *(pytest.param(n, marks=MORE) for n in MORE_CLASSIFIERS)]
)
def test_classifiers_of_different_kinds_pass_all_checks(name: str) -> None:
    row = check.check(name)
    assert row.problems == []
    assert row.smallest < 1


@pytest.mark.parametrize("name", [*DENSE, *(pytest.param(n, marks=MORE) for n in MORE_DENSE)])
def test_dense_and_one_dimensional_networks_pass_with_all_kinds_of_segments(name: str) -> None:
    row = dense_check.check(name)
    assert row.problems == []
    assert row.splits["stage"].smallest < 1


def test_each_member_is_listed_once_and_each_explanation_is_of_a_member() -> None:
    names = members.names() + dense_members.names()
    assert len(names) == len(set(names))
    assert set(members.EXPLAINED) <= set(names)
    assert set(CLASSIFIERS + MORE_CLASSIFIERS + DENSE + MORE_DENSE) <= set(names)


def test_the_table_says_who_fails_and_why(tmp_path: Path) -> None:
    good = Row("timm/resnet18", pixels=64, blocks=[2, 2], frozen={"a.b slices channels (x)": 8})
    bad = Row("timm/regnety_002", problems=["plan: RuntimeError: no"])
    rows.save(tmp_path / "zoo.jsonl", [good, bad])
    text = table.write([*rows.load(tmp_path / "zoo.jsonl").values()])
    assert f"timm: 1 of {len(members.TIMM)} pass" in text
    assert "8 channels: slices channels" in text
    assert "- **timm/regnety_002**: Not yet explained. (1 found, the first: plan:" in text


def test_the_second_table_says_what_fails_and_where_too_little_can_change(tmp_path: Path) -> None:
    good = DenseRow("smp/Unet/resnet18", splits={"stage": Split(blocks=[2], changeable=0.99)})
    good.splits |= {"superblock": Split(refused="it has no segment")}
    bad = DenseRow("smp/FPN/resnet18", problems=["stage, full: no"], splits={"stage": Split()})
    rows.save(tmp_path / "zoo.jsonl", [good, bad])
    text = table.write([*rows.load(tmp_path / "zoo.jsonl").values()])
    assert f"smp: 1 of {sum(n.startswith('smp/') for n in dense_members.names())} pass" in text
    assert f"FPNs of which less than {dense_table.ENOUGH:.0%} can change: 1 (smp/FPN/" in text
    assert "| passes | **fails** | refused: it has no segment | **fails** |" in text
    assert (
        "- **smp/FPN/resnet18**: Not yet explained. (1 found, the first: stage, full: no)" in text
    )


def test_a_network_over_its_limit_gets_a_row_of_its_own_kind() -> None:
    (row,) = pool.checked(["sequences/Tcn"], jobs=1, limit=0)
    assert isinstance(row, DenseRow)
    assert row.problems == ["over 0 s"]
