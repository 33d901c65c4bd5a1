from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from ssr_exp.config import Config
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import codes
from ssr_exp.runs import proposal, studies
from ssr_exp.runs.proposal import Proposal
from ssr_exp.runs.store import Store
from ssr_exp.training import opened_study, study_parts
from ssr_exp.training.opened_study import OpenedStudy
from tests.datasets.pictures import fill, noise

Compose = Callable[..., Config]


@pytest.fixture
def opened(conf: Compose) -> Callable[..., OpenedStudy]:
    return lambda *words: opened_study.open(conf(*words))


def test_a_study_is_named_after_its_model_its_data_and_a_fingerprint(
    opened: Callable[..., OpenedStudy],
) -> None:
    assert re.fullmatch(r"resnet8-digits-[0-9a-f]{8}", opened().name)


def test_a_key_that_is_added_renames_no_study(opened: Callable[..., OpenedStudy]) -> None:
    assert opened().name == "resnet8-digits-70e9c549"  # as before any was


def test_a_warm_up_that_nobody_typed_is_not_said_to_be_typed(
    opened: Callable[..., OpenedStudy], caplog: pytest.LogCaptureFixture
) -> None:
    opened("recipe.warmup_epochs=5", "trainer.max_epochs=3")
    (said,) = [one for one in caplog.messages if "warmup" in one]
    assert said.startswith("a warm-up of 5 epochs (recipe.warmup_epochs, the preset's where you ")
    assert "is all of the training (3)" in said and said.endswith("recipe.warmup_epochs=0.")


SAME = [
    "seed=7",
    "wait=true",
    "trainer.threads=1",
    "trainer.workers=2",
    "trainer.accelerator=auto",
    "trainer.progress=true",
    "trainer.test=true",
    "paths.runs=elsewhere",
    "paths.data=elsewhere",
    "dataset.download=false",
    "dataset.root=elsewhere",
    "logger=offline",
    "logger.project=other",
    "modifiers=sentinel_all",
    "modifiers=explicit modifiers.network=d1-1-1_w4-16-16",
    "modifiers=scbp modifiers.c_ratios=[0.5] modifiers.params=null",
    "segment.width_steps=4",
    "segment.multiple=4",
    "segment.depth=false segment.at_most=null",
]


@pytest.mark.slow
def test_what_decides_no_result_leaves_the_study_the_same(
    opened: Callable[..., OpenedStudy],
) -> None:
    names = {words: opened(*words.split()).name for words in SAME}
    assert names == dict.fromkeys(SAME, opened().name)


OTHER = [
    "trainer.max_epochs=2",
    "trainer.precision=bf16-mixed",
    "recipe.lr=0.05",
    "recipe.batch_size=64",
    "recipe.weight_decay=0",
    "recipe.label_smoothing=0.1",
    "recipe.warmup_epochs=0.5",
    "recipe=sgd",
    "recipe=adamw",
    "recipe.ema_decay=0.99",
    "dataset.split_seed=1",
    "dataset.val_fraction=0.3",
    "dataset.resize=16",
    "dataset.resize=[16,20]",
    "dataset.crop_padding=1",
    "dataset.flip=true",
    "dataset.cutout=2",
    "dataset.vertical_flip=true",
    "dataset.crop_scale=[0.5,1]",
    "dataset.crop_scale=[0.5,1] dataset.crop_ratio=[1,1]",
    "dataset.rotation=15",
    "dataset.color_jitter=[0.4]",
    "dataset.auto_augment=trivial_augment_wide",
    "dataset.auto_augment=rand_augment",
    "dataset.auto_augment=rand_augment dataset.num_ops=1",
    "dataset.auto_augment=rand_augment dataset.magnitude=5",
    "dataset.mixup=0.2",
    "dataset.cutmix=1",
    "dataset.train_on_val=true trainer.test=true",
    "model=resnet14",
    "model.shortcut=B",
    "segment.multiple=8",
    "segment=superblock",
    "segment=whole",
    "segment=channels",
    "segment=channels segment.depth=true",
    "segment=channels segment.at_most=2",
    "segment.at_most=2",
    "segment=manual segment.patterns=[stage1,stage2]",
    "segment=manual segment.patterns=[stage1,stage3]",
]


@pytest.mark.slow
def test_what_decides_a_result_makes_another_study(opened: Callable[..., OpenedStudy]) -> None:
    names = [opened(*words.split()).name for words in ["seed=0", *OTHER]]
    assert len(set(names)) == len(names)


def test_an_old_study_whose_square_is_larger_than_its_images_is_opened(
    opened: Callable[..., OpenedStudy],
) -> None:
    assert opened("dataset.cutout=9").name == "resnet8-digits-1512dd16"


