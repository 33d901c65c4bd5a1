"""`python -m ssr_exp.rescaling` prints a network's anatomy, or one sentence."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable

import pytest

from ssr_exp import command_options
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import __main__ as anatomy
from ssr_exp.rescaling import arguments

Capsys = pytest.CaptureFixture[str]


def test_a_network_is_printed_with_its_cost_and_lattice(capsys: Capsys) -> None:
    assert anatomy.main(["resnet20"]) == 0
    out = capsys.readouterr().out
    assert "lattice: 6,912 networks" in out
    for word in ("stage1", "stage2", "stage3", "269,722", "40,551,040", "outside"):
        assert word in out


def test_widths_and_the_smallest_network_are_the_lattices(capsys: Capsys) -> None:
    """ResNet-8 has 4, 8 and 16 widths of multiples of 4, and 1,078 parameters at least."""
    smallest = []
    for steps, widths in {
        "1": ["1", "1", "1"],
        "8": ["4", "8", "8"],
        "64": ["4", "8", "16"],
    }.items():
        assert anatomy.main(["resnet8", "--width-steps", steps]) == 0
        lines = capsys.readouterr().out.splitlines()
        rows = [line.split("│") for line in lines if line.startswith("│ stage")]
        assert [row[5].strip() for row in rows] == widths
        smallest += [line.split()[1] for line in lines if line.startswith("smallest: ")]
    assert smallest[0] == "75,290" and smallest[2] == "1,078" and smallest[1] == "1,710"


def test_a_note_says_where_the_cost_of_inner_widths_is(capsys: Capsys) -> None:
    for words, notes in (["channels", "--depth"], 1), (["channels"], 0):
        assert anatomy.main(["resnet14", "--segment", *words]) == 0
        assert capsys.readouterr().out.count("note: a segment without costs is the inner") == notes


def test_options_reach_the_network(capsys: Capsys) -> None:
    options = "--size 28 --channels 1 --classes 3 --shortcut B --multiple 8 --width-steps 4"
    assert anatomy.main(["resnet20", *options.split(), "--frozen", "stage2"]) == 0
    out = capsys.readouterr().out
    assert "1x28x28" in out and "stage2 (frozen)" in out and "multiple of 8" in out


@pytest.mark.parametrize(
    ("options", "size", "params"),
    [
        ("resnet18", "3x32x32", "11,173,962"),
        pytest.param("torchvision/resnet18", "3x224x224", "11,689,512", marks=pytest.mark.slow),
        ("timm/resnet10t --size 32", "3x32x32", "4,927,618"),
        ("torchvision.models.resnet18", "3x224x224", "11,689,512"),
    ],
)
def test_networks_get_the_usual_size(capsys: Capsys, options: str, size: str, params: str) -> None:
    assert anatomy.main(options.split()) == 0
    out = capsys.readouterr().out
    assert f" on images of {size}" in out and params in out


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ("superblock", ["3x3:16-16", "3x3:32-64"]),
        ("manual --patterns stage1.* stage[23].*.conv?", ["stage1.*", "stage[23].*.conv?"]),
        ("channels", ["conv", "stage2.0.conv2", "stage3.1.conv1"]),
        ("channels --depth", ["stage1", "stage1.0.conv1", "stage3"]),
        ("block --at-most 3", ["stage1.0+stage1.1", "stage2.0+stage2.1", "stage3.0+stage3.1"]),
    ],
)
def test_a_network_is_split_as_is_said(capsys: Capsys, options: str, rows: list[str]) -> None:
    assert anatomy.main(["resnet14", "--segment", *options.split()]) == 0
    out = capsys.readouterr().out
    assert all(f" {row} " in out for row in rows)


def test_many_reasons_are_cut_the_largest_first(capsys: Capsys, own: Callable[[str], str]) -> None:
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
        ("resnet20 --depth", "segment.depth=true is for segment=channels"),
        ("resnet20 --at-most 0", "segment.at_most is 0; it must be 1 or more"),
        ("resnet20 --segment channels --multiple 64", "nothing of CifarResNet can be rescaled"),
        ("keras/vgg16", "'keras/vgg16' names no seed network"),
        ("resnet8 --size 8 --width-steps 0", "width_steps is 0"),
    ],
)
def test_bad_input_is_one_sentence_on_stderr(capsys: Capsys, options: str, said: str) -> None:
    assert anatomy.main(options.split()) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err and printed.err.count("\n") == 1


@pytest.mark.parametrize("option", ["size", "classes", "channels"])
def test_sizes_below_one_are_refused(option: str) -> None:
    parser = argparse.ArgumentParser()
    command_options.add_network(parser)
    with pytest.raises(SsrError, match=f"--{option} is -1; it must be 1 or more"):
        arguments.model("resnet8", parser.parse_args([f"--{option}", "-1"]))


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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("tests.rescaling.test_inputs.sound --shape 1x64", "on inputs of 1x64"),
        ("tests.rescaling.test_inputs.Volume --shape 1x4x4x4", "on inputs of 1x4x4x4"),
        ("tests.rescaling.test_inputs.Two --shape 3x8x8 --shape 6", "of image 3x8x8 and age 6"),
        (
            "tests.rescaling.test_inputs.Dictionary --example tests.rescaling.test_inputs.masked",
            "of image 3x8x8 and mask 1x8x8 (bool)",
        ),
        ("resnet8 --shape 1x28x20", "on images of 1x28x20"),
        ("tests.rescaling.test_inputs.Trunk --shape 3x8x8", "on images of 3x8x8"),
    ],
)
def test_a_network_says_what_it_is_called_with(capsys: Capsys, options: str, said: str) -> None:
    assert anatomy.main([*options.split(), "--multiple", "4"]) == 0
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("resnet8 --shape 3by4", "--shape 3by4 is no shape: type"),
        ("resnet8 --shape 3x8x8 --size 8", "leave them out with --shape"),
        ("resnet8 --shape 3x8x8 --example a.b", "type one of them"),
        ("resnet8 --shape 1x64", "resnet8 takes one batch of images"),
        ("tests.rescaling.test_inputs.Two --example nowhere.f", "--example=nowhere.f names no"),
        ("tests.rescaling.test_inputs.Two --shape 3x8x8", "missing 1 required positional"),
        ("tests.rescaling.test_inputs.sound --shape 2x64", "does not run on inputs of 2x64"),
    ],
)
def test_inputs_that_do_not_fit_are_one_sentence(capsys: Capsys, options: str, said: str) -> None:
    assert anatomy.main(options.split()) == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


OWN = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, parts=3):
        body = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU()]
        super().__init__(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, parts))
"""


def test_a_network_of_ones_own_keeps_its_outputs_and_a_size_that_is_assumed_is_said(
    capsys: Capsys, own: Callable[[str], str]
) -> None:
    name = f"{own(OWN)}.Net"
    assert anatomy.main([name]) == 0
    told = capsys.readouterr().out
    assert "images of 3x224x224" in told and "fixed: 3 channels" in told
    assert "note: images of 224 pixels are assumed: --size or --shape says another" in told
    assert anatomy.main([name, "--size", "32", "--classes", "5"]) == 0
    told = capsys.readouterr().out
    assert "assumed" not in told and "fixed: 5 channels" in told
