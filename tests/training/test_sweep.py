from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssr_exp.config import Config
from ssr_exp.datasets import reading
from ssr_exp.errors import SsrError
from ssr_exp.runs import proposal, store
from ssr_exp.runs.proposal import Proposal
from ssr_exp.runs.record import Record, Status
from ssr_exp.runs.store import Store
from ssr_exp.training import sweep
from ssr_exp.training.sweep import Member
from tests.datasets.pictures import fill

Compose = Callable[..., Config]
MakeRecord = Callable[..., Record]


@pytest.fixture
def expand(conf: Compose) -> Callable[..., list[Member]]:
    """Expand command lines, each one string."""
    return lambda *lines: sweep.expand((line.split(), conf(*line.split())) for line in lines)


def networks(members: list[Member]) -> list[str]:
    return [member.folder.parent.name for member in members]


def test_modifiers_stand_for_one_run_a_network(expand: Callable[..., list[Member]]) -> None:
    for line, count in {
        "modifiers=baseline": 1,
        "model=resnet20 modifiers=sentinel_all": 22,
        "modifiers=random modifiers.count=5": 5,
    }.items():
        members = expand(line)
        assert len(set(networks(members))) == len(members) == count


def test_each_model_has_its_own_runs(expand: Callable[..., list[Member]]) -> None:
    members = expand(*(f"model={m} modifiers=sentinel_all" for m in ("resnet20", "resnet8")))
    studies = [member.folder.parents[1].name.partition("-")[0] for member in members]
    assert studies == ["resnet20"] * 22 + ["resnet8"] * 8


def test_a_run_that_two_configurations_name_is_made_once(
    expand: Callable[..., list[Member]],
) -> None:
    baseline, all_of_them = expand("modifiers=baseline"), expand("modifiers=sentinel_all")
    both = expand("modifiers=sentinel_all", "modifiers=baseline", "modifiers=sentinel_width")
    assert networks(both) == networks(all_of_them)
    assert baseline[0].folder == all_of_them[0].folder


def test_seeds_and_recipes_make_runs_of_their_own(expand: Callable[..., list[Member]]) -> None:
    members = expand("seed=0", "seed=1", "seed=0 recipe.lr=0.05", "seed=0 trainer.threads=1")
    assert len(members) == 3


def test_a_members_command_line_trains_it_alone(
    expand: Callable[..., list[Member]], conf: Compose
) -> None:
    for member in expand("model=resnet14 modifiers=sentinel_width modifiers.low_width=0.5 seed=3"):
        assert member.overrides[0] == "model=resnet14"
        assert not any("low_width" in word for word in member.overrides)
        (alone,) = sweep.expand([(member.overrides, conf(*member.overrides))])
        assert alone.folder == member.folder


def origins(members: list[Member]) -> list[str]:
    return [
        word.removeprefix("origin=")
        for member in members
        for word in member.overrides
        if word.startswith("origin=")
    ]


@pytest.mark.slow
def test_a_member_is_told_why_it_is_trained_alone(
    expand: Callable[..., list[Member]], conf: Compose
) -> None:
    """Alone, its modifiers are explicit: that would not say where it comes from."""
    members = expand("modifiers=uniform_width", "modifiers=sentinel_width seed=1")
    assert origins(members) == ["uniform_width"] * 3 + ["sentinel_width"] * 7
    for member in members:
        (alone,) = sweep.expand([(member.overrides, conf(*member.overrides))])
        assert origins([alone])[-1] == origins([member])[-1]
        assert conf(*member.overrides).modifiers.kind == "explicit"


def test_a_run_that_two_configurations_name_is_of_the_first_ones_kind(
    expand: Callable[..., list[Member]],
) -> None:
    both = expand("modifiers=baseline", "modifiers=sentinel_all")
    assert origins(both) == ["baseline"] + ["sentinel_all"] * 7


def test_what_is_typed_goes_before_the_kind(expand: Callable[..., list[Member]]) -> None:
    for member in expand("modifiers=uniform_width origin=round3"):
        assert [word for word in member.overrides if "origin" in word][-1] == "origin=round3"


def test_why_a_network_is_trained_does_not_change_its_run(
    expand: Callable[..., list[Member]],
) -> None:
    for origin in ("round3", "my-own_1", "x" * 40):
        (own,), (plain,) = expand(f"origin={origin}"), expand("modifiers=baseline")
        assert own.folder == plain.folder  # the study is in it


