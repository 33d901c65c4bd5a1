"""A file does what the network did, and says what its user must know."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.edge.export import formats
from ssr_exp.edge.export.formats import Order, executorch, torch_export
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.resnet import CifarResNet
from tests.support.descriptions import description

MOST = 20  # images at once; ExecuTorch alone reserves memory for 15
ABOUT = description(
    input_shape=(3, 8, 8),
    classes=("épée", *"bcdefghij"),
    mean=(0.5, 0.25, 0.125),
    std=(0.5, 0.25, 1.0),
)
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("onnx", "executorch")]
ALL = [*SLOW, "torch_export"]
HOW = Preprocessing(3, (8, 8), fit="pad", depth=12)

Write = Callable[..., tuple[Path, str]]


class After(nn.Module):  # a convolution, and what comes after it
    def __init__(self, *last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.parts, self.last = nn.ModuleList(m for m in last if isinstance(m, nn.Module)), last

    def forward(self, images: Tensor) -> Tensor:
        images = self.conv(images)
        for part in self.last:
            images = part(images)
        return images.flatten(1)


class Shared(nn.Module):
    """A convolution that two batch norms read, and an input that is added to its own norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.one, self.other, self.skipped = (nn.BatchNorm2d(4) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        images = images + self.skipped(images)
        return self.other(self.conv(self.one(self.conv(images))))


def trained(network: nn.Module) -> nn.Module:
    """Give batch norms something to fold."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network.eval()


@cache
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return trained(CifarResNet(8))


@cache
def small() -> nn.Module:
    torch.manual_seed(0)
    body = After(nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    return trained(nn.Sequential(body, nn.Linear(16, 10)))


def images(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Write ResNet-8, each file once; gives its path and the first remark."""
    folder = tmp_path_factory.mktemp("formats")

    @cache
    def write(name: str, int8: bool = False) -> tuple[Path, str]:
        found = formats.find(name)
        path = folder / f"{name}-{int8}{found.SUFFIX}"
        calibration = images(33, seed=2) if int8 else None
        order = Order(resnet(), ABOUT, MOST, calibration, preprocessing=HOW)
        return path, found.write(order, path)[0]

    return write


def difference(name: str, path: Path, network: nn.Module, count: int) -> float:
    """Compare a file with PyTorch, as a share of the largest logit."""
    model = formats.find(name).load(path, threads=1)
    with torch.inference_mode():
        expected, found = network(images(count)), model(images(count))
    assert found.shape == expected.shape and found.dtype == torch.float32
    return float((found - expected).abs().max() / expected.abs().max())


def inside(name: str, path: Path) -> dict[str, object]:
    """Read what a file says, without this package."""
    if name == "onnx":
        import onnx

        texts = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
        return {k: json.loads(v) if v[0] in "[{0123456789" else v for k, v in texts.items()}
    if name == "torch_export":
        torch.export.load(path, extra_files=(extra := {torch_export.METADATA: ""}))
        return dict(json.loads(extra[torch_export.METADATA]))
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(path).load_method(executorch.METADATA)
    return dict(json.loads(method.execute([])[0]))


@pytest.mark.parametrize("name", ALL)
def test_a_file_gives_pytorchs_logits_for_any_batch(written: Write, name: str) -> None:
    threads, (path, _) = torch.get_num_threads(), written(name)
    assert all(difference(name, path, resnet(), n) < 1e-4 for n in (1, 3, MOST))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("name", "int8"),
    [*((p.values[0], i) for p in SLOW for i in (False, True)), ("torch_export", False)],
)
@pytest.mark.slow
def test_a_file_may_take_bytes_and_normalise_them(tmp_path: Path, name: str, int8: bool) -> None:
    found, path = formats.find(name), tmp_path / "it"
    path = path.with_suffix(found.SUFFIX)
    pixels = torch.randint(0, 256, (33, 3, 8, 8), dtype=torch.uint8)
    mean, std = (torch.tensor(v)[:, None, None] for v in (ABOUT.mean, ABOUT.std))
    found.write(Order(small(), ABOUT, MOST, pixels if int8 else None, takes_bytes=True), path)
    model = found.load(path, threads=1)
    with torch.inference_mode():
        expected = small()((pixels / 255 - mean) / std)[:MOST]
    assert len(model(pixels[:1])) == 1
    difference = (model(pixels[:MOST]) - expected).abs().max() / expected.abs().max()
    assert difference < (0.1 if int8 else 1e-4)
    assert "uint8" in str(inside(name, path)["input"])


@pytest.mark.slow
def test_executorch_takes_no_more_images_than_were_asked_for(tmp_path: Path) -> None:
    executorch.write(Order(small(), ABOUT, 1), path := tmp_path / "it.pte")
    assert difference("executorch", path, small(), 1) < 1e-4
    with pytest.raises(RuntimeError):
        executorch.load(path, threads=1)(images(2))


