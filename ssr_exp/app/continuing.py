"""`study=NAME` goes on with a study: what was typed when it was begun, and now, is one command.

A study that a loop of the user's own began says itself what it is (`training.loop_study`). Of one
that a command began, and of commands that went on with one of a loop, the words are kept beside it;
they are read as data that somebody else may have written, so those that name code are not taken
without `trust=true`.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from ssr_exp import files, messages
from ssr_exp.app.command_line import overrides, quoting, typed_values
from ssr_exp.config import Config
from ssr_exp.datasets import sources
from ssr_exp.errors import SsrError, one_line
from ssr_exp.runs import removal, studies, study_names
from ssr_exp.runs.store import Store
from ssr_exp.runs.study_names import Asked, Command
from ssr_exp.training import fingerprint, loop_settings, run
from ssr_exp.training.opened_study import OpenedStudy
from ssr_exp.training.sweep import Member

log = logging.getLogger(__name__)

# What a study of a loop of the user's own was begun with, and what of it a command still says.
DECIDED = "model segment task dataset recipe init checkpoint experiment".split()
OPEN = ("task.target", "task.arguments", "segment.frozen", "segment.width_steps")
# What one command's words say to another one: what is trained how, and not which networks.
SHARED = (*DECIDED, "trainer", "logger")
# What is of the command that is typed now alone.
NOT_KEPT = ("study", "name", "trust", "wait", "paths")
LAUNCHER = ("hydra/launcher=", "hydra.launcher.")
RUNS = "paths.runs"


@dataclass(frozen=True)
class Continued:
    """What a command line stands for.

    Args:
        command: `train` or `search`.
        words: all of them, with those that were kept.
        study: the one that must go on, by its folder's name; None: none was named.
        name: what it is to be called; None: as it is.
        launcher: the words that say where to train.
        config_dir: of presets of one's own.
        uses: the studies that it works on, until this is closed.
        settings: of the words those that a loop's study says itself; they are not kept.
    """

    command: Command
    words: tuple[str, ...]
    study: str | None = None
    name: str | None = None
    launcher: tuple[str, ...] = ()
    config_dir: str | None = None
    uses: ExitStack = field(default_factory=ExitStack, compare=False)
    settings: tuple[str, ...] = ()

    @property
    def presets(self) -> list[str]:
        """Write what names the folder of presets, if there is one."""
        return study_names.presets(self.config_dir)

    @property
    def is_aside(self) -> bool:
        """Whether it is a sweep of a study that is there: its words are for this time alone."""
        return self.study is not None and self.command == "train"

    def check(self, store: Store, opened: OpenedStudy) -> None:
        """Refuse to go on with a study that is not the one that was named.

        Raises:
            SsrError: says in what it differs.
        """
        if self.study is not None and store.study_folder(opened.name).name != self.study:
            raise SsrError(_is_another(store, self.study, opened))

    def begin(
        self, store: Store, opened: OpenedStudy, conf: Config, words: Sequence[str] | None
    ) -> None:
        """Write down what is typed for a study, before the first of its trainings.

        What is typed beside `study=NAME` is kept of a search, which is one and goes on: its answer
        is what the words say. Of a sweep it is for this time, and what was kept before stays.

        Args:
            store: of the study.
            opened: the study.
            conf: of the command.
            words: of the command; None: they train nothing.

        Raises:
            SsrError: if it is not the study that was named, or another one has its name.
        """
        self.check(store, opened)
        study_names.check_given(store, opened.name, opened.fields, self.name)
        if not (store.study_folder(opened.name) / studies.FILE).exists():
            for said in store.renamed(opened.name).values():
                raise SsrError(
                    f"{said}, or move it out of {store.root}; else its networks would be trained "
                    "again."
                )
            run.describe_study(opened, conf, store)
        self.uses.enter_context(removal.using(store, opened.name))
        asked = None if words is None else self._asked(store, opened, words)
        study_names.note(store, opened.name, opened.fields, asked, self.name)

    def _asked(self, store: Store, opened: OpenedStudy, words: Sequence[str]) -> Asked | None:
        """Say what of the words is to be repeated; None: nothing, or what was kept before."""
        before = study_names.read(store.study_folder(opened.name))
        if self.is_aside and before.by("train") is not None:
            return None
        mine = (word for word in words if word not in self.settings)
        left_out = (*NOT_KEPT, "seed") if self.is_aside else NOT_KEPT
        kept = tuple(word for word in mine if messages.part_of(word) not in left_out)
        return Asked(
            command=self.command, words=kept, launcher=self.launcher, config_dir=self.config_dir
        )

    def begin_all(self, members: Sequence[Member]) -> None:
        """Do so for each study that a sweep is of.

        Raises:
            SsrError: if several are to have one name, or one is not what was asked for.
        """
        by_study: dict[Path, list[Member]] = {}
        for member in members:
            by_study.setdefault(member.folder.parents[1], []).append(member)
        if self.name is not None and len(by_study) > 1:
            names = ", ".join(folder.name for folder in by_study)
            raise SsrError(
                f"name={self.name} is for one study, and this command is of {len(by_study)} "
                f"({names}): leave name= out, or type one value of what they differ in."
            )
        for some in by_study.values():
            job = some[0].job
            assert job is not None
            self.begin(some[0].store, job.study, job.conf, swept([m.asked for m in some]))


def read(
    arguments: Sequence[str], loader: ConfigLoader, composed: Any, command: Command
) -> Continued:
    """Read a command line, and of the study that it names what was typed before.

    Args:
        arguments: its words, without Hydra's own.
        loader: of Hydra.
        composed: its configuration.
        command: `train` or `search`.

    Raises:
        SsrError: if there is no such study, or its words are not known, or not trusted.
    """
    typed = typed_values.read(arguments, loader)
    for key in ("study", "name", "trust"):
        if (word := typed.get(key)) is not None and word.is_sweep_override():
            raise SsrError(
                f"{word.input_line}: {key}= takes one value; repeat the command with each of them."
            )
        if word is None and (given := OmegaConf.select(composed, key)):
            spelled = "trust=true" if given is True else messages.setting(key, given)
            raise SsrError(f"{key} is not read from a preset: type {spelled} in the command.")
    launcher = OmegaConf.select(composed, "hydra.overrides.hydra") or ()
    where = tuple(str(word) for word in launcher if str(word).startswith(LAUNCHER))
    presets = _config_dir(composed)
    beside: dict[str, Any] = {"launcher": where, "config_dir": presets}
    name = typed_values.value(typed, "name")
    if name is not None:
        study_names.check_name(name)
    if (folder := typed_values.study(typed, composed)) is None:
        return Continued(command, tuple(arguments), name=name, **beside)
    root, study = folder.parent, folder.name
    of_loop = files.read_or_empty(root / study / studies.FILE).get(studies.SETTINGS)
    if is_loop := isinstance(of_loop, dict):
        _refuse_other_words(typed)
    before = _kept(root, study, command, loader, is_loop=is_loop)
    mine = [word for word in before.words if messages.part_of(word) not in NOT_KEPT]
    if is_loop:  # what its networks are, it says itself
        mine = [word for word in mine if not is_decided(messages.key_of(word))]
    kept = [word for word in mine if not _is_replaced(messages.key_of(word), typed)]
    kept = _without_unread(root, study, kept)
    if not is_loop:
        before_now = {o.key_or_group: o.value() for o in overrides.parse(kept, loader)}
        chosen = {key: before_now[key] for key in ("task", "dataset") if key in before_now}
        overrides.check_is_read(chosen | {key: word.value() for key, word in typed.items()})
    if typed_values.value(typed, "trust") != "True":
        _check_trust(study_names.title(root, study), kept)
    if kept:
        now = [word for word in arguments if messages.part_of(word) not in NOT_KEPT]
        _say_words(study_names.title(root, study), before.command, kept, now)
    if before.launcher and not where:
        log.info(
            "before with %s: type that, too, to train there", one_line(shlex.join(before.launcher))
        )
    if before.presets and presets is None:
        log.info("before with %s", one_line(shlex.join(before.presets)))
    if is_loop:  # which calls the function that makes its network, if it is trusted
        words = [word for word in arguments if messages.key_of(word) != "study"]
        said = _settings(of_loop or {}, [*kept, *words])
        words = [messages.setting("study", study), *said, *kept, *words, *_place(kept, typed, root)]
        return Continued(command, tuple(words), study, name, settings=said, **beside)
    words = [word for word in arguments if messages.key_of(word) not in ("study", "trust")]
    return Continued(command, (*kept, *words, *_place(kept, typed, root)), study, name, **beside)


def _place(kept: Sequence[str], typed: Mapping[str, Override], root: Path) -> list[str]:
    """Say where a study lies, if nobody typed that and words that were kept may say another."""
    says = study_names.says_place(kept)
    return [messages.setting(RUNS, root)] if says and RUNS not in typed else []


def _config_dir(composed: Any) -> str | None:
    """Return the folder of presets that `--config-dir` named."""
    sources = OmegaConf.select(composed, "hydra.runtime.config_sources") or ()
    return next((str(one.path) for one in sources if one.provider == "command-line"), None)


def _settings(of_loop: Mapping[str, Any], words: Sequence[str]) -> tuple[str, ...]:
    """Write which networks a loop's study looks at, as far as the words say nothing of that."""
    said = {messages.key_of(word) for word in words}
    usual = loop_settings.lattice(of_loop).items()
    return tuple(f"{key}={quoting.spelled(value)}" for key, value in usual if key not in said)


