"""What a search proposed last: networks of one study, for `ssr train modifiers=proposed`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from ssr_exp import files, messages
from ssr_exp.errors import SsrError
from ssr_exp.files import FileModel
from ssr_exp.runs.predictions import FOLDER, Code
from ssr_exp.runs.store import Store

SCHEMA = 1  # raise when a reader of today could misread what is written
FILE = "proposed.json"


class Proposal(FileModel):
    """The networks of one batch.

    Attributes:
        study: only its runs are comparable.
        networks: their codes, the most promising one first.
        created_at: date and time, ISO 8601.
        schema_version: of this file.
    """

    study: str
    networks: tuple[Code, ...] = Field(min_length=1)
    created_at: str
    schema_version: int = SCHEMA


def path(store: Store, study: str) -> Path:
    """Name the file of a study's last proposal."""
    return store.study_folder(study) / FOLDER / FILE


def write(store: Store, proposal: Proposal) -> Path:
    """Write a proposal, whole or not at all, in place of the one before.

    Raises:
        SsrError: if the disk is full or the folder cannot be written.
    """
    where = path(store, proposal.study)
    store.write_text(where, files.to_json(proposal))
    return where


def read(path: Path) -> Proposal:
    """Read a proposal, as data only.

    Raises:
        SsrError: if there is none, or it cannot be used.
    """
    search = messages.typed("search", "rounds=0")
    try:
        return files.read(path, Proposal, version=SCHEMA)
    except FileNotFoundError:
        raise SsrError(
            f"nothing is proposed yet, there is no {path}: run `{search}` first, with the same "
            "model, dataset, recipe and trainer, or name a file with modifiers.file=PATH."
        ) from None
    except files.Unreadable as error:
        raise SsrError(
            f"{path} is no proposal that can be used: {error}; run `{search}` again."
        ) from None
