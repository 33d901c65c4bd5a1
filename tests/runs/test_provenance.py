from __future__ import annotations

import getpass
import json
import platform
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ssr_exp.errors import SsrError
from ssr_exp.runs import provenance
from ssr_exp.terminal import counted


@pytest.fixture(autouse=True)
def unremembered() -> Iterator[None]:
    yield
    for cached in (provenance.versions, provenance.git_commit, provenance.processor):
        cached.cache_clear()


def test_the_cpu_is_named_with_its_threads() -> None:
    name = provenance.device("cpu")
    assert name.endswith(f", {counted(torch.get_num_threads(), 'thread')}")
    assert len(name.partition(",")[0]) > 2


def test_nothing_names_the_host_or_the_user() -> None:
    said = json.dumps([provenance.device("cpu"), provenance.versions(), provenance.git_commit()])
    assert socket.gethostname() not in said
    assert str(Path.home()) not in said
    assert f'"{getpass.getuser()}' not in said


def test_a_gpu_that_is_absent_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for accelerator in ("gpu", "cuda"):
        with pytest.raises(SsrError, match="type trainer=cpu"):
            provenance.device(accelerator)


def test_apples_gpu_is_named_and_is_no_cuda_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(provenance, "processor", lambda: "Apple M2")
    for accelerator in ("auto", "mps"):
        assert provenance.device(accelerator) == "Apple M2 GPU (mps)"
    assert provenance.device("cpu").startswith("Apple M2, ")
    with pytest.raises(SsrError, match="PyTorch sees Apple's: type trainer=auto"):
        provenance.device("gpu")


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H200")
    for there, accelerator, expected in (
        (True, "auto", True),
        (True, "gpu", True),
        (True, "cpu", False),
        (False, "auto", False),
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert (provenance.device(accelerator) == "H200") == expected


def test_versions_name_what_decides_a_result() -> None:
    found = provenance.versions()
    assert {"ssr_exp", "python", "torch", "torchvision", "lightning"} <= set(found)
    assert found["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert all(found.values())


def git(folder: Path, *arguments: str) -> str:
    own = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    command = ["git", "-C", str(folder), *own, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_commit_is_named_with_a_mark_if_files_were_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "code.py"))
    provenance.git_commit.cache_clear()  # another test may have asked before
    assert provenance.git_commit() is None
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("x = 1\n")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "-q", "-m", "a commit")
    head = git(tmp_path, "rev-parse", "HEAD")
    for text, expected in (("x = 1\n", head), ("x = 2\n", head + "+")):
        (tmp_path / "code.py").write_text(text)
        provenance.git_commit.cache_clear()
        assert provenance.git_commit() == expected
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "installed.py"))
    (tmp_path / "installed.py").touch()  # lies in another repository, whose commit says nothing
    provenance.git_commit.cache_clear()
    assert provenance.git_commit() is None


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    provenance.git_commit.cache_clear()
    assert provenance.git_commit() is None


X86 = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n"
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n"


@pytest.mark.parametrize(
    ("cpuinfo", "board", "name"),
    [
        (X86, "", "AMD EPYC"),
        (f"{ARM}\nModel\t\t: Raspberry Pi 5\n", "", "Raspberry Pi 5"),
        (ARM, "NVIDIA Jetson Orin\0", "NVIDIA Jetson Orin"),
        (ARM, "", "aarch64 0x41 0xd0c"),
        ("", "", "aarch64"),
    ],
)
def test_devices_of_one_kind_of_cpu_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, cpuinfo: str, board: str, name: str
) -> None:
    """Else a table of latencies of one ARM device would be taken for another's."""
    files = {"/proc/cpuinfo": cpuinfo, "/proc/device-tree/model": board}
    monkeypatch.setattr(provenance, "_text", lambda path: files[str(path)])
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert provenance.processor.__wrapped__() == name
