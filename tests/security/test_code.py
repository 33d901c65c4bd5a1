"""What the product's own code may call: files of others are data, and nothing runs them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [
    path
    for pattern in ("*.py", "ssr_exp/**/*.py", "hydra_plugins/**/*.py")
    for path in sorted(ROOT.glob(pattern))
]
NODES = {path: list(ast.walk(ast.parse(path.read_text()))) for path in FILES}
FORBIDDEN = {
    "eval": "runs text",
    "exec": "runs text",
    "compile": "makes code of text",
    "__import__": "imports what a text names",
    "os.system": "a shell",
    "os.popen": "a shell",
    "pickle.load": "runs what it reads",
    "pickle.loads": "runs what it reads",
    "pickle.Unpickler": "runs what it reads",
    "marshal.loads": "code",
    "marshal.load": "code",
    "shelve.open": "pickles",
    "joblib.load": "pickles",
    "dill.loads": "pickles",
    "cloudpickle.loads": "pickles",
    "yaml.load": "instantiates",
    "yaml.unsafe_load": "instantiates",
    "hydra.utils.instantiate": "calls what a _target_ names",
    "instantiate": "calls what a _target_ names",
    "hydra.utils.call": "calls what a _target_ names",
    "torch.hub.load": "runs a repository",
    "torch.jit.load": "code",
    "torch.export.load": "a pickle inside",
    "importlib.import_module": "imports what a text names",
    "runpy.run_path": "runs a file",
    "tempfile.mktemp": "a race",
}
MODULES = ("marshal", "shelve", "dill", "cloudpickle", "tarfile", "zipfile", "sqlite3", "telnetlib")
CHECKING = "files.py"  # looks at a zip file's checksums, and unpacks nothing
ALLOWED = {  # file and call: why it cannot be helped, or does no harm
    (
        "ssr_exp/user_code.py",
        "importlib.import_module",
    ): "model.target and task.target are the user's own; "
    "what a file names asks for trust first, see saved.Model.calls_code",
    (
        "ssr_exp/__init__.py",
        "importlib.import_module",
    ): "its own public names",
    (
        "ssr_exp/edge/export/formats/__init__.py",
        "importlib.import_module",
    ): "one of our own formats",
    (
        "ssr_exp/edge/export/predict_runtimes.py",
        "torch.export.load",
    ): "an export's file, as its user says",
}
METHODS = ("extractall", "unpack_archive", "load_from_checkpoint")


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """List all calls: the file, what is called by its dotted name, and the call."""
    for path, nodes in NODES.items():
        for node in nodes:
            if isinstance(node, ast.Call):
                yield path.relative_to(ROOT).as_posix(), ast.unparse(node.func), node


def given(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(k.value) for k in call.keywords if k.arg == name), None)


CALLS = list(calls())


def test_every_file_of_the_product_is_read() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in FILES}
    assert {"train.py", "ssr_exp/files.py", "ssr_exp/app/jobs.py"} <= names
    assert len(CALLS) > 1000


def test_every_checkpoint_is_loaded_as_weights_only() -> None:
    loads = [(file, call) for file, name, call in CALLS if name == "torch.load"]
    assert len(loads) >= 2
    assert [file for file, call in loads if given(call, "weights_only") != "True"] == []


def test_every_training_goes_on_from_weights_only() -> None:
    named = ("fit", "test", "validate", "predict")
    resumed = [
        (file, given(call, "weights_only"))
        for file, name, call in CALLS
        if name.rpartition(".")[2] in named and given(call, "ckpt_path") not in (None, "None")
    ]
    assert resumed
    assert {weights for _, weights in resumed} == {"True"}


def test_nothing_that_runs_what_it_reads_is_called() -> None:
    found = {(file, name) for file, name, _ in CALLS if name in FORBIDDEN}
    found |= {(file, name) for file, name, _ in CALLS if name.rpartition(".")[2] in METHODS}
    assert found == set(ALLOWED)


def test_no_module_is_imported_that_unpacks_or_runs_what_it_reads() -> None:
    for path, nodes in NODES.items():
        for node in nodes:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            found = [name for name in names if name.partition(".")[0] in MODULES]
            if path.name == CHECKING:
                found = [name for name in found if name != "zipfile"]
            assert not found, f"{path}: {found}"


def test_no_process_is_started_by_a_shell() -> None:
    assert [file for file, _, call in CALLS if given(call, "shell") not in (None, "False")] == []


@pytest.mark.parametrize("option", ["allow_pickle", "trust_remote_code", "trust_repo"])
def test_no_option_that_runs_what_is_read_is_given(option: str) -> None:
    assert [file for file, _, call in CALLS if given(call, option) not in (None, "False")] == []


def test_only_image_formats_that_run_nothing_are_opened() -> None:
    opened = [(file, call) for file, name, call in CALLS if name == "Image.open"]
    assert [file for file, call in opened if given(call, "formats") is None] == []
    from ssr_exp.datasets import preprocessing

    assert set(preprocessing.FORMATS).isdisjoint({"EPS", "PDF", "WMF", "FPX", "MIC", "ICNS", "MSP"})


def test_no_preset_names_something_to_call() -> None:
    presets = list(ROOT.glob("ssr_exp/conf/**/*.yaml"))
    assert len(presets) > 50
    for path in presets:
        for line in path.read_text().splitlines():
            assert "_target_" not in line or "hydra_plugins" in line or "BasicLauncher" in line, (
                path
            )
