"""Networks of other signatures than one image go from a study to a verified file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import signatures
import torch

from ssr_exp import Score, Study
from ssr_exp.edge.__main__ import main as edge

NETWORKS: dict[str, tuple[Any, Any, tuple[str, ...], str]] = {
    "sound": (signatures.Sound, torch.rand(2, 1, 2000), ("image",), "output"),
    "volume": (signatures.Volume, torch.rand(1, 1, 8, 8, 8), ("image",), "output"),
    "patient": (signatures.Patient, signatures.patient(), ("image", "numbers"), "logits"),
    "masked": (signatures.Masked, signatures.masked(), ("image", "mask"), "output"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["volume", *(pytest.param(n, marks=pytest.mark.more) for n in ("patient", "sound", "masked"))],
)
def test_a_network_of_any_signature_is_searched_measured_and_exported(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, example, inputs, output = NETWORKS[name]
    study = Study(
        make,
        example,
        name=name,
        score=Score("dice", "max", bounds=(0, 1)),
        runs=tmp_path,
        sentinels="sentinel_width",
        together=1,
        rounds=1,
        batch=1,
        max_drop=0.5,
    )
    while candidate := study.ask():
        with torch.no_grad():
            for parameter in candidate.network.parameters():
                parameter.add_(0.01)
        study.tell(candidate, 0.9 - 0.1 / candidate.cost.params)
    answer = study.answer()
    assert answer.cost.params < answer.baseline_cost.params
    folder = study.export("onnx")
    told = json.loads((folder / "export.json").read_text())
    assert told
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert tuple(each.name for each in session.get_inputs()) == inputs
    assert session.get_outputs()[0].name == output
    args, kwargs = study.plan.inputs.make(3)
    tensors = torch.utils._pytree.tree_leaves((args, kwargs))
    feed = {each: tensor.numpy() for each, tensor in zip(inputs, tensors, strict=True)}
    (ours,) = session.run([output], feed)
    with torch.no_grad():
        theirs = study.trained(answer.code)(*args, **kwargs)
    theirs = theirs["logits"] if isinstance(theirs, dict) else theirs
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-5)
    capsys.readouterr()
    words = [str(study.folder), "--trust", "--runtime", "onnxruntime", "--repeats", "2"]
    assert edge(words) == 0
    assert answer.code in capsys.readouterr().out
    assert name in study.page().read_text()