def _say_words(name: str, command: Command, kept: Sequence[str], typed: Sequence[str]) -> None:
    """Say all words that are in force, and from when each is.

    Those of a search are of the one that was typed last, with what stood beside `study=` then.
    """
    when = "last search" if command == "search" else "training"
    now = f"; typed now: {one_line(shlex.join(typed))}" if typed else ""
    log.info("words of %s's %s: %s%s", name, when, one_line(shlex.join(kept)), now)


def swept(jobs: Sequence[Sequence[str]]) -> list[str]:
    """Write the command line that stands for several, each value of a key once.

    Of a key that one of them has several times the last word holds, as Hydra has it.
    """
    values: dict[str, dict[str, None]] = {}
    for job in jobs:
        words = {key: (equals, value) for key, equals, value in (w.partition("=") for w in job)}
        for key, (equals, value) in words.items():
            values.setdefault(f"{key}{equals}", {})[value] = None
    return [f"{key}{','.join(each)}" for key, each in values.items()]


def _refuse_other_words(typed: Mapping[str, Override]) -> None:
    """Refuse what would be ignored beside `study=NAME`, which says it already.

    Raises:
        SsrError: names the first such word.
    """
    for key, word in typed.items():
        if is_decided(key):
            raise SsrError(
                f"{word.input_line} goes with no study=NAME: its networks, its score and its "
                "training are those that it was begun with. Leave it out."
            )


