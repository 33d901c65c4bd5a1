"""The words of a command line, `KEY=VALUE`, held against what may be typed.

Hydra's own parser reads them. It would add a key that nothing reads where a word begins with `+`,
and advises to do so. Here a typo is one, whatever stands before it; a value is of the key's type;
and what Hydra's grammar cannot take is told with its quotes.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    RangeSweep,
)
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssr_exp import messages
from ssr_exp.app.command_line import quoting
from ssr_exp.app.command_line.hydra_keys import hydra_word
from ssr_exp.app.command_line.keys import (
    CONF,
    is_near,
    keys_of_command,
    nearest,
    number,
    several,
)
from ssr_exp.config import OWN_DATA, PLACES, SCHEMAS, Config, read_of_recipe
from ssr_exp.errors import SsrError

MOST = 100_000  # configurations that one command may stand for
# Texts that name a place: Hydra reads 2024_01 as a number, and a comma as a sweep.
ALL_PLACES = {*PLACES, *"paths.runs paths.data checkpoint recipe.distill run to root file".split()}
NAMES = ("study", "name")  # likewise, and the fingerprint 1234567e
EXAMPLES = {int: "1", float: "0.5", bool: "true"}
# A path where the name of a preset belongs, and what it is the value of.
PATHS = {
    "dataset": ("dataset=image_folder", "dataset.root"),
    "latency": ("latency=file", "latency.file"),
    "modifiers": ("modifiers=proposed", "modifiers.file"),
    "runs": ("runs=table", "runs.file"),
}


class Checker:
    """Checks the words of one command.

    Args:
        command: train, search, export or report.
        folders: of further presets, `--config-dir`.
    """

    def __init__(self, command: str, folders: Sequence[Path] = ()) -> None:
        self.command, self.folders = command, list(folders)
        self.name = messages.named(command)
        self.keys = keys_of_command(command)
        self.groups = {key for key in self.keys if (CONF / key).is_dir()}
        self.sweeps = issubclass(SCHEMAS[command], Config)  # several values are no list
        self._is_advice = False
        self._own: list[str] = []  # groups whose module is the user's

    def check(self, typed: Sequence[str]) -> list[str]:
        """Return the words as Hydra takes them.

        Raises:
            SsrError: if one cannot be met; says what to type.
        """
        overrides = [self._read(word) for word in typed]
        chosen = {override.key_or_group: override.value() for override in overrides}
        if isinstance(places := chosen.get("hydra.searchpath"), list):
            self.folders += [Path(str(place).removeprefix("file://")) for place in places]
        self._refuse_shadowed()
        self._own = [g for g in ("task", "dataset") if chosen.get(g) == "module"]
        checked = [self._word(override, chosen) for override in overrides]
        check_is_read(chosen)
        if (size := math.prod(map(_size, overrides))) > MOST:
            raise SsrError(
                f"this command stands for {size:,} configurations, and {MOST:,} are allowed: "
                "sweep over fewer values."
            )
        return checked

    def _refuse_shadowed(self) -> None:
        """Refuse presets of the user's own that Hydra would not read: ours of that name come first.

        Copies of ours are no harm.
        """
        groups = {*self.groups, "hydra/launcher"}
        paths = ((f, p) for f in self.folders for g in groups for p in (f / g).glob("*.yaml"))
        for folder, path in sorted(paths):
            inside, name = path.relative_to(folder), path.stem
            ours, group = CONF / inside, inside.parent.as_posix()
            if ours.is_file() and ours.read_bytes() != path.read_bytes():
                raise SsrError(
                    f"{path} would not be read, as ssr_exp has a preset {group}={name}: call it "
                    f"otherwise, such as my_{name}.yaml, and type {group}=my_{name}."
                )

    def _read(self, word: str) -> Override:
        """Let Hydra parse a word."""
        if any("\udc80" <= c <= "\udcff" for c in word):
            raise SsrError(
                f"{word.encode(errors='surrogateescape')!r} is not UTF-8, which names of files and "
                "values have to be here: rename the file or folder, or type a link to it (ln -s)."
            )
        try:
            return parse([word])[0]
        except HydraException:
            self._refuse_unreadable(word)

    def _word(self, override: Override, chosen: dict[str, Any]) -> str:
        """Check one word; a `+` before a key that is there is left out."""
        key, word = override.key_or_group, str(override.input_line)
        if override.is_hydra_override():
            return hydra_word(override, chosen)
        if override.package is not None:
            plain = f"{key}={override.get_value_string()}"
            raise SsrError(f"{word}: nothing reads a preset under another name: type {plain}.")
        if self._is_users_group(key):
            return f"+{word.lstrip('+')}"
        if key not in self.keys and not self._is_open(key):
            self._refuse_key(key, word)
        if override.is_delete():
            if self._is_open(key):
                return word
            value = "null" if self.keys[key].is_optional else "VALUE"
            raise SsrError(f"{word}: {key} cannot be removed: type {key}={value} instead.")
        if key in self.groups:
            self._check_preset(override)
        elif not self._is_open(key):
            self._check_values(override)
        read = override.value()
        if key in NAMES and isinstance(read, int | float) and not isinstance(read, bool):
            return f'{key}="{override.get_value_string()}"'
        return word.lstrip("+")

    def _is_users_group(self, key: str) -> bool:
        """Say whether a key names a user's group of presets, which Hydra wants to be added."""
        return key not in self.keys and bool(key) and any((f / key).is_dir() for f in self.folders)

    def _is_open(self, key: str) -> bool:
        """Say whether a key is below one whose keys are not ours to know, or an item of a list."""
        above, _, last = key.rpartition(".")
        if last.isdecimal() and above in self.keys and self.keys[above].is_list:
            return True
        return any(kind.is_dictionary and key.startswith(f"{k}.") for k, kind in self.keys.items())

    def _refuse_key(self, key: str, word: str) -> NoReturn:
        """Name the nearest key, or the command that knows this one."""
        group, _, name = key.partition(".")
        if name and group in self._own:
            raise SsrError(
                f"{word}: there is no key {key}; of the arguments of your own module type "
                f"{group}.arguments.{name}={word.partition('=')[2] or 'VALUE'}."
            )
        if not key:
            raise SsrError(f"{word}: the key is missing: type KEY=VALUE.")
        for command in SCHEMAS:
            if key in keys_of_command(command):
                raise SsrError(
                    f"{word}: {key} is a key of {messages.named(command)}, and not of {self.name}."
                )
        near, value = nearest(key, self.keys), word.partition("=")[2]
        if not is_near(key, near):
            part = key.partition(".")[0]
            below = sorted(name for name in self.keys if name.startswith(f"{part}."))
            first = sorted({name.partition(".")[0] for name in self.keys})
            raise SsrError(
                f"{word}: there is no key {key}: type KEY=VALUE with one that there is; "
                f"{f'the keys of {part} are' if below else 'keys begin with'} "
                f"{', '.join(below or first)}."
            )
        advice = f"{near}={value or 'VALUE'}"
        if near in self.groups and not self._has_presets(near, value):
            advice = f"{near}=NAME"
        elif value and not self._takes(advice):
            advice = f"{near}=VALUE"
        raise SsrError(
            f"{word}: there is no key {key}, the nearest is {near}: type "
            f"{shlex.quote(advice)}; {messages.typed(self.command)} --help lists all."
        )

    def _takes(self, word: str) -> bool:
        """Say whether a word that is to be advised can be copied and would be taken."""
        if self._is_advice:
            return False  # nobody reads this refusal
        self._is_advice = True
        try:
            self.check([word])
        except SsrError:
            return False
        finally:
            self._is_advice = False
        return quoting.can_be_shown(word)

    def _check_preset(self, override: Override) -> None:
        key, word, value = override.key_or_group, str(override.input_line), override.value()
        if isinstance(value, list):
            names = ",".join(map(str, value))
            sweep = self._sweep(key, names if self._has_presets(key, names) else None)
            raise SsrError(f"{word}: {key} is one preset{sweep}.")
        is_path = isinstance(value, str) and value.startswith(("/", "./", "../"))
        if isinstance(value, dict) or (not value and value is not None) or is_path:
            self._refuse_preset(key, word)

    def _refuse_preset(self, key: str, word: str) -> NoReturn:
        """Say where a path belongs that stands for a preset's name, or that a name belongs here."""
        raw = word.partition("=")[2]
        refusal = f"{word}: {key} is the name of a preset"
        if raw and self._has_presets(key, raw):
            self._refuse_for_quotes(key, raw, f"{word} cannot be read as it stands")
        if key in PATHS and raw.startswith(("~", "/", "./", "../")):
            preset, place = PATHS[key]
            plain = f"{place}={raw}"
            path = shlex.quote(plain) if self._takes(plain) else quoting.quoted(place, raw)
            if quoting.can_be_shown(raw):
                raise SsrError(f"{refusal}, and a path has a key of its own: type {preset} {path}.")
        is_part = key in self.keys and is_dataclass(self.keys[key].type)
        part = f", or {key}.KEY=VALUE for one of its keys" if is_part else ""
        raise SsrError(f"{refusal}: type {key}=NAME{part}.")

    def _has_presets(self, key: str, names: str) -> bool:
        """Say whether there are presets of a group with these names, commas between them."""
        return "\0" not in names and all(
            any((folder / key / f"{name}.yaml").is_file() for folder in (CONF, *self.folders))
            for name in names.split(",")
        )

    def _refuse_for_quotes(self, key: str, raw: str, refusal: str, end: str = "") -> NoReturn:
        """Advise quotes; not around what a screen cannot show."""
        if quoting.can_be_shown(raw):
            raise SsrError(f"{refusal}: type {quoting.quoted(key, raw)}{end}.")
        raise SsrError(
            f"{refusal}: it has a line break or another character that is none to type: rename the "
            f"file or folder, or type a link to it (ln -s), as {key}=NAME."
        )

    def _check_values(self, override: Override) -> None:
        """Hold a value, or each that is swept over, against the key's type."""
        key, word, raw = override.key_or_group, override.input_line, override.get_value_string()
        if key in ALL_PLACES and quoting.is_misread(override):
            self._refuse_for_quotes(key, raw, f"{word} is not read as a name", " if it is one")
        if isinstance(override.value(), IntervalSweep):
            raise SsrError(f"{word}: an interval has no steps{self._sweep(key)}.")
        if isinstance(override.value(), Glob):
            raise SsrError(f"{word}: {key} has no presets to list{self._sweep(key)}.")
        for value in self._values(override):
            try:
                OmegaConf.update(_schema(self.command), key, value, merge=True)
            except (OmegaConfBaseException, ValueError, OverflowError, RecursionError):
                self._refuse_value(key, f"{key}={raw}", override.value())

    def _values(self, override: Override) -> Iterator[Any]:
        value: Any = override.value()
        if isinstance(value, RangeSweep):
            if value.step == 0:
                raise SsrError(f"{override.input_line}: a range needs steps that are not 0.")
            first = list(islice(value.range(), 1))
            yield from first if self.sweeps else [first]
        elif isinstance(value, ChoiceSweep):
            values = [Override._convert_value(one) for one in value.list]
            yield from values if self.sweeps else [values]
        elif not override.is_sweep_override():
            yield value

    def _refuse_value(
        self, key: str, word: str, value: Any = None, *, is_readable: bool = True
    ) -> NoReturn:
        """Say what a key takes, and how that is typed which was meant."""
        kind, raw = self.keys[key], word.partition("=")[2]
        refusal = f"{word}: {key} is {kind}"
        if (fraction := number(kind, raw)) is not None:
            raise SsrError(f"{refusal}: type {key}={fraction}.")
        if kind.is_one:
            values = several(kind, raw, value)
            is_sweep = isinstance(value, ChoiceSweep | RangeSweep) and not self.sweeps
            if values or is_sweep or not is_readable:
                raise SsrError(f"{refusal}{self._sweep(key, values)}.")
        if not is_readable:
            raise SsrError(
                f"{word} cannot be read, a bracket or a comma is amiss: {key} is {kind}."
            )
        if kind.is_list and not isinstance(value, list | dict):
            advice = f"{key}=[{raw.strip('()[]{} ')}]"
            advice = advice if self._takes(advice) else f"{key}=[VALUE,VALUE]"
            raise SsrError(f"{refusal}: type {shlex.quote(advice)}.")
        if is_dataclass(kind.type):
            raise SsrError(f"{refusal}: type {key}.KEY=VALUE.")
        raise SsrError(f"{refusal}: type {key}=VALUE{self._example(key)}.")

    def _example(self, key: str) -> str:
        """Show a value of a key: the usual one, or one of its type."""
        usual = OmegaConf.select(OmegaConf.structured(SCHEMAS[self.command]), key)
        value = EXAMPLES.get(self.keys[key].type) if usual is None else str(usual).lower()
        advice = f"{key}={value}"
        return f", such as {advice}" if value and self._takes(advice) else ""

    def _sweep(self, key: str, values: str | None = None) -> str:
        """Say how several values of a key are tried, as the end of a sentence."""
        if self.command != "train":
            return f"; {self.name} takes one value of it: repeat the command with each"
        advice = f"{key}={values}"
        if values is None or not self._takes(advice):
            advice = f"{key}=VALUE,VALUE"
        return f"; to train with several, type {shlex.quote(advice)}"

    def _refuse_unreadable(self, word: str) -> NoReturn:
        """Say how a word is typed that Hydra's grammar cannot take."""
        name, equals, raw = word.partition("=")
        if not equals:
            raise SsrError(
                f"{word} is no setting: type KEY=VALUE, in quotes if it holds spaces; "
                f"{messages.typed(self.command)} --help lists all."
            )
        try:
            (override,) = parse([f"{name}=VALUE"])
        except HydraException:
            self._refuse_key(name.strip(" +~-/@"), word)
        key = override.key_or_group
        if override.is_hydra_override():
            hydra_word(override, {})  # refuses a typo
        elif key not in self.keys and not self._is_open(key) and not self._is_users_group(key):
            self._refuse_key(key, word)
        if key in self.groups or "/" in key:
            self._refuse_preset(key, word)
        if key not in self.keys or self.keys[key].type in (str, Any):
            self._refuse_for_quotes(key, raw, f"{word} cannot be read as it stands")
        self._refuse_value(key, word, raw, is_readable=False)