def test_two_sides_that_are_the_same_are_one(opened: Callable[..., OpenedStudy]) -> None:
    assert opened("dataset.resize=[8,8]").name == opened("dataset.resize=8").name


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for part, count in (("train", 6), ("val", 3)):
        noise(tmp_path / "images" / part, size=(8, 8), cat=count, dog=count)
    return tmp_path / "images"


def test_images_that_were_moved_are_the_same_study_and_others_are_another(
    opened: Callable[..., OpenedStudy], images: Path, tmp_path: Path
) -> None:
    def name(root: Path, data: str) -> str:
        words = ("dataset=image_folder", f"dataset.root={root}", f"paths.data={tmp_path / data}")
        return opened(*words).name

    before = name(images, "data")
    moved = Path(shutil.move(images, tmp_path / "elsewhere"))
    assert name(moved, "data") == before
    assert name(moved, "other-data") == before
    assert name(moved, "data") == before  # from the cache of decoded images
    study_parts._splits.cache_clear()
    (moved / "train" / "cat" / "0.png").unlink()
    assert name(moved, "data") != before


def test_where_images_are_kept_is_no_part_of_a_study_and_what_is_cut_out_of_them_is(
    opened: Callable[..., OpenedStudy], images: Path
) -> None:
    def name(*words: str) -> str:
        return opened("dataset=image_folder", f"dataset.root={images}", *words).name

    resized = ("dataset.resize=8", "dataset.crop_scale=[0.5,1]", "dataset.crop_padding=0")
    usual = name(*resized)
    for word in ("stream=true", "stream=false", "memory=0.0", "skip_corrupt=2"):
        assert name(*resized, f"dataset.{word}") == usual
    others = [name(*resized, f"dataset.{w}") for w in ("crop_from=file", "crop_share=0.9")]
    assert len({usual, *others, name(*resized, "dataset.erasing=0.1")}) == 4


def test_images_and_trace_are_kept_for_the_next_run(opened: Callable[..., OpenedStudy]) -> None:
    first, second = opened("seed=1"), opened("seed=2", "recipe.lr=0.3")
    assert first.splits is second.splits
    assert first.seed_network is second.seed_network
    assert first.name != second.name


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trainer.devices=0", "trainer.devices is 0; it must be 1 or more"),
        ("trainer.strategy=fsdp", "trainer.strategy is fsdp; it must be ddp or"),
        ("segment.kind=superblok", "segment.kind=superblok is unknown"),
        ("segment.multiple=0", "at least 1"),
        ("segment.frozen=[stage9]", "stage9"),
        ("paths.runs=''", "paths.runs=DIR"),
        ("dataset.name=digit", "unknown data set 'digit'"),
        ("dataset.val_fraction=1.5", "val_fraction"),
        ("dataset.train_on_val=true", "type trainer.test=true with it"),
        ("model.name=resnet9", "choose one of resnet8"),
    ],
)
def test_what_cannot_be_met_is_a_sentence(
    opened: Callable[..., OpenedStudy], word: str, said: str
) -> None:
    with pytest.raises(SsrError) as caught:
        opened(word)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_val_and_test_there_is_nothing_to_measure_and_both_are_named(
    opened: Callable[..., OpenedStudy], images: Path
) -> None:
    words = ["dataset=image_folder", f"dataset.root={images}", "trainer.test=true"]
    with pytest.raises(SsrError, match=r"no test images.*or type trainer\.test=false"):
        opened(*words)
    both = r"or type dataset\.train_on_val=false trainer\.test=false"
    with pytest.raises(SsrError, match=both):
        opened(*words, "dataset.train_on_val=true")


# What a search proposed

PROPOSED = ("d1-1-1_w4-16-16", "d1-1-1_w16-8-16")
Propose = Callable[..., Path]


@pytest.fixture
def propose(conf: Compose) -> Propose:
    """Write a proposal for the study of a command line: `propose(*networks, words=(...))`."""

    def write(*networks: str, words: tuple[str, ...] = ()) -> Path:
        asked = conf(*words)
        one = Proposal(study=opened_study.open(asked).name, networks=networks, created_at="now")
        return proposal.write(Store(asked.paths.runs), one)

    return write


def proposed(conf: Compose, *words: str) -> list[str]:
    asked = conf("modifiers=proposed", *words)
    opened = opened_study.open(asked)
    return [codes.write(opened.plan, architecture) for architecture in opened.expand(asked)]


