"""`ssr studies`: what is typed, what it prints, what it removes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ssr_exp import errors, messages
from ssr_exp.app.studies.__main__ import main
from ssr_exp.errors import SsrError
from ssr_exp.report import page, page_data
from ssr_exp.runs import leases, removal, studies, study_names
from ssr_exp.runs.record import FINALIST, Status
from ssr_exp.runs.store import CONFIG_FILE, LAST_CHECKPOINT, Store
from ssr_exp.runs.study_names import Asked
from tests.conftest import ROOT, Ended, MakeRecord

Capsys = pytest.CaptureFixture[str]
Studies = Callable[..., Ended]
FIRST, SECOND = "resnet20-digits-0a1b2c3d", "resnet20-digits-0aff00ff"


@pytest.fixture
def store(tmp_path: Path, make_record: MakeRecord) -> Store:
    """Two studies that differ in the learning rate; of the first one a run failed."""
    store = Store(tmp_path / "runs")
    for study, lr, score in ((FIRST, 0.1, 90.0), (SECOND, 0.05, 91.0)):
        record = make_record(study=study, score=score)
        folder = store.folder(study, record.network, 0)
        store.write(folder, record)
        (folder / LAST_CHECKPOINT).write_bytes(b"0" * 5000)
        fields = {"model": {"name": "resnet20"}, "recipe": {"lr": lr}}
        store.write_text(store.study_folder(study) / studies.FILE, json.dumps(fields))
    more = {"status": Status.failed, "score": None, "best_score": None, "error": "x", "seed": 1}
    broken = make_record(study=FIRST, **more)
    store.write(store.folder(FIRST, broken.network, 1), broken)
    return store


@pytest.fixture
def ssr_studies(store: Store, capsys: Capsys) -> Studies:
    """Run the command on that store."""

    def run(*words: str) -> Ended:
        capsys.readouterr()
        code = main([*words, "--runs", str(store.root)])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Ended(code, printed.out, printed.err)

    return run


# Looking


def test_a_path_that_cannot_be_one_is_a_sentence(capsys: Capsys) -> None:
    assert main(["--runs", "~nobody-is-called-so"]) == 1
    assert "a path begins with ~, and no such home folder is known" in capsys.readouterr().err
    denied = PermissionError(13, "Permission denied", "/home/anna/runs")
    assert str(errors.of_a_path(denied)).startswith("/home/anna/runs is not open to you")


def test_a_removal_that_is_under_way_is_not_called_killed(
    ssr_studies: Studies, store: Store
) -> None:
    aside = store.root / removal.ASIDE
    (aside / "old").mkdir(parents=True)
    (aside / "old/last.ckpt").write_bytes(b"x" * 5000)
    assert ssr_studies().lines("a removal that was killed left")
    with store.claim(aside, wait=False):
        assert not ssr_studies().lines("a removal that was killed left")
        assert removal.end_others(store) == 0
    assert removal.end_others(store) == 5000


def test_the_list_names_each_study_by_a_name_of_ones_own(ssr_studies: Studies) -> None:
    assert ssr_studies("name", "0a1b", "pets").code == 0
    listed = ssr_studies()
    assert listed.code == 0 and listed.err == ""
    (row,) = listed.lines("pets")
    cells = [cell.strip() for cell in re.split(r"[│|]", row)[1:-1]]
    assert cells[:8] == ["pets", "resnet20", "digits", "recipe.lr 0.1", "1", "1", "90.00 %", "24 s"]
    assert listed.lines(SECOND, "recipe.lr 0.05", "91.00 %")


def test_json_says_the_same_as_the_list(ssr_studies: Studies) -> None:
    listed = json.loads(ssr_studies("--json").out)
    assert [one["study"] for one in listed] == [FIRST, SECOND]
    assert listed[0]["runs"] | {"finished": 1, "failed": 1} == listed[0]["runs"]
    assert listed[0]["differs_in"] == {"recipe.lr": "0.1"}
    assert listed[0]["best"]["score"] == 90.0
    assert json.loads(ssr_studies("show", "0a1b", "--json").out) == listed[0]


@pytest.mark.parametrize("words", [["name", "0a1b", "pets"], ["remove", FIRST, "--yes"]])
def test_what_prints_no_json_is_asked_for_none(
    ssr_studies: Studies, store: Store, capsys: Capsys, words: list[str]
) -> None:
    for asked in ([*words, "--json"], ["--json", *words]):
        with pytest.raises(SystemExit):
            ssr_studies(*asked)
        assert "--json" in capsys.readouterr().err.splitlines()[-1]
    assert study_names.title(store.root, FIRST) == FIRST and store.records(FIRST)


def test_a_study_is_shown_with_the_commands_that_go_on(ssr_studies: Studies, store: Store) -> None:
    words = ("model=resnet20", "dataset.root=a b", "modifiers=sentinel_all,random")
    asked = Asked(command="train", words=words, launcher=("hydra/launcher=joblib",))
    study_names.note(store, FIRST, {}, asked, "pets")
    shown = ssr_studies("show", "pets")
    typed = [shlex.split(line) for line in shown.out.splitlines() if "train" in line]
    start, place = messages.spelled("train"), f"paths.runs={store.root}"
    assert typed == [
        [*start, "study=pets", place],
        [*start, *words, "hydra/launcher=joblib", place],
    ]
    assert shown.lines(*messages.spelled("search"), "study=pets", "rounds=3")


def test_a_folder_of_presets_is_typed_again_with_each_command(
    ssr_studies: Studies, store: Store
) -> None:
    asked = Asked(command="train", words=("recipe=mine",), config_dir="/of mine/conf")
    study_names.note(store, FIRST, {}, asked, "pets")
    shown = ssr_studies("show", "pets")
    typed = [line for line in shown.out.splitlines() if "study=pets" in line or "=mine" in line]
    assert len(typed) == 3
    assert all(" --config-dir '/of mine/conf' " in line for line in typed)


def test_a_study_whose_folder_was_renamed_is_listed_with_a_warning(
    ssr_studies: Studies, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.study_folder(FIRST).rename(store.root / "pets")
    assert ssr_studies().lines("pets") and ssr_studies().lines("pets")
    (said,) = caplog.messages
    assert f"pets holds 2 records of {FIRST} and is left out" in said


def test_two_studies_are_compared_in_words(ssr_studies: Studies) -> None:
    compared = ssr_studies("compare", FIRST, SECOND)
    assert compared.code == 0
    assert compared.lines("recipe.lr", "0.1", "0.05")
    assert compared.lines("best", "90.00 %", "91.00 %")
    assert compared.lines("232,410", "90.00", "91.00")
    differing = json.loads(ssr_studies("compare", FIRST, SECOND, "--json").out)["differ_in"]
    assert differing == {"recipe.lr": ["0.1", "0.05"]}


def test_the_command_that_goes_on_asks_for_the_trust_that_its_words_need(
    ssr_studies: Studies, store: Store
) -> None:
    words = ("task=module", "task.target=my.Net")
    study_names.note(store, FIRST, {}, Asked(command="search", words=words), "pets")
    shown = ssr_studies("show", "pets")
    assert shown.lines(*messages.spelled("search"), "study=pets", "trust=true")
    assert not shown.lines("task.target=my.Net", "trust=true")


def test_a_command_asks_for_no_trust_that_only_the_words_of_another_need(
    ssr_studies: Studies, store: Store
) -> None:
    for command, words in (("train", ("modifiers=baseline",)), ("search", ("task.target=my.Net",))):
        study_names.note(store, FIRST, {}, Asked(command=command, words=words), "pets")
    shown = ssr_studies("show", "pets")
    assert shown.lines(*messages.spelled("search"), "study=pets", "trust=true")
    assert shown.lines(*messages.spelled("train"), "study=pets")
    assert not shown.lines(*messages.spelled("train"), "trust=true")


def test_the_best_network_is_shown_with_its_name_and_what_it_scored_on_which_part(
    ssr_studies: Studies, store: Store, make_record: MakeRecord
) -> None:
    assert ssr_studies("show", FIRST).lines("best: d3-1-3_w16-32-64, val acc 90.00 %, ")
    more = {"score_key": "dice", "unit": "", "bounds": (0.0, 1.0)} | dict.fromkeys(
        ("score", "best_score"), 0.75
    )
    record = make_record(study="loop", network="d1_w8", **more)
    store.write(store.folder("loop", record.network, 0), record)
    shown = ssr_studies("show", "loop")
    assert shown.lines("best: d1_w8, val dice 0.7500, ")


def test_a_study_of_a_loop_is_shown_with_the_command_that_went_on_with_it(
    ssr_studies: Studies, store: Store
) -> None:
    folder, place = store.study_folder(FIRST), f"paths.runs={store.root}"
    fields = json.loads((folder / studies.FILE).read_text()) | {studies.SETTINGS: {}}
    store.write_text(folder / studies.FILE, json.dumps(fields))
    start = [*messages.spelled("search"), f"study={FIRST}", place, "trust=true"]

    def typed() -> list[list[str]]:
        lines = ssr_studies("show", FIRST).out.splitlines()
        return [shlex.split(line) for line in lines if "search" in line]

    assert typed() == [[*start, "task.target=MODULE.FUNCTION"]]
    study_names.note(store, FIRST, {}, Asked(command="search", words=()), None)
    assert typed() == [start, [*start, "task.target=MODULE.FUNCTION"]]  # no line twice
    words = ("task.target=my.train", "rounds=2")
    study_names.note(store, FIRST, {}, Asked(command="search", words=words), None)
    assert typed() == [start, [*start, *words]]
    fields[studies.SETTINGS] = {studies.CALLS_CODE: False}  # its network is made by a class
    store.write_text(folder / studies.FILE, json.dumps(fields))
    assert typed() == [start, [*start[:-1], *words]]  # words that are typed need no trust


def test_finalists_under_way_are_shown_with_the_command_of_their_search(
    ssr_studies: Studies, store: Store
) -> None:
    study_names.note(store, FIRST, {}, Asked(command="search", words=("rounds=2",)), "pets")
    finals = "resnet20-digits-d7d31a75"
    fields = json.loads((store.study_folder(FIRST) / studies.FILE).read_text())
    about = json.dumps(fields | {"dataset": {"train_on_val": True}})
    store.write_text(store.study_folder(finals) / studies.FILE, about)
    begun = store.folder(finals, "d1-1-1_w4-8-16", 0) / CONFIG_FILE
    store.write_text(begun, json.dumps({"origin": FINALIST}))
    assert ssr_studies().lines(finals, "finalists of pets")
    shown = ssr_studies("show", finals)
    assert shown.lines("finalists of pets") and shown.lines("its search goes on with:")
    start = [*messages.spelled("search"), "study=pets", f"paths.runs={store.root}"]
    assert shlex.split(shown.out.splitlines()[-1]) == start


def test_a_study_is_called_the_same_by_every_command(ssr_studies: Studies, store: Store) -> None:
    for name, content in ((FIRST, 64 * "6"), (SECOND, 64 * "7")):
        about = {"model": {"name": "resnet20"}, "dataset": {"content": content}}
        store.write_text(store.study_folder(name) / studies.FILE, json.dumps(about))
    for words in ((), ("show", FIRST), ("compare", SECOND, FIRST), ("compare", FIRST, SECOND)):
        assert ssr_studies(*words).lines("images and split", "66666666")


# What cannot be met


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "dogs"], "there is no study dogs"),
        (["show", FIRST.replace("digits", "digit")], f", the nearest is {FIRST}; it holds "),
        (["show", "resnet20"], "may be several studies"),
        (["compare", FIRST, FIRST], "are one study: name two"),
        (["name", FIRST, SECOND], "is what another study"),
        (["name", FIRST, "a/b"], "cannot be a study's name"),
        (["remove"], "name what is removed: ssr studies remove NAME"),
        (["remove", FIRST], "type --yes with it"),
        (["remove", "--failed"], "this would remove 1 failed run"),
    ],
)
def test_what_cannot_be_met_is_one_sentence_and_removes_nothing(
    ssr_studies: Studies, store: Store, words: list[str], said: str
) -> None:
    before = len(store.records())
    ended = ssr_studies(*words)
    assert ended.code == 1 and said in ended.err and ended.err.count("\n") == 1
    assert len(store.records()) == before


def test_another_folder_is_told_apart_from_a_study(capsys: Capsys, store: Store) -> None:
    assert main(["--runs", str(store.root / FIRST)]) == 1
    assert f"is a study: type --runs {store.root}" in capsys.readouterr().err
    assert main(["--runs", str(store.root / "nowhere")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    store.study_folder("x").mkdir()
    assert main(["--runs", str(store.root / "x")]) == 0
    assert "holds no study yet" in capsys.readouterr().out


# Removing


def test_a_study_is_removed_and_the_page_shows_it_no_more(
    ssr_studies: Studies, store: Store
) -> None:
    page.write(store)
    begun = ssr_studies("remove", "0a1b", "--yes")
    assert begun.code == 1 and "0a1b is no whole name of a study" in begun.err
    removed = ssr_studies("remove", "0a1b2c3d", "--yes")
    assert removed.code == 0 and removed.lines(f"removed {FIRST}", "freed")
    assert {record.study for record in store.records()} == {SECOND}
    text = (store.root / page.FILE).read_text()
    assert SECOND in text and FIRST not in text
    assert ssr_studies("remove", SECOND, "--yes").code == 0  # the page is of nothing then
    assert ssr_studies().lines("holds no study yet")


def test_failed_runs_and_weights_are_removed_of_one_study_or_of_all(
    ssr_studies: Studies, store: Store
) -> None:
    weights = list(store.root.rglob(LAST_CHECKPOINT))
    assert len(weights) == 2
    assert ssr_studies("remove", SECOND, "--failed", "--yes").lines("there is nothing to remove")
    done = ssr_studies("remove", "--failed", "--checkpoints", "--yes")
    assert done.lines(FIRST, "removed 1 run,") and done.lines(SECOND, "the weights of 1 run")
    assert done.lines("No longer: to export or load one of these", "finalists.seeds=0")
    assert not any(path.exists() for path in weights)
    assert [record.status for record in store.records()] == [Status.finished] * 2


def test_the_page_shows_no_more_what_is_gone_though_something_stayed(
    ssr_studies: Studies, store: Store, make_record: MakeRecord
) -> None:
    more = {"status": Status.failed, "score": None, "best_score": None, "error": "x"}
    used = make_record(study=FIRST, seed=2, **more)
    folder = store.folder(FIRST, used.network, 2)
    store.write(folder, used)
    page.write(store)
    leases.write(folder, 600, "another process")
    ended = ssr_studies("remove", "--failed", "--yes")
    assert ended.code == 1 and "1 folder stayed" in ended.err
    assert ended.lines(FIRST, "removed 1 run,") and ended.lines("left", "seed2")
    (shown,) = [s for s in page_data.collect(store)["studies"] if s["name"] == FIRST]
    assert json.dumps(shown["about"]["statuses"], separators=(",", ":")) in (
        (store.root / page.FILE).read_text()
    )


def test_it_asks_on_a_terminal_and_takes_no_for_an_answer(
    ssr_studies: Studies, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    for answer, code in (("", 1), ("n", 1), ("y", 0)):
        monkeypatch.setattr("builtins.input", lambda _, said=answer: said)
        assert ssr_studies("remove", FIRST).code == code
        assert store.study_folder(FIRST).exists() == bool(code)


def test_a_study_that_another_process_trains_is_named_and_left(
    ssr_studies: Studies, store: Store
) -> None:
    folder = store.folder(FIRST, "d3-1-3_w16-32-64", 1)
    code = (
        "import sys; from pathlib import Path; from ssr_exp.runs.store import Store\n"
        "with Store('x').claim(Path(sys.argv[1]), wait=False):\n"
        "    print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    try:
        listed = ssr_studies()
        removed = ssr_studies("remove", FIRST, "--yes")
        failed = ssr_studies("remove", "--failed", "--yes")
    finally:
        process.communicate()
    assert removed.code == 1 and f"another process uses {folder}" in removed.err
    assert failed.lines("left", folder.name, "which another process uses")
    assert store.read(folder) is not None
    assert listed.lines("under way") and not ssr_studies().lines("under way")


def test_what_is_advised_names_the_folder_of_runs(ssr_studies: Studies, store: Store) -> None:
    there = f"--runs {store.root}"
    assert ssr_studies().lines("show NAME", there)
    assert f"remove NAME {there}, or" in ssr_studies("remove").err
    shown = ssr_studies("name", FIRST, "pets")
    assert shown.code == 0
    with pytest.raises(SsrError, match=f"ssr studies name pets cats {there}"):
        study_names.check_given(store, FIRST, {}, "cats")
    assert ssr_studies("remove", "pets", "--yes").lines(f"removed pets ({FIRST}): ")


# What it takes


def test_no_torch_is_imported() -> None:
    code = "import sys; import ssr_exp.app.studies.__main__; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.slow
def test_a_thousand_runs_are_listed_in_seconds(
    store: Store, make_record: MakeRecord, ssr_studies: Studies
) -> None:
    scores = tuple(float(epoch % 90) for epoch in range(200))
    for number in range(1000):
        record = make_record(study=FIRST, network=f"d1_w{number}", scores=scores)
        store.write(store.folder(FIRST, record.network, 0), record)
    start = time.perf_counter()
    assert ssr_studies().lines(FIRST, "1001")
    assert time.perf_counter() - start < 5.0  # 0.5 s on a machine that does nothing else
