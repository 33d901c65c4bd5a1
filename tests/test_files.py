"""What a file of ours says is what was written, or it is not read at all."""

from __future__ import annotations

import errno
import io
import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from ssr_exp import files
from ssr_exp.edge.latency import table_file
from ssr_exp.errors import SsrError
from ssr_exp.files import Unreadable
from ssr_exp.report.search_results import read_comparison
from ssr_exp.rescaling import saved
from ssr_exp.runs import predictions, proposal, studies
from ssr_exp.runs.record import SCHEMA, Record
from ssr_exp.runs.store import LAST_CHECKPOINT, Store, network_weights
from ssr_exp.search.rounds import Notebook
from ssr_exp.training import checkpoints, resume

MakeRecord = Callable[..., Record]


class Held(BaseModel):
    schema_version: int = 1
    number: float
    names: dict[str, tuple[int, ...]]


def refusal(content: str | bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        files.parse(content, Record, version=SCHEMA)
    return str(caught.value)


@given(
    number=st.floats(allow_nan=False, allow_infinity=False),
    names=st.dictionaries(st.text(st.characters(codec="utf-8")), st.lists(st.integers())),
    compact=st.booleans(),
)
def test_what_is_written_is_read(number: float, names: dict[str, list[int]], compact: bool) -> None:
    one = Held(number=number, names={name: tuple(values) for name, values in names.items()})
    text = files.to_json(one, compact=compact)
    assert (text.count("\n") == 1) == compact
    assert json.loads(files.parse(text, Held, version=1).model_dump_json()) == files.parse_fields(
        text
    )


def test_no_flipped_bit_changes_what_is_read(make_record: MakeRecord) -> None:
    one = make_record(error="a line", val_acc=91.2)
    whole = one.to_json().encode()
    noticed = 0
    for bit in range(8 * len(whole)):
        try:
            assert files.parse(flipped(whole, bit), Record, version=SCHEMA) == one
        except Unreadable:
            noticed += 1
    assert noticed > 6 * len(whole)


def test_a_write_that_a_full_disk_ends_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "full")  # as of a write, a flush or a close

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="full") as caught:
        files.write(tmp_path / "x.json", b"{}")
    assert files.path_of(caught.value) == tmp_path / "x.json"


def test_an_edited_file_is_refused_with_what_to_do_and_read_once_that_is_done(
    make_record: MakeRecord,
) -> None:
    lines = make_record(val_acc=91.2).to_json().replace("91.2", "90.2").splitlines()
    assert 'if you edited it yourself, remove the line "checksum" from it' in refusal(
        "\n".join(lines)
    )
    (named,) = (line for line in lines if "checksum" in line)
    lines.remove(named)
    found = files.parse("\n".join(lines), Record, version=SCHEMA)
    assert found == make_record(val_acc=90.2)


def test_layout_and_order_of_keys_are_not_part_of_what_is_said(make_record: MakeRecord) -> None:
    one = make_record()
    turned = dict(reversed(json.loads(one.to_json()).items()))
    assert files.parse(json.dumps(turned, indent=7), Record, version=SCHEMA) == one


def test_a_key_that_is_there_twice_is_held_against_the_checksum(make_record: MakeRecord) -> None:
    text = make_record(seed=3).to_json()
    assert "checksum" in refusal(text.replace('"seed": 3', '"seed": 3, "seed": 4'))
    found = files.parse(text.replace('"seed": 3', '"seed": 4, "seed": 3'), Record, version=SCHEMA)
    assert found.seed == 3


def test_a_checksum_that_is_none_is_refused_and_a_file_without_one_is_read(
    make_record: MakeRecord,
) -> None:
    fields = json.loads(make_record().to_json())
    for checksum in (None, 0, [], "", "0" * 16):
        assert "checksum" in refusal(json.dumps(fields | {"checksum": checksum}))
    del fields["checksum"]
    assert files.parse(json.dumps(fields), Record, version=SCHEMA) == make_record()


# Damage, whoever reads

