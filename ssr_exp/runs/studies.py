"""The studies of a local store, and in what they differ."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
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
CALLS_CODE = "calls_code"  # among the settings: whether a function makes its network
DESCRIPTIVE = (READING, PREPROCESSING, FIRST_WEIGHTS, CHANGED_CODE, SETTINGS)
CODE = ("task.code.", "dataset.code.")  # before the name of each module
CONTENT = "dataset.content"  # the fingerprint of all pixels, labels and classes, and the split
LEARN_FROM = ("dataset.train_on_val", CONTENT)  # what of finalists is not their search's
FINGERPRINT = re.compile(r'"[0-9a-f]{8,64}"')
DIGITS = 8  # of a fingerprint that are shown
WORDS = {  # of fields that are no keys of the configuration
    EPOCHS: "trainer.max_epochs",
    "training.precision": "trainer.precision",
    "training.devices": "trainer.devices",
    "training.sync_batch_norm": "trainer.sync_batch_norm",
    "model.structure": "layers",
    "model.code": "code",
    CONTENT: "images and split",
    "init.weights": "first weights",
    "init.checkpoint": "checkpoint",
    "recipe.distill.teacher": "teacher",
}
WEIGHTS = {  # of trained networks, by the fields that their content decides
    "init.checkpoint": "the weights that networks start from",
    "recipe.distill.teacher": "the teacher's weights",
    "recipe.distill.target_mean": "the moments of the teacher's numbers",
    "recipe.distill.target_std": "the moments of the teacher's numbers",
}


def read_all(root: Path) -> dict[str, dict[str, Any]]:
    """Read what each study of a store is, by its name; one that cannot be read is left out."""
    studies = {}
    for path in sorted(root.glob(f"[!.]*/{FILE}")):
        try:
            studies[path.parent.name] = files.read_fields(path)
        except (FileNotFoundError, files.Unreadable) as error:
            log.warning("skipped %s: %s", path, error)
    return studies


def compared(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what only describes a study, and decides nothing of its results."""
    return {key: value for key, value in fields.items() if key not in DESCRIPTIVE}


def calls_code(fields: Mapping[str, Any]) -> bool:
    """Say whether a function makes the network of a loop's study, or it is not known."""
    settings = fields.get(SETTINGS)
    return not isinstance(settings, Mapping) or settings.get(CALLS_CODE) is not False


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Say in what a study differs from ours, as `recipe.lr is 0.1 there and 0.05 here`.

    Values differ where their JSON does, as in a study's fingerprint: 1 is not 1.0. What is known by
    a fingerprint alone comes last: settings that people typed say more, and often are its reason.
    """
    there, here = _flat(theirs), _flat(ours)
    keys = _differing(there, here)
    by_fingerprint = [key for key in keys if _is_fingerprint(key, there, here)]
    typed = [key for key in keys if key not in by_fingerprint]
    is_settled = any(key.startswith("dataset.") for key in typed)
    return [
        *(f"{key} is {_shown(there, key)} there and {_shown(here, key)} here" for key in typed),
        *(
            f"not the same {'images' if key == CONTENT and not is_settled else _typed(key)}: "
            f"{_shown(there, key)} there and {_shown(here, key)} here"
            for key in by_fingerprint
        ),
    ]


def told_apart(fields: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Say of each of several studies what is not the same in all of them, as it is typed.

    A value is written the same whatever it is told apart from: of a fingerprint some digits.

    Args:
        fields: what each is, by name.

    Returns:
        By name, the value of each such key: `recipe.lr` is `0.1`, `images and split` `63328d54`.
    """
    leaves = {name: _flat(one) for name, one in fields.items()}
    keys = dict.fromkeys(key for one in leaves.values() for key in one)
    differing = [key for key in keys if len({one.get(key) for one in leaves.values()}) > 1]
    return {
        name: {_typed(key): _shown(one, key) for key in differing if key in one}
        for name, one in leaves.items()
    }


def _is_fingerprint(key: str, *leaves: Mapping[str, str]) -> bool:
    """Say whether all values of a key are fingerprints, which say nothing to people."""
    is_one = key in WORDS or key.startswith(CODE)
    return is_one and all(FINGERPRINT.fullmatch(one.get(key, "")) for one in leaves)


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
    here = _flat(fields)
    theirs = {name: _flat(study) for name, study in read_all(root).items()}
    return {
        name: int(there[EPOCHS])
        for name, there in theirs.items()
        if _differing(there, here) == [EPOCHS] and there.get(EPOCHS, "").isdecimal()
    }


def searched_as(finals: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Find the study whose finalists another one holds: they differ in what finalists do alone.

    That is what they learn from, and perhaps for how long.

    Args:
        finals: what the study of the finalists is.
        others: what the studies are that may have searched, by name.

    Returns:
        The name; None: there is none, or there are several.
    """
    mine = _flat(finals)
    apart = {name: set(_differing(_flat(one), mine)) for name, one in others.items()}
    as_long = [name for name, keys in apart.items() if keys <= {*LEARN_FROM}]
    found = as_long or [name for name, keys in apart.items() if keys <= {*LEARN_FROM, EPOCHS}]
    return found[0] if len(found) == 1 else None


def changed_code(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Name the modules of the user's own whose code differs; none if anything else does, too."""
    there, here = _flat(theirs), _flat(ours)
    keys = _differing(there, here)
    is_all = all(key.startswith(CODE) for key in keys)
    return [key.partition(".code.")[2] for key in keys] if is_all else []


def other_content(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Name trained weights and code whose content differs; none if anything else does, too."""
    there, here = _flat(theirs), _flat(ours)
    kinds = [_content(key) for key in _differing(there, here)]
    return [] if None in kinds else list(dict.fromkeys(filter(None, kinds)))


def _content(key: str) -> str | None:
    """Say what a fingerprint is of: weights, or code of the user's own; None of anything else."""
    _, is_of_data, module = key.partition("dataset.code.")
    code = module if is_of_data else "your network" if key == "model.code" else ""
    return f"the code of {code}" if code else WEIGHTS.get(key)


def _flat(fields: Mapping[str, Any]) -> dict[str, str]:
    """Write what a study is compared by as its keys with dots and their values."""
    return dict(_leaves(compared(fields)))


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
    plain = text[1:-1] if text.startswith('"') else text
    return plain[:DIGITS] if _is_fingerprint(key, leaves) else plain
