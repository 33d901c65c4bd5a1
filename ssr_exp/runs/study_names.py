"""What a study is called, and what was typed for it: a name of one's own, the words of commands.

A study is what its fingerprint says, and so is its folder. A name of one's own is another word for
it: it stands in a file beside `study.json`, in no record, and decides nothing.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from ssr_exp import files, messages
from ssr_exp.config import PLACES, PathsConf
from ssr_exp.errors import SsrError
from ssr_exp.files import FileModel
from ssr_exp.runs import studies
from ssr_exp.runs.store import RECORD_FILE, Store, folder_name

log = logging.getLogger(__name__)

FILE = "begun.json"
SCHEMA = 1  # raise when a reader of today could misread what is written
TRUST = "trust=true"  # typed beside a study whose words may call code
FUNCTION = "task.target=MODULE.FUNCTION"  # trains what a loop would, as it is typed
LOCK = ".names"  # in the store's folder: one process at a time gives a name
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?")
FINGERPRINT = re.compile(r".*-([0-9a-f]{8})")
SHORTEST = 4  # characters of a fingerprint that stand for it
MOST = 12  # names in a sentence
# Of a word that is taken from a file: a key of the configuration and a plain value or list of some.
# What could be a dictionary, a call of Hydra's or a path to another preset is none.
PLAIN_WORD = re.compile(r"(?P<key>[a-z]\w*(?:\.[a-z]\w*)*)=(?P<value>[\w\s.,%/+'\"\[\]-]*)")
PRESET = re.compile(r"[\w.,%+\[\]-]*")  # what a key without a dot may be: a preset or a number
PATHS = ("checkpoint",)  # but these
# Parts of keys that name what is called, or send what is measured to others.
TRUSTED = {"target", "arguments", "hydra", "entity", "share_machine", "example_inputs"}

Command = Literal["train", "search"]
"""What trains networks."""


class Asked(FileModel):
    """A command that trained networks of a study: `train` or `search`, and what was typed after it.

    `words` say what to train; `launcher` where, which is for the command that is typed again alone,
    as is `config_dir`, the folder of presets of one's own that the words may name.
    """

    command: Command
    words: tuple[str, ...]
    launcher: tuple[str, ...] = ()
    config_dir: str | None = None

    @property
    def presets(self) -> list[str]:
        """Write what names the folder of presets, if there is one."""
        return presets(self.config_dir)


def presets(config_dir: str | None) -> list[str]:
    """Write what names a folder of presets of one's own, if there is one."""
    return [] if config_dir is None else ["--config-dir", config_dir]


def says_place(words: Iterable[str]) -> bool:
    """Say whether words may name another folder of runs: an experiment is free to."""
    return any(messages.part_of(word) == "experiment" or word.startswith("+") for word in words)


class Begun(FileModel):
    """How a study was begun, and is called: of each command the words that were typed last.

    The words say nothing of where the study lies, and nothing that trusts it.
    """

    schema_version: int = SCHEMA
    name: str | None = Field(default=None, pattern=f"^{NAME.pattern}$")
    asked: tuple[Asked, ...] = ()

    def by(self, command: str) -> Asked | None:
        """Say what was typed after a command; None if it never was."""
        return next((one for one in self.asked if one.command == command), None)


def needs_trust(word: str) -> bool:
    """Say whether a word may call code, send results away, or read this machine's environment."""
    key, _, value = word.partition("=")
    if key in PLACES and "$" not in value:  # which would look something up
        return False
    if (read := PLAIN_WORD.fullmatch(word)) is None:
        return True
    parts = read["key"].split(".")
    if len(parts) == 1 and parts[0] not in PATHS:
        return PRESET.fullmatch(read["value"]) is None
    return not TRUSTED.isdisjoint(parts) or parts[:2] == ["task", "trainer"]


