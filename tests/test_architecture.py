"""ARCHITECTURE.md: every path and every name in it exists."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

TEXT = (ROOT / "ARCHITECTURE.md").read_text()
WORDS = sorted(set(re.findall(r"`([^`\s]+)`", TEXT)))
PATHS = [word for word in WORDS if "/" in word or re.search(r"\.(py|json|toml)$", word)]
NAMES = [word for word in WORDS if word not in PATHS]
WRITTEN = ("record.json", "predict.py", "ruff.toml", "best/")  # by a command, or in every room


@pytest.mark.parametrize("path", [p for p in PATHS if p not in WRITTEN])
def test_a_path_exists(path: str) -> None:
    assert (ROOT / path).exists() or (ROOT / "ssr_exp" / path).exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_name_exists(name: str) -> None:
    module, held = "ssr_exp", []
    for part in name.split("."):
        try:
            importlib.import_module(f"{module}.{part}")
        except ModuleNotFoundError as error:
            if error.name != f"{module}.{part}":
                raise
            held.append(part)
        else:
            module = f"{module}.{part}"
    value = importlib.import_module(module)
    for part in held:
        value = getattr(value, part)


def test_it_names_every_room_and_fits_on_two_screens() -> None:
    rooms = {p.parent.name for p in (ROOT / "ssr_exp").glob("*/__init__.py")}
    assert {f"`{room}/`" for room in rooms} <= set(re.findall(r"`\w+/`", TEXT))
    assert len(TEXT.splitlines()) <= 90


def source() -> Iterator[tuple[Path, ast.Module]]:
    for folder in ("ssr_exp", "hydra_plugins"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def repeated(named: Iterable[tuple[str, Path]]) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for name, path in named:
        places.setdefault(name, []).append(str(path))
    return {name: where for name, where in places.items() if len(where) > 1}


def test_no_two_classes_share_a_name() -> None:
    classes = [
        (node.name, path)
        for path, tree in source()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    ]
    assert not repeated(classes)


def test_no_two_files_of_different_rooms_share_a_name() -> None:
    assert not repeated((path.name, path) for path, _ in source() if not path.name.startswith("__"))
