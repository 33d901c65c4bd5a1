"""Write the pages that are made of the code, or stand beside what they are about."""

from __future__ import annotations

import functools
import inspect
import io
import os
import re
import tokenize
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import hydra
from omegaconf import MISSING, OmegaConf

from ssr_exp import config
from ssr_exp.app import configuration

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
COPIED = {  # texts that stand beside what they are about
    "examples/README.md": "tutorials/examples.md",
    "launchers/README.md": "guides/launchers.md",
    "results/README.md": "results/files.md",
    "results/latency.md": "results/latency.md",
    "results/reliability.md": "results/reliability.md",
    "results/scbp-resnet18-digits.md": "results/scbp-resnet18-digits.md",
    "results/zoo.md": "results/zoo.md",
    "results/cifar10.md": "results/cifar10.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
}


def write() -> None:
    """Write all of them into `docs/`, where git ignores them."""
    _replace(DOCS / "reference/keys.md", _keys())
    _replace(DOCS / "reference/presets.md", _presets())
    for source, page in COPIED.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        _replace(DOCS / page, linked(text, ROOT / source, DOCS / page))


def linked(text: str, source: Path, page: Path) -> str:
    """Make the relative links of a text lead to pages of the site, where there are such.

    Args:
        text: whose links are relative to `source`.
        source: where it stands.
        page: where it will stand.
    """

    def moved(match: re.Match[str]) -> str:
        target, _, anchor = match[1].partition("#")
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        path = (source.parent / target).resolve()
        own = COPIED.get(str(path.relative_to(ROOT)))
        path = path if own is None else DOCS / own
        return f"]({os.path.relpath(path, page.parent)}{'#' * bool(anchor)}{anchor})"

    return re.sub(r"\]\(([^)\s]+)\)", moved, text)


def _replace(path: Path, text: str) -> None:
    """Leave a page alone that is as it should be: Sphinx reads again what is newer."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _keys() -> str:
    """List every key of every command, with its default, what it takes, and its comment."""
    parts = [
        "# Keys",
        "Every key of the configuration, from the schema (`ssr_exp/config.py`). A key is typed as "
        "`KEY=VALUE`; `null` means none. The defaults are those of the command typed alone, with "
        "its presets: `model=resnet56 dataset=cifar10 recipe=sgd trainer=auto`, and of a search "
        "`modifiers=sentinel_all`. Another preset may say otherwise, and `-c job` shows what a "
        "command composes to.",
        "## `ssr train` and `ssr search`",
        *_tables(config.Config, "train"),
    ]
    common = {field.name for field in fields(config.Config)}
    for command in ("search", "export", "report"):
        schema = config.SCHEMAS[command]
        parts.append(f"## `ssr {command}`" + (" alone" if command == "search" else ""))
        parts += _tables(schema, command, leave_out=common if command == "search" else set())
    return "\n\n".join(parts) + "\n"


@functools.cache
def _composed(command: str) -> dict[str, Any]:
    """Compose a command without any word."""
    configuration.register()
    folder = str(ROOT / "ssr_exp" / "conf")
    with hydra.initialize_config_dir(folder, version_base="1.3"):
        composed = OmegaConf.to_container(hydra.compose(command))
    assert isinstance(composed, dict)
    return composed


def _tables(schema: type, command: str, leave_out: set[str] = frozenset()) -> list[str]:
    """Write a table for the keys of a command's schema, and one for each part of it."""
    own, parts = [], []
    hints = get_type_hints(schema, include_extras=True)
    for field in fields(schema):
        if field.name in leave_out:
            continue
        (parts if is_dataclass(hints[field.name]) else own).append(field.name)
    composed = _composed(command)
    tables = [_table(schema, composed, own)] if own else []
    for name in parts:
        part = hints[name]
        table = _table(part, composed[name], prefix=f"{name}.")
        tables += [f"### `{name}`", inspect.getdoc(part) or "", table]
    return tables


def _table(
    schema: type, composed: dict[str, Any], names: list[str] | None = None, prefix: str = ""
) -> str:
    """Write a row for each key, with the value that it has where nobody types it."""
    rows = ["| key | default | takes | |", "|---|---|---|---|"]
    hints, comments = get_type_hints(schema, include_extras=True), _comments(schema)
    for field in fields(schema):
        if names is not None and field.name not in names:
            continue
        hint = hints[field.name]
        if is_dataclass(hint):
            nested = _table(hint, composed[field.name], prefix=f"{prefix}{field.name}.")
            rows += nested.splitlines()[2:]
            continue
        default = _default(composed[field.name])
        cells = (f"`{prefix}{field.name}`", default, _takes(hint), comments[field.name])
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def _default(value: Any) -> str:
    return "must be said" if value == MISSING else f"`{_spelled(value)}`"


def _spelled(value: Any) -> str:
    """Spell a value as it is typed."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{','.join(map(_spelled, value))}]"
    return str(value) if value != "" else "''"


def _takes(hint: Any) -> str:
    """Say what a key takes."""
    if get_origin(hint) is Annotated:
        kind, *notes = get_args(hint)
        said = [note.words for note in notes if isinstance(note, config.Allowed)]
        return said[0] if said else _takes(kind)
    if args := [a for a in get_args(hint) if a is not type(None)]:
        if get_origin(hint) in (list, dict):
            return "a list" if get_origin(hint) is list else "a mapping"
        return " or ".join(_takes(arg) for arg in args)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(f"`{one.value}`" for one in hint)
    return {int: "a whole number", float: "a number", str: "text", bool: "`true` or `false`"}.get(
        hint, ""
    )


def _comments(schema: type) -> dict[str, str]:
    """Read the comments of a dataclass's fields: beside them, or in the lines above."""
    lines = inspect.getsource(schema).splitlines()
    above: list[str] = []
    found = {field.name: "" for field in fields(schema)}
    for line in lines:
        text = _comment(line)
        if line.strip().startswith("#"):
            above.append(text)
            continue
        if (match := re.match(r"    (\w+):", line)) and match[1] in found:
            found[match[1]] = " ".join([*above, text]).strip()
        above = []
    return found


def _comment(line: str) -> str:
    """Return the comment of a line of code, without its sign."""
    try:
        for token in tokenize.generate_tokens(io.StringIO(line.strip() + "\n").readline):
            if token.type == tokenize.COMMENT:
                return token.string.lstrip("# ")
    except (tokenize.TokenError, IndentationError):
        pass
    return ""


def _presets() -> str:
    """List the presets of each group, with the comment that their files begin with."""
    parts = [
        "# Presets",
        "`GROUP=NAME` takes a file of `ssr_exp/conf/GROUP/`. Presets of your own: with "
        "`--config-dir DIR`, `recipe=mine` takes `DIR/recipe/mine.yaml`.",
    ]
    conf = ROOT / "ssr_exp" / "conf"
    for group in sorted(path for path in conf.rglob("*") if path.is_dir()):
        name = group.relative_to(conf).as_posix()
        if not (files := sorted(group.glob("*.yaml"))) or name.endswith("_logging"):
            continue
        rows = [f"| `{name}=` | |", "|---|---|"]
        rows += [f"| `{path.stem}` | {_first_comment(path)} |" for path in files]
        parts += [f"## `{name}`", "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    said = []
    for line in lines:
        if line.startswith("# @package"):
            continue
        if not line.startswith("#"):
            said = said or [_comment(line)]  # beside the first key
            break
        said.append(line.lstrip("# "))
    return " ".join(said).replace("|", "\\|")
