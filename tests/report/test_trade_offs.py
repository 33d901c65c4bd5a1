from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssr_exp.report import trade_offs
from ssr_exp.runs.record import Record, Status

MakeRecord = Callable[..., Record]


def printed(capsys: pytest.CaptureFixture[str], records: list[Record]) -> str:
    capsys.readouterr()
    trade_offs.print_trade_offs(records)
    return capsys.readouterr().out


def row(text: str, network: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if f" {network} " in line]
    return [cell.strip() for cell in re.split(r"[│|]", line)[1:-1]]


def test_a_row_shows_the_shares_of_the_baseline(
    capsys: pytest.CaptureFixture[str], make_record: MakeRecord
) -> None:
    one = make_record(params=2500, baseline_params=10_000, macs=500_000, baseline_macs=4_000_000)
    shown = "d3-1-3_w16-32-64 *|2,500|25.0%|0.50M|12.5%|17|97.50|0|12.2"
    assert row(printed(capsys, [one]), one.network) == shown.split("|")


def test_the_most_accurate_network_comes_first_and_what_has_no_accuracy_last(
    capsys: pytest.CaptureFixture[str], make_record: MakeRecord
) -> None:
    runs = [
        make_record(network="n1", val_acc=None, status=Status.failed, error="it broke"),
        make_record(network="n2", val_acc=50.0),
        make_record(network="n3", val_acc=90.0),
        make_record(network="n4", val_acc=0.0),
        make_record(network="n5", val_acc=None, status=Status.diverged, error="nan"),
    ]
    text = printed(capsys, runs)
    order = re.findall(r" (n\d) ", text)
    assert order[:3] == ["n3", "n2", "n4"]
    assert row(text, "n1")[6] == "failed"
    assert row(text, "n5")[6] == "diverged"


def test_the_test_accuracy_has_a_column_only_if_one_was_measured(
    capsys: pytest.CaptureFixture[str], make_record: MakeRecord
) -> None:
    one = make_record()
    assert "test acc" not in printed(capsys, [one])
    other = make_record(network="n2", test_acc=88.125)
    text = printed(capsys, [one, other])
    assert row(text, "n2")[7] == "88.12"
    assert row(text, one.network)[7] == ""


def test_each_study_has_a_table_of_its_own(
    capsys: pytest.CaptureFixture[str], make_record: MakeRecord
) -> None:
    runs = [make_record(study=s, network=f"in-{s}") for s in ("mnist-1", "mnist-2")]
    runs.append(make_record(study="mnist-1", network="also-in-mnist-1", val_acc=1.0))
    text = printed(capsys, runs)
    first, second = text[: text.index(" mnist-2 ")], text[text.index(" mnist-2 ") :]
    assert re.findall(r" (\S*in-\S+)", first) == ["in-mnist-1", "also-in-mnist-1"]
    assert re.findall(r" (\S*in-\S+)", second) == ["in-mnist-2"]


def test_nothing_is_printed_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, []) == ""


