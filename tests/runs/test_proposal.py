from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.runs import proposal
from ssr_exp.runs.proposal import Proposal
from ssr_exp.runs.store import Store

ONE = Proposal(
    study="resnet20-digits-0a1b2c3d",
    networks=("d3-1-3_w16-32-64", "d1-1-1_w4-8-16"),
    created_at="2026-01-01T00:00:00+00:00",
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def test_what_is_written_is_read(store: Store) -> None:
    where = proposal.write(store, ONE)
    assert where == proposal.path(store, ONE.study)
    assert where == store.root / ONE.study / "search" / "proposed.json"
    assert proposal.read(where) == ONE
    assert [path.name for path in where.parent.iterdir()] == [where.name]


text = st.text(st.characters(codec="utf-8"), max_size=20)


@given(study=text, networks=st.lists(text.filter(bool), min_size=1), created_at=text)
def test_any_proposal_survives_its_json(study: str, networks: list[str], created_at: str) -> None:
    one = Proposal(study=study, networks=tuple(networks), created_at=created_at)
    written = json.dumps(one.model_dump(mode="json")).encode()
    assert files.parse(written, Proposal, version=1) == one


def test_a_proposal_replaces_the_one_before_and_no_other_studys(store: Store) -> None:
    other = ONE.model_copy(update={"study": "another"})
    proposal.write(store, other)
    proposal.write(store, ONE)
    last = ONE.model_copy(update={"networks": ("d1-1-1_w4-8-16",)})
    assert proposal.read(proposal.write(store, last)) == last
    assert proposal.read(proposal.path(store, "another")) == other


def test_a_proposal_is_no_run(store: Store) -> None:
    proposal.write(store, ONE)
    assert store.records() == []


@pytest.mark.parametrize("study", ["../..", "/etc", "a/b", ""])
def test_no_study_leaves_the_folder(store: Store, study: str) -> None:
    where = proposal.path(store, study)
    assert where.resolve().is_relative_to(store.root.resolve())
    assert len(where.relative_to(store.root).parts) == 3


def test_a_write_that_fails_leaves_the_old_proposal(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    where = proposal.write(store, ONE)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SsrError, match=r"the disk is full.*paths\.runs=DIR"):
        proposal.write(store, ONE.model_copy(update={"networks": ("d1-1-1_w4-8-16",)}))
    assert proposal.read(where) == ONE
    assert [path.name for path in where.parent.iterdir()] == [where.name]


def test_a_missing_proposal_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SsrError, match=r"search\.py rounds=0.*modifiers\.file=PATH") as caught:
        proposal.read(tmp_path / "proposed.json")
    assert str(tmp_path) in str(caught.value)


WHOLE: dict[str, Any] = ONE.model_dump(mode="json")
UNUSABLE = {
    "empty": (b"", "no whole JSON"),
    "cut short": (json.dumps(WHOLE).encode()[:-9], "no whole JSON"),
    "nested without end": (b"[" * 100_000, "no whole JSON"),
    "binary": (bytes(range(256)), "no whole JSON"),
    "a list": (b"[]", "it holds no JSON object"),
    "a record": (
        b'{"schema_version": 1, "study": "s", "network": "n"}',
        "networks: field required",
    ),
    "of a future version": (json.dumps(WHOLE | {"schema_version": 9}).encode(), "of version 9"),
    "of no network": (json.dumps(WHOLE | {"networks": []}).encode(), "networks: "),
    "of an empty code": (json.dumps(WHOLE | {"networks": [""]}).encode(), "networks.0: "),
    "of a number": (json.dumps(WHOLE | {"networks": [3]}).encode(), "networks.0: "),
    "of one string": (json.dumps(WHOLE | {"networks": "d1_w4"}).encode(), "networks: "),
    "of no study": (json.dumps(WHOLE | {"study": None}).encode(), "study: "),
}


@pytest.mark.parametrize(("content", "why"), UNUSABLE.values(), ids=list(UNUSABLE))
def test_what_is_no_proposal_is_refused_with_a_reason(
    tmp_path: Path, content: bytes, why: str
) -> None:
    path = tmp_path / "proposed.json"
    path.write_bytes(content)
    with pytest.raises(SsrError) as caught:
        proposal.read(path)
    said = str(caught.value)
    assert str(path) in said and why in said and "search.py rounds=0" in said
    assert "\n" not in said


def test_a_folder_is_no_proposal(tmp_path: Path) -> None:
    with pytest.raises(SsrError, match="no proposal that can be used"):
        proposal.read(tmp_path)


@pytest.mark.parametrize("networks", [(), ("",)])
def test_an_empty_proposal_is_not_made(networks: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="networks"):
        Proposal(study="s", networks=networks, created_at="now")
