"""What README and docs say can be typed, and every link leads somewhere."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import hydra
import pytest

from ssr_exp import terminal
from ssr_exp.app import configuration
from ssr_exp.app.command_line.overrides import Checker
from ssr_exp.config import SCHEMAS
from ssr_exp.report import answer_block
from ssr_exp.runs.store import Store
from tests.conftest import ROOT

IGNORED = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
PAGES = [ROOT / "README.md"] + [
    page
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if f"/{page.relative_to(ROOT)}" not in IGNORED
]
MORE = [ROOT / "CONTRIBUTING.md", ROOT / "launchers/README.md", ROOT / "SECURITY.md"]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [
    shlex.split(line)
    for kind, block in BLOCKS
    if kind == "bash"
    for line in map(str.strip, block.splitlines())
    if line.startswith(("ssr ", "python "))
]


def commands(*kinds: str) -> list[list[str]]:
    """Keep the commands of some kinds: what follows `ssr`, or the name of a script."""
    asked = [c for c in COMMANDS if Path(c[1]).name in kinds]
    return [command for n, command in enumerate(asked) if command not in asked[:n]]


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    fewest = {"train": 4, "search": 4, "export": 3, "report": 3, "predict.py": 2}
    fewest |= {"anatomy": 2, "latency": 3, "studies": 6}
    assert all(len(commands(kind)) >= count for kind, count in fewest.items())
    assert len({shlex.join(c) for c in COMMANDS}) == len(commands(*fewest))


@pytest.mark.parametrize("page", [*PAGES, *MORE], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_typed_has_no_comments(page: Path) -> None:
    """A shell takes them for words where they are pasted, as zsh does: a `'` waits for another."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for kind, b in blocks if kind in ("", "bash", "sh") for line in b.splitlines()]
    assert [line for line in lines if re.search(r"(^|\s)#", line)] == []


def each_value(words: list[str]) -> Iterator[list[str]]:
    """Take each value of a sweep at least once, not in every combination."""
    sweeps = [word.partition("=") for word in words]
    values = [v.split(",") if not set("[{'\"") & set(v) else [v] for _, _, v in sweeps]
    for at in range(max(map(len, values), default=1)):
        yield [
            f"{key}{sign}{some[min(at, len(some) - 1)]}"
            for (key, sign, _), some in zip(sweeps, values, strict=True)
        ]


def test_each_value_of_a_sweep_is_taken() -> None:
    swept = [*each_value(["a=1,2", "b=[1,2]", "c=x,y,z"])]
    assert swept == [
        ["a=1", "b=[1,2]", "c=x"],
        ["a=2", "b=[1,2]", "c=y"],
        ["a=2", "b=[1,2]", "c=z"],
    ]


@pytest.mark.slow
def test_every_command_names_presets_and_keys_that_exist() -> None:
    configuration.register()
    with hydra.initialize_config_dir(str(ROOT / "ssr_exp" / "conf"), version_base="1.3"):
        for _, name, *words in commands(*SCHEMAS):
            checked = Checker(name, []).check([word for word in words if word != "-m"])
            for one in each_value(checked):
                assert hydra.compose(name, one)


