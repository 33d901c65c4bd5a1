"""`study=NAME` goes on with what a command began: its words first, then what is typed now."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ssr_exp.app import continuing
from ssr_exp.runs import removal, studies, study_names
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import Store
from ssr_exp.runs.study_names import Asked, Begun
from tests.conftest import Command, Ended, Instant

pytestmark = pytest.mark.usefixtures("repeatable")

BEGIN = ("modifiers=baseline", "recipe.lr=0.3", "name=pets")
Again = Callable[..., Ended]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command) -> Again:
    """Run a command with no more words than these, and the folders of the test."""
    from tests import conftest

    def bare(tmp_path: Path, words: tuple[str, ...], script: str = "train.py") -> list[str]:
        return [*words, f"paths.runs={tmp_path}/runs"]

    def run(*words: str, script: str = "train.py") -> Ended:
        with monkeypatch.context() as patch:
            patch.setattr(conftest, "small", bare)
            return command(*words, script=script)

    return run


def only(store: Store) -> str:
    """Name the one study of a store."""
    (study,) = study_names.every(store.root)
    return study


def written(store: Store) -> list[Record]:
    return sorted(store.records(), key=lambda record: (record.network, record.seed))


def test_a_command_goes_on_with_its_words_and_what_is_typed_now(
    command: Command, again: Again, store: Store, instant: Instant
) -> None:
    begun = command(*BEGIN)
    assert begun.code == 0, begun.err
    more = again("study=pets", "modifiers=uniform_width")
    assert more.code == 0, more.err
    (words,) = more.lines("words of pets's training: ", "recipe.lr=0.3", "model=resnet8")
    assert words.endswith("; typed now: modifiers=uniform_width")
    assert "modifiers=baseline" not in words
    assert len(instant.done) == len(written(store)) == 4  # the baseline once
    assert begun.lines("pets  all runs") and more.lines("pets  3 of 4 runs")
    assert study_names.every(store.root) == {only(store): "pets"}
    (asked,) = study_names.read(store.study_folder(only(store))).asked
    assert "modifiers=baseline" in asked.words  # what was typed with study= was for that time
    assert again("study=pe").lines("1 network: 1 done before, 0 to train")


def test_a_study_goes_on_where_it_lies_whatever_an_experiment_says(
    command: Command, instant: Instant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests import conftest

    assert command("experiment=demo", "modifiers=baseline", "name=pets").code == 0
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conftest, "small", lambda _, words, *__: [*words])
    monkeypatch.setenv("PLACE", str(tmp_path))
    for more in ((), ("paths.runs=${oc.env:PLACE}/runs",)):
        again = command("study=pets", *more)
        assert again.lines("1 network: 1 done before, 0 to train"), again.text
    assert not Path("runs/demo").exists() and len(instant.done) == 1


def test_a_folder_that_was_renamed_is_said_to_be_and_trained_by_nobody_again(
    command: Command, again: Again, store: Store, instant: Instant
) -> None:
    command(*BEGIN[:-1])
    study = only(store)
    store.study_folder(study).rename(store.root / "cats")
    named = again("study=cats")
    assert named.code == 1 and f"renamed, or is a copy: call it {study} again" in named.err
    repeated = command(*BEGIN[:-1])
    assert repeated.code == 1 and "else its networks would be trained again" in repeated.err
    assert len(instant.done) == 1 and only(store) == "cats"


def test_a_name_in_a_preset_is_not_passed_over(
    command: Command, tmp_path: Path, instant: Instant
) -> None:
    (own := tmp_path / "conf/experiment").mkdir(parents=True)
    for text, said in (("name: pets", "name=pets"), ("trust: true", "trust=true")):
        (own / "mine.yaml").write_text(f"# @package _global_\n{text}\n")
        ended = command("experiment=mine", "--config-dir", str(own.parent))
        assert ended.code == 1
        assert f"is not read from a preset: type {said} in the command" in ended.err
    assert instant.done == []


def test_a_name_that_looks_like_a_number_is_kept_as_it_is_typed(
    command: Command, again: Again, store: Store, instant: Instant
) -> None:
    assert command(*BEGIN[:-1], "name=70e94321").code == 0
    assert study_names.every(store.root) == {only(store): "70e94321"}
    assert again("study=70e94321").lines("1 done before")


@pytest.mark.parametrize("word", ["study=pets,cats", "name=a,b"])
def test_one_study_is_gone_on_with_or_named(command: Command, word: str) -> None:
    ended = command("modifiers=baseline", word)
    assert ended.code == 1
    assert f"{word}: {word.partition('=')[0]}= takes one value" in ended.err


def test_what_would_be_another_study_is_refused_with_what_differs(
    command: Command, again: Again, store: Store, instant: Instant
) -> None:
    command(*BEGIN)
    for words in (["recipe.lr=0.2"], ["trainer.max_epochs=2"], ["model=resnet20"]):
        other = again("study=pets", *words)
        assert other.code == 1
        assert "study=pets cannot go on, this would be another study: " in other.err
    assert "recipe.lr is 0.3 there and 0.2 here" in again("study=pets", "recipe.lr=0.2").err
    assert len(instant.done) == 1 and len(study_names.every(store.root)) == 1


def test_a_name_that_another_study_has_is_refused_before_anything_is_trained(
    command: Command, store: Store, instant: Instant
) -> None:
    command(*BEGIN)
    other = command("modifiers=baseline", "name=pets")
    assert other.code == 1 and "recipe.lr is 0.3 there and 0.1 here" in other.err
    assert "study=pets to go on with that one" in other.err
    several = command("modifiers=baseline", "recipe.lr=0.1,0.2", "name=dogs")
    assert (
        several.code == 1 and "name=dogs is for one study, and this command is of 2" in several.err
    )
    assert "called pets already" in command(*BEGIN[:-1], "name=dogs").err
    assert len(instant.done) == 1 and len(study_names.every(store.root)) == 1


@pytest.mark.slow
def test_a_sweep_keeps_for_each_study_its_own_words(
    command: Command, store: Store, instant: Instant
) -> None:
    swept = command("recipe.lr=0.1,0.2", "seed=0,1", "modifiers=baseline,uniform_width")
    assert swept.code == 0, swept.err
    asked = [study_names.read(store.root / one).asked[0] for one in study_names.every(store.root)]
    values = [dict(word.partition("=")[::2] for word in one.words) for one in asked]
    assert {one["recipe.lr"] for one in values} == {"0.1", "0.2"}
    assert all(one["seed"] == "0,1" for one in values)
    assert all(one["modifiers"] == "baseline,uniform_width" for one in values)
    assert not {"paths.runs", "study", "name", "trust"}.intersection(*values)


def test_what_is_swept_over_is_written_once() -> None:
    jobs = [["a=1", "b=x", "~c"], ["a=1", "b=y", "~c"], ["a=1", "b=x", "~c"]]
    assert continuing.swept(jobs) == ["a=1", "b=x,y", "~c"]
    assert continuing.swept([["a=1", "b=x", "a=2"]]) == ["a=2", "b=x"]  # as Hydra has it


@pytest.mark.parametrize(
    "word",
    [
        "model.target=os.system",
        "+task.arguments.x=1",
        "hydra.searchpath=[x]",
        "seed=${oc.env:HOME}",
        "logger.entity=somebody",
        "model={source: module, name: x, target: os.system}",
        "model=../../elsewhere/net",
        "experiment=../mine",
        "task.trainer={callbacks: [{_target_: os.system}]}",
        "task.example_inputs=os.getcwd",
    ],
)
def test_words_that_name_code_are_not_taken_from_a_file_without_trust(
    command: Command, again: Again, store: Store, instant: Instant, word: str
) -> None:
    command(*BEGIN)
    folder = store.study_folder(only(store))
    begun = study_names.read(folder)
    asked = Asked(command="train", words=(*begun.asked[0].words, word))
    store.write_text(
        folder / study_names.FILE, Begun(name="pets", asked=(asked,)).model_dump_json()
    )
    refused = again("study=pets")
    assert refused.code == 1 and f"was begun with {word}, which may call code" in refused.err
    assert "trust=true" in refused.err and len(instant.done) == 1


def test_a_file_does_not_say_where_runs_lie_nor_that_it_is_trusted(
    command: Command, again: Again, store: Store, instant: Instant, tmp_path: Path
) -> None:
    command(*BEGIN)
    folder = store.study_folder(only(store))
    begun = study_names.read(folder)
    more = (f"paths.runs={tmp_path}/elsewhere", "trust=true", "study=another", "name=x")
    asked = Asked(command="train", words=(*begun.asked[0].words, *more))
    store.write_text(
        folder / study_names.FILE, Begun(name="pets", asked=(asked,)).model_dump_json()
    )
    ended = again("study=pets")
    assert ended.code == 0, ended.err
    assert not (tmp_path / "elsewhere").exists() and study_names.read(folder).name == "pets"


def test_a_word_that_its_data_set_never_read_is_left_out(
    command: Command, again: Again, store: Store, instant: Instant
) -> None:
    assert command(*BEGIN).code == 0
    folder = store.study_folder(only(store))
    (asked,) = study_names.read(folder).asked
    unread = ("dataset.memory=0.2", "dataset.stream=false", "dataset.skip_corrupt=3")
    words = Asked(command="train", words=(*asked.words, *unread))
    study_names.note(store, folder.name, {}, words, None)
    more = again("study=pets")
    assert more.code == 0 and more.lines("1 network: 1 done before, 0 to train"), more.err
    assert not more.lines("dataset.memory")


@pytest.mark.parametrize("word", ["recipe.lr=0.01", "model=resnet20"])
def test_what_a_module_of_ones_own_does_not_read_is_refused_though_the_study_says_that_it_is_one(
    command: Command, again: Again, store: Store, instant: Instant, word: str
) -> None:
    assert command(*BEGIN).code == 0
    folder = store.study_folder(only(store))
    words = ("task=module", "task.target=lit.Lit", "task.network=net", "recipe.lr=0.3")
    study_names.note(store, folder.name, {}, Asked(command="train", words=words), None)
    refused = again("study=pets", "trust=true", word)
    assert refused.code != 0 and "is not for task=module" in refused.err
    kept = again("study=pets", "trust=true")  # what is kept was taken once
    assert "is not for task=module" not in kept.err


def test_a_study_begun_with_a_word_that_nothing_read_is_to_be_begun_anew(
    command: Command, again: Again, store: Store, instant: Instant
) -> None:
    assert command(*BEGIN).code == 0
    folder = store.study_folder(only(store))
    (asked,) = study_names.read(folder).asked
    words = Asked(command="train", words=(*asked.words, "dataset.group=patient"))
    study_names.note(store, folder.name, {}, words, None)
    about = json.loads((folder / studies.FILE).read_text())
    about["dataset"]["group"] = "patient"
    (folder / studies.FILE).write_text(json.dumps(about))
    refused = again("study=pets")
    assert refused.code != 0
    assert "pets was begun with dataset.group=patient, which dataset=digits does not" in refused.err
    assert "begin it anew" in refused.err


def test_a_study_of_an_earlier_version_asks_for_its_words_once(
    command: Command, again: Again, store: Store, instant: Instant
) -> None:
    command(*BEGIN)
    (store.study_folder(only(store)) / study_names.FILE).unlink()
    refused = again(f"study={only(store)}")
    assert refused.code == 1 and "repeat them once, without study=" in refused.err
    command(*BEGIN)
    assert again("study=pets").code == 0
    assert len(instant.done) == 1


def test_an_unknown_study_is_refused_with_those_that_there_are(
    command: Command, again: Again, store: Store, instant: Instant
) -> None:
    command(*BEGIN)
    refused = again("study=dogs")
    assert refused.code == 1
    assert f"there is no study dogs in {store.root}; it holds pets ({only(store)})." in refused.err


def test_a_command_keeps_its_study_from_being_removed_until_it_ends(
    command: Command, store: Store, instant: Instant, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, train = list[int](), continuing.Continued.begin_all

    def begin_all(self: continuing.Continued, members: object) -> None:
        train(self, members)  # type: ignore[arg-type]
        seen.append(len(removal.searched(store, only(store))))

    monkeypatch.setattr(continuing.Continued, "begin_all", begin_all)
    command(*BEGIN)
    assert seen == [1] and removal.searched(store, only(store)) == []


def test_a_seed_typed_for_a_study_that_a_search_began_is_for_this_time(
    command: Command, again: Again, store: Store, instant: Instant
) -> None:
    command("modifiers=baseline", "name=pets")
    folder = store.study_folder(only(store))
    begun = study_names.read(folder)
    typed = Asked(command="search", words=begun.by("train").words)  # type: ignore[union-attr]
    study_names._write(store, folder, begun.model_copy(update={"asked": (typed,)}))
    assert again("study=pets", "seed=1").code == 0
    now = study_names.read(folder)
    assert now.by("search") == typed and len(written(store)) == 2
    assert "seed=1" not in now.by("train").words  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_search_goes_on_with_a_study_that_train_began_and_with_its_own_words(
    command: Command, again: Again, store: Store
) -> None:
    command("modifiers=baseline,uniform_width", "seed=0,1", "name=pets")
    trained = len(written(store))
    first = again("study=pets", "rounds=1", "batch=2", "finalists.seeds=0", script="search.py")
    assert first.code == 0, first.err
    begun = study_names.read(store.study_folder(only(store)))
    words = dict(word.partition("=")[::2] for word in begun.by("search").words)  # type: ignore[union-attr]
    assert words["rounds"] == "1" and words["model"] == "resnet8" and "seed" not in words
    after = len(written(store))
    assert after > trained and studies.read_all(store.root).keys() == {only(store)}
    more = again("study=pets", "rounds=2", script="search.py")
    assert more.code == 0, more.err
    (words,) = more.lines("words of pets's last search: ", "batch=2", "finalists.seeds=0")
    assert words.endswith("; typed now: rounds=2") and "rounds=1" not in words
    assert len(written(store)) == after + 2
    assert more.lines("pets") and not more.lines("another study")
    shown = again("study=pets", "rounds=0", script="search.py")
    assert shown.lines("train.py", "modifiers=proposed")
    begun = study_names.read(store.study_folder(only(store)))
    assert "rounds=2" in begun.by("search").words  # type: ignore[union-attr]
