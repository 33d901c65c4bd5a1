"""Images that a table lists: their paths, and what is said of each."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from stat import S_ISREG

import numpy as np
import torch
from torch import Tensor

from ssr_exp import terminal
from ssr_exp.config import DatasetConf
from ssr_exp.datasets.image_folder import layout
from ssr_exp.datasets.image_folder.cache import cached
from ssr_exp.datasets.image_folder.decoding import decode
from ssr_exp.datasets.image_folder.listing import CACHE
from ssr_exp.datasets.image_folder.parts import part_of
from ssr_exp.datasets.images import Images, Indices, Pool, Target
from ssr_exp.datasets.preprocessing import Preprocessing
from ssr_exp.datasets.reading import ImageOrigin
from ssr_exp.datasets.split import TEST_SEED, TEST_SHARE, drawn, share_in_words, stratified
from ssr_exp.errors import SsrError, cause

LARGEST = torch.finfo(torch.float32).max  # number that can be learnt
NAMED = 3  # rows, files or columns in an error
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no", "")  # cells of a label
FLAGS = dict.fromkeys(YES, 1.0) | dict.fromkeys(NO, 0.0)
OF_LISTS = ": names of labels are other words than yes, no, true and false"
UNKNOWN = ("na", "nan", "none", "null", "n/a")  # in lower case
Rows = list[dict[str, str]]


def pool(conf: DatasetConf, data_dir: Path, target: Target, asked: Preprocessing) -> Pool:
    """Read a table, and the images that it lists.

    Args:
        conf: the table, its columns, and where its images lie.
        data_dir: holds the cache of decoded images.
        target: what is said of an image.
        asked: how its images are brought to a size.

    Raises:
        SsrError: the table or a column is missing, a cell says nothing of use, or images are
            missing or damaged.
    """
    if conf.file is None:
        raise SsrError("dataset=csv needs to know the table: type dataset.file=TABLE.csv")
    path = Path(conf.file).expanduser()
    rows = _rows(path)
    _check_columns(conf, rows[0], path)
    root = Path(conf.root).expanduser() if conf.root is not None else path.parent
    names = [row[conf.image] for row in rows]
    stats = _stats(root, names, conf.image, path)
    labels, classes = _targets(conf, rows, target, path)
    decoded, digest = cached(
        data_dir / "cache" / f"{_key(root, names, stats, asked)}.pt",
        lambda: decode(root, names, asked),
    )
    files = tuple(root / name for name in names)
    images = Images(decoded.pixels, labels, classes, files, target)
    groups = None if conf.group is None else _groups(rows, conf.group, path)
    parts, sources = _parts(conf, rows, images, groups, path)
    _check_parts(conf, rows, images, parts, path)
    warnings = _missing(classes, rows, conf.targets) if target is Target.one_class else ()
    warnings += _empty_flags(rows, conf.targets) if target is Target.labels else ()
    warnings += () if target is Target.numbers else _alike(classes)
    origin = ImageOrigin(sources, root, warnings=warnings, contents=decoded.contents)
    how, hashes = decoded.preprocessing, decoded.hashes.numpy()
    return Pool(
        images,
        digest,
        parts["train"],
        parts.get("val"),
        parts.get("test"),
        how,
        hashes,
        origin,
        groups,
    )


def _rows(path: Path) -> Rows:
    """Read a table whose first line names its columns; cells are stripped, empty lines left out.

    Raises:
        SsrError: if it cannot be read, or a line has more or fewer cells than there are columns.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
        )
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise SsrError(
            f"the table {path} cannot be read ({cause(error)}): type dataset.file=TABLE.csv, a "
            "table in UTF-8"
        ) from None
    cells = [(number, line) for number, line in lines if any(line)]
    if len(cells) < 2:
        raise SsrError(f"the table {path} holds no rows: it needs a line of names and one an image")
    (_, names), *rest = cells
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise SsrError(f"{path} has two columns named {twice[0]}: leave one")
    for number, line in rest:
        if len(line) != len(names):
            raise SsrError(
                f"{path} line {number} has {len(line)} cells for {len(names)} columns: mend it"
            )
    return [dict(zip(names, line, strict=True)) for _, line in rest]


def _check_columns(conf: DatasetConf, row: dict[str, str], path: Path) -> None:
    asked = {"image": [conf.image], "targets": conf.targets}
    asked |= {
        "group": [conf.group] if conf.group else [],
        "split": [conf.split] if conf.split else [],
    }
    there = ", ".join(row)
    if not conf.targets:
        raise SsrError(
            f"dataset=csv needs to know what is learnt: type dataset.targets=[COLUMN], of {there}"
        )
    for key, columns in asked.items():
        for column in columns:
            if column not in row:
                value = f"[{column}]" if key == "targets" else column
                raise SsrError(
                    f"dataset.{key}={value}: {path} has no such column; type one of {there}"
                )


