"""`python -m ssr_exp.rescaling` prints a network's anatomy, or one sentence."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from ssr_exp.rescaling import __main__ as anatomy


def test_a_network_is_printed_with_its_cost_and_lattice(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert anatomy.main(["resnet56"]) == 0
    out = capsys.readouterr().out
    assert "lattice: 186,624 networks" in out
    for word in ("stage1", "stage2", "stage3", "853,018", "125,485,696", "outside"):
        assert word in out


def test_options_reach_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--size 28 --channels 1 --classes 3 --shortcut B --multiple 8 --width-steps 4"
    assert anatomy.main(["resnet20", *options.split(), "--frozen", "stage2"]) == 0
    out = capsys.readouterr().out
    assert "1x28x28" in out and "stage2 (frozen)" in out and "multiple of 8" in out


def test_torchvisions_networks_are_printed_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert anatomy.main(["resnet18", "--size", "224", "--classes", "1000"]) == 0
    out = capsys.readouterr().out
    assert "11,689,512" in out and "layer4" in out


@pytest.mark.parametrize(
    ("options", "size", "params"),
    [
        ("resnet18", "3x32x32", "11,173,962"),
        ("torchvision/resnet18", "3x224x224", "11,689,512"),
        ("torchvision/resnet18 --size 32", "3x32x32", "11,173,962"),
        ("timm/resnet18", "3x224x224", "11,689,512"),
        ("timm/resnet18 --classes 10", "3x224x224", "11,181,642"),
        ("torchvision.models.resnet18", "3x224x224", "11,181,642"),
    ],
)
def test_networks_of_any_source_are_printed_at_the_size_that_they_are_known_for(
    capsys: pytest.CaptureFixture[str], options: str, size: str, params: str
) -> None:
    assert anatomy.main(options.split()) == 0
    out = capsys.readouterr().out
    assert f" on images of {size}" in out and params in out


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ("superblock", ["3x3:16-16", "3x3:32-64"]),
        ("block", ["stage1.0", "stage3.8"]),
        ("whole", ["network"]),
        ("manual --patterns stage1.* stage[23].*.conv?", ["stage1.*", "stage[23].*.conv?"]),
    ],
)
def test_a_network_is_split_as_is_said(
    capsys: pytest.CaptureFixture[str], options: str, rows: list[str]
) -> None:
    assert anatomy.main(["resnet56", "--segment", *options.split()]) == 0
    out = capsys.readouterr().out
    assert all(f" {row} " in out for row in rows) and "853,018" in out


def test_a_lattice_of_any_size_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert anatomy.main(["resnet110", "--segment", "block"]) == 0
    assert "lattice: 2.2e+43 networks" in capsys.readouterr().out


def test_many_reasons_are_cut_short_and_those_that_hold_most_come_first(
    capsys: pytest.CaptureFixture[str], own: Callable[[str], str]
) -> None:
    assert anatomy.main([f"{own(UNKNOWN)}.Net", "--size", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    fixed = [line for line in lines if line.startswith("fixed: ")]
    assert len(fixed) == 12 and "... and 4 more reasons" in lines
    assert fixed[0].startswith("fixed: 24 channels, because: 15 uses _fft_r2c")


UNKNOWN = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner, self.outer = nn.Conv2d(8, width, 1), nn.Conv2d(width, 8, 1)

    def forward(self, x):
        return self.outer(torch.fft.fft(self.inner(x), dim=1).real)

class Net(nn.Sequential):
    def __init__(self, num_classes):
        blocks = [Block(10 + number) for number in range(15)]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes)]
        super().__init__(nn.Conv2d(3, 8, 1), *blocks, *head)
"""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("resnet20 --segment stages", "segment.kind=stages is unknown"),
        ("resnet20 --segment manual", "needs segment.patterns"),
        ("resnet20 --patterns stage1", "leave them out with segment=stage"),
        ("resnet20 --segment block --frozen stage1", "no segment 'stage1'"),
        ("torchvision/resnet19", "the nearest names are resnet1"),
        ("timm/resnet18 --size -1", "--size is -1"),
        ("torchvision/vgg11 --size 16", "try dataset.resize=32"),
        ("keras/vgg16", "'keras/vgg16' names no seed network"),
        ("no_such.Net", "no 'no_such' in the current folder"),
        ("resnet57", "the model 'resnet57' is unknown"),
        ("resnet20 --frozen stage7", "no segment 'stage7'"),
        ("resnet20 --multiple -4", "not -4"),
        ("resnet20 --multiple 0", "not 0"),
        ("resnet20 --width-steps 0", "width_steps is 0"),
        ("resnet18 --stem imagenet --size 0", "--size is 0"),
        ("resnet20 --classes 0", "--classes is 0"),
        ("resnet20 --channels -1", "--channels is -1"),
    ],
)
def test_bad_input_is_one_sentence_on_stderr(
    capsys: pytest.CaptureFixture[str], options: str, said: str
) -> None:
    assert anatomy.main(options.split()) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err and printed.err.count("\n") == 1


@pytest.mark.slow
def test_the_module_exits_with_one_on_bad_input() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "ssr_exp.rescaling", "nothing"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "the model 'nothing' is unknown" in ended.stderr
    assert "Traceback" not in ended.stderr
