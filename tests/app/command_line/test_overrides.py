"""The words of a command line: typos, values, quotes."""

from __future__ import annotations

import itertools
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml
from hydra.conf import HydraConf
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ssr_exp.app import configuration
from ssr_exp.app.command_line import overrides, quoting
from ssr_exp.app.command_line.keys import keys_of_command, keys_of_schema
from ssr_exp.app.command_line.overrides import Checker
from ssr_exp.config import SCHEMAS
from ssr_exp.errors import SsrError
from tests.conftest import ROOT

PLUSES = ("", "+", "++")


def checked(*typed: str, command: str = "train", folders: tuple[Path, ...] = ()) -> list[str]:
    return Checker(command, folders).check(typed)


def refusal(*typed: str, command: str = "train") -> str:
    with pytest.raises(SsrError) as refused:
        checked(*typed, command=command)
    return str(refused.value)


TYPOS = {  # and the nearest key
    "modle=resnet20": "model=resnet20",
    "lr=0.5": "recipe.lr=0.5",
    "max_epochs=3": "trainer.max_epochs=3",
    "trainer.epochs=3": "trainer.max_epochs=3",
    "recipe.momentun=0.8": "recipe.momentum=0.8",
    "modifiers.count.x=3": "modifiers.count=3",
    "expriment=demo": "experiment=demo",
    "path.runs=here": "paths.runs=here",
    "hydra.job.nmae=x": "hydra.job.name=x",
    "hydra.launcher.n_job=3": "hydra.launcher.n_jobs=3",
    "hydra/lancher=joblib": "hydra/launcher=joblib",
}


@pytest.mark.parametrize(("typed", "meant"), TYPOS.items())
def test_a_typo_is_refused_whatever_stands_before_it_and_its_nearest_key_is_named(
    typed: str, meant: str
) -> None:
    for plus in PLUSES:
        told = refusal(plus + typed)
        assert f"type {meant}" in told
        assert "+" not in told.removeprefix(plus + typed)
        assert "\n" not in told


@pytest.mark.parametrize("typed", ["~modle", "~recipe.lrr", "~recipe.lr", "~model", "~hydra_x"])
def test_nothing_that_is_read_can_be_removed(typed: str) -> None:
    assert "type " in refusal(typed)


@pytest.mark.parametrize(
    "typed", ["dataset@x=digits", "+model@recipe=resnet20", "++recipe@_global_=sgd"]
)
def test_a_preset_under_another_name_is_refused(typed: str) -> None:
    key, value = typed.lstrip("+").partition("@")[0], typed.partition("=")[2]
    assert f"type {key}={value}." in refusal(typed)


@pytest.mark.parametrize("command", SCHEMAS)
def test_every_key_that_is_there_may_have_a_plus_that_is_not_needed(command: str) -> None:
    values = {int: "1", float: "0.5", bool: "true", str: "a"}
    keys = keys_of_command(command).items()
    words = [f"{key}={values[kind.type]}" for key, kind in keys if kind.type in values]
    for plus in PLUSES:
        assert checked(*(plus + word for word in words), command=command) == words


OPEN = {
    "model.arguments.width=32": "model.arguments.width=32",
    "model.arguments.stem.width=32": "model.arguments.stem.width=32",
    "modifiers.c_ratios_of.head=[0.5,1]": "modifiers.c_ratios_of.head=[0.5,1]",
    "hydra.job.env_set.FOO=1": "++hydra.job.env_set.FOO=1",
    "hydra.job_logging.root.level=DEBUG": "++hydra.job_logging.root.level=DEBUG",
    "hydra.job_logging.version=1": "++hydra.job_logging.version=1",
    "hydra.job_logging.handlers.file=null": "++hydra.job_logging.handlers.file=null",
    "hydra.hydra_logging.root.level=ERROR": "++hydra.hydra_logging.root.level=ERROR",
    "hydra.callbacks.x._target_=a.B": "++hydra.callbacks.x._target_=a.B",
    "hydra.job_logging.loggers.a.b.level=INFO": "++hydra.job_logging.loggers.a.b.level=INFO",
    "hydra.launcher.ray.init.x=true": "++hydra.launcher.ray.init.x=true",
    "hydra.launcher.additional_parameters.x=1": "++hydra.launcher.additional_parameters.x=1",
}


@pytest.mark.parametrize("plus", PLUSES)
def test_keys_that_are_not_ours_to_know_need_no_plus_and_may_have_one(plus: str) -> None:
    assert checked(*(plus + typed for typed in OPEN)) == list(OPEN.values())