def _stats(root: Path, names: Sequence[str], column: str, path: Path) -> list[tuple[int, int]]:
    """Look at the image files; returns the size in bytes and time in ns of each.

    Raises:
        SsrError: names the first ones that are missing, or listed twice.
    """
    stats, missing = [], []
    for name in names:
        try:
            stat = (root / name).stat()
            if not name or not S_ISREG(stat.st_mode):
                raise FileNotFoundError
            stats.append((stat.st_size, stat.st_mtime_ns))
        except (OSError, ValueError):
            missing.append(name or "an empty cell")
    if missing:
        raise SsrError(
            f"{len(missing)} of {len(names)} images of {path} are not below {root} "
            f"({terminal.first_of(missing, NAMED)}): type dataset.root=DIR, where the paths of "
            f"column {column} begin"
        )
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise SsrError(f"{path} lists {name} twice: leave one row for each image")
        seen.add(name)
    return stats


def _targets(
    conf: DatasetConf, rows: Rows, target: Target, path: Path
) -> tuple[Tensor, tuple[str, ...]]:
    """Read what is said of each image, and the names of classes, labels or numbers."""
    columns = conf.targets
    if target is Target.numbers:
        values = [
            [_number(row, column, path, row[conf.image]) for column in columns] for row in rows
        ]
        return torch.tensor(values, dtype=torch.float32), tuple(columns)
    if target is Target.labels:
        return _labels(rows, columns, path, conf.image)
    if len(columns) > 1:
        raise SsrError(
            f"dataset.targets={_listed(columns)} are {len(columns)} columns, and a class is one: "
            "type one of them, or task=multilabel"
        )
    (column,) = columns
    for row in rows:
        if not row[column]:
            raise SsrError(
                f"{path}: {row[conf.image]!r} has no {column}: fill it in or leave the row out"
            )
    classes = tuple(sorted({row[column] for row in rows}))
    if len(classes) < 2:
        raise SsrError(
            f"{path}: {column} is {classes[0]!r} in all rows, and two classes are needed"
        )
    place = {name: at for at, name in enumerate(classes)}
    return torch.tensor([place[row[column]] for row in rows]), classes


def _labels(
    rows: Rows, columns: Sequence[str], path: Path, image: str
) -> tuple[Tensor, tuple[str, ...]]:
    """Read columns of 0 and 1, or one column of labels with | or ; between them."""
    if _are_lists(rows, columns):
        (column,) = columns
        lists = [{word.strip() for word in _split(row[column]) if word.strip()} for row in rows]
        names = tuple(sorted(set().union(*lists)))
        return torch.tensor([[float(n in held) for n in names] for held in lists]), names
    for row in rows:
        for column in columns:
            if row[column].casefold() not in FLAGS:
                raise SsrError(
                    f"{path}: {column} of {row[image]!r} is {row[column]!r}, and a label is 1 or 0"
                    f"{'' if len(columns) > 1 else OF_LISTS}"
                )
    flags = [[FLAGS[row[column].casefold()] for column in columns] for row in rows]
    return torch.tensor(flags, dtype=torch.float32), tuple(columns)


def _are_lists(rows: Rows, columns: Sequence[str]) -> bool:
    """Say whether the cells name labels, instead of saying of each label whether it holds.

    A cell that is neither does not make a list of a column of 0 and 1.
    """
    if len(columns) > 1:
        return False
    cells = {row[columns[0]] for row in rows} - {""}
    flags = {cell for cell in cells if cell.casefold() in FLAGS}
    return bool(cells - flags) and (not flags or any(len(_split(cell)) > 1 for cell in cells))


def _alike(names: Sequence[str]) -> tuple[str, ...]:
    """Warn of classes or labels that are the same for a reader."""
    return tuple(
        f"{' and '.join(same)} differ in capital letters or accents alone, and count as two: if "
        "they are one, write them alike"
        for same in layout.alike(names)
    )


def _missing(classes: Sequence[str], rows: Rows, columns: Sequence[str]) -> tuple[str, ...]:
    """Warn of classes that are what programs write where nothing is known."""
    found = [name for name in classes if name.casefold() in UNKNOWN]
    counts = Counter(row[columns[0]] for row in rows)
    said = [f"{name} ({counts[name]:,} rows)" for name in found]
    if not said:
        return ()
    return (f"{', '.join(said)} counts as a class: if nothing is known of these, leave them out",)


