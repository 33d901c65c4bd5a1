from __future__ import annotations

from tests.datasets.conftest import digits, one_thread
from tests.tasks.conftest import digits_module, quiet_trainer, small_task

__all__ = ["digits", "digits_module", "one_thread", "quiet_trainer", "small_task"]
