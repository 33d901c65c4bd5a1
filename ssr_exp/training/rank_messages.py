"""What processes that train one network together say to the one that started them.

Lines of JSON in a file of each: log records, and points of curves. So W&B, the screen and the log
file have one writer, as they do where one process trains. The first process says everything, the
others what they warn of and no other has.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities import rank_zero_only


class Outbox(logging.Handler):
    """Writes what is logged, and what curves get.

    Args:
        path: of a file that nobody else writes.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._stream = path.open("a", encoding="utf-8", buffering=1)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.send(log=[record.name, record.levelno, record.getMessage()])
        except Exception:  # of any library's arguments, or of the disk
            self.handleError(record)

    def close(self) -> None:
        self._stream.close()
        super().close()

    def send(self, **fields: Any) -> None:
        """Write one message."""
        self._stream.write(json.dumps(fields) + "\n")


class SentCurves(DummyLogger):
    """Lightning's logger in the process that sends.

    Args:
        outbox: takes the points.
    """

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._outbox = outbox

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Send numbers as they are; nan and inf are written as Python reads them."""
        self._outbox.send(curves=[{name: float(v) for name, v in metrics.items()}, step])


class Inbox:
    """Passes on what was sent, as far as it is there.

    Args:
        paths: of the files; they need not be there yet.
        curves: takes the points; None: nobody does.
    """

    def __init__(self, paths: Sequence[Path], curves: Any = None) -> None:
        self._read = dict.fromkeys(paths, 0)  # bytes
        self._curves = curves
        self._warned: dict[str, Path] = {}  # of what, and who did

    def pass_on(self) -> None:
        """Log what was logged there, and draw what was measured."""
        for path in self._read:
            for line in self._lines(path):
                message = json.loads(line)
                if "log" in message:
                    self._log(path, *message["log"])
                elif self._curves is not None:
                    self._curves.log_metrics(*message["curves"])

    def _lines(self, path: Path) -> list[bytes]:
        """Read the whole lines that are new."""
        if not path.exists():
            return []
        with path.open("rb") as stream:
            stream.seek(self._read[path])
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read[path] += len(whole)
        return whole.splitlines()

    def _log(self, path: Path, name: str, level: int, text: str) -> None:
        if level < logging.WARNING or self._warned.setdefault(text, path) == path:
            logging.getLogger(name).log(level, "%s", text)
