"""The tables of results/cifar10.md are those of its records."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import cifar10, figures
from ssr_exp.runs.store import Store


def test_the_committed_tables_are_those_of_the_committed_records() -> None:
    store = Store(cifar10.RUNS)
    for page, made in ((cifar10.PAGE, cifar10.tables), (cifar10.README, cifar10.headline)):
        text = page.read_text()
        assert cifar10.replaced(text, made(store)) == text


def test_a_whole_study_has_all_tables_and_the_text_around_them_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, kept = tmp_path / "page.md", tmp_path / "kept"
    page.write_text(f"before\n\n{cifar10.BEGIN}\n\nold\n{cifar10.END}\n\nafter\n")
    for _ in range(2):
        cifar10.main(["--keep", str(figures.DEMO), "--runs", str(kept), "--page", str(page)])
    assert capsys.readouterr().out == f"{page}\n" * 2
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "old" not in text
    assert text.count("\n## ") == 1  # finalists stand in their study's section
    records = Store(kept).records()
    finals = [r for r in records if r.test_score is not None]
    assert f"\n{len(records)} trainings, 0 of them failed" in text and len(finals) == 6
    for said in ("| answer | resnet20 ", "| baseline | ", "| 2 | 30 | ", "- A random search of"):
        assert said in text
    for record in records:
        assert f"| {record.network} | " in text or record in finals
