"""The studies of a local store, and in what they differ."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ssr_exp import files

log = logging.getLogger(__name__)

FILE = "study.json"
EPOCHS = "training.epochs"
READING = "reading"  # what was read of the data set, in words and numbers
PREPROCESSING = "preprocessing"  # how an image file becomes what the network takes
FIRST_WEIGHTS = "first_weights"  # whose weights trainings start from, and what of them is drawn
CHANGED_CODE = "changed_code"  # of the user's own, since the study began: what it is now
SETTINGS = "settings"  # of a study that a loop of the user's own trains: what makes its networks
DESCRIPTIVE = (READING, PREPROCESSING, FIRST_WEIGHTS, CHANGED_CODE, SETTINGS)
CODE = ("task.code.", "dataset.code.")  # before the name of each module
FINGERPRINT = re.compile(r'"[0-9a-f]{8,64}"')
WORDS = {  # of fields that are no keys of the configuration
    EPOCHS: "trainer.max_epochs",
    "training.precision": "trainer.precision",
    "training.devices": "trainer.devices",
    "training.sync_batch_norm": "trainer.sync_batch_norm",
    "model.structure": "layers",
    "model.code": "code",
    "dataset.content": "images and split",
    "init.weights": "first weights",
    "init.checkpoint": "checkpoint",
    "recipe.distill.teacher": "teacher",
}


def read_all(root: Path) -> dict[str, dict[str, Any]]:
    """Read what each study of a store is, by its name; one that cannot be read is left out."""
    studies = {}
    for path in sorted(root.glob(f"*/{FILE}")):
        try:
            studies[path.parent.name] = files.read_fields(path)
        except (FileNotFoundError, files.Unreadable) as error:
            log.warning("skipped %s: %s", path, error)
    return studies


def compared(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what only describes a study, and decides nothing of its results."""
    return {key: value for key, value in fields.items() if key not in DESCRIPTIVE}


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Say in what a study differs from ours, as `recipe.lr is 0.1 there and 0.05 here`.

    Values differ where their JSON does, as in a study's fingerprint: 1 is not 1.0.
    """
    there, here = dict(_leaves(compared(theirs))), dict(_leaves(compared(ours)))
    return [
        f"{key} is {_shown(there, key)} there and {_shown(here, key)} here"
        for key in _differing(there, here)
    ]


def told_apart(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Say of each of several studies what is not the same in all of them, as it is typed.

    A fingerprint says nothing to people: of what has different ones each has a letter.

    Args:
        fields: what each is, by name.

    Returns:
        By name, the value of each such key: `recipe.lr` is `0.1`, `images and split` are `B`.
    """
    leaves = {name: dict(_leaves(compared(one))) for name, one in fields.items()}
    keys = dict.fromkeys(key for one in leaves.values() for key in one)
    differing = [key for key in keys if len({one.get(key) for one in leaves.values()}) > 1]
    letters = {key: _letters(one.get(key) for one in leaves.values()) for key in differing}
    return {
        name: {
            _typed(key): letters[key].get(one[key], _shown(one, key))
            for key in differing
            if key in one
        }
        for name, one in leaves.items()
    }


def _letters(values: Iterable[str | None]) -> dict[str, str]:
    """Give each fingerprint a letter, if that is what a key holds."""
    known = dict.fromkeys(value for value in values if value is not None)
    if not all(FINGERPRINT.fullmatch(value) for value in known):
        return {}
    return {value: _letter(number) for number, value in enumerate(known)}


def _letter(number: int) -> str:
    return chr(ord("A") + number) if number < 26 else f"{number + 1}"


def _typed(key: str) -> str:
    """Call a field as its key is typed, or in a word if it is a fingerprint."""
    if key.startswith(CODE):
        return f"code of {key.partition('.code.')[2]}"
    return WORDS.get(key, key)


def siblings(root: Path, fields: Mapping[str, Any]) -> dict[str, int]:
    """Find the studies that differ from one in the length of their trainings alone.

    Args:
        root: the store's folder, `paths.runs`.
        fields: what the one is; it is no sibling of its own.

    Returns:
        The epochs of each, by name.
    """
    here = dict(_leaves(compared(fields)))
    theirs = {name: dict(_leaves(compared(study))) for name, study in read_all(root).items()}
    return {
        name: int(there[EPOCHS])
        for name, there in theirs.items()
        if _differing(there, here) == [EPOCHS] and there.get(EPOCHS, "").isdecimal()
    }


def changed_code(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Name the modules of the user's own whose code differs; none if anything else does, too."""
    there, here = dict(_leaves(compared(theirs))), dict(_leaves(compared(ours)))
    keys = _differing(there, here)
    is_all = all(key.startswith(CODE) for key in keys)
    return [key.partition(".code.")[2] for key in keys] if is_all else []


def _differing(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """List the keys of either that are not the same in both, theirs first."""
    return [key for key in {**there, **here} if there.get(key) != here.get(key)]


def _leaves(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested fields: their keys, joined with dots, and their values as JSON."""
    for name, value in fields.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, sort_keys=True)


def _shown(leaves: Mapping[str, str], key: str) -> str:
    text = leaves.get(key, "not known")
    return text[1:-1] if text.startswith('"') else text