def parse(words: Sequence[str], loader: ConfigLoader | None = None) -> list[Override]:
    """Let Hydra's parser read words; a loader tells it what presets `glob(*)` names.

    Raises:
        HydraException: if its grammar cannot take one.
    """
    return OverridesParser.create(config_loader=loader).parse_overrides(list(words))


def no_preset(group: str, name: str, options: Sequence[str]) -> str:
    """Say that a preset is not there, and which are."""
    return (
        f"{group}={name}: there is no such preset, the nearest is {group}="
        f"{nearest(name, options)}; there are {', '.join(sorted(options))}."
    )


def check_is_read(asked: dict[str, Any]) -> None:
    """Refuse keys that nobody reads where the user's own modules train or serve the data.

    Args:
        asked: values of what is typed, and of the groups `task` and `dataset`, by their keys.

    Raises:
        SsrError: says whose they are there.
    """
    is_own = {group: asked.get(group) == "module" for group in ("task", "dataset")}
    recipe = read_of_recipe(is_own_data=is_own["dataset"])
    for key in asked:
        group, _, name = key.partition(".")
        if is_own["task"] and group == "model":
            raise SsrError(
                f"{key} is not for task=module, whose network is the attribute task.network of "
                "task.target: leave it out."
            )
        name = name.partition(".")[0]
        if is_own["task"] and group == "recipe" and name not in recipe:
            raise SsrError(
                f"{key} is not for task=module, which optimizes by its own code: leave it out (of "
                f"recipe it reads {', '.join(recipe)}), or type task.arguments.NAME=VALUE."
            )
        if is_own["dataset"] and group == "dataset" and name and name not in OWN_DATA:
            raise SsrError(
                f"{key} is not for dataset=module, which reads and augments by its own code: leave "
                "it out, or type dataset.arguments.NAME=VALUE."
            )


@cache
def _schema(command: str) -> Any:
    """Keep a configuration to try values on: only their types decide, so none is taken back."""
    return OmegaConf.structured(SCHEMAS[command])


def _size(override: Override) -> int:
    """Count the values of a word."""
    value: Any = override.value()
    if isinstance(value, ChoiceSweep):
        return len(value.list)
    if isinstance(value, RangeSweep) and value.step:
        first, last = value.start or 0, value.stop or 0
        return max(0, math.ceil((last - first) / value.step))
    return 1
