"""The words of a command line, `KEY=VALUE`, held against what may be typed.

Hydra adds a key that nothing reads where a word begins with `+`, and advises to do so. Here a typo
is one, whatever stands before it; a value is of the key's type; and what Hydra's grammar cannot
take is told with its quotes. Hydra's own parser reads the words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

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

from ssr_exp import config
from ssr_exp.app.command_line import kinds, quoting
from ssr_exp.app.command_line.hydra_keys import HydraKeys
from ssr_exp.app.command_line.nearest import is_near, nearest
from ssr_exp.config import AnyConfig
from ssr_exp.errors import SsrError

MOST = 100_000  # configurations that one command may stand for
COMMANDS: dict[str, type[AnyConfig]] = {
    "train": config.Config,
    "search": config.SearchConfig,
    "export": config.ExportConfig,
    "report": config.ReportConfig,
}
# Texts that name a place: Hydra reads 2024_01 as a number, and a comma as a sweep.
PLACES = set(
    "dataset.root paths.runs paths.data checkpoint recipe.distill modifiers.file runs.file "
    "latency.file run to root file".split()
)
# A path where the name of a preset belongs, and what it is the value of.
PATHS = {
    "dataset": ("dataset=image_folder", "dataset.root"),
    "latency": ("latency=file", "latency.file"),
    "modifiers": ("modifiers=proposed", "modifiers.file"),
    "runs": ("runs=table", "runs.file"),
}
CONF = Path(__file__).parents[3] / "conf"


class Checker:
    """Checks the words of one command.

    Args:
        schema: of its configuration.
        command: its script's name: train, search, export or report.
        folders: of further presets, `--config-dir`.
    """

    def __init__(self, schema: type[AnyConfig], command: str, folders: Sequence[Path] = ()) -> None:
        self.schema, self.command, self.folders = schema, command, list(folders)
        self.kinds = kinds.all_of(schema)
        self.groups = {key for key, kind in self.kinds.items() if is_dataclass(kind.type)}
        self.groups = {key for key in self.groups if not CONF.is_dir() or (CONF / key).is_dir()}
        if _is_preset("experiment", schema):
            self.groups.add("experiment")
        self._parser = OverridesParser.create()
        self._is_advice = False

    def check(self, typed: Sequence[str]) -> list[str]:
        """Return the words as Hydra takes them.

        Raises:
            SsrError: if one cannot be met; says what to type.
        """
        overrides = [self._read(word) for word in typed]
        self._add_folders(overrides)
        self.hydra = HydraKeys(overrides, CONF / "hydra/launcher")
        checked = [self._word(override) for override in overrides]
        if (size := math.prod(map(_size, overrides))) > MOST:
            raise SsrError(
                f"this command stands for {size:,} configurations, and {MOST:,} are allowed: "
                "sweep over fewer values."
            )
        return checked

    def _read(self, word: str) -> Override:
        """Let Hydra parse a word."""
        if any("\udc80" <= c <= "\udcff" for c in word):
            raise SsrError(
                f"{word.encode(errors='surrogateescape')!r} is not UTF-8, which names of files and "
                "values have to be here: rename the file or folder, or type a link to it (ln -s)."
            )
        try:
            (override,) = self._parser.parse_overrides([word])
        except HydraException:
            self._refuse_unreadable(word)
        return override

    def _word(self, override: Override) -> str:
        """Check one word; a `+` before a key that is there is left out."""
        key, word = override.key_or_group, str(override.input_line)
        if override.is_hydra_override():
            return self.hydra.word(override)
        if override.package is not None:
            plain = f"{key}={_value(word)}"
            raise SsrError(f"{word}: nothing reads a preset under another name: type {plain}.")
        if self._is_further(key):
            return f"+{word.lstrip('+')}"
        if key not in self.kinds and key not in self.groups and not self._is_open(key):
            self._refuse_key(key, word)
        if override.is_delete():
            self._check_removal(key, word)
            return word
        if key in self.groups:
            self._check_preset(override)
        elif not self._is_open(key):
            self._check_values(override)
        return word.lstrip("+")

    def _add_folders(self, overrides: Iterable[Override]) -> None:
        for override in overrides:
            if override.key_or_group == "hydra.searchpath":
                found: Any = override.value()
                for place in found if isinstance(found, list) else []:
                    self.folders.append(Path(str(place).removeprefix("file://")))

    def _is_further(self, key: str) -> bool:
        """Say whether a key names a user's own group of presets, which Hydra wants to be added."""
        is_ours = key in self.groups or key in self.kinds
        return not is_ours and bool(key) and any((f / key).is_dir() for f in self.folders)

    def _is_open(self, key: str) -> bool:
        """Say whether a key is below one whose keys are not ours to know, or an item of a list."""
        above, _, last = key.rpartition(".")
        if last.isdecimal() and above in self.kinds and self.kinds[above].is_list:
            return True
        return any(key.startswith(f"{name}.") for name in config.OPEN if name in self.kinds)

    def _refuse_key(self, key: str, word: str) -> NoReturn:
        """Name the nearest key, or the command that knows this one."""
        if not key:
            raise SsrError(f"{word}: the key is missing: type KEY=VALUE.")
        others = [
            name
            for name, schema in COMMANDS.items()
            if name != self.command and (key in kinds.all_of(schema) or _is_preset(key, schema))
        ]
        if others:
            raise SsrError(f"{word}: {key} is a key of {others[0]}.py, and not of {self._script}.")
        near = nearest(key, [*self.kinds, *self.groups])
        if not is_near(key, near):
            raise SsrError(
                f"{word}: there is no key {key}: type KEY=VALUE with one that there is; "
                f"{self._keys_beside(key)}."
            )
        advice = f"{near}={_value(word) or 'VALUE'}"
        if near in self.groups and not self._has_presets(near, _value(word)):
            advice = f"{near}=NAME"
        elif _value(word) and not self._takes(advice):
            advice = f"{near}=VALUE"
        raise SsrError(
            f"{word}: there is no key {key}, the nearest is {near}: type "
            f"{quoting.shell(advice)}; python {self._script} --help lists all."
        )

    def _keys_beside(self, key: str) -> str:
        """List what might be meant instead: the keys of its part, or the parts."""
        part = key.partition(".")[0]
        inside = sorted(k for k in self.kinds if k.startswith(f"{part}."))
        if inside:
            return f"the keys of {part} are {', '.join(inside)}"
        return f"keys begin with {', '.join(sorted({k.partition('.')[0] for k in self.kinds}))}"

    def _takes(self, word: str) -> bool:
        """Say whether a word that is to be advised can be copied and would be taken."""
        if self._is_advice:
            return False  # nobody reads this refusal
        other = Checker(self.schema, self.command, self.folders)
        other._is_advice = True
        try:
            other.check([word])
        except SsrError:
            return False
        return quoting.can_be_shown(word)

    @property
    def _script(self) -> str:
        return f"{self.command}.py"

    def _check_removal(self, key: str, word: str) -> None:
        if not self._is_open(key):
            kind = self.kinds.get(key)
            value = "null" if kind is None or kind.is_optional else "VALUE"
            raise SsrError(f"{word}: {key} cannot be removed: type {key}={value} instead.")

    def _check_preset(self, override: Override) -> None:
        key, value = override.key_or_group, override.value()
        if isinstance(value, list):
            several = ",".join(map(str, value))
            sweep = self._sweep(key, several if self._has_presets(key, several) else None)
            raise SsrError(f"{override.input_line}: {key} is one preset{sweep}.")
        is_path = isinstance(value, str) and value.startswith(("/", "./", "../"))
        if isinstance(value, dict) or (not value and value is not None) or is_path:
            self._refuse_preset(key, str(override.input_line))

    def _refuse_preset(self, key: str, word: str) -> NoReturn:
        """Say where a path belongs that stands for a preset's name, or that a name belongs here."""
        raw = _value(word)
        told = f"{word}: {key} is the name of a preset"
        if raw and self._has_presets(key, raw):
            self._refuse_for_quotes(key, raw, f"{word} cannot be read as it stands")
        if key in PATHS and raw.startswith(("~", "/", "./", "../")):
            preset, place = PATHS[key]
            plain = f"{place}={raw}"
            path = quoting.shell(plain) if self._takes(plain) else quoting.quoted(place, raw)
            if quoting.can_be_shown(raw):
                raise SsrError(f"{told}, and a path has a key of its own: type {preset} {path}.")
        own = f", or {key}.KEY=VALUE for one of its keys" if key in self.kinds else ""
        raise SsrError(f"{told}: type {key}=NAME{own}.")

    def _has_presets(self, key: str, names: str) -> bool:
        """Say whether there are presets of a group with these names, commas between them."""
        if "\0" in names:
            return False
        folders = (CONF, *self.folders)
        return all(
            any((folder / key / f"{name}.yaml").is_file() for folder in folders)
            for name in names.split(",")
        )

    def _refuse_for_quotes(self, key: str, raw: str, told: str, end: str = "") -> NoReturn:
        """Advise quotes; not around what a screen cannot show."""
        if quoting.can_be_shown(raw):
            raise SsrError(f"{told}: type {quoting.quoted(key, raw)}{end}.")
        raise SsrError(
            f"{told}: it has a line break or another character that is none to type: rename the "
            f"file or folder, or type a link to it (ln -s), as {key}=NAME."
        )

    def _check_values(self, override: Override) -> None:
        """Hold a value, or each that is swept over, against the key's type."""
        key, raw = override.key_or_group, override.get_value_string()
        if key in PLACES and quoting.is_misread(override):
            told = f"{override.input_line} is not read as a name"
            self._refuse_for_quotes(key, raw, told, " if it is one")
        if isinstance(override.value(), IntervalSweep):
            raise SsrError(f"{override.input_line}: an interval has no steps{self._sweep(key)}.")
        if isinstance(override.value(), Glob):
            raise SsrError(
                f"{override.input_line}: {key} has no presets to list{self._sweep(key)}."
            )
        for value in self._values(override):
            conf = OmegaConf.structured(self.schema)
            try:
                OmegaConf.update(conf, key, value, merge=True)
            except (OmegaConfBaseException, ValueError, OverflowError, RecursionError):
                self._refuse_value(key, raw, override.value())

    def _values(self, override: Override) -> Iterator[Any]:
        found: Any = override.value()
        if isinstance(found, RangeSweep):
            if found.step == 0:
                raise SsrError(f"{override.input_line}: a range needs steps that are not 0.")
            first = list(islice(found.range(), 1))
            yield from first if self._sweeps else [first]
        elif isinstance(found, ChoiceSweep):
            values = [Override._convert_value(value) for value in found.list]
            yield from values if self._sweeps else [values]
        elif not override.is_sweep_override():
            yield found

    @property
    def _sweeps(self) -> bool:
        """Say whether several values are several configurations, and no list."""
        return issubclass(self.schema, config.Config)

    def _refuse_value(self, key: str, raw: str, value: Any) -> NoReturn:
        kind = self.kinds[key]
        told = f"{key}={raw}: {key} is {kind}"
        if kind.is_list and not isinstance(value, list | dict):
            advice = f"{key}=[{raw.strip('()[]{} ')}]"
            if not self._takes(advice):
                advice = f"{key}=[VALUE,VALUE]"
            raise SsrError(f"{told}: type {quoting.shell(advice)}.")
        if (number := kinds.number(kind, raw)) is not None:
            raise SsrError(f"{told}: type {key}={number}.")
        if kind.is_one and not self._sweeps and isinstance(value, ChoiceSweep | RangeSweep):
            raise SsrError(f"{told}{self._sweep(key)}.")
        if kind.is_one and (several := kinds.several(kind, raw, value)):
            raise SsrError(f"{told}{self._sweep(key, several)}.")
        raise SsrError(f"{told}: type {key}{'.KEY' if is_dataclass(kind.type) else ''}=VALUE.")

    def _sweep(self, key: str, several: str | None = None) -> str:
        """Say how several values of a key are tried, as the end of a sentence."""
        if self.command == "train":
            advice = f"{key}={several}"
            if several is None or not self._takes(advice):
                advice = f"{key}=VALUE,VALUE"
            return f"; to train with several, type {quoting.shell(advice)}"
        return f"; {self._script} takes one value of it: repeat the command with each"

    def _refuse_unreadable(self, word: str) -> NoReturn:
        """Say how a word is typed that Hydra's grammar cannot take."""
        name, equals, raw = word.partition("=")
        if not equals:
            raise SsrError(
                f"{word} is no setting: type KEY=VALUE, in quotes if it holds spaces; python "
                f"{self._script} --help lists all."
            )
        try:
            (found,) = self._parser.parse_overrides([f"{name}=0"])
        except HydraException:
            self._refuse_key(name.strip(" +~-/@"), word)
        key, kind = found.key_or_group, self.kinds.get(found.key_or_group)
        is_there = key in self.groups or self._is_open(key) or self._is_further(key)
        if kind is None and not is_there and not found.is_hydra_override():
            self._refuse_key(key, word)
        if found.is_hydra_override() and not self._is_advice:
            self.check([f"{key}=VALUE"])  # refuses a typo
        if key in self.groups or "/" in key:
            self._refuse_preset(key, word)
        if kind is None or kind.is_text:
            self._refuse_for_quotes(key, raw, f"{word} cannot be read as it stands")
        if (number := kinds.number(kind, raw)) is not None:
            raise SsrError(f"{word}: {key} is {kind}: type {key}={number}.")
        if kind.is_one:
            raise SsrError(
                f"{word}: {key} is {kind}{self._sweep(key, kinds.several(kind, raw, raw))}."
            )
        raise SsrError(f"{word} cannot be read, a bracket or a comma is amiss: {key} is {kind}.")


def no_preset(group: str, name: str, options: Sequence[str]) -> str:
    """Say that a preset is not there, and which are."""
    return (
        f"{group}={name}: there is no such preset, the nearest is {group}="
        f"{nearest(name, options)}; there are {', '.join(sorted(options))}."
    )


def _is_preset(key: str, schema: type[AnyConfig]) -> bool:
    """Say whether a key is that of the presets which are of no part of the configuration."""
    return key == "experiment" and issubclass(schema, config.Config)


def _value(word: str) -> str:
    return word.partition("=")[2]


def _size(override: Override) -> int:
    """Count the values of a word."""
    found: Any = override.value()
    if isinstance(found, ChoiceSweep):
        return len(found.list)
    if isinstance(found, RangeSweep) and found.step:
        first, last = found.start or 0, found.stop or 0
        return max(0, math.ceil((last - first) / found.step))
    return 1