@pytest.mark.parametrize("columns", ["", "20", "400"])
def test_a_pipe_gets_whole_lines_and_no_control_characters(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make_record: MakeRecord,
    columns: str,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", columns)
    four = make_record(
        network="d36-1-36-36_w2048-1024-512-256",
        blocks=(36, 1, 36, 36),
        widths=(2048, 1024, 512, 256),
        params=60_192_808,
        baseline_params=60_192_808,
        macs=11_500_000_000,
        baseline_macs=11_500_000_000,
        test_acc=91.0,
        wall_s=36_000.0,
    )
    text = printed(capsys, [four])
    assert all(character.isprintable() for character in text.replace("\n", ""))
    assert "…" not in text
    assert row(text, four.network)[-1] == "36000.0"


def test_brackets_and_colons_in_a_record_are_text(
    capsys: pytest.CaptureFixture[str], make_record: MakeRecord
) -> None:
    text = printed(capsys, [make_record(study="a[bold]", network="[/x]:smile:")])
    assert "[/x]:smile:" in text
    assert "a[bold]" in text


# The front

run = st.tuples(
    st.integers(1, 6),
    st.sampled_from([None, 0.0, 10.0, 10.5, 50.0, 100.0]),
    st.sampled_from(Status),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(runs=st.lists(run, max_size=12))
def test_the_front_is_what_no_other_record_beats(
    make_record: MakeRecord, runs: list[tuple[int, float | None, Status]]
) -> None:
    records = [
        make_record(network=f"n{seed}", params=params, val_acc=accuracy, status=status, seed=seed)
        for seed, (params, accuracy, status) in enumerate(runs)
    ]
    able = [r for r in records if r.status is Status.finished and r.val_acc is not None]
    expected = {r.seed for r in able if not any(beats(other, r) for other in able)}
    kept = trade_offs.front(records)
    assert {r.seed for r in kept} == expected
    assert len(kept) == len(expected)
    assert {r.seed for r in trade_offs.front(records[::-1])} == expected


def beats(one: Record, other: Record) -> bool:
    assert one.val_acc is not None and other.val_acc is not None
    no_worse = one.params <= other.params and one.val_acc >= other.val_acc
    return no_worse and (one.params, one.val_acc) != (other.params, other.val_acc)


def test_a_star_marks_the_front(
    capsys: pytest.CaptureFixture[str], make_record: MakeRecord
) -> None:
    runs = [
        make_record(network="big", params=100, val_acc=90.0),
        make_record(network="small", params=10, val_acc=80.0),
        make_record(network="beaten", params=50, val_acc=79.0),
        make_record(network="broken", params=1, val_acc=None, status=Status.failed),
    ]
    starred = re.findall(r"(\w+) \*", printed(capsys, runs).partition("\n")[2])
    assert starred == ["big", "small"]


def test_a_network_is_on_the_front_by_the_mean_over_its_seeds_and_stands_there_once(
    capsys: pytest.CaptureFixture[str], make_record: MakeRecord
) -> None:
    lucky = [
        make_record(network="lucky", params=90, val_acc=score, seed=seed, baseline_params=100)
        for seed, score in enumerate((99.0, 50.0))
    ]
    runs = [
        make_record(network="big", params=100, val_acc=90.0, baseline_params=100),
        make_record(network="steady", params=80, val_acc=80.0, baseline_params=100),
        make_record(network="steady", params=80, val_acc=81.0, seed=1, baseline_params=100),
        *lucky,
    ]
    assert [r.network for r in trade_offs.front(runs)] == ["steady", "steady", "big"]
    assert [one.mean for one in trade_offs.networks_on_front(runs)] == [80.5, 90.0]
    trade_offs.print_front(runs, answer="")
    text = capsys.readouterr().out
    assert row(text, "steady") == ["steady", "80.0%", "80.50 +- 0.71"]
    assert "lucky" not in text
    starred = re.findall(r"(\w+) \*", printed(capsys, runs).partition("\n")[2])
    assert sorted(starred) == ["big", "steady", "steady"]


def test_a_star_compares_with_the_whole_study_and_the_title_counts_it(
    capsys: pytest.CaptureFixture[str], make_record: MakeRecord
) -> None:
    mine = make_record(network="mine", params=100, val_acc=50.0)
    better = make_record(network="better", params=90, val_acc=60.0)
    trade_offs.print_trade_offs([mine], all_records=[mine, better])
    text = capsys.readouterr().out
    assert "1 of 2 runs" in text
    assert "mine *" not in text


def test_a_finished_run_without_val_shows_an_empty_cell_and_is_on_no_front(
    capsys: pytest.CaptureFixture[str], make_record: MakeRecord
) -> None:
    unmeasured = {"val_acc": None, "val_loss": None, "best_val_acc": None}
    big = make_record(network="big", params=100, test_acc=91.0, **unmeasured)
    small = make_record(network="small", params=10, test_acc=90.0, **unmeasured)
    text = printed(capsys, [big, small])
    assert [row(text, name)[6:8] for name in ("small", "big")] == [["", "90.00"], ["", "91.00"]]
    assert "finished" not in text
    assert trade_offs.front([big, small]) == []
    mixed = [big, make_record(network="searched"), small]
    assert [r.network for r in trade_offs.front(mixed)] == ["searched"]
    assert re.findall(r" (big|small|searched) ", printed(capsys, mixed)) == [
        "searched",
        "small",
        "big",
    ]


def test_the_front_of_a_search_leaves_the_answers_figures_to_its_block(
    capsys: pytest.CaptureFixture[str], make_record: MakeRecord
) -> None:
    runs = [
        make_record(network="big", params=100, baseline_params=100, val_acc=90.0),
        make_record(network="small", params=10, baseline_params=100, val_acc=80.0),
        make_record(network="beaten", params=50, baseline_params=100, val_acc=79.0),
    ]
    trade_offs.print_front(runs, answer="small")
    text = capsys.readouterr().out
    assert row(text, "big") == ["big", "100.0%", "90.00"]
    assert row(text, "small") == ["small  the answer: below", "", ""]
    assert "beaten" not in text


def test_the_front_is_of_the_cost_that_the_search_trades(
    capsys: pytest.CaptureFixture[str], make_record: MakeRecord
) -> None:
    full = {"baseline_params": 100, "baseline_macs": 1000}
    runs = [
        make_record(network="big", params=100, macs=1000, val_acc=90.0, **full),
        make_record(network="narrow", params=10, macs=900, val_acc=80.0, **full),
        make_record(network="shallow", params=50, macs=100, val_acc=80.0, **full),
    ]
    assert [r.network for r in trade_offs.front(runs)] == ["narrow", "big"]
    assert [r.network for r in trade_offs.front(runs, "macs")] == ["shallow", "big"]
    trade_offs.print_front(runs, answer="", cost="macs")
    text = capsys.readouterr().out
    assert "none with fewer MACs" in " ".join(text.split())
    assert row(text, "shallow") == ["shallow", "10.0%", "80.00"]
    times = [r.model_copy(update={"latency_ms": ms}) for r, ms in zip(runs, (5, 1, 2), strict=True)]
    trade_offs.print_front(times, answer="", cost="latency_ms")
    text = capsys.readouterr().out
    assert "none with a lower latency" in " ".join(text.split())
    assert row(text, "narrow") == ["narrow", "1", "80.00"]
    devices = [
        r.model_copy(update={"latency_device": d}) for r, d in zip(times, "aab", strict=True)
    ]
    assert trade_offs.traded(devices[:2], "latency_ms") == "latency_ms"
    assert trade_offs.traded(devices, "latency_ms") == "params"
    trade_offs.print_front(runs, answer="", cost="latency_ms")  # nobody measured it
    assert "none with fewer parameters" in " ".join(capsys.readouterr().out.split())


def test_networks_of_many_segments_are_shortened_and_told_apart(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    make_record: MakeRecord,
) -> None:
    blocks = [[3] * 50, [3] * 30 + [2] + [3] * 19, [n % 3 + 1 for n in range(50)]]
    blocks.append([*blocks[2][:-1], 3])
    codes = [f"d{'-'.join(map(str, one))}_w{'-'.join(['16', '32'] * 25)}" for one in blocks]
    text = printed(capsys, [make_record(network=one, seed=n) for n, one in enumerate(codes)])
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert len({line.split("│")[1].strip(" *") for line in rows}) == 4
    assert max(map(len, rows)) < 150


def test_the_heading_says_that_a_star_goes_by_means_where_networks_have_several_seeds(
    make_record: MakeRecord,
) -> None:
    one = make_record(seed=0)
    assert "by the mean" not in str(trade_offs.trade_offs("s", [one]).title)
    both = [one, make_record(seed=1)]
    assert "is as accurate, by the mean over seeds)" in str(trade_offs.trade_offs("s", both).title)
