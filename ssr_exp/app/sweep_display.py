"""How far a command's trainings are, for whoever looks on: one display for all its launches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from ssr_exp import live_display
from ssr_exp.runs import cost_words
from ssr_exp.runs.record import Record
from ssr_exp.training.progress import SweepWatch
from ssr_exp.training.sweep import Member


@dataclass
class SweepDisplay:
    """A display that launches share which are under way at once.

    Args:
        moves: whether the terminal is its own.
    """

    moves: bool
    title: str = ""  # what the next ones are trained for
    total: int = 0  # runs of the whole command, where they come one by one; 0: those of a launch
    told: Collection[Path] | None = None  # see `SweepWatch`
    cost: str = cost_words.PARAMS  # that it is about
    remarks: Callable[[Record], Sequence[str]] = lambda _: ()  # further lines on a run that ended
    _lock: Lock = field(default_factory=Lock, init=False)
    _watch: SweepWatch | None = field(default=None, init=False)
    _open: ExitStack = field(default_factory=ExitStack, init=False)
    _launches: int = field(default=0, init=False)

    @contextmanager
    def showing(self, members: Sequence[Member]) -> Iterator[None]:
        """Show runs for the time of a block; threads may call it at once."""
        with self._lock:
            is_of_before = self._watch is not None and self._watch.total != self.total
            if self._watch is None or (not self._launches and (is_of_before or not self.total)):
                title = "" if self.total else self.title
                self._watch = SweepWatch(
                    [*members], title, self.total, self.told, self.cost, self.remarks
                )
            else:
                self._watch.add(members)
            if not self._launches:
                self._open.enter_context(live_display.display(self._watch.say, moves=self.moves))
            self._launches += 1
        try:
            yield
        finally:
            with self._lock:
                self._launches -= 1
                if not self._launches:
                    self._open.close()
