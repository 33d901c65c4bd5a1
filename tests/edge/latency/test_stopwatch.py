"""Networks take turns on the same images; no test looks at how long anything takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ssr_exp.edge.export.formats.flat import FlatNetwork
from ssr_exp.edge.latency import runtimes, stopwatch
from ssr_exp.edge.latency.runtimes import Runner, Runtime
from ssr_exp.edge.latency.stopwatch import Latency
from ssr_exp.errors import SsrError
from ssr_exp.rescaling.inputs import of_shape
from ssr_exp.runs.provenance import torch_threads


class Noted(nn.Module):  # remembers what it was run on
    def __init__(self) -> None:
        super().__init__()
        self.images: list[Tensor] = []
        self.seen: list[tuple[bool, bool, int]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.images.append(images)
        state = self.training, torch.is_inference_mode_enabled(), torch.get_num_threads()
        self.seen.append(state)
        return images


def test_all_take_turns_forwards_and_backwards_and_run_once_untimed() -> None:
    calls: list[str] = []
    runners = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    found = stopwatch.interleaved(runners, repeats=3, warm_up=2)
    assert "".join(calls) == "aabb" + "aabb" + "bbaa" + "aabb"
    assert [len(own.times) for own in found.values()] == [3, 3]


def test_the_time_of_a_turn_is_that_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 1.25, 2.0, 2.5])
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(clock))
    found = stopwatch.interleaved({"a": lambda: None}, repeats=2)
    assert found == {"a": Latency((250.0, 500.0))}


def test_the_median_and_the_quartiles_are_those_of_the_turns() -> None:
    own = Latency((5.0, 1.0, 2.0, 100.0, 3.0))
    assert (own.ms, own.quartiles) == (3.0, (2.0, 5.0))
    assert Latency((2.0,)).quartiles == (2.0, 2.0)


def test_networks_run_in_eval_mode_on_the_same_images_with_so_many_threads() -> None:
    before, networks = torch.get_num_threads(), {"one": Noted(), "other": Noted()}
    eager = runtimes.find("eager")
    with torch_threads(2):
        runners = {
            name: stopwatch.prepare(network, (3, 4, 5), eager, batch=2, threads=2)
            for name, network in networks.items()
        }
        found = stopwatch.interleaved(runners, repeats=2, warm_up=1)
    assert list(found) == ["one", "other"]
    assert torch.get_num_threads() == before
    for network in networks.values():
        assert network.seen == [(False, True, 2)] * 5
        assert network.images[0].shape == (2, 3, 4, 5)
    assert torch.equal(networks["one"].images[0], networks["other"].images[0])


def test_the_threads_come_back_after_an_error() -> None:
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError, match="broken"), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise RuntimeError("broken")
    assert torch.get_num_threads() == before


def test_another_runtime_prepares_the_network_with_its_threads() -> None:
    def prepare(network: nn.Module, images: Tensor, threads: int) -> Runner:
        return lambda: f"{type(network).__name__} {threads}"

    runtime = Runtime("mine", prepare, lambda: None, lambda: "mine 1.0")
    run = stopwatch.prepare(Noted(), (1, 2, 2), runtime, batch=1, threads=3)
    assert run() == "Noted 3"


class Several(nn.Module):  # puts out two maps, of which the second takes most
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        stem = self.stem(images)
        return stem, self.body(stem)


@pytest.mark.parametrize("all_outputs", [False, True])
def test_all_outputs_are_made_where_no_task_says_which_counts(all_outputs: bool) -> None:
    made: list[int] = []

    def prepare(network: nn.Module, images: Tensor | tuple[Tensor, ...], _: int) -> Runner:
        given = images if isinstance(images, tuple) else (images,)
        made.append(len(network(*given)) if isinstance(network, FlatNetwork) else 1)
        return lambda: None

    runtime = Runtime("mine", prepare, lambda: None, lambda: "mine 1.0")
    for network in (Several(), Noted()):
        stopwatch.prepare(network, (1, 8, 8), runtime, batch=1, threads=1, all_outputs=all_outputs)
    assert made == [2 if all_outputs else 1, 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_network_of_any_precision_is_given_its_own(dtype: torch.dtype) -> None:
    network = nn.Conv2d(1, 2, 3).to(dtype)
    run = stopwatch.prepare(
        network, of_shape((1, 8, 8), network), runtimes.find("eager"), batch=2, threads=1
    )
    assert run().dtype == dtype  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["batch", "threads", "repeats"])
def test_what_is_too_small_is_said_in_a_sentence(name: str) -> None:
    with pytest.raises(SsrError, match=f"{name} is 0; it must be 1 or more"):
        stopwatch.check(**{name: 0})


def test_a_noisy_machine_is_measured_again_and_then_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    quiet, noisy = Latency((1.0, 1.1, 1.2)), Latency((1.0, 2.0, 3.0))
    ended = iter([noisy, noisy, quiet])
    monkeypatch.setattr(stopwatch, "interleaved", lambda *_, **__: {"it": next(ended)})
    assert stopwatch.settled({}, repeats=3, spread=0.3) == {"it": quiet}
    assert caplog.text.count("noisy") == 2
    monkeypatch.setattr(stopwatch, "interleaved", lambda *_, **__: {"it": noisy})
    with pytest.raises(SsrError, match=r"too noisy to measure.*50%.*30% are allowed"):
        stopwatch.settled({}, repeats=3, spread=0.3)


def test_the_quietest_attempt_is_kept_and_some_are_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, noisy = Latency((1.0, 1.1, 1.2)), Latency((1.0, 2.0, 3.0))
    turns = [{"a": quiet, "b": noisy, "c": quiet}, {"a": noisy, "b": quiet, "c": noisy}]
    ended = iter(turns)
    monkeypatch.setattr(stopwatch, "interleaved", lambda *_, **__: next(ended))
    found = stopwatch.settled({}, repeats=3, spread=0.3, quiet=["b"])
    assert found == dict.fromkeys("abc", quiet)
    monkeypatch.setattr(stopwatch, "interleaved", lambda *_, **__: turns[0])
    assert stopwatch.settled({}, repeats=3, spread=0.3)["b"] == noisy
    with pytest.raises(SsrError, match="50% of its latency apart"):
        stopwatch.settled({}, repeats=3, spread=0.3, quiet=["b"])


def test_the_noise_is_the_middle_networks_spread() -> None:
    assert Latency((5.0, 1.0, 2.0, 100.0, 3.0)).spread == pytest.approx(1.0)
    found = {str(s): Latency((1.0 - s, 1.0, 1.0 + s)) for s in (0.1, 0.2, 0.9)}
    assert stopwatch.noise(found) == pytest.approx(0.2)
