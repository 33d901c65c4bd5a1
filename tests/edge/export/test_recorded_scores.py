"""A score that is not the training's is said, with a cause that the record bears out."""

from __future__ import annotations

import pytest

from ssr_exp.edge.export import recorded_scores
from ssr_exp.runs import provenance
from ssr_exp.runs.record import NOT_TOLD, Record
from tests.conftest import MakeRecord

HERE = {"torch": "2.15.0", "python": "3.11.7"}


@pytest.fixture
def trained(make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch) -> MakeRecord:
    """Make records of this machine: `trained(precision="bf16-mixed")`."""
    monkeypatch.setattr(provenance, "versions", lambda: HERE)
    monkeypatch.setattr(provenance, "processor", lambda: "a processor")

    def make(**fields: object) -> Record:
        same = {"val_acc": 90.0, "test_acc": 51.67, "versions": HERE, "device": "a processor, 1"}
        return make_record(**(same | fields))

    return make


@pytest.mark.parametrize(
    ("fields", "said", "unsaid"),
    [
        ({"precision": "bf16-mixed"}, "measured in bf16-mixed, and the files are float32", "had"),
        ({"versions": HERE | {"torch": "2.11.0"}}, "had torch 2.11.0 (here 2.15.0)", "float32"),
        ({"versions": HERE | {"x": "1"}}, "the training had x 1 (here not installed)", "float32"),
        ({"device": "H200"}, "the training measured on H200", "had"),
        ({}, "its precision, versions and device name no cause", "had"),
        ({"precision": NOT_TOLD, "device": NOT_TOLD}, "name no cause", NOT_TOLD),
    ],
)
def test_only_what_was_another_is_named_as_a_cause(
    trained: MakeRecord, fields: dict[str, object], said: str, unsaid: str
) -> None:
    (sentence,) = recorded_scores.differences(trained(**fields), {"val": 90.0, "test": 52.5})
    start = "PyTorch measures test acc 52.50 % here, and the record says 51.67 %: "
    assert sentence.startswith(start) and said in sentence and unsaid not in sentence


def test_what_is_shown_as_the_same_number_is_no_difference(trained: MakeRecord) -> None:
    same = {"val": 90.0001, "test": None, "drawn": 3.0}
    assert not list(recorded_scores.differences(trained(), same))
    near = {"val": 90.5}
    assert len(list(recorded_scores.differences(trained(), near))) == 1
    assert not list(recorded_scores.differences(trained(), near, tolerance=0.01))
