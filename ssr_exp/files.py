"""Files of ours: written whole or not at all, and read as data only, whoever wrote them.

A bit that a disk lost can leave JSON that is whole and wrong, "90.2" for "91.2": a checksum tells.
A file without one is taken as it is, so those written by hand stay readable.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import platform
import re
import secrets
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ssr_exp.errors import SsrError, cause

if TYPE_CHECKING:
    from torch import Tensor

Model = TypeVar("Model", bound=BaseModel)

CHECKSUM = "checksum"  # the first key of a file, so that its line can be removed
DEEPEST = 50  # objects and lists within each other; files of ours nest a few
FOLDER = 0x10  # torch takes an archive's part with this attribute for one, and reads no memory
FULL = (errno.ENOSPC, errno.EDQUOT)
IS_FULL = "the disk is full"
WRAPPERS = ("state_dict", "model_state_dict", "model")  # what a state dict lies under, if anything
IS_CODE = "it holds objects or code, not tensors alone: save the state_dict() of its network"
# What a write that is killed leaves: by its host, unless an earlier version wrote it, and process.
UNFINISHED = re.compile(r"\.\w.*?\.(?:([0-9a-f]{8})\.)?(\d+)-[0-9a-f]{8}")
LONG_S = 3600.0  # no write takes so long, on whatever host


class FileModel(BaseModel):
    """What a file of ours holds, or a part of it: it is not changed, and its numbers are finite."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    @classmethod
    def upgraded(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Write the fields of an earlier schema as those of today's, which stay as they are."""
        return fields


def unwritten(usual: Any) -> Any:
    """Make a field that is written only where it is not as usual.

    So files of before it came are written as they were, and their digests stay.
    """
    return Field(default=usual, exclude_if=lambda value: value == usual)


class Unreadable(ValueError):
    """A file that cannot be used; the message says why, in one line."""


def to_json(model: BaseModel, *, compact: bool = False) -> str:
    """Write a model as JSON that `parse` can tell from a damaged one.

    Args:
        model: what is written.
        compact: in one line; else indented, one key a line.
    """
    fields = model.model_dump(mode="json")
    layout: dict[str, Any] = {"separators": (",", ":")} if compact else {"indent": 1}
    return json.dumps({CHECKSUM: _checksum(fields), **fields}, **layout) + "\n"


def parse(text: str | bytes, model: type[Model], *, version: int) -> Model:
    """Read a model from JSON, strictly; nothing is instantiated but the model.

    Args:
        text: one JSON object.
        model: what it must hold, with a `schema_version`.
        version: the highest one that this reader knows.

    Raises:
        Unreadable: if the text is cut short, damaged, of a newer version, or lacks what the model
            needs.
    """
    fields = parse_fields(text)
    written = fields.get("schema_version")
    if isinstance(written, int) and written > version:
        raise Unreadable(f"it is of version {written}, and this ssr_exp reads up to {version}")
    if issubclass(model, FileModel) and (upgraded := model.upgraded(fields)) is not fields:
        text = json.dumps(upgraded)
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise Unreadable(f"{where}: {first['msg'].lower()}") from None
    except SsrError as error:
        raise Unreadable(str(error).rstrip(".")) from None


def read(path: Path, model: type[Model], *, version: int) -> Model:
    """Read a model from a file, as `parse` does.

    Raises:
        FileNotFoundError: if there is none.
        Unreadable: if it cannot be used.
    """
    return parse(_bytes(path), model, version=version)


def parse_fields(text: str | bytes) -> dict[str, Any]:
    """Read a JSON object, without its checksum, which is held against it.

    Raises:
        Unreadable: if the text is cut short, or was changed since it was written.
    """
    try:
        fields: Any = json.loads(text)
        is_checked = isinstance(fields, dict) and CHECKSUM in fields
        is_whole = not is_checked or fields.pop(CHECKSUM) == _checksum(fields)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"it is no whole JSON file ({error})") from None
    if not isinstance(fields, dict):
        raise Unreadable("it holds no JSON object")
    if not is_whole:
        raise Unreadable(
            f"its {CHECKSUM} says that it was changed since it was written: if you edited it "
            f'yourself, remove the line "{CHECKSUM}" from it'
        )
    return fields


