"""A file does what the network did, and says what its user must know."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ssr_exp.edge import formats
from ssr_exp.edge.formats import Order, executorch, torch_export
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import saved
from ssr_exp.rescaling.resnet import CifarResNet

MOST = 4  # images at once
ABOUT = saved.Description(
    model=saved.Model(name="resnet8"),
    segment=saved.Segmentation(multiple=4),
    network="d1-1-1_w16-32-64",
    num_classes=10,
    input_shape=(3, 8, 8),
    classes=("épée", *"bcdefghij"),
    mean=(0.5, 0.25, 0.125),
    std=(0.5, 0.25, 1.0),
    modifiers=saved.Shares(depth=(1.0, 1.0, 1.0), width=(1.0, 1.0, 1.0)),
)
SLOW = [
    pytest.param("onnx", marks=pytest.mark.slow),
    pytest.param("executorch", marks=pytest.mark.slow),
]
ALL = [*SLOW, "torch_export"]

Write = Callable[..., Path]
Answer = Callable[[Tensor], Tensor]


class Ends(nn.Module):
    """A convolution, and an operator after it."""

    def __init__(self, last: Answer) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.last = last

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.conv(images)).flatten(1)


class Shared(nn.Module):
    """One convolution with two batch norms, and one that a skip reads, too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.stem = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.one, self.other, self.last = (nn.BatchNorm2d(4) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(images)
        x = x + self.last(x)
        return self.other(self.conv(self.one(self.conv(x)))).flatten(1)


def trained(network: nn.Module) -> nn.Module:
    """Give batch norms something to fold."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is not None:
            assert module.running_mean is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            if module.affine:
                nn.init.normal_(module.weight, 1, 0.2)
                nn.init.normal_(module.bias)
    return network.eval()


@cache
def resnet() -> nn.Module:
    torch.manual_seed(0)
    return trained(CifarResNet(8))


def images(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Write ResNet-8, once each: `written("onnx", int8=True)`; remarks lie beside it."""
    folder = tmp_path_factory.mktemp("formats")

    def write(name: str, *, int8: bool = False, most: int = MOST) -> Path:
        found = formats.find(name)
        path = folder / f"{name}-{int8}-{most}{found.SUFFIX}"
        if not path.exists():
            order = Order(resnet(), ABOUT, most, images(33, seed=2) if int8 else None)
            path.with_suffix(".txt").write_text("\n".join(found.write(order, path)))
        return path

    return write


def difference(name: str, path: Path, network: nn.Module, count: int) -> float:
    """Compare a file with PyTorch, as a share of the largest logit."""
    model = formats.find(name).load(path, threads=1)
    with torch.inference_mode():
        expected, found = network(images(count)), model(images(count))
    assert found.shape == expected.shape and found.dtype == torch.float32
    return float((found - expected).abs().max() / expected.abs().max())


def initial(proto: Any) -> set[str]:
    return {node.op_type for node in proto.graph.node}


def test_an_onnx_file_gives_pytorchs_logits_and_folds_the_norms(written: Write) -> None:
    import onnx

    path = written("onnx")
    assert all(difference("onnx", path, resnet(), n) < 1e-4 for n in (1, 3, MOST))
    assert "BatchNormalization" not in initial(onnx.load(path))


@pytest.mark.parametrize("name", ALL)
def test_a_file_gives_pytorchs_logits_for_any_batch(written: Write, name: str) -> None:
    path = written(name)
    assert all(difference(name, path, resnet(), n) < 1e-4 for n in (1, 3, MOST))


@pytest.mark.slow
def test_executorch_takes_no_more_images_than_were_asked_for(written: Write) -> None:
    path = written("executorch", most=1)
    assert difference("executorch", path, resnet(), 1) < 1e-4
    with pytest.raises(RuntimeError):
        formats.find("executorch").load(path, threads=1)(images(2))


@pytest.mark.parametrize("name", SLOW)
def test_an_int8_file_is_smaller_close_and_says_the_same(written: Write, name: str) -> None:
    whole, small = written(name), written(name, int8=True)
    assert small.stat().st_size < 0.6 * whole.stat().st_size
    assert 1e-4 < difference(name, small, resnet(), 3) < 0.1
    assert inside(name, small) == inside(name, whole)


def inside(name: str, path: Path) -> dict[str, object]:
    """Read what a file says, without this package."""
    if name == "onnx":
        import onnx

        texts = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
        return {k: json.loads(v) if v[0] in "[0123456789" else v for k, v in texts.items()}
    if name == "torch_export":
        extra = {torch_export.METADATA: ""}
        torch.export.load(path, extra_files=extra)
        return dict(json.loads(extra[torch_export.METADATA]))
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)
    return dict(json.loads(program.load_method(executorch.METADATA).execute([])[0]))


