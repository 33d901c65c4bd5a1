"""A name, whoever chose it, stays in its folder and is no command, markup or control sequence."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from ssr_exp import terminal
from ssr_exp.app.studies.__main__ import main
from ssr_exp.config import ModelConf
from ssr_exp.edge.export import hub, markdown
from ssr_exp.errors import SsrError
from ssr_exp.report import page, page_data
from ssr_exp.rescaling import seeds
from ssr_exp.runs import study_names
from ssr_exp.runs.record import Record
from ssr_exp.runs.store import Store

HOSTILE = {
    "above": "../../x",
    "absolute": "/etc/cron.d/x",
    "windows": "C:\\Windows\\x",
    "nul": "a\0b",
    "newline": "a\nb: [evil]",
    "return": "a\r# evil",
    "shell": ";rm -rf ~ $(id) `id` | tee x",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "sql": "'; DROP TABLE runs; --",
    "template": "${jndi:x} {{7*7}} {x.__class__} %s",
    "right to left": "\u202egnp.exe",
    "terminal": "\x1b]0;evil\x07\x1b[2J",
    "markdown": "![x](javascript:alert(1)) [x](y) `x` | y |",
    "option": "--output=/etc/x",
    "dots": "...",
    "nothing": "",
    "long": "x" * 10_000,
}
EVERY = pytest.mark.parametrize("name", list(HOSTILE.values()), ids=list(HOSTILE))


def test_a_run_stays_in_the_store_and_is_found_again(
    tmp_path: Path, make_record: Callable[..., Record]
) -> None:
    store = Store(tmp_path / "runs")
    for name in (*HOSTILE.values(), ".", "..", "-", "~", "é", "../../x", "a/b"):
        record = make_record(study=name, network=f"{name}_d1_w1", model=name, dataset=name)
        folder = store.folder(record.study, record.network, record.seed)
        assert folder.parents[2] == tmp_path / "runs"
        assert folder.resolve().is_relative_to(tmp_path / "runs")
        store.write(folder, record)
        assert store.records(name) == [record], name
        assert {p.name for p in tmp_path.iterdir()} == {"runs"}


@EVERY
def test_a_model_of_any_name_is_one_plain_part_of_a_path(name: str) -> None:
    label = seeds.label(ModelConf(name))
    assert label and label == Path(label).name
    assert not label.startswith((".", "-"))
    assert label.isprintable()
    assert shlex.quote(label) in (label, f"'{label}'")


@EVERY
def test_a_list_of_studies_prints_no_name_that_acts_on_a_terminal(
    name: str,
    tmp_path: Path,
    make_record: Callable[..., Record],
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Store(tmp_path)
    record = make_record(study=name, network=f"{name}_d1_w1", model=name, dataset=name)
    folder = store.folder(record.study, record.network, record.seed)
    store.write(folder, record)
    study_names.rename(store, folder.parents[1].name, "mine")
    for words in ([], ["show", "mine"]):
        assert main([*words, "--runs", str(tmp_path)]) == 0
        printed = capsys.readouterr().out
        assert printed and all(c.isprintable() or c == "\n" for c in printed)


@EVERY
def test_a_page_holds_a_name_as_data_alone(
    name: str, tmp_path: Path, make_record: Callable[..., Record]
) -> None:
    store = Store(tmp_path)
    for seed, fields in enumerate(({"study": name}, {"network": name}, {"device": name})):
        record = make_record(**fields, seed=seed, error=name, model=name, dataset=name)
        store.write(store.folder(record.study, record.network, seed), record)
    text = page.render(page_data.collect(store))
    data = text.partition('id="data">')[2].partition("</script>")[0]
    assert "<" not in data
    assert {one["model"] for one in json.loads(data)["studies"]} == {name}


@EVERY
def test_a_card_shows_a_name_as_text_on_its_line(name: str) -> None:
    shown = markdown.inert(name)
    assert "\n" not in shown and shown.isprintable()
    assert not set("<[`") & set(shown)
    assert "|" not in shown.replace("\\|", "")


@EVERY
def test_the_head_of_a_card_quotes_a_name(name: str) -> None:
    quoted = markdown.quoted(name)
    assert json.loads(quoted) == name
    assert quoted.isprintable()


@EVERY
def test_a_terminal_acts_on_no_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = terminal.table("networks", ["network"], [[name[:300]]])
    Console(width=1000, markup=False, emoji=False, highlight=False).print(shown)
    printed = capsys.readouterr().out
    assert all(c.isprintable() for c in printed.replace("\n", ""))


@EVERY
def test_a_command_that_is_printed_is_one_word_a_name(name: str) -> None:
    command = hub.command(Path("/runs") / name.replace("\0", ""), "me/it")
    assert shlex.split(command) == [
        "hf",
        "upload",
        "--private",
        "me/it",
        str(Path("/runs") / name.replace("\0", "")),
        ".",
    ]
    with pytest.raises(SsrError, match="names no repository"):
        hub.check(name)
