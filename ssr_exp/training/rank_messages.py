"""What the first of several processes that train one network says to the one that started them.

Lines of JSON in a file: log records, and points of curves. So W&B, the screen and the log file have
one writer, as they do where one process trains.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
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
        path: of the file; it need not be there yet.
        curves: takes the points; None: nobody does.
    """

    def __init__(self, path: Path, curves: Any = None) -> None:
        self._path, self._curves = path, curves
        self._read = 0  # bytes

    def pass_on(self) -> None:
        """Log what was logged there, and draw what was measured."""
        if not self._path.exists():
            return
        with self._path.open("rb") as stream:
            stream.seek(self._read)
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            message = json.loads(line)
            if "log" in message:
                name, level, said = message["log"]
                logging.getLogger(name).log(level, "%s", said)
            elif self._curves is not None:
                self._curves.log_metrics(*message["curves"])
