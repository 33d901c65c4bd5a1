"""What sweeps and searches share."""

from __future__ import annotations

from pathlib import Path

from ssr_exp.app.continuing import Continued
from ssr_exp.app.sweeping import TrainCommand
from ssr_exp.runs import removal
from ssr_exp.runs.store import Store
from ssr_exp.training.sweep import Member


def test_a_command_keeps_the_studies_that_it_works_on_from_being_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    command = object.__new__(TrainCommand)
    command.line, command.used = Continued("train", ()), set()
    finals = [Member((), store, store.folder("finals", n, 0), n, network=n) for n in ("d1", "d2")]
    with command.line.uses:
        for member in finals:
            command.use([member])
        assert len(removal.searched(store, "finals")) == 1
    assert not removal.searched(store, "finals")