@pytest.mark.slow
@pytest.mark.parametrize("command", commands("anatomy"), ids=" ".join)
def test_an_anatomy_command_prints_the_lattice(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from ssr_exp.rescaling.__main__ import main

    assert main(command[2:]) == 0
    (size,) = re.findall(r"^lattice: ([\d,]+) networks", capsys.readouterr().out, re.MULTILINE)
    assert command[2] != "resnet56" or f"(ResNet-56: {size})" in TEXT


@pytest.mark.slow
@pytest.mark.parametrize("command", commands("latency"), ids=" ".join)
def test_a_measurement_is_understood(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssr_exp.edge import __main__ as edge

    if command[2].startswith("runs/"):
        assert edge.main(command[2:]) == 1
        assert "name the folder of a study, paths.runs/<study>" in capsys.readouterr().err
        return
    asked = []
    for name in ("_print", "_fit"):
        monkeypatch.setattr(edge, name, lambda options, study: asked.append(study))
    assert edge.main(command[2:]) == 0
    assert [study.name for study in asked] == [command[2]]


@pytest.mark.parametrize("command", commands("studies"), ids=" ".join)
def test_what_is_said_of_studies_is_understood(command: list[str]) -> None:
    from ssr_exp.app.studies.__main__ import _parser

    assert _parser().parse_args(command[2:]).carry_out


@pytest.mark.parametrize("command", commands("predict.py"), ids=" ".join)
def test_what_classifies_images_is_understood(command: list[str]) -> None:
    from ssr_exp.edge.export.predict_script import _parser

    assert _parser().parse_args(command[2:]).images


def test_every_key_of_scbp_in_the_text_exists() -> None:
    from ssr_exp.config import ModifiersConf, Preference

    table = TEXT[TEXT.index("# SCBP\n") : TEXT.index("Up to 10^7 combinations")]
    rows = re.findall(r"^\| (`modifiers.*?) \|", table, flags=re.MULTILINE)
    said = {key for row in rows for key in re.findall(r"\.(\w+)`", row)}
    assert said <= set(vars(ModifiersConf()))
    assert {"count", "c_ratios", "c_ratios_of", "params", "macs", "monotone", "prefer"} == said
    assert {*Preference} <= set(re.findall(r"`(\w+)`", table))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_links_to_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#:]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_key_of_an_export_and_every_runtime_in_the_text_exists() -> None:
    from ssr_exp.config import ExportConfig
    from ssr_exp.edge.latency import runtimes

    part = (ROOT / "docs/guides/export.md").read_text(encoding="utf-8")
    table = part[part.index("| key | meaning |") :]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    said = {key for row in rows for key in re.findall(r"`([\w.]+)`", row)}
    assert said - {"paths.data"} <= set(vars(ExportConfig()))
    part = TEXT[TEXT.index("| runtime | takes |") : TEXT.index("The third (`--fit`")]
    rows = [row.split("|")[1] for row in part.splitlines() if row.startswith("| `")]
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == {*runtimes.NAMES}


def test_every_key_of_a_report_in_the_text_exists() -> None:
    from ssr_exp.config import ReportConfig

    (line,) = [line for line in TEXT.splitlines() if line.startswith("Keys: `study=`")]
    said = set(re.findall(r"`(\w+)=", line))
    assert said <= set(vars(ReportConfig())) and len(said) == 4


def test_the_library_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = [block for kind, block in BLOCKS if kind == "python"]
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "Cost(params=" in printed
    assert "torch.Size([1, 10])" in printed


def test_the_methods_and_arguments_of_a_loop_in_the_text_exist() -> None:
    import inspect

    from ssr_exp import Study

    part = (ROOT / "docs/tutorials/own_loop.md").read_text(encoding="utf-8")
    part = re.sub(r"```bash.*?```", "", part, flags=re.DOTALL)
    methods = set(re.findall(r"(?:study\.|Study\.|\)\.|`)(\w+)\(", part)) - {"train"}
    assert methods >= {"ask", "tell", "fail", "release", "take", "renew", "finalists", "enqueue"}
    assert [name for name in methods if not callable(getattr(Study, name, None))] == []
    takers = [Study, *(getattr(Study, name) for name in methods)]
    taken = {name for taker in takers for name in inspect.signature(taker).parameters}
    assert set(re.findall(r"\b(\w+)=", part)) <= taken | {"bounds"}


def test_the_records_keys_in_the_text_exist() -> None:
    from ssr_exp.runs.record import Record

    table = (ROOT / "docs/reference/records.md").read_text(encoding="utf-8")
    said = re.findall(r"`(\w+)`", re.sub(r"\|[^|]*\|\s*$", "", table, flags=re.MULTILINE))
    assert set(said) <= {*Record.model_fields, *Record.model_computed_fields}
    assert set(Record.model_fields) - set(said) <= {
        "schema_version",
        "baseline_params",
        "baseline_macs",
        "baseline_gemms",
    }


def test_every_way_to_split_is_in_the_table() -> None:
    from ssr_exp.rescaling.segmentations import KINDS

    table = TEXT[TEXT.index("| `segment=` |") : TEXT.index("No module is in two segments")]
    assert {*KINDS} <= set(re.findall(r"^\| `(\w+)`", table, flags=re.MULTILINE))


def test_every_modifier_set_is_in_the_table() -> None:
    from ssr_exp.rescaling.sets import KINDS, PROPOSED

    table = TEXT[TEXT.index("| `modifiers=` |") : TEXT.index("## Stop, go on, widen")]
    assert {*KINDS, PROPOSED} <= set(re.findall(r"`(\w+)`", table))


def test_every_key_of_a_search_in_the_text_exists() -> None:
    from omegaconf import OmegaConf

    from ssr_exp.config import Acquisition, Arm, SearchConfig

    table = TEXT[TEXT.index("| `rounds`, `batch` |") : TEXT.index("- **Kill it")]
    known = OmegaConf.structured(SearchConfig)
    said = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+|rounds|batch|min_gain)=?`", table)
    assert len(said) >= 15
    for key in said:
        if not key.endswith(".py"):
            assert OmegaConf.select(known, key, throw_on_missing=False) is not None or (
                key.rpartition(".")[2] in OmegaConf.select(known, key.rpartition(".")[0])
            )
    words = set(re.findall(r"`(\w+)`", table))
    assert {*Acquisition} - {"auto"} <= words
    assert {*Arm} <= words


def test_the_demos_page_shows_the_block_that_is_printed_of_its_results() -> None:
    store = Store(ROOT / "results/demo")
    (study,) = (path.parents[1].name for path in store.root.glob("*/best/record.json"))
    rows = answer_block.read(store, study, place="runs/demo")
    text = (ROOT / "docs/tutorials/demo.md").read_text(encoding="utf-8")
    assert "```\n" + "\n".join(terminal.block(rows)) + "\n```" in text
