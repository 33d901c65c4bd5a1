"""The notebooks run, from a copy of their own, and are stored as they were written."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LIBRARIES = set("ssr_exp lightning matplotlib numpy torch torchmetrics torchvision PIL".split())
NAMED_TUPLES = {"_asdict", "_fields"}  # public, whatever they are called
LINKS = ("https://arxiv.org/abs/",)
TITLE = r"# [^\n]+\n\n[A-Z][^\n]+\."
COMMAND = re.compile(r"\bssr (train|search|export|report) ([^`\n\"]*\w=[^`\n\"]+)")

each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def text(path: Path) -> str:
    return "\n\n".join(cell.source for cell in read(path).cells)


def code(path: Path) -> ast.Module:
    """Parse all code, that of written files included."""
    cells = [cell.source for cell in read(path).cells if cell.cell_type == "code"]
    return ast.parse("\n".join(re.sub(r"^%%writefile.*", "", cell) for cell in cells))


def test_there_are_notebooks() -> None:
    assert [path.stem[:2] for path in PATHS] == ["01", "02", "03", "04", "05"]


@each
def test_it_is_valid_and_stored_without_outputs_and_traces_of_a_machine(path: Path) -> None:
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        assert cell.metadata == {}, cell.id
        if cell.cell_type == "code":
            assert cell.outputs == [], cell.id
            assert cell.execution_count is None, cell.id


@each
def test_it_starts_with_a_title_and_its_purpose(path: Path) -> None:
    assert re.match(TITLE, read(path).cells[0].source)


@each
def test_it_names_no_absolute_path_and_links_to_documents_alone(path: Path) -> None:
    assert re.findall(r"(?m)(?:^|[\s\"'`(=])(?:/|~/|[A-Za-z]:\\)\w+", text(path)) == []
    links = re.findall(r"\w+://[^\s)>\"'`]*", text(path))
    assert [link for link in links if not link.startswith(LINKS)] == []


@each
def test_it_imports_the_package_and_what_the_package_needs(path: Path) -> None:
    written = set(re.findall(r"^%%writefile (\w+)\.py$", text(path), flags=re.MULTILINE))
    imported: set[str] = set()
    for node in ast.walk(code(path)):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module or "")
    roots = {name.partition(".")[0] for name in imported}
    assert roots - written - LIBRARIES - sys.stdlib_module_names == set()
    assert "ssr_exp" in roots
    assert "sys" not in roots


@each
def test_it_uses_public_names_alone(path: Path) -> None:
    names = {node.attr for node in ast.walk(code(path)) if isinstance(node, ast.Attribute)}
    for node in ast.walk(code(path)):
        if isinstance(node, ast.ImportFrom):
            names |= {name.name for name in node.names}
    private = {name for name in names if re.match(r"_(?!_.*__$)", name)}
    assert private <= NAMED_TUPLES


@each
def test_every_file_that_it_names_is_there(path: Path) -> None:
    results = re.findall(r"results/[\w/]+(?:\.\w+)?", text(path))
    assert [name for name in results if not (ROOT / name).exists()] == []
    notebooks = re.findall(r"\d\d_\w+\.ipynb", text(path))
    assert [name for name in notebooks if not (ROOT / "notebooks" / name).exists()] == []


@each
def test_its_commands_name_presets_and_keys_that_exist(path: Path) -> None:
    import hydra

    from ssr_exp import config
    from ssr_exp.app import configuration
    from ssr_exp.app.command_line.overrides import Checker

    configuration.register()
    with hydra.initialize_config_dir(str(ROOT / "ssr_exp" / "conf"), version_base="1.3"):
        for name, words in COMMAND.findall(text(path)):
            composed = hydra.compose(name, overrides=Checker(name).check(shlex.split(words)))
            if "study=" not in words:  # of which its folder says the rest
                configuration.read(composed, config.SCHEMAS[name])


def test_their_commands_are_found() -> None:
    assert len([one for path in PATHS for one in COMMAND.findall(text(path))]) >= 6


@pytest.mark.parametrize("start", ["", "notebooks", "results/search"])
@each
def test_it_finds_the_repository_from_wherever_it_starts(
    path: Path, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [line for line in text(path).splitlines() if line.startswith("ROOT = ")]
    assert bool(lines) == ("ROOT /" in text(path))
    monkeypatch.chdir(ROOT / start)
    names: dict[str, object] = {"Path": Path}
    exec("\n".join(lines), names)
    assert names.get("ROOT", ROOT) == ROOT


@pytest.mark.timeout(1200)
@each
def test_it_runs_and_leaves_nothing_behind(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nbclient import NotebookClient

    copy = tmp_path / "copy"
    shutil.copytree(ROOT / "notebooks", copy / "notebooks")
    shutil.copytree(ROOT / "results", copy / "results")
    before = sorted(copy.rglob("*"))
    own = {"IPYTHONDIR": tmp_path / "ipython", "JUPYTER_RUNTIME_DIR": tmp_path / "runtime"}
    few = {"OMP_NUM_THREADS": 1, "SSR_NOTEBOOK_EPOCHS": 1, "WANDB_MODE": "offline"}
    # Where transformers is installed torchmetrics imports it, and that asks for bars of a notebook.
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")
    for name, value in {**own, **few, "JUPYTER_PLATFORM_DIRS": 1}.items():
        monkeypatch.setenv(name, str(value))
    notebook = read(path)
    where = {"metadata": {"path": str(copy / "notebooks")}}
    NotebookClient(notebook, timeout=1000, resources=where).execute()
    assert sorted(copy.rglob("*")) == before
    assert "Warning" not in said(notebook)


def said(notebook: nbformat.NotebookNode) -> str:
    """Join what the cells wrote to the standard error."""
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", [])]
    return "".join(out.text for out in outputs if out.get("name") == "stderr")