@pytest.mark.parametrize("command", ["train", "export"])
def test_open_keys_of_hydras_reach_its_configuration(command: str) -> None:
    words = [word for word in OPEN if word.startswith(("hydra.job", "hydra.hydra", "hydra.call"))]
    configuration.register()
    with hydra.initialize_config_dir(str(ROOT / "ssr_exp" / "conf"), version_base="1.3"):
        composed = hydra.compose(
            command, overrides=checked(*words, command=command), return_hydra_config=True
        )
    for key, _, value in (word.partition("=") for word in words):
        taken = OmegaConf.select(composed, key, default="nothing")
        assert str(taken) == str(yaml.safe_load(value))


HYDRAS = [  # and what is no key of them
    key
    for key, kind in keys_of_schema(HydraConf).items()
    if kind.type in (str, bool, int) and not key.startswith(("launcher", "sweeper"))
]


def test_every_key_of_hydras_is_taken_and_nothing_is_below_a_single_value() -> None:
    for key in HYDRAS:
        assert checked(f"hydra.{key}=x") == [f"hydra.{key}=x"]
        assert f"there is no key hydra.{key}.x" in refusal(f"hydra.{key}.x=1")


def test_a_users_own_presets_need_no_plus(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    for typed in ("site=here", "+site=here"):
        assert checked(typed, folders=(tmp_path,)) == ["+site=here"]
        assert checked(typed, f"hydra.searchpath=[file://{tmp_path}]")[0] == "+site=here"
    assert "there is no key site" in refusal("site=here")


SEVERAL = {  # and how a sweep over them is typed
    "recipe.lr=[0.1,0.2]": "recipe.lr=0.1,0.2",
    "seed=[0,1]": "seed=0,1",
    "seed=(0,1)": "seed=0,1",
    "seed={0,1}": "seed=0,1",
    "seed=[0,1": "seed=0,1",
    "seed=0..2": "seed=range(0,3)",
    "seed=0-2": "seed=range(0,3)",
    "seed=0:2": "seed=range(0,3)",
    "seed=0 1 2": "seed=0,1,2",
    "seed=rang(0,3)": "seed=0,3",
    "recipe.lr=1e-3..1e-1": "recipe.lr=1e-3,1e-1",
    "recipe.lr=interval(0.1,0.2)": "recipe.lr=VALUE,VALUE",
    "logger.mode=[online,offline]": "logger.mode=online,offline",
    "model=[resnet20,resnet56]": "model=resnet20,resnet56",
    "trainer.max_epochs=[1,2]": "trainer.max_epochs=1,2",
}


OWN = ("task=module", "task.target=lit.Lit", "dataset=module", "dataset.target=lit.Data")


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("model=resnet20", "model is not for task=module, whose network is the attribute"),
        ("model.name=resnet20", "model.name is not for task=module"),
        ("recipe=adamw", "recipe is not for task=module"),
        ("recipe.lr=0.1", "(of recipe it reads grad_clip, ema_decay), or type task.arguments."),
        ("recipe.batch_size=8", "(of recipe it reads grad_clip, ema_decay), or type"),
        ("dataset.flip=true", "dataset.flip is not for dataset=module, which reads and augments"),
        ("dataset.batch_size=8", "of your own module type dataset.arguments.batch_size=8."),
        ("task.lr=3", "of the arguments of your own module type task.arguments.lr=3."),
    ],
)
def test_what_modules_of_ones_own_leave_nobody_to_read_is_refused(typed: str, told: str) -> None:
    assert told in refusal(*OWN, typed)
    assert checked(*OWN, "recipe.grad_clip=1", "dataset.arguments.size=3", "task.arguments.lr=3")
    assert checked("task=module", "recipe.batch_size=8", "dataset.flip=true")
    assert checked(*OWN[2:], "recipe.batch_size=8")  # which names the studies of a task of ours


@pytest.mark.parametrize(("typed", "sweep"), SEVERAL.items())
def test_several_values_where_one_belongs_say_how_to_sweep(typed: str, sweep: str) -> None:
    told = f"to train with several, type {shlex.quote(sweep) if '(' in sweep else sweep}."
    assert all(told in refusal(plus + typed) for plus in PLUSES)
    if "VALUE" not in sweep:
        assert checked(sweep) == [sweep]  # what is advised is taken
    assert "ssr search takes one value of it" in refusal(typed, command="search")