@pytest.mark.parametrize(
    "origin", ["x" * 41, "a.b", "a/b", "two words", "", "\u00e9", "a\n", " a"], ids=repr
)
def test_an_origin_that_is_no_name_is_refused_in_a_sentence(conf: Compose, origin: str) -> None:
    asked = conf()
    asked.origin = origin
    with pytest.raises(SsrError, match=r"is no name: type up to 40 letters") as caught:
        sweep.expand([((), asked)])
    assert str(caught.value).startswith("origin=")


def test_proposed_networks_are_a_run_each_and_stay_so_when_others_are_proposed(
    expand: Callable[..., list[Member]], conf: Compose, tmp_path: Path
) -> None:
    codes = ("d1-1-1_w4-16-16", "d1-1-1_w16-8-16")
    study = expand("modifiers=baseline")[0].folder.parents[1].name
    one = Proposal(study=study, networks=codes, created_at="now")
    file = proposal.write(Store(tmp_path / "elsewhere"), one)
    members = expand(f"modifiers=proposed modifiers.file={file}")
    assert networks(members) == list(codes)
    file.unlink()
    for member in members:
        (alone,) = sweep.expand([(member.overrides, conf(*member.overrides))])
        assert alone.folder == member.folder
        after = conf("modifiers=proposed", f"modifiers.file={file}", *member.overrides)
        assert after.modifiers.file is None  # as an experiment's own would be


def test_nothing_is_an_error(expand: Callable[..., list[Member]]) -> None:
    with pytest.raises(SsrError, match="stands for no run"):
        expand()


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_trained(
    expand: Callable[..., list[Member]], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SsrError, match=r"cannot write to .*file/runs.*paths\.runs=DIR"):
        expand(f"paths.runs={tmp_path}/file/runs")


def test_what_is_done_is_not_pending(
    expand: Callable[..., list[Member]], make_record: MakeRecord
) -> None:
    members = expand("modifiers=sentinel_all")
    for member, status in zip(members, Status, strict=False):
        member.store.write(member.folder, make_record(status=status))
    (members[3].folder).mkdir(parents=True)
    (members[3].folder / store.RECORD_FILE).write_text('{"schema_version": 9')
    order = list(Status)
    assert sweep.to_train(members) == [members[order.index(Status.failed)], *members[3:]]


def test_a_run_is_busy_if_it_was_refused_as_such_and_is_not_done(
    expand: Callable[..., list[Member]], make_record: MakeRecord
) -> None:
    members = expand("modifiers=sentinel_all")[:4]
    new, failed, finished, other = members
    failed.store.write(failed.folder, make_record(status=Status.failed))
    finished.store.write(finished.folder, make_record())
    refused = {member.folder: store.BUSY for member in (new, failed, finished)}
    assert sweep.busy(members, {**refused, other.folder: ValueError("odd")}) == [new, failed]


def test_problems_are_failed_runs_and_lost_ones(
    expand: Callable[..., list[Member]], make_record: MakeRecord
) -> None:
    finished, failed, diverged, lost, raised = members = expand("modifiers=sentinel_all")[:5]
    finished.store.write(finished.folder, make_record())
    failed.store.write(failed.folder, make_record(status=Status.failed, error="it broke"))
    diverged.store.write(diverged.folder, make_record(status=Status.diverged, error="nan"))
    assert sweep.problems(members, {raised.folder: "no GPU", finished.folder: "late"}) == [
        f"{failed.title}: it broke",
        f"{lost.title}: it left no record",
        f"{raised.title}: no GPU",
    ]


def test_a_sweep_says_it_once_for_each_data_set(
    conf: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fill(tmp_path / "set", count=15)
    named = ("dataset=image_folder", f"dataset.root={root}", f"paths.data={tmp_path}/data")
    asked: list[Any] = [
        ([], conf(*words, f"seed={seed}")) for words in ((), named) for seed in (0, 1)
    ]
    members = sweep.expand(asked)
    reading.print_all(member.reading for member in members if member.reading is not None)
    printed = capsys.readouterr().out
    assert printed.count("image_folder: 45 images") == 1
    assert printed.count("digits: 1,797 images of 10 classes") == 1
