"""W&B may go away at any time; a training does not notice."""

from __future__ import annotations

import pytest

from ssr_exp.training.trainers import Curves, OwnCurves


class Run:
    """An open run, until it breaks."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []
        self.is_broken = False

    def log(self, metrics: dict[str, float]) -> None:
        if self.is_broken:
            raise ConnectionResetError("Connection lost")
        self.logged.append(metrics)


def test_a_run_that_breaks_is_told_nothing_any_more_and_one_warning_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Run()
    curves = Curves(run)
    curves.log_metrics({"val/acc": 1.0}, 3)
    assert run.logged == [{"val/acc": 1.0, "trainer/global_step": 3}]
    run.is_broken = True
    curves.log_metrics({"val/acc": 2.0}, 4)
    run.is_broken = False
    curves.log_metrics({"val/acc": 3.0}, 5)
    curves.log_hyperparams({})
    assert len(run.logged) == 1
    (message,) = caplog.messages
    assert "Connection lost" in message and "training goes on" in message


def test_code_that_was_written_for_another_logger_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = Run()
    experiment = OwnCurves(run).experiment
    for _ in range(2):
        experiment.add_image("masks", object(), global_step=3)
    experiment.log({"a": 1.0})
    assert run.logged == [{"a": 1.0}]
    assert caplog.text.count("W&B has no logger.experiment.add_image: such calls are") == 1
