from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

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


def test_a_missing_proposal_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(SsrError, match=r"ssr search rounds=0.*modifiers\.file=PATH") as caught:
        proposal.read(tmp_path / "proposed.json")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"networks": []}, "networks: "),
        ({"networks": [""]}, "networks.0: "),
        ({"networks": [3]}, "networks.0: "),
        ({"networks": "d1_w4"}, "networks: "),
        ({"study": None}, "study: "),
        ({"schema_version": 9}, "of version 9"),
    ],
    ids=str,
)
def test_what_is_no_proposal_is_refused_with_a_reason(
    tmp_path: Path, fields: dict[str, Any], why: str
) -> None:
    path = tmp_path / "proposed.json"
    path.write_text(json.dumps(ONE.model_dump(mode="json") | fields))
    with pytest.raises(SsrError) as caught:
        proposal.read(path)
    said = str(caught.value)
    assert str(path) in said and why in said and "ssr search rounds=0" in said
    assert "\n" not in said


@pytest.mark.parametrize("networks", [(), ("",)])
def test_an_empty_proposal_is_not_made(networks: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="networks"):
        Proposal(study="s", networks=networks, created_at="now")