def trusting(begun: Begun, command: Command) -> list[str]:
    """Return the word that a command on a study needs beside it, if its words need trust.

    Those of the other command are taken where it was never typed itself.
    """
    same = begun.by(command)
    asked = begun.asked if same is None else [same]
    needs = (one.config_dir is not None or any(map(needs_trust, one.words)) for one in asked)
    return [TRUST] if any(needs) else []


def check_name(name: str) -> None:
    """Refuse what is no name of a study.

    Raises:
        SsrError: says what is.
    """
    if not NAME.fullmatch(name):
        raise SsrError(
            f"name={name!r:.120} cannot be a study's name: give up to 100 letters, digits, and "
            ". _ - (a letter or digit first, no . at the end)."
        )


def read(folder: Path) -> Begun:
    """Read what is known of how a study was begun; of a file that cannot be read, nothing."""
    try:
        return files.read(folder / FILE, Begun, version=SCHEMA)
    except FileNotFoundError:
        return Begun()
    except files.Unreadable as error:
        log.warning("skipped %s, and a name that it may give: %s", folder / FILE, error)
        return Begun()


def every(root: Path) -> dict[str, str | None]:
    """List the studies of a store by their folders' names, with names of one's own."""
    folders = sorted(path for path in root.glob("*/") if not path.name.startswith("."))
    # A folder of another name, a copy perhaps, would be taken for the study of that name.
    own = (folder for folder in folders if folder_name(folder.name) == folder.name)
    return {folder.name: read(folder).name for folder in own if is_study(folder)}


def is_study(folder: Path) -> bool:
    """Say whether a folder is that of a study: it says so, or holds a record."""
    if os.path.exists(folder / studies.FILE):  # false of what it may not read, too
        return True
    return next(folder.glob(f"*/seed*/{RECORD_FILE}"), None) is not None


def title(root: Path, study: str) -> str:
    """Return what a study is called: the name that it was given, or its own."""
    return read(root / folder_name(study)).name or study


def find(root: Path, typed: str, *, whole: bool = False) -> str:
    """Find the study that is meant: by its name, one of one's own, or a beginning of one.

    The fingerprint at the end of a name, or a beginning of it, stands for the study, too.

    Args:
        root: the store's folder.
        typed: what is typed for the study.
        whole: whether a beginning is not enough, as for what is removed.

    Returns:
        The name of its folder.

    Raises:
        SsrError: if none or several are meant; names the nearest, and those that there are.
    """
    here = every(root)
    exact = [study for study, own in here.items() if typed in (study, own)]
    if typed in here or len(exact) == 1:
        return typed if typed in here else exact[0]
    if exact:
        raise SsrError(
            f"several studies in {root} are called {typed}, a copy perhaps: type the folder of "
            f"one, of {', '.join(exact[:MOST])}."
        )
    begun = [study for study, own in here.items() if typed and _begins(typed, study, own)]
    if whole and begun:
        begun = [study for study in begun if study.endswith(f"-{typed}")]  # a whole fingerprint
    if whole and not begun:
        raise SsrError(f"{typed} is no whole name of a study in {root}; it holds {_listed(here)}.")
    if len(begun) == 1:
        return begun[0]
    if begun:
        names = _listed(_of(here, begun))
        raise SsrError(f"{typed} may be several studies in {root}: type more of one, of {names}.")
    near = difflib.get_close_matches(typed, [*filter(None, here.values()), *here], n=1)
    meant = f", the nearest is {near[0]}" if near else ""
    raise SsrError(f"there is no study {typed} in {root}{meant}; it holds {_listed(here)}.")


def _of(here: Mapping[str, str | None], some: Sequence[str]) -> dict[str, str | None]:
    return {study: here[study] for study in some}


def _begins(typed: str, study: str, own: str | None) -> bool:
    match = FINGERPRINT.fullmatch(study)
    is_hash = match is not None and len(typed) >= SHORTEST and match[1].startswith(typed)
    return is_hash or study.startswith(typed) or (own or "").startswith(typed)


