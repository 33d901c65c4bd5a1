"""A folder is pushed to a private repository, or a sentence says how to push it later."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from ssr_exp.edge.export import formats, hub
from ssr_exp.errors import SsrError

huggingface_hub = pytest.importorskip("huggingface_hub")

ADDRESS = "https://huggingface.co/me/it"
Calls = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Put the Hub's place a list of what it is asked."""
    calls: Calls = []

    class Fake:
        def create_repo(self, repo_id: str, **options: Any) -> str:
            calls.append(("create", {"repo_id": repo_id} | options))
            return ADDRESS

        def upload_folder(self, **options: Any) -> None:
            calls.append(("upload", options))

    monkeypatch.setattr(huggingface_hub, "HfApi", Fake)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return calls


def test_a_folder_is_pushed_as_a_private_model(sent: Calls, tmp_path: Path) -> None:
    assert hub.push(tmp_path, "me/it") == ADDRESS
    (first, made), (then, upload) = sent
    assert (first, then) == ("create", "upload")
    assert made == {"repo_id": "me/it", "repo_type": "model", "private": True, "exist_ok": True}
    gone = upload.pop("delete_patterns")  # files of an earlier push, of other weights
    kinds = [importlib.import_module(f"{formats.__name__}.{name}") for name in formats.NAMES]
    written = {f"model{int8}{kind.SUFFIX}" for kind in kinds for int8 in ("", ".int8")}
    assert {*gone} == {*written, "predict.py"}
    assert upload == {"repo_id": "me/it", "repo_type": "model", "folder_path": tmp_path}


@pytest.mark.parametrize(
    ("word", "is_sent"), [("1", False), ("on", False), ("True", False), ("0", True), ("", True)]
)
def test_offline_nothing_is_sent(
    sent: Calls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, word: str, is_sent: bool
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", word)
    assert hub.push(tmp_path, "me/it") == (ADDRESS if is_sent else None)
    assert bool(sent) == is_sent


@pytest.mark.parametrize("step", ["create_repo", "upload_folder"])
def test_an_error_of_the_hub_says_how_to_push_the_folder_later(
    sent: Calls, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, step: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto the Hub")

    monkeypatch.setattr(huggingface_hub.HfApi, step, fail)
    (folder := tmp_path / "my model").mkdir()
    with pytest.raises(SsrError, match=r"did not take me/it \(ConnectionError: no route\)") as told:
        hub.push(folder, "me/it")
    assert "hf auth login" in str(told.value)
    found = re.search(r"type (hf upload .*)", str(told.value))
    assert found and shlex.split(found[1]) == [
        "hf",
        "upload",
        "--private",
        "me/it",
        str(folder),
        ".",
    ]
    assert folder.exists()


def test_without_the_client_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SsrError, match=r"huggingface_hub.*pip install 'ssr_exp\[hub\]'"):
        hub.check("me/it")


@pytest.mark.parametrize("name", ["it", "me/", "/it", "me/it/now", "me /it", "me/it\n", "", "é/it"])
def test_a_name_that_is_no_repository_is_refused(name: str) -> None:
    for good in ("me/it", "A-b_c/resnet56.v2"):
        hub.check(good)
    with pytest.raises(SsrError, match=r"names no repository: type push=USER/NAME"):
        hub.check(name)