@pytest.mark.parametrize(
    ("typed", "told"),
    {
        "seed=3-1": "type 'seed=range(1,4)'.",
        "seed=03-01": "type 'seed=range(1,4)'.",
        "recipe.lr=1/3": "recipe.lr is a number: type recipe.lr=0.333.",
        "recipe.lr=80%": "recipe.lr is a number: type recipe.lr=0.8.",
        "recipe.lr=1/0": "type recipe.lr=VALUE, such as recipe.lr=0.1.",
        "trainer.threads=several": "type trainer.threads=VALUE, such as trainer.threads=1.",
        "seed=0-1000000000": "type seed=VALUE,VALUE.",
        "dataset=./photos": "type dataset=image_folder dataset.root=./photos.",
        "model=./net.py": "type model=NAME, or model.KEY=VALUE",
        "lr=1/3": "type recipe.lr=VALUE;",
        "hydra/launcher=~x": "type hydra/launcher=NAME.",
        "cap.params=30%": "a key of ssr search",
        "logger.mode=on": "is one of offline, online, disabled",
        "trainer.test=maybe": "is true or false",
        "trainer.threads=few": "is a whole number, or null",
        "seed=range(0,1000000000)": "are allowed",
        "recipe.lr=range(0,1,0.0000001)": "are allowed",
        "seed=range(0,1,0)": "steps that are not 0",
        "dataset.root=/a/\udcff": "is not UTF-8",
    }.items(),
)
def test_a_refusal_says_what_was_meant_or_what_is_right(typed: str, told: str) -> None:
    assert told in refusal(typed)


ADVISED = "trainer.max_epochs= trainer.max_epochs=1.5 seed=0,many model= resnet20 0.5] =5 + ~"


@pytest.mark.parametrize("typed", [*ADVISED.split(), "", "mod\xe9l=3", "a b=3"])
def test_what_cannot_be_taken_comes_with_what_to_type(typed: str) -> None:
    assert "type " in refusal(typed)


@pytest.mark.parametrize(
    ("command", "typed", "told"),
    [
        *(
            ("export", word, "ssr export takes one value of it")
            for word in ("run=a,b", "run=choice(a,b)", "int8=true,false", "threads=1,2")
        ),
        ("report", "experiment=demo", "a key of ssr train"),
        ("search", "rounds=one", "is a whole number: type rounds=VALUE, such as rounds="),
        ("search", "cap=3", "it has keys: params, macs"),
        ("search", "cap=3", "type cap.KEY=VALUE."),
    ],
)
def test_other_commands_refuse_in_their_words(command: str, typed: str, told: str) -> None:
    assert told in refusal(typed, command=command)


WRONG = [
    *"3-1 5..2 1:1 1/3 1/0 1/2,1/3 ~/photos ./photos /data a(b a,b [1 1,2 (1,2) rang(3,1)".split(),
    *"0-1000000000 2024-01-05 \u0663-\u0665 true,false glob(*) range(3,1) choice(a,b)".split(),
    *"interval(1,2) {a:1 x-y [a,b] {a:1} ${x} 'a 1e400 0x1 50%".split(),
    *("a\nb(", "1 2", "", "a b(c", "a\x1b[2J("),
]


def kinds_of_keys(command: str) -> list[str]:
    """Draw a key of each kind, all places and presets, and what is near them."""
    known = keys_of_command(command)
    drawn = {str(kind.type): key for key, kind in known.items()}
    presets = Checker(command).groups
    others = ("lrr", "modle", "hydra.job.name", "hydra.job.nmae", "hydra.launcher.n_job")
    places = overrides.ALL_PLACES & known.keys()
    return sorted({*drawn.values(), *places, *presets, *others, "hydra/launcher", "hydra/lancher"})


@pytest.mark.parametrize("command", [pytest.param("train", marks=pytest.mark.slow), "export"])
def test_every_concrete_advice_is_taken_when_it_is_typed(command: str) -> None:
    groups = Checker(command).groups
    for key, value in itertools.product(kinds_of_keys(command), WRONG):
        try:
            checked(f"{key}={value}", command=command)
            continue
        except SsrError as error:
            told = str(error)
        advice = re.findall(
            r"type (.+?)(?=[.;]? ?$|; python|, or | instead| if it is one|, as |: it)",
            told.removeprefix(f"{key}={value}"),
            flags=re.DOTALL,
        )
        for one in advice:
            if re.search(r"VALUE|NAME|KEY|a link", one):
                continue
            words = shlex.split(one)
            assert checked(*words, command=command), told
            assert quoting.can_be_shown(one), told
            for group, _, name in (word.partition("=") for word in words):
                if group in groups:
                    folder = ROOT / "ssr_exp" / "conf" / group
                    assert all((folder / f"{n}.yaml").is_file() for n in name.split(",")), told


