"""What is typed to train one network more of a study."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ssr_exp import files, messages
from ssr_exp.runs import studies, study_names
from ssr_exp.runs.store import Store

LOOP = "loop"  # a task
PRESETS = "PRESETS"  # what a page calls a folder of presets, which others have elsewhere
RUNS = "runs"  # where commands look by default


def words(store: Store, study: str, network: str, *, place: str | None = None) -> str:
    """Write the command, or what a loop of the user's own calls.

    Args:
        store: of the records.
        study: its fingerprint.
        network: its code.
        place: what the store's folder is called; None: by its path.
    """
    if is_of_a_loop(files.read_or_empty(store.study_folder(study) / studies.FILE)):
        return f"study.enqueue({network!r})"
    where = str(store.root) if place is None else place
    command = messages.spelled("train") if place is None else ("ssr", "train")
    runs = [] if where == RUNS else [messages.setting("paths.runs", where)]
    named = f"study={study_names.title(store.root, study)}"
    begun = study_names.read(store.study_folder(study))
    asked = begun.by("train") or next(iter(begun.asked), None)
    folder = None if asked is None else asked.config_dir
    presets = study_names.presets(folder if place is None else folder and PRESETS)
    trust = study_names.trusting(begun, "train")
    explicit = ("modifiers=explicit", f"modifiers.network={network}")
    return shlex.join([*command, *presets, named, *trust, *explicit, *runs])


def is_of_a_loop(fields: Mapping[str, Any]) -> bool:
    """Say whether a loop of the user's own trains, which may not tell all of its settings."""
    task = fields.get("task")
    return isinstance(task, dict) and task.get("name") == LOOP