def is_decided(key: str) -> bool:
    """Say whether a key is of what a study of a loop of the user's own was begun with."""
    return messages.part_of(key) in DECIDED and not key.startswith(OPEN)


def _kept(
    root: Path, study: str, command: Command, loader: ConfigLoader, *, is_loop: bool = False
) -> Asked:
    """Read the words of a study's last command, or of the other one what they share.

    A study that a loop began, `is_loop`, needs none.

    Raises:
        SsrError: if none are known.
    """
    begun = study_names.read(root / study)
    if (same := begun.by(command)) is not None:
        return same
    if is_loop and not begun.asked:
        return Asked(command=command, words=())
    if not begun.asked:
        raise SsrError(
            f"the words that began {study_names.title(root, study)} are not known, as it is of an "
            "earlier ssr_exp: repeat them once, without study=, and they are kept."
        )
    other = begun.asked[0]
    parsed = overrides.parse(list(other.words), loader)
    words = [str(o.input_line) for o in parsed if not (command == "search" and _sweeps(o))]
    shared = tuple(word for word in words if messages.part_of(word) in SHARED)
    return other.model_copy(update={"words": shared})


def _sweeps(override: Override) -> bool:
    return bool(override.is_sweep_override())


def _without_unread(root: Path, study: str, words: Sequence[str]) -> list[str]:
    """Leave out what its data set did not read when a study was begun, and is refused today.

    Raises:
        SsrError: if it is a part of what makes the study, which cannot be met any more.
    """
    theirs = files.read_or_empty(root / study / studies.FILE).get("dataset")
    if not isinstance(theirs, dict) or "target" in theirs:
        return list(words)
    dataset, kept = str(theirs.get("name")), []
    for word in words:
        group, _, key = messages.key_of(word).partition(".")
        is_unread = group == "dataset" and not sources.is_read(key, dataset)
        if is_unread and key in theirs:
            raise SsrError(
                f"{study_names.title(root, study)} was begun with {one_line(word)}, which "
                f"dataset={dataset} does not read and is refused today, so it cannot go on: begin "
                "it anew by the command that began it, without this word."
            )
        if not (is_unread and key in fingerprint.NOT_COMPARED):
            kept.append(word)
    return kept


def _is_replaced(key: str, typed: Mapping[str, Override]) -> bool:
    """Say whether what is typed now says a key anew, or all of the group that it is in."""
    return key in typed or any("." not in one and key.startswith(f"{one}.") for one in typed)


def _check_trust(name: str, words: Sequence[str]) -> None:
    """Refuse words that could call code, send results away, or read the environment.

    Raises:
        SsrError: names the first such word.
    """
    for word in words:
        if study_names.needs_trust(word):
            raise SsrError(
                f"study={name} was begun with {one_line(word)}, which may call code or send "
                "results away: type trust=true if you trust where the folder of runs comes from."
            )


def _is_another(store: Store, study: str, opened: OpenedStudy) -> str:
    """Say why a command line is not of the study that it names."""
    root, fields = store.root, opened.fields
    theirs, name = files.read_or_empty(root / study / studies.FILE), study_names.title(root, study)
    if modules := studies.changed_code(theirs, fields):
        return (
            f"the code of {', '.join(modules)} is not that of study {name}: if its results would "
            f"be the same, type task.study={study} with it; else leave study={name} out."
        )
    differences = studies.differences(theirs, fields)
    if theirs and not differences:
        return (
            f"the folder {root / study} was renamed, or is a copy: call it "
            f"{store.study_folder(opened.name).name} again, and give the study a name of your own "
            "with ssr studies name."
        )
    first = differences[0] if differences else "its file cannot be read"
    more = f", and {len(differences) - 1} more" if len(differences) > 1 else ""
    return (
        f"study={name} cannot go on, this would be another study: {first}{more}. Leave out what "
        "changes it, or leave study= out to begin another one."
    )
