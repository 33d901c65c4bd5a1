"""Waiting for others, who may be waiting for this very thread."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from ssr_exp import terminal
from ssr_exp.app.ask_tell import asking, ranks
from ssr_exp.app.ask_tell.asking import Waiting
from ssr_exp.errors import SsrError

log = logging.getLogger(__name__)

LOOK_S = 1.0  # between looks whether something became free
SAY_S = 60.0  # between lines that say what is waited for
STUCK = 300  # looks at a locked search, each less than half a second: no planning takes so long


@dataclass(eq=False)
class Patience:
    """Looks again and again, and says now and then what is waited for.

    Attributes:
        search: the folder of the search, which another process may keep for itself.
        locked: looks in a row at which one did.
        said_s: when it was said what is waited for.
    """

    search: Path
    locked: int = 0
    said_s: float | None = None

    def wait(self, waiting: Waiting) -> None:
        """Wait until the next look; where the search is locked, that look itself takes a while.

        Raises:
            SsrError: if all that is in training is what only this thread itself can tell.
        """
        self.locked = self.locked + 1 if waiting.is_locked else 0
        if not waiting.is_locked or self.locked >= STUCK:
            _refuse_own(waiting)
        if ranks.rank() == 0:
            self._say(waiting)
        if not waiting.is_locked:
            time.sleep(LOOK_S)

    def _say(self, waiting: Waiting) -> None:
        if waiting.is_locked:
            if self.locked == asking.SAID:
                log.warning(asking.BUSY_SEARCH, self.search)
        elif self.said_s is None or time.monotonic() - self.said_s > SAY_S:
            self.said_s = time.monotonic()
            networks = terminal.counted(waiting.pending, "network")
            log.info("waiting for %s in training elsewhere", networks)


def _refuse_own(waiting: Waiting) -> None:
    """Refuse to wait for what only this thread itself can tell."""
    if waiting.own and waiting.own == waiting.pending:
        networks = terminal.counted(waiting.own, "network")
        raise SsrError(
            f"all that is left are {networks} that were asked for here, and nothing was told of: "
            "call study.tell, study.fail or study.release for each before asking for more."
        )
