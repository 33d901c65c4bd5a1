from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import wandb as client
import wandb_stub
from wandb_stub import KEY, Stub

from ssr_exp.config import LoggerConf, WandbMode
from ssr_exp.errors import SsrError
from ssr_exp.report import dashboard, panels
from ssr_exp.report.dashboard import Published
from ssr_exp.report.panels import Facts
from ssr_exp.runs.record import Fractions, Record
from ssr_exp.runs.wandb import charts as wandb_charts

MakeRecord = Callable[..., Record]

STUDY = "resnet20-digits-0a1b2c3d"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    wandb_stub.isolate(tmp_path, monkeypatch)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    client.teardown()
    yield
    client.teardown()
    assert list((tmp_path / "here").iterdir()) == []


@pytest.fixture
def records(make_record: MakeRecord) -> list[Record]:
    low = Fractions(depth=(1.0, 1 / 3, 1.0), width=(0.25, 1.0, 0.25))
    full = Fractions(depth=(1.0, 1.0, 1.0), width=(1.0, 1.0, 1.0))
    return [
        make_record(study=STUDY, modifiers=full, network="d3-3-3_w16-32-64"),
        make_record(study=STUDY, modifiers=low, origin="round1", latency_ms=0.5, test_acc=96.0),
        make_record(study="another", modifiers=low, origin="round1"),
    ]


def publish(records: Sequence[Record], **fields: Any) -> Published:
    logger = LoggerConf(**({"timeout_s": 60} | fields))
    return dashboard.publish(records, logger=logger, study=STUDY, searched=True, best=records[1])


def refusal(records: Sequence[Record], **fields: Any) -> str:
    with pytest.raises(SsrError) as caught:
        publish(records, **fields)
    said = str(caught.value)
    assert "\n" not in said
    assert KEY not in said
    return said


def found(spec: Any, kind: str) -> list[dict[str, Any]]:
    """List the panels of a kind, wherever they are in a specification."""
    if isinstance(spec, list):
        return [panel for part in spec for panel in found(part, kind)]
    if not isinstance(spec, dict):
        return []
    own = [spec["config"]] if spec.get("viewType") == kind else []
    return own + found(list(spec.values()), kind)


# What is shown


@pytest.mark.slow
def test_workspace_and_report_arrive_and_say_where(server: Stub, records: list[Record]) -> None:
    told = publish(records)
    assert told.workspace.startswith(f"{server.url}/someone/ssr_exp?nw=")
    assert told.report.startswith(f"{server.url}/someone/ssr_exp/reports/ssr_exp-{STUDY}--")
    assert {view["type"] for view in server.views} == {"project-view", "runs"}
    for view in server.views:
        assert (view["entityName"], view["projectName"]) == ("someone", "ssr_exp")
        scatters = found(view["spec"], "Scatter Plot")
        axes = [(one["xAxis"], one["yAxis"], one["xAxisLogScale"]) for one in scatters]
        costs = ("params", "macs", "gemms", "latency_ms")
        assert axes == [(f"summary:{cost}", "summary:val_acc", True) for cost in costs]
        (parallel,) = found(view["spec"], "Parallel Coordinates Plot")
        assert [column["accessor"] for column in parallel["columns"]] == [
            "config:depth_2.value",
            "config:width_1.value",
            "config:width_3.value",
            "summary:params",
            "summary:val_acc",
        ]
        charts = found(view["spec"], "Vega2")
        assert [one["panelDefId"] for one in charts] == [c.form for c in wandb_charts.ALL]
        assert all(chart.table in json.dumps(charts) for chart in wandb_charts.ALL)
    # The report sets sentinels beside proposals and names the best.
    (spec,) = [view["spec"] for view in server.views if view["type"] == "runs"]
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    kinds = [
        [item["value"] for runset in grid["runSets"] for item in runset["filters"]["filters"]]
        for grid in grids
    ]
    assert kinds[0] == [STUDY, [k.value for k in panels.FIRST], STUDY, ["proposed"]]
    assert kinds[1] == kinds[0]
    assert kinds[2] == [STUDY, ["search"]]
    assert kinds[3] == [STUDY, ["finalist"]]
    text = json.dumps(spec)
    assert records[1].network in text
    assert f"someone/ssr_exp/best-{STUDY}:best" in text
    assert "test acc 96.00 %" in text


def test_what_a_study_lacks_is_not_drawn(make_record: MakeRecord) -> None:
    known = dashboard.gather(
        [make_record(study=STUDY)], entity="lab", project="theirs", study=STUDY
    )
    assert known == Facts("lab", "theirs", STUDY)
    view = dashboard.workspace(known)
    assert [section.name for section in view.sections] == ["Accuracy against cost", "Training"]


def test_many_segments_show_as_many_axes_as_can_be_told_apart(make_record: MakeRecord) -> None:
    made = [
        make_record(study=STUDY, modifiers=Fractions(depth=(share,) * 30, width=(share,) * 30))
        for share in (0.5, 1.0)
    ]
    known = dashboard.gather(made, entity="lab", project="theirs", study=STUDY)
    assert len(known.axes) == dashboard.MOST_AXES


def test_any_name_is_one_value_of_a_filter_or_a_sentence() -> None:
    use = panels.client()
    for name in ("plain", "a'b", 'a"b', "a and b", "ünï", "a\\b", "a') or ('b"):
        read = use.expr.expr_to_filters(panels.filters(use, name, ["search"]))
        assert [one.value for one in read.filters] == [name, ["search"]]
        assert use.expr.expr_to_filters(panels.filters(use, name)).value == name
    for name in ("a=b", "a<b", "x' and Metric('Group') = 'y"):
        with pytest.raises(SsrError, match=r"W&B's filters cannot name study .*: type to=page\.$"):
            panels.filters(use, name)


# Trouble


def test_without_its_library_it_says_what_to_install(
    records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [n for n in sys.modules if n.startswith("wandb_workspaces")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert refusal(records).endswith("type pip install 'ssr_exp[dashboards]'.")


def test_a_key_that_is_missing_is_a_sentence(
    server: Stub, records: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "")
    said = refusal(records)
    assert said.startswith("cannot publish to W&B: there is no API key here")
    assert said.endswith("or to=page.")
    assert server.views == []


def test_a_project_that_is_not_there_is_a_sentence_and_is_not_made(
    server: Stub, records: list[Record]
) -> None:
    said = refusal(records, entity="lab", project="nothing")
    assert "no project lab/nothing for this account" in said
    assert "type logger.entity=NAME logger.project=NAME" in said
    assert server.views == []


def test_no_records_are_a_sentence(server: Stub, make_record: MakeRecord) -> None:
    with pytest.raises(SsrError, match=f"^no record is of study {re.escape(STUDY)}"):
        dashboard.publish([], logger=LoggerConf(timeout_s=60), study=STUDY)


def test_disabled_publishes_nothing(server: Stub, records: list[Record]) -> None:
    assert "to=wandb needs W&B" in refusal(records, mode=WandbMode.disabled)
    assert server.questions == []