@pytest.mark.parametrize("typed", ["modifiers.depth=1,0.5", "modifiers.depth=1", "logger.tags=a,b"])
def test_one_value_where_a_list_belongs_says_how_to_type_it(typed: str) -> None:
    told = refusal(typed)
    key, _, values = typed.partition("=")
    assert f"type '{key}=[{values}]'." in told
    assert checked(f"{key}=[{values}]")


# Quotes

NAMES = (
    "ümlaut (1), x=2",
    "a, b",
    "[a]",
    "{a}",
    "it's",
    'a "b"',
    "a#b&c;d|e>f",
    "C:\\data (1)\\x",
    "${HOME}",
    "a ${x} b",
    "$(touch x) `y`",
    " a ",
    "x(1)",
    "2024_01",
    "1e3",
    "true",
)


def value_of(word: str) -> Any:
    """Read a word as Hydra and OmegaConf do, one after the other."""
    (override,) = overrides.parse([word])
    return OmegaConf.create({"value": override.value()})["value"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@example("\\${x}")
@example('\\"')
def test_whatever_is_quoted_is_read_back(text: str) -> None:
    if not text.startswith("~") and "\\${" not in text:
        assert value_of(*shlex.split(quoting.quoted("dataset.root", text))) == text


@pytest.mark.parametrize(
    "value",
    [
        *("é ü", 'a "b" \\', "2%", 3, 0.5, None, True, [], ["é", "b,c"]),
        {"*": [0.5, 1.0], "features.0 x": {"$and": [1, None]}},
    ],
)
def test_plain_data_is_spelled_as_hydra_reads_it(value: Any) -> None:
    word = f"+a.b={quoting.spelled(value)}"
    (override,) = overrides.parse([word])
    assert override.value() == value and "\\u" not in word


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_cannot_be_taken_is_told_as_a_shell_takes_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    told = refusal(f"dataset.root={name}")
    (argument,) = re.findall(r"type (.*?)(?: if it is one)?\.$", told, flags=re.DOTALL)
    shell = subprocess.run(
        ["sh", "-c", f"printf %s {argument}"], capture_output=True, text=True, check=True
    )
    assert value_of(*checked(shell.stdout)) == name


@pytest.mark.parametrize("name", ["~/data#1", "~/data"])
def test_a_home_folder_is_spelled_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert f"type 'dataset.root=\"/home/me{name[1:]}\"'" in refusal(f"dataset.root={name}")


def test_names_that_hydra_takes_are_left_alone() -> None:
    for name in (
        "data/x",
        "a\\",
        "C:\\data\\x",
        "a b",
        "1",
        "a\\,b",
        "null",
        "",
        "${oc.env:HOME}/x",
    ):
        assert checked(f"dataset.root={name}") == [f"dataset.root={name}"]


def test_a_preset_of_ones_own_that_would_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    ours = ROOT / "ssr_exp/conf/recipe/sgd.yaml"
    (mine := tmp_path / "recipe/sgd.yaml").write_bytes(ours.read_bytes())
    assert checked("recipe=sgd", folders=(tmp_path,)) == ["recipe=sgd"]
    mine.write_text("lr: 0.777\n")
    with pytest.raises(SsrError, match=r"sgd\.yaml would not be read, .* type recipe=my_sgd"):
        checked("model=resnet8", folders=(tmp_path,))
    mine.unlink()
    (tmp_path / "hydra/launcher").mkdir(parents=True)
    (tmp_path / "hydra/launcher/submitit_slurm.yaml").write_text("timeout_min: 1440\n")
    with pytest.raises(SsrError, match="has a preset hydra/launcher=submitit_slurm: call it"):
        checked("model=resnet8", folders=(tmp_path,))


def test_a_sweep_over_nothing_is_taken() -> None:
    assert checked("seed=range(3,0)") == ["seed=range(3,0)"]


def test_the_keys_of_places_are_there() -> None:
    known = {key for name in SCHEMAS for key in keys_of_command(name)}
    assert known >= overrides.ALL_PLACES


@pytest.mark.parametrize("name", ["2024_01", "12345e67", "70943211", "1e3"])
@pytest.mark.parametrize("command", ["train", "search", "report", "export"])
def test_a_study_whose_name_is_a_number_to_hydra_keeps_its_name(command: str, name: str) -> None:
    (word,) = Checker(command).check([f"study={name}"])
    (override,) = overrides.parse([word])
    assert override.value() == name