def read_fields(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file, whatever its keys are.

    Raises:
        FileNotFoundError: if there is none.
        Unreadable: if it is damaged, or nests deeper than code that walks through it can go.
    """
    fields = parse_fields(_bytes(path))
    if _is_deeper(fields, DEEPEST):
        raise Unreadable(f"its objects nest deeper than {DEEPEST}")
    return fields


def read_or_empty(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; of one that is missing or damaged, nothing."""
    try:
        return read_fields(path)
    except (FileNotFoundError, Unreadable):
        return {}


def read_checkpoint(path: Path) -> Any:
    """Read what `torch.save` wrote, on the CPU and as data only.

    Such files are zip archives, and torch reads them without looking at their checksums: a bit
    that a disk lost would become another weight, and nothing would say so.

    Raises:
        FileNotFoundError: if there is none.
        Unreadable: if it is cut short or damaged, or holds code.
    """
    import torch

    try:
        if zipfile.is_zipfile(path):  # and not of a torch before 1.6
            _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, Unreadable):
        raise
    except Exception as error:  # damage shows in many ways
        if "Weights only load failed" in str(error):
            raise Unreadable(IS_CODE) from None
        raise Unreadable(cause(error)) from None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a file of `torch.save`, of safetensors, or a Lightning checkpoint.

    Raises:
        FileNotFoundError: if there is none.
        Unreadable: if it is damaged or holds something else.
    """
    from torch import Tensor

    content = _safetensors(path) if path.suffix == ".safetensors" else read_checkpoint(path)
    wrapped = (content[key] for key in WRAPPERS if isinstance(content, dict) and key in content)
    state = next((state for state in wrapped if isinstance(state, dict)), content)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in state.items()
    ):
        raise Unreadable("it holds no state dict")
    return state


def _safetensors(path: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise Unreadable("it needs safetensors: type pip install safetensors") from None
    try:
        return load_file(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # damage shows in many ways
        raise Unreadable(cause(error)) from None


def write_checkpoint(path: Path, content: Any) -> None:
    """Write with `torch.save`, which itself does not say that a disk is full.

    Raises:
        OSError: if the disk is full or the folder cannot be written.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    write(path, buffer.getbuffer())


def write(path: Path, content: bytes | memoryview) -> None:
    """Write a file whole or not at all; it is never lost once this returns.

    Raises:
        OSError: if the disk is full or the folder cannot be written.
    """
    written_by = f"{_host()}.{os.getpid()}-{secrets.token_hex(4)}"
    temporary = path.with_name(f".{path.name}.{written_by}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path, temporary):
            temporary.write_bytes(content)
    except OSError as error:
        if error.filename is None:  # of a write, which names no file
            error.filename = str(path)
        raise


@contextmanager
def replacing(path: Path, temporary: Path) -> Iterator[None]:
    """Give a file its name once the block has written it, flushed; else nothing is left of it.

    Args:
        path: the file, which may be there.
        temporary: what the block writes, in the same folder.
    """
    try:
        yield
        _flush(temporary)
        os.replace(temporary, path)
        with suppress(OSError):  # of file systems that do not flush folders
            _flush(path.parent)
    finally:  # also of what is stopped
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def is_abandoned(path: Path) -> bool:
    """Say whether a file is what a write left that was killed: its process is gone.

    Of another host's processes nothing is known here, so its files have to be old for that.
    """
    match = UNFINISHED.fullmatch(path.name)
    if match is None:
        return False
    try:
        if match[1] != _host():
            return time.time() - path.stat().st_mtime > LONG_S
        os.kill(int(match[2]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # another user's, or gone
        return False
    return False


@cache
def _host() -> str:
    """Name where numbers of processes mean the same: this machine, or a container on it."""
    try:
        processes = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux
        processes = ""
    return hashlib.sha256(f"{platform.node()} {processes}".encode()).hexdigest()[:8]


def cannot_write(folder: Path, error: OSError, option: str = "paths.runs=DIR") -> SsrError:
    """Put an error of the disk into a sentence; `option` chooses another folder."""
    full = error.errno in FULL
    why = IS_FULL if full else error.strerror or str(error)
    remedy = "free some space there, or choose" if full else "choose"
    return SsrError(f"cannot write to {folder}: {why}; {remedy} another place with {option}.")


def path_of(error: OSError) -> Path | None:
    """Say which file or folder an error is of; None if it does not say."""
    name = error.filename
    return Path(os.fsdecode(name)) if isinstance(name, str | bytes | os.PathLike) else None


def disk_of(path: Path) -> int | None:
    """Say on which disk a file is, or would be; None if nothing is known of its folders."""
    for one in (path, *path.absolute().parents):
        with suppress(OSError):
            return one.stat().st_dev
    return None


def is_disk_full(error: object) -> bool:
    """Say whether a job ended because the disk took no more, as others would after it.

    A launcher carries only the sentence of `cannot_write` from there to here.
    """
    text = str(error)
    reasons = (IS_FULL, os.strerror(errno.EROFS))
    return text.startswith("cannot write to ") and any(f": {why}; " in text for why in reasons)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unreadable(str(error)) from None


def _checksum(fields: Mapping[str, Any]) -> str:
    """Hash what a file says, however it is laid out: numbers are written as they are read."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(_is_deeper(one, levels - 1) for one in inner)


def _check_archive(path: Path) -> None:
    """Hold all that an archive stores against its checksums.

    Raises:
        Unreadable: if they do not match.
    """
    with zipfile.ZipFile(path) as archive:
        folders = [part.filename for part in archive.infolist() if part.external_attr & FOLDER]
        bad = archive.testzip() or next(iter(folders), None)
    if bad is not None:
        raise Unreadable(f"the checksum of its part {bad} does not match")


def _flush(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
