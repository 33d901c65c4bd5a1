"""Each runtime is found or says why not, and runs what the network does."""

from __future__ import annotations

import itertools
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ssr_exp.edge.export.formats.flat import FlatNetwork
from ssr_exp.edge.latency import runtimes, stopwatch
from ssr_exp.edge.latency.runtimes import Runner
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import input_examples
from tests.rescaling.test_inputs import CASES

IMAGES = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
HERE: set[str] = set()
for _name in runtimes.NAMES:
    with suppress(SsrError):
        HERE.add(runtimes.find(_name).name)
BY_FILE = ("onnxruntime", "executorch")
GPU = [runtime.name for runtime in runtimes.ALL if runtime.on_gpu]
SIGNATURES = ["two", "dictionary", "tokens", "shared", "sequence first"]
MORE = [pytest.mark.slow, pytest.mark.more]


def small() -> nn.Module:
    """A network whose batch norms have something to fold, in training mode."""
    torch.manual_seed(0)
    body = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)
    head = nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    network = nn.Sequential(*body, *head)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network


class Narrow(nn.Module):  # a network that compiles in a second
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, width, 3), nn.Linear(width, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.fc(self.conv(images).mean((2, 3)))
        assert isinstance(logits, Tensor)
        return logits


def prepared(name: str, network: nn.Module, images: Tensor) -> Runner:
    return runtimes.find(name).prepare(network, images, 1)


@pytest.mark.parametrize("name", runtimes.NAMES)
def test_a_runtime_is_found_or_says_why_it_cannot_run_here(name: str) -> None:
    if name in HERE:
        found = runtimes.find(name)
        assert found.name == name and found.device() and "." in found.version()
        return
    with pytest.raises(SsrError, match=r"^\w.* \w.*\.$"):
        runtimes.find(name)


def test_an_unknown_runtime_is_answered_with_all_of_them() -> None:
    with pytest.raises(
        SsrError, match=f"no runtime tflite: type one of {', '.join(runtimes.NAMES)}"
    ):
        runtimes.find("tflite")


def test_pytorch_runs_everywhere_and_names_are_distinct() -> None:
    assert "eager" in HERE <= set(runtimes.NAMES)
    assert len(set(runtimes.NAMES)) == len(runtimes.ALL)


def test_without_a_gpu_its_runtimes_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    for name in GPU:
        with pytest.raises(SsrError, match=r"no GPU.* choose"):
            runtimes.find(name)


def test_without_a_compiler_compile_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes.shutil, "which", lambda _: None)
    with pytest.raises(SsrError, match=r"takes a C\+\+ compiler.*apt install g\+\+"):
        runtimes.find("compile")


@pytest.mark.parametrize(
    "name",
    ["eager", *(pytest.param(n, marks=pytest.mark.slow) for n in runtimes.NAMES if n != "eager")],
)
def test_a_runner_runs_the_whole_batch_as_the_network_does(name: str) -> None:
    if name not in HERE:
        pytest.skip(f"{name} cannot run here")
    network = small()
    run = prepared(name, network, IMAGES)
    assert not network.training
    with torch.inference_mode():
        expected = network.cpu()(IMAGES)
    for _ in range(2):
        found = run()
        if name != "cuda_graphs":  # its results stay where they are
            assert isinstance(found, Tensor) and not found.requires_grad
            torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.more
@pytest.mark.skipif("compile" not in HERE, reason="compile cannot run here")
def test_nine_networks_of_a_class_are_all_compiled() -> None:
    from torch._dynamo.utils import counters

    torch.compiler.reset()
    counters.clear()
    networks = [Narrow(width).eval() for width in range(1, 10)]
    runners = [prepared("compile", network, IMAGES) for network in networks]
    assert counters["stats"]["unique_graphs"] == 9  # torch.compile alone gives up after 8
    for network, run in zip(networks, runners, strict=True):
        torch.testing.assert_close(run(), network(IMAGES).detach())
    assert counters["stats"]["unique_graphs"] == 9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["compile", *BY_FILE])
def test_a_network_that_cannot_be_prepared_is_refused_in_a_sentence(name: str) -> None:
    class Depends(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images if images.sum() > 0 else -images

    if name not in HERE:
        pytest.skip(f"{name} cannot run here")
    with pytest.raises(SsrError, match="cannot"):
        prepared(name, Depends(), IMAGES)


@pytest.mark.parametrize(
    ("name", "runtime"),
    [
        *itertools.product(SIGNATURES, ["eager", "onnxruntime"]),
        *(pytest.param("two", n, marks=pytest.mark.slow) for n in ("compile", *GPU)),
        *(
            pytest.param(*each, marks=MORE)
            for each in itertools.product(SIGNATURES[1:], ["compile", *GPU])
        ),
    ],
)
def test_networks_of_any_signature_are_measured(name: str, runtime: str) -> None:
    if runtime not in HERE:
        pytest.skip(f"{runtime} cannot run here")
    make, example = CASES[name]
    network = make().eval()
    signature = input_examples.read(network, example)
    with torch.inference_mode():
        flat = FlatNetwork(network, signature)
        expected = flat(*flat.draw(3))
    run = stopwatch.prepare(network, signature, runtimes.find(runtime), batch=3, threads=1)
    found = run()
    if runtime != "cuda_graphs":
        assert isinstance(found, tuple) and len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.cpu(), other, rtol=1e-3, atol=1e-4)


@pytest.mark.skipif("onnxruntime" not in HERE, reason="needs ONNX Runtime")
def test_a_disk_without_room_says_where_to_make_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(SsrError, match=r"to .*/gone \(.*\): make room there, or set TMPDIR"):
        prepared("onnxruntime", small(), IMAGES)