def _empty_flags(rows: Rows, columns: Sequence[str]) -> tuple[str, ...]:
    """Warn of empty cells: a label that nobody looked for may hold all the same."""
    counts = {column: sum(not row[column] for row in rows) for column in columns}
    empty = [f"{column} {count:,}" for column, count in counts.items() if count]
    if not empty or _are_lists(rows, columns):
        return ()
    return (f"empty cells count as 0 ({', '.join(empty)}): fill them in, or leave the rows out",)


def _split(cell: str) -> list[str]:
    return cell.replace(";", "|").split("|")


def _number(row: dict[str, str], column: str, path: Path, image: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:
        limits = f" from {-LARGEST:.2g} to {LARGEST:.2g}" if math.isfinite(value) else ""
        raise SsrError(
            f"{path}: {column} of {image!r} is {row[column]!r}, and it must be a number{limits}: "
            "mend the row or leave it out"
        )
    return value


def _parts(
    conf: DatasetConf, rows: Rows, images: Images, groups: Indices | None, path: Path
) -> tuple[dict[str, Indices], dict[str, str]]:
    """Take the parts that the table names, or draw a tenth as test."""
    index = np.arange(len(rows), dtype=np.int64)
    if conf.split is None:
        if groups is None and images.target is Target.one_class:
            train, test = stratified(images, index, fraction=TEST_SHARE, seed=TEST_SEED)
        else:
            train, test = drawn(index, fraction=TEST_SHARE, seed=TEST_SEED, groups=groups)
        said = share_in_words(len(test), len(index), asked=TEST_SHARE)
        return {"train": train, "test": test}, {"test": f"{said} of all"}
    named = [part_of(row[conf.split]) for row in rows]
    if None in named:
        word = rows[named.index(None)][conf.split]
        raise SsrError(
            f"dataset.split={conf.split}: {path} says {word!r} there, which is none of train, val "
            "and test"
        )
    parts = {part: index[[name == part for name in named]] for part in ("train", "val", "test")}
    parts = {part: some for part, some in parts.items() if len(some)}
    if "train" not in parts:
        raise SsrError(f"dataset.split={conf.split}: {path} names no row train")
    return parts, dict.fromkeys(parts, f"by column {conf.split}")


def _check_parts(
    conf: DatasetConf, rows: Rows, images: Images, parts: dict[str, Indices], path: Path
) -> None:
    """Refuse groups that stand in two parts, and classes that cannot be learnt."""
    if conf.group is not None:
        where: dict[str, str] = {}
        for part, index in parts.items():
            for group in {rows[i][conf.group] for i in index}:
                if (other := where.setdefault(group, part)) != part:
                    raise SsrError(
                        f"{path}: {conf.group} {group!r} stands in {other} and in {part}: leave "
                        "dataset.group or dataset.split out"
                    )
    if images.target is Target.one_class:
        learnt = set(images.labels[torch.from_numpy(parts["train"])].tolist())
        if absent := [name for at, name in enumerate(images.classes) if at not in learnt]:
            if conf.split is None:  # without groups each class would have been drawn from
                raise SsrError(
                    f"dataset.group holds out for test all images of class {absent[0]!r}, which "
                    "then cannot be learnt: say in a column what is test, and type dataset.split "
                    "with its name"
                )
            raise SsrError(
                f"{path}: no row of train is of class {absent[0]!r}: it cannot be learnt"
            )


def _groups(rows: Rows, column: str, path: Path) -> Indices:
    """Number the rows whose cells of a column are alike."""
    cells = [row[column] for row in rows]
    if "" in cells:
        raise SsrError(f"{path}: {cells.count('')} rows have no {column}: fill it in")
    _, positions = np.unique(np.array(cells), return_inverse=True)
    return positions.astype(np.int64)


def _key(
    root: Path, names: Sequence[str], stats: Sequence[tuple[int, int]], asked: Preprocessing
) -> str:
    """Hash what a cache of the decoded images depends on."""
    rows = [(name, *stat) for name, stat in zip(names, stats, strict=True)]
    size = asked.size if asked.fit else None
    told = [CACHE, str(root.resolve()), size, rows, asked.fit, asked.background]
    told += [] if asked.crop_share == 1 else [asked.crop_share]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:32]


def _listed(columns: Sequence[str]) -> str:
    return f"[{','.join(columns)}]"
