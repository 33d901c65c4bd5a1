"""Sweeps and searches through a real Ray cluster of two nodes, and what becomes of accidents."""

from __future__ import annotations

import ipaddress
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import ray_lab

from tests.cluster.conftest import SEARCH, SWEEP, WIDTHS, Lab

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1500)]  # beside other tests


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[tuple[str, int]]:
    from tests.cluster.conftest import environment

    with ray_lab.ray_cluster(environment(folder)) as found:
        yield found


@pytest.fixture
def ray(make_lab: Callable[..., Lab], engine: tuple[str, int], folder: Path) -> Lab:
    words = ("hydra/launcher=ray", f"hydra.launcher.ray.init.address={engine[0]}")
    words += ("hydra.launcher.ray.remote.num_gpus=0",)
    return make_lab(words, ray_lab.LOOPBACK, traps=folder / "traps")


def listening(pid: int) -> set[str]:
    """List the addresses where the processes that a process started listen."""
    sockets = []
    for process in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            sockets += process.net_connections("inet")
    where = {c.laddr.ip for c in sockets if c.status == psutil.CONN_LISTEN}
    return {ip.removeprefix("::ffff:") for ip in where}  # IPv4 through IPv6


def is_of_this_machine(addresses: set[str]) -> bool:
    return all(ipaddress.ip_address(ip).is_loopback for ip in addresses)


def test_nothing_of_the_tests_cluster_listens_beyond_loopback(engine: tuple[str, int]) -> None:
    assert (found := listening(engine[1]))
    assert is_of_this_machine(found), found


def test_a_ray_that_a_command_starts_listens_on_loopback_and_stops_with_it(
    make_lab: Callable[..., Lab], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ray_lab.LOOPBACK:
        monkeypatch.delenv(name, raising=False)
    lab = make_lab(("hydra/launcher=ray",), ray_lab.AWAKE)
    (lab.traps / "hang-16").touch()
    process, found = lab.start("modifiers=baseline"), set[str]()
    while process.poll() is None and list(lab.traps.iterdir()):
        found |= listening(process.pid)
        time.sleep(0.5)
    assert found and is_of_this_machine(found), found
    own = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 128 + signal.SIGTERM
    assert not psutil.wait_procs(own, timeout=20)[1]
    assert "stopped; " in out and "Traceback" not in out and "SIGTERM received" not in out
    code, out = lab.run("modifiers=baseline")
    assert code == 0 and "Traceback" not in out
    assert len(lab.finished()) == 1


def test_a_sweep_with_a_failure_and_a_kill(ray: Lab) -> None:
    for trap in ("raise-4", "kill-16"):
        (ray.traps / trap).touch()
    code, out = ray.run(*SWEEP)
    assert code == 1
    assert ray.finished() == {name for name in WIDTHS if "_w16-" in name}
    assert "2 of 4 runs failed" in out and "ValueError: it was a trap" in out
    assert not list(ray.traps.glob("kill*"))
    assert "going on after epoch 1" in out
    before = ray.stamps()
    (ray.traps / "raise-4").unlink()
    code, out = ray.run(*SWEEP)
    assert code == 0
    assert ray.finished() == WIDTHS
    assert all(ray.stamps()[path] == at for path, at in before.items() if "_w16-" in str(path))


@pytest.mark.more  # the same as on Slurm: it is the search that goes on
def test_a_search_whose_command_is_killed_goes_on_and_trains_nothing_twice(ray: Lab) -> None:
    (ray.traps / "hang-16").touch()
    first = ray.start(*SEARCH, script="search.py")
    ray.await_(lambda: not list(ray.traps.iterdir()))
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    before = ray.stamps()
    code, out = ray.run(*SEARCH, script="search.py")
    assert code == 0, out
    assert len(ray.finished()) == 5 + 1
    assert before.items() <= ray.stamps().items()
    assert next(ray.folder.glob("runs/*/best/record.json")).exists()