@pytest.mark.parametrize("name", ALL)
def test_what_its_user_must_know_is_inside(written: Write, name: str) -> None:
    about = inside(name, written(name))
    assert about == formats.metadata(ABOUT)
    assert (about["labels"], about["size"]) == (list(ABOUT.classes), [8, 8])
    assert (about["mean"], about["std"]) == (list(ABOUT.mean), list(ABOUT.std))


@pytest.mark.slow
def test_onnx_names_image_batch_and_logits_and_holds_no_stack_traces(written: Write) -> None:
    import onnx

    graph = onnx.load(written("onnx")).graph
    (image,), (logits,) = graph.input, graph.output
    assert (image.name, logits.name) == ("image", "logits")
    dims = [[d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (image, logits)]
    assert dims == [["batch", 3, 8, 8], ["batch", 10]]
    for part in (*graph.node, *graph.initializer, *graph.value_info, image, logits):
        assert not part.metadata_props and not part.doc_string


def test_a_torch_program_names_image_and_keeps_no_norm_nor_old_weights(written: Write) -> None:
    path = written("torch_export")
    program = torch.export.load(path)
    assert program.graph_signature.user_inputs == ("image",)
    assert not [n for n in program.graph.nodes if "batch_norm" in str(n.target)]
    n_params = sum(p.numel() for p in resnet().parameters())
    assert sum(t.numel() for t in program.state_dict.values()) <= n_params
    assert path.stat().st_size < 4 * n_params + 150_000  # the graph as text
    assert path.with_suffix(".txt").read_text().startswith("9 batch norms folded")


FOLDS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "groups": (lambda: Ends(nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8))), 1),
    "no affine": (lambda: Ends(nn.BatchNorm2d(4, affine=False)), 1),
    "no convolution": (lambda: Ends(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4))), 0),
    "transposed": (lambda: Ends(nn.Sequential(nn.ConvTranspose2d(4, 4, 3), nn.BatchNorm2d(4))), 0),
    "shared": (Shared, 2),
    "batch statistics": (lambda: Ends(nn.BatchNorm2d(4, track_running_stats=False)), 0),
    "computed weights": (
        lambda: Ends(nn.Sequential(weight_norm(nn.Conv2d(4, 4, 3)), nn.BatchNorm2d(4))),
        0,
    ),
}


@pytest.mark.parametrize("kind", FOLDS)
def test_folding_changes_no_output_whatever_the_norm_reads(tmp_path: Path, kind: str) -> None:
    make, folded = FOLDS[kind]
    network, path = trained(make()), tmp_path / "it.pt2"
    (remark,) = torch_export.write(Order(network, ABOUT), path)
    assert remark.startswith(f"{folded} batch norms folded")
    assert difference("torch_export", path, network, 3) < 1e-4


@pytest.mark.slow
def test_executorch_says_what_xnnpack_runs_and_leaves(tmp_path: Path, written: Write) -> None:
    remark = written("executorch").with_suffix(".txt").read_text()
    assert "XNNPACK runs" in remark and f"memory for up to {MOST} images" in remark
    network = Ends(lambda x: F.unfold(x, 2)).eval()
    remark, _ = executorch.write(Order(network, ABOUT), tmp_path / "it.pte")
    assert "XNNPACK runs 4 operators in 2 delegates" in remark
    assert "left outside" in remark and "4 arange" in remark


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "executorch"])
def test_an_operator_that_a_runtime_lacks_is_named_in_a_sentence(tmp_path: Path, name: str) -> None:
    network = Ends(lambda x: torch.linalg.eigvalsh(x)).eval()
    with pytest.raises(SsrError, match=r"^(the network|ExecuTorch) cannot.*linalg_eigh.*[^.]\.$"):
        formats.find(name).write(Order(network, ABOUT), tmp_path / "it")
    assert list(tmp_path.iterdir()) == []


def test_a_network_that_torch_cannot_trace_is_refused_in_a_sentence(tmp_path: Path) -> None:
    network = Ends(lambda x: x if x.sum() > 0 else -x).eval()
    with pytest.raises(SsrError, match=r"cannot trace the network for batches of 1 to \d+: \w"):
        torch_export.write(Order(network, ABOUT), tmp_path / "it.pt2")


@pytest.mark.parametrize("name", SLOW)
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    (path := tmp_path / "it").write_bytes(b"nothing")
    with pytest.raises(SsrError, match="cannot load it: "):
        formats.find(name).load(path, threads=1)


def test_an_unknown_format_is_answered_with_the_allowed_ones() -> None:
    with pytest.raises(SsrError, match=r"format=tflite is none; .*onnx, executorch, torch_export"):
        formats.find("tflite")


@pytest.mark.parametrize("name", ["onnx", "executorch"])
def test_a_missing_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SsrError, match=rf"type pip install 'ssr_exp\[{name}\]'"):
        formats.find(name)
    assert formats.find("torch_export").SUFFIX == ".pt2"


@pytest.mark.parametrize("name", ALL)
def test_a_version_names_the_runtime(name: str) -> None:
    assert formats.find(name).version().split()[-1] and not formats.find(name).version()[0].isdigit()
