"""Networks that a user wants trained next: a file in the folder of their search."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from ssr_exp import files
from ssr_exp.errors import SsrError
from ssr_exp.files import FileModel
from ssr_exp.runs.store import is_done
from ssr_exp.search import attempts
from ssr_exp.search.rounds import Notebook

FILE = "enqueued.json"
ENQUEUED = "enqueued"  # the origin of its trainings
LOCK = "enqueued"  # a folder beside it
SCHEMA = 1  # raise when a reader of today could misread what is written


class Enqueued(FileModel):
    """A network, and what it is trained with."""

    network: str
    seed: Annotated[int, Field(ge=0)]
    attempts: Annotated[int, Field(ge=0)] = 0


class _Content(FileModel):
    schema_version: int = SCHEMA
    networks: tuple[Enqueued, ...] = ()


@dataclass(frozen=True)
class Queue:
    """The networks that wait, in the order in which they came."""

    book: Notebook

    def read(self) -> tuple[Enqueued, ...]:
        """List them, those that were trained meanwhile among them.

        Raises:
            SsrError: if the file cannot be read.
        """
        path = self.book.folder / FILE
        try:
            return files.read(path, _Content, version=SCHEMA).networks
        except FileNotFoundError:
            return ()
        except files.Unreadable as error:
            raise SsrError(
                f"{path} cannot be read ({error}): remove it, and enqueue again."
            ) from None

    def waiting(self, study: str) -> list[Enqueued]:
        """List those of a study that are still to be trained."""
        store = self.book.store
        return [
            one
            for one in self.read()
            if one.attempts < attempts.MOST
            if not is_done(store.read(store.folder(study, one.network, one.seed)))
        ]

    def add(self, network: str, seed: int, tried: int = 0) -> None:
        """Append a network; one that waits already, or has failed, gets its attempts anew."""
        with self._alone():
            others = [one for one in self.read() if (one.network, one.seed) != (network, seed)]
            self._write(*others, Enqueued(network=network, seed=seed, attempts=tried))

    def remember(self, network: str, seed: int) -> None:
        """Write down that the search knew a network before it was a finalist."""
        if network not in self.book.networks():
            self.add(network, seed, attempts.MOST)  # so nobody is asked for it

    def count(self, network: str, seed: int) -> None:
        """Write down that a training has ended, if it waited here."""
        with self._alone():
            before = self.read()
            after = [
                one.model_copy(update={"attempts": one.attempts + 1})
                if (one.network, one.seed) == (network, seed)
                else one
                for one in before
            ]
            if after != [*before]:
                self._write(*after)

    def _alone(self) -> AbstractContextManager[None]:
        """Keep others from writing meanwhile: for a moment, and not as long as a command runs."""
        return self.book.store.claim(self.book.folder / LOCK, wait=True)

    def _write(self, *networks: Enqueued) -> None:
        text = files.to_json(_Content(networks=networks))
        self.book.store.write_text(self.book.folder / FILE, text)