DAMAGED = {
    "empty": b"",
    "cut": b'{"study": "resnet20',
    "zeros": b"\0" * 512,
    "null": b"null",
    "list": b"[]",
    "number": b"1e999",
    "text": b'"record"',
    "binary": bytes(range(256)),
    "digits": b'{"schema_version": ' + b"9" * 5000 + b"}",
    "deep": b"[" * 200_000,
    "nested": b'{"a":' * 200_000,
}
READERS: dict[str, Callable[[Path], object]] = {  # what is read, where nothing can be
    "s/d1_w1/seed0/record.json": lambda path: Store(path.parents[3]).records(),
    "s/study.json": lambda path: studies.read_all(path.parents[1]),
    "s/network.json": lambda path: saved.read(path.parent),
    "s/search/predictions.json": lambda path: predictions.latest(Store(path.parents[2]), "s"),
    "s/search/proposed.json": proposal.read,
    "s/search/t/round1.json": lambda path: Notebook(Store(path), path.parent).read(),
    "s/latency/cpu.json": table_file.read,
    "s/best/metrics.json": lambda path: read_comparison(Store(path.parents[2]), "s"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_one_sentence_or_left_out_with_one(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    for kind in (*DAMAGED, "a folder", "a later version"):
        caplog.clear()
        if kind == "a folder":
            path.unlink()
            path.mkdir()
        elif kind == "a later version":
            path.rmdir()
            path.write_text('{"schema_version": 99}')
        else:
            path.write_bytes(DAMAGED[kind])
        try:
            assert not READERS[name](path) or (kind == "a later version" and "study" in name)
            said = caplog.messages[0] if caplog.messages else str(path)
        except SsrError as error:
            said = str(error)
        assert str(path) in said and "\n" not in said and len(said) < 500, kind


# Checkpoints

STATE = {"network.weight": torch.linspace(-1, 1, 60).reshape(3, 20), "network.n": torch.tensor(7)}


@pytest.fixture(scope="module")
def whole() -> bytes:
    buffer = io.BytesIO()
    torch.save({"state_dict": STATE, "epoch": 3}, buffer)
    return buffer.getvalue()


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def same(held: Any) -> bool:
    state = held["state_dict"]
    return state.keys() == STATE.keys() and all(torch.equal(state[k], STATE[k]) for k in STATE)


def unnoticed(path: Path, whole: bytes, bits: list[int]) -> tuple[list[int], int]:
    """Flip bits one by one; returns those that make other weights, and how many were refused."""
    wrong, refused = [], 0
    for bit in bits:
        content = flipped(whole, bit)
        try:
            path.write_bytes(content)
            held = files.read_checkpoint(path)
        except Exception:
            refused += 1
            continue
        if not same(held):
            wrong.append(bit)
    return wrong, refused


def test_no_flipped_bit_becomes_another_weight(whole: bytes, tmp_path: Path) -> None:
    bits = random.Random(0).sample(range(8 * len(whole)), 600)
    wrong, refused = unnoticed(tmp_path / "flipped", whole, bits)
    assert wrong == [] and refused > 100


@pytest.mark.slow
@pytest.mark.more
def test_not_one_of_all_bits_becomes_another_weight(whole: bytes, tmp_path: Path) -> None:
    bits = list(range(8 * len(whole)))
    assert unnoticed(tmp_path / "flipped", whole, bits)[0] == []


def test_a_part_that_became_a_folder_is_refused(whole: bytes, tmp_path: Path) -> None:
    """Torch would hand out memory as it was."""
    entry = whole.rindex(b"PK\x01\x02", 0, whole.rindex(b"data/0"))
    (attributes,) = struct.unpack_from("<I", whole, entry + 38)
    assert attributes == 0
    damaged = flipped(whole, 8 * (entry + 38) + 4)
    path = tmp_path / "folder"
    path.write_bytes(damaged)
    torch.load(path, weights_only=True)
    with pytest.raises(Unreadable, match="data/0"):
        files.read_checkpoint(path)


def test_a_checkpoint_cut_short_or_empty_is_refused(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    for length in (0, 1, 64, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(Unreadable):
            files.read_checkpoint(path)
    path.write_bytes(whole)
    assert same(files.read_checkpoint(path))


def test_every_reader_of_weights_notices(
    whole: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    value = whole.index(STATE["network.weight"].numpy().tobytes())
    path = tmp_path / LAST_CHECKPOINT
    path.write_bytes(flipped(whole, 8 * value + 3))
    for read in (network_weights, checkpoints.state_dict, saved._state):
        with pytest.raises(SsrError, match="does not match"):
            read(path)
    assert resume.last_checkpoint(tmp_path) is None
    assert "does not match" in caplog.text and "from the start" in caplog.text


@pytest.mark.parametrize("wrapper", files.WRAPPERS)
def test_a_state_dict_may_lie_in_a_checkpoint(tmp_path: Path, wrapper: str) -> None:
    torch.save({"epoch": 3, wrapper: STATE, "optimizer": {}}, tmp_path / "last.pth")
    assert files.read_state_dict(tmp_path / "last.pth").keys() == STATE.keys()


def test_safetensors_are_read_and_their_damage_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    pytest.importorskip("safetensors.torch").save_file(STATE, path)
    read = files.read_state_dict(path)
    assert all(torch.equal(read[name], tensor) for name, tensor in STATE.items())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(files.Unreadable):
        files.read_state_dict(path)
    with pytest.raises(FileNotFoundError):
        files.read_state_dict(tmp_path / "none.safetensors")


def test_a_file_of_an_older_torch_is_read_all_the_same(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert checkpoints.state_dict(tmp_path / "old.pth").keys() == {"weight", "n"}