@pytest.mark.parametrize("name", ALL)
def test_what_its_user_must_know_is_inside(written: Write, name: str) -> None:
    about = inside(name, written(name)[0])
    known = formats.metadata(Order(resnet(), ABOUT, preprocessing=HOW))
    assert about == json.loads(json.dumps(known))
    assert about["preprocessing"] == {**asdict(HOW), "size": [8, 8], "mean": [], "std": []}
    assert (about["labels"], about["size"]) == (list(ABOUT.classes), [8, 8])
    assert (about["mean"], about["std"]) == (list(ABOUT.mean), list(ABOUT.std))
    ours = formats.metadata(Order(resnet(), ABOUT))  # a module of the user's own, images of ours
    assert ours == {key: value for key, value in known.items() if key != "preprocessing"}
    moments = {"mean": (0.0,) * len(ABOUT.mean), "std": (1.0,) * len(ABOUT.mean)}
    about = ABOUT.model_copy(update=moments)  # data of the user's own, whose classes are known
    unknown = formats.metadata(Order(resnet(), about))
    assert not {"mean", "std", "preprocessing"} & unknown.keys()
    assert unknown["labels"] == list(ABOUT.classes)
    assert str(unknown["input"]).endswith("as the network's own training had it")
    nothing = {"classes": (), "mean": (), "std": (), "num_classes": None}
    unnamed = formats.metadata(Order(resnet(), ABOUT.model_copy(update=nothing)))
    assert not {"labels", "mean", "std"} & unnamed.keys()


@pytest.mark.parametrize("name", SLOW)
def test_an_int8_file_is_smaller_close_and_says_the_same(written: Write, name: str) -> None:
    (whole, _), (small, _) = written(name), written(name, int8=True)
    assert small.stat().st_size < 0.4 * whole.stat().st_size
    assert 1e-4 < difference(name, small, resnet(), 3) < 0.1
    assert inside(name, small).items() >= inside(name, whole).items()


@pytest.mark.slow
def test_onnx_names_image_batch_and_logits_and_holds_no_norms_or_traces(written: Write) -> None:
    import onnx

    path, remark = written("onnx")
    assert remark.startswith("operators: 7 Conv") and "Norm" not in remark
    graph = onnx.load(path).graph
    sizes = {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert sizes == {"image": ["batch", 3, 8, 8], "logits": ["batch", 10]}
    parts = (*graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output)
    assert not any(part.metadata_props or part.doc_string for part in parts)


def test_a_torch_program_names_image_and_keeps_no_norm_nor_old_weights(written: Write) -> None:
    path, remark = written("torch_export")
    program = torch.export.load(path)
    assert program.graph_signature.user_inputs == ("image",)
    assert remark.startswith("7 batch norms folded")
    assert not any("norm" in str(node.target) for node in program.graph.nodes)
    n_params = sum(p.numel() for p in resnet().parameters())
    assert sum(t.numel() for t in program.state_dict.values()) <= n_params
    assert path.stat().st_size < 4 * n_params + 100_000  # the graph, as text


FOLDED: dict[str, tuple[list[Callable[[Tensor], Tensor]], int]] = {
    "groups": ([nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8)], 1),
    "no affine": ([nn.BatchNorm2d(4, affine=False)], 1),
    "shared": ([Shared()], 2),
    "no convolution": ([nn.ReLU(), nn.BatchNorm2d(4)], 0),
    "transposed": ([nn.ConvTranspose2d(4, 4, 3), nn.BatchNorm2d(4)], 0),
    "statistics of the batch": ([nn.BatchNorm2d(4, track_running_stats=False)], 0),
    "computed weights": ([weight_norm(nn.Conv2d(4, 4, 3)), nn.BatchNorm2d(4)], 0),
}


@pytest.mark.parametrize("kind", FOLDED)
def test_folding_changes_no_output_whatever_a_norm_reads(tmp_path: Path, kind: str) -> None:
    last, folded = FOLDED[kind]
    network, path = trained(After(*last)), tmp_path / "it.pt2"
    (remark,) = torch_export.write(Order(network, ABOUT), path)
    assert remark.startswith(f"{folded} batch norms folded")
    assert difference("torch_export", path, network, 3) < 1e-4


@pytest.mark.slow
def test_executorch_says_what_xnnpack_runs_and_leaves(tmp_path: Path, written: Write) -> None:
    _, remark = written("executorch")
    assert "XNNPACK runs" in remark and remark.endswith("left outside: 4 slice, 1 view")
    order = Order(After(lambda x: F.unfold(x, 2)).eval(), ABOUT, MOST)
    remark, reserved = executorch.write(order, tmp_path / "it.pte")
    assert "left outside" in remark and "4 arange" in remark
    assert reserved.startswith(f"takes 1 to {MOST} images at once, and reserves ")


@pytest.mark.parametrize("name", SLOW)
def test_an_operator_that_a_runtime_lacks_is_named_in_a_sentence(tmp_path: Path, name: str) -> None:
    network = After(torch.linalg.eigvalsh).eval()
    with pytest.raises(SsrError, match=r"^(the network|ExecuTorch) cannot .*linalg_eigh.*\.$"):
        formats.find(name).write(Order(network, ABOUT), tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_cannot_be_traced_is_refused_in_a_sentence(tmp_path: Path) -> None:
    network = After(lambda x: x if x.sum() > 0 else -x).eval()
    with pytest.raises(SsrError, match=r"cannot trace the network for batches of 1 to \d+: \w"):
        torch_export.write(Order(network, ABOUT), tmp_path / "it.pt2")


@pytest.mark.parametrize("name", SLOW)
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    (path := tmp_path / "it").write_bytes(b"nothing")
    with pytest.raises(SsrError, match="cannot load it: "):
        formats.find(name).load(path, threads=1)


@pytest.mark.parametrize("name", ["onnx", "executorch"])
def test_the_extra_of_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SsrError, match=rf"not installed: type pip install 'ssr_exp\[{name}\]'"):
        formats.find(name)
    assert formats.find("torch_export").SUFFIX == ".pt2"