def test_proposed_are_the_networks_that_a_search_wrote_last_for_this_study(
    conf: Compose, propose: Propose
) -> None:
    propose("d1-1-1_w8-8-8")
    propose(*PROPOSED, PROPOSED[0])
    propose("d1-1-1_w4-4-4", words=("trainer.max_epochs=2",))
    assert proposed(conf) == list(PROPOSED)
    assert proposed(conf, "trainer.max_epochs=2") == ["d1-1-1_w4-4-4"]


def test_a_proposal_may_lie_anywhere(conf: Compose, propose: Propose, tmp_path: Path) -> None:
    file = shutil.move(propose(*PROPOSED), tmp_path / "mine.json")
    assert proposed(conf, f"modifiers.file={file}") == list(PROPOSED)
    with pytest.raises(SsrError, match=r"ssr search rounds=0"):
        proposed(conf)


def test_a_proposal_for_another_study_is_refused_by_name(conf: Compose, propose: Propose) -> None:
    file = propose(*PROPOSED)
    other = ("recipe.lr=0.05", f"modifiers.file={file}")
    with pytest.raises(SsrError) as caught:
        proposed(conf, *other)
    for asked in (conf(), conf("recipe.lr=0.05")):
        assert opened_study.open(asked).name in str(caught.value)


def test_a_code_that_is_no_network_of_the_study_is_refused(conf: Compose, propose: Propose) -> None:
    for code in ("d9-1-1_w4-16-16", "baseline", "d1_w4"):
        propose(PROPOSED[0], code)
        with pytest.raises(SsrError, match=r"cannot keep 9 blocks|baseline's"):
            proposed(conf)


@pytest.mark.parametrize(
    "words",
    ["modifiers=random modifiers.file=a.json", "modifiers=proposed modifiers.network=d1_w4"],
)
def test_what_belongs_to_other_modifiers_is_refused(conf: Compose, words: str) -> None:
    asked = conf(*words.split())
    with pytest.raises(SsrError, match=r"type modifiers=(proposed|explicit) with"):
        opened_study.open(asked).expand(asked)


# What was read of the data


@pytest.fixture
def opened_folder(conf: Compose, tmp_path: Path) -> Callable[..., OpenedStudy]:
    root = fill(tmp_path / "set", count=15)

    def read(*words: str) -> OpenedStudy:
        study_parts._splits.cache_clear()
        named = ("dataset=image_folder", f"dataset.root={root}", f"paths.data={tmp_path}/data")
        return opened_study.open(conf(*named, *words))

    return read


def test_what_was_read_is_no_part_of_the_fingerprint(
    opened_folder: Callable[..., OpenedStudy],
) -> None:
    first = opened_folder()
    Path(first.splits.train.files[0]).parent.joinpath("notes.txt").write_text("")
    again = opened_folder()
    assert again.name == first.name and again.fields == first.fields
    assert again.about["reading"] != first.about["reading"]
    assert not studies.differences(again.about, first.fields)


def test_a_study_file_describes_reading_and_preprocessing(
    opened_folder: Callable[..., OpenedStudy],
) -> None:
    one = opened_folder("dataset.resize=8")
    about = json.loads(json.dumps(one.about))
    assert about["preprocessing"] == json.loads(json.dumps(asdict(one.splits.preprocessing)))
    assert about["reading"]["parts"]["train"]["circle"] > 0
    assert about["reading"]["text"] == str(one.splits.reading).splitlines()
    assert one.splits.train.files[0].parts[1] not in json.dumps(about)  # no path of a machine


def test_keys_that_came_later_rename_no_study_unless_they_are_typed(
    opened_folder: Callable[..., OpenedStudy],
) -> None:
    plain = opened_folder("dataset.resize=8")
    assert "fit" not in plain.fields["dataset"] and "background" not in plain.fields["dataset"]
    padded = opened_folder("dataset.resize=8", "dataset.fit=pad")
    assert padded.fields["dataset"]["fit"] == "pad"
    assert padded.name != plain.name


def test_siblings_and_differences_do_not_look_at_descriptions(
    opened_folder: Callable[..., OpenedStudy], tmp_path: Path
) -> None:
    one = opened_folder()
    longer = json.loads(json.dumps(one.about))
    longer["training"]["epochs"] += 1
    longer["reading"]["left_out"] = {".txt": 9}
    (tmp_path / "runs" / "longer").mkdir(parents=True)
    (tmp_path / "runs" / "longer" / "study.json").write_text(json.dumps(longer))
    before = {
        key: value for key, value in longer.items() if key not in ("reading", "preprocessing")
    }
    (tmp_path / "runs" / "before").mkdir(parents=True)
    (tmp_path / "runs" / "before" / "study.json").write_text(json.dumps(before))
    assert set(studies.siblings(tmp_path / "runs", one.fields)) == {"longer", "before"}