def _listed(named: Mapping[str, str | None]) -> str:
    names = [f"{own} ({study})" if own else study for study, own in named.items()]
    more = [f"{len(names) - MOST} more"] if len(names) > MOST else []
    return ", ".join([*names[:MOST], *more]) or "none"


def refuse_taken(root: Path, name: str, study: str, fields: Mapping[str, object]) -> None:
    """Refuse a name that another study is called.

    Args:
        root: the store's folder.
        name: to be given.
        study: the one that is to be called so.
        fields: what that is.

    Raises:
        SsrError: says in what the two differ.
    """
    here, folder = every(root), folder_name(study)
    others = [one for one, own in here.items() if name in (one, own) and one != folder]
    if folder not in here:  # of some disks no folder is told by its capitals
        others += [one for one in here if one.casefold() == folder.casefold()]
    if not others:
        return
    theirs = files.read_or_empty(root / others[0] / studies.FILE)
    differences = studies.differences(theirs, fields) if theirs and fields else []
    why = f" ({differences[0]}{_more(differences)})" if differences else ""
    raise SsrError(
        f"name={name} is what another study in {root} is called, {others[0]}{why}: type another "
        f"name, or study={name if name in (others[0], here[others[0]]) else others[0]} to go on "
        "with that one."
    )


def _more(differences: Sequence[str]) -> str:
    return f", and {len(differences) - 1} more" if len(differences) > 1 else ""


def rename(store: Store, study: str, name: str) -> None:
    """Call a study by a name, whatever it was called before.

    Raises:
        SsrError: if it is no name, or another study is called so.
    """
    check_name(name)
    folder = store.study_folder(study)
    with store.claim(store.root / LOCK, wait=True):
        refuse_taken(store.root, name, study, files.read_or_empty(folder / studies.FILE))
        _write(store, folder, read(folder).model_copy(update={"name": name}))


def note(
    store: Store,
    study: str,
    fields: Mapping[str, object],
    asked: Asked | None,
    name: str | None,
) -> None:
    """Write down what was typed for a study, and what it is to be called.

    Args:
        store: of the study.
        study: its name.
        fields: what it is.
        asked: the command; None: it is not to be repeated.
        name: None: as before.

    Raises:
        SsrError: if it has another name, or another study has this one.
    """
    folder = store.study_folder(study)
    if name is None and (asked is None or asked in read(folder).asked):
        return
    with store.claim(store.root / LOCK, wait=True):
        before = read(folder)
        check_given(store, study, fields, name)
        kept = [one for one in before.asked if asked is None or one.command != asked.command]
        now = Begun(name=name or before.name, asked=(*kept, *([asked] if asked else [])))
        if now != before:
            _write(store, folder, now)


def check_given(store: Store, study: str, fields: Mapping[str, object], name: str | None) -> None:
    """Refuse to give a study a name that it cannot have; None is no name.

    Raises:
        SsrError: if it is no name, the study has another one, or another study has this one.
    """
    if name is None:
        return
    check_name(name)
    before = read(store.study_folder(study)).name
    if before is not None and before != name:
        raise SsrError(
            f"name={name}: this study is called {before} already; leave name= out, or rename it: "
            f"ssr studies name {before} {name}{at(store.root)}."
        )
    refuse_taken(store.root, name, study, fields)


def at(root: Path) -> str:
    """Write what `ssr studies` takes beside a name for a folder of runs that is not the usual."""
    return "" if str(root) == PathsConf().runs else f" --runs {shlex.quote(str(root))}"


def _write(store: Store, folder: Path, begun: Begun) -> None:
    """Write the file; one that cannot be read is moved aside: it may be of a newer version."""
    try:
        files.read(folder / FILE, Begun, version=SCHEMA)
    except FileNotFoundError:
        pass
    except files.Unreadable:
        taken = len(list(folder.glob(f"{FILE}.unreadable*")))
        (folder / FILE).rename(folder / f"{FILE}.unreadable{taken or ''}")
    store.write_text(folder / FILE, files.to_json(begun))
