"""What a file of ours says is what was written, or it is not read at all."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from ssr_exp import files
from ssr_exp.files import Unreadable
from ssr_exp.runs.record import Record

MakeRecord = Callable[..., Record]


class Held(BaseModel):
    schema_version: int = 1
    number: float
    names: dict[str, tuple[int, ...]]


def refusal(content: str | bytes) -> str:
    with pytest.raises(Unreadable) as caught:
        files.parse(content, Record, version=1)
    return str(caught.value)


@given(
    number=st.floats(allow_nan=False, allow_infinity=False),
    names=st.dictionaries(st.text(st.characters(codec="utf-8")), st.lists(st.integers())),
    compact=st.booleans(),
)
def test_what_is_written_is_read(number: float, names: dict[str, list[int]], compact: bool) -> None:
    one = Held(number=number, names={name: tuple(values) for name, values in names.items()})
    text = files.write(one, compact=compact)
    assert (text.count("\n") == 1) == compact
    assert json.loads(files.parse(text, Held, version=1).model_dump_json()) == files.fields(text)


def test_no_flipped_bit_changes_what_is_read(make_record: MakeRecord) -> None:
    one = make_record(error="a line", val_acc=91.2)
    whole = one.to_json().encode()
    noticed = 0
    for at in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            try:
                assert files.parse(bytes(flipped), Record, version=1) == one
            except Unreadable:
                noticed += 1
    assert noticed > 6 * len(whole)


def test_an_edited_file_is_refused_with_what_to_do_and_read_once_that_is_done(
    make_record: MakeRecord,
) -> None:
    lines = make_record(val_acc=91.2).to_json().replace("91.2", "90.2").splitlines()
    assert 'if you edited it yourself, remove the line "checksum" from it' in refusal(
        "\n".join(lines)
    )
    (named,) = (line for line in lines if "checksum" in line)
    lines.remove(named)
    found = files.parse("\n".join(lines), Record, version=1)
    assert found == make_record(val_acc=90.2)


def test_layout_and_order_of_keys_are_not_part_of_what_is_said(make_record: MakeRecord) -> None:
    one = make_record()
    turned = dict(reversed(json.loads(one.to_json()).items()))
    assert files.parse(json.dumps(turned, indent=7), Record, version=1) == one


def test_a_key_that_is_there_twice_is_held_against_the_checksum(make_record: MakeRecord) -> None:
    text = make_record(seed=3).to_json()
    assert "checksum" in refusal(text.replace('"seed": 3', '"seed": 3, "seed": 4'))
    found = files.parse(text.replace('"seed": 3', '"seed": 4, "seed": 3'), Record, version=1)
    assert found.seed == 3


@pytest.mark.parametrize("checksum", [None, 0, [], "", "0" * 16], ids=repr)
def test_a_checksum_that_is_none_is_refused(make_record: MakeRecord, checksum: object) -> None:
    fields = json.loads(make_record().to_json())
    assert "checksum" in refusal(json.dumps(fields | {"checksum": checksum}))


def test_a_file_without_a_checksum_is_read(make_record: MakeRecord) -> None:
    text = make_record().model_dump_json()
    assert files.CHECKSUM not in text
    assert files.parse(text, Record, version=1) == make_record()
