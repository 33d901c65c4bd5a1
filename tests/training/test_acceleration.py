from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from ssr_exp.config import Config, TrainerConf
from ssr_exp.errors import SsrError
from ssr_exp.training import acceleration, opened_study, run, sweep
from ssr_exp.training.acceleration import FULL, HALF

Compose = Callable[..., Config]
Device = Callable[[bool], None]

DENSE = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1))
DEPTHWISE = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 8, 1))
GROUPED = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2))
VOLUME = nn.Sequential(nn.Conv3d(1, 4, 3))
SOUND = nn.Sequential(nn.Conv1d(1, 4, 3))
AUTO = TrainerConf(precision="auto", channels_last=None, deterministic=None, accelerator="cpu")


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Say whether the device multiplies in bfloat16."""

    def is_one(has: bool) -> None:
        monkeypatch.setattr(acceleration, "has_bfloat16", lambda _: has)

    return is_one


def chosen(network: nn.Module, *begun: str) -> str:
    return acceleration.precision(AUTO, network, begun.__contains__)


@pytest.mark.parametrize(
    ("has", "network", "precision"),
    [
        (True, DENSE, HALF),
        (True, GROUPED, HALF),
        (True, DEPTHWISE, FULL),
        (False, DENSE, FULL),
    ],
)
def test_a_new_study_takes_what_its_seed_network_gains_by(
    device: Device, has: bool, network: nn.Module, precision: str
) -> None:
    device(has)
    assert chosen(network) == precision


@pytest.mark.parametrize("has", [True, False])
@pytest.mark.parametrize("begun", [FULL, HALF])
def test_a_study_stays_in_the_precision_that_it_was_begun_in(
    device: Device, has: bool, begun: str
) -> None:
    device(has)
    assert chosen(DENSE, begun) == begun


def test_what_is_asked_for_is_taken_whatever_was_begun(device: Device) -> None:
    device(True)
    asked = TrainerConf(precision=FULL, accelerator="cpu")
    assert acceleration.precision(asked, DENSE, lambda _: True) == FULL


def test_a_precision_that_a_device_does_not_have_is_a_sentence() -> None:
    asked = TrainerConf(precision="16-mixed", accelerator="cpu")
    with pytest.raises(SsrError, match=r"needs a GPU.* type trainer.precision=bf16-mixed"):
        acceleration.precision(asked, DENSE, lambda _: False)


@pytest.mark.parametrize(("network", "expected"), [(DENSE, True), (VOLUME, False), (SOUND, False)])
def test_channels_come_last_where_convolutions_are_of_images(
    network: nn.Module, expected: bool
) -> None:
    settled = acceleration.settled(AUTO, network, FULL)
    assert (settled.channels_last, settled.deterministic) == (expected, True)


def test_a_module_of_ones_own_keeps_its_memory_format() -> None:
    assert not acceleration.settled(AUTO, DENSE, FULL, is_own_module=True).channels_last
    assert acceleration.has_images(nn.Sequential(nn.ConvTranspose2d(3, 4, 2)))
    assert not acceleration.has_images(nn.Sequential(*DENSE, *VOLUME))


def test_what_is_said_stays_as_it_is_said() -> None:
    said = TrainerConf(channels_last=False, deterministic=False, precision=HALF)
    assert acceleration.settled(said, DENSE, HALF) == said


def test_a_job_is_told_the_precision_that_its_study_was_opened_with(
    device: Device, conf: Compose
) -> None:
    device(True)
    words = ("trainer=auto", "trainer.accelerator=cpu")
    (member,) = sweep.expand([(words, conf(*words))])
    assert "trainer.precision=bf16-mixed" in member.overrides
    device(False)  # the job's own
    (job,) = run.plan(conf(*member.overrides))
    assert run.folder(member.store, job) == member.folder
    (explicit,) = sweep.expand([((), conf())])
    assert not any("precision" in word for word in explicit.overrides)


def test_a_study_goes_on_in_its_precision_on_another_device(device: Device, conf: Compose) -> None:
    words: Any = ("trainer=auto", "trainer.accelerator=cpu")
    device(True)
    record = run.train(conf(*words))
    device(False)
    opened = opened_study.open(conf(*words))
    assert (record.precision, opened.precision) == (HALF, HALF)
    assert opened.name == record.study
    assert run.train(conf(*words)) == record  # nothing is trained again
