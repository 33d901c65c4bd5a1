"""Whatever a dotted name leads to, a network is made of it or one sentence says why not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from ssr_exp import user_code
from ssr_exp.errors import SsrError
from ssr_exp.rescaling import user_modules
from tests.conftest import ROOT

Own = Callable[[str], str]
NET = """
from torch import nn

class Net(nn.Linear):
    def __init__(self, {parameters}):
        super().__init__(1, 1)
        self.told = {told}

class Other(Net):
    pass
"""


def build(target: str, **arguments: object) -> nn.Module:
    return user_modules.build(target, arguments, num_classes=7, in_channels=1)


@pytest.mark.parametrize(
    ("parameters", "told", "expected"),
    [
        ("", "()", ()),
        ("num_classes, in_channels=3", "(num_classes, in_channels)", (7, 1)),
        ("*, in_chans=3", "in_chans", 1),
        ("width=1, **more", "(width, more)", (2, {"depth": 3})),
        ("num_classes=10, **more", "(num_classes, more)", (7, {})),
    ],
)
def test_a_callable_says_what_it_is(own: Own, parameters: str, told: str, expected: object) -> None:
    name = own(NET.format(parameters=parameters, told=told))
    arguments = {"width": 2, "depth": 3} if "width" in parameters else {}
    assert build(f"{name}.Net", **arguments).told == expected


def test_a_users_argument_wins(own: Own) -> None:
    name = own(NET.format(parameters="num_classes", told="num_classes"))
    assert build(f"{name}.Net", num_classes=3).told == 3


def test_functions_nested_names_and_packages_are_found(own: Own) -> None:
    name = own(NET.format(parameters="", told="0") + "\nclass Zoo:\n    make = staticmethod(Net)\n")
    assert isinstance(build(f"{name}.Zoo.make"), nn.Module)
    Path("pack/sub").mkdir(parents=True)
    Path("pack/__init__.py").touch()
    Path("pack/sub/nets.py").write_text("from torch import nn\ndef net():\n    return nn.ReLU()\n")
    assert isinstance(build("pack.sub.nets.net"), nn.ReLU)
    assert isinstance(build("torch.nn.Linear", in_features=1, out_features=2), nn.Linear)


def test_the_current_folder_is_looked_in_first_and_once(own: Own) -> None:
    name = own(NET.format(parameters="", told="0"))
    build(f"{name}.Net")
    build(f"{name}.Net")
    assert sys.path[0] == str(Path.cwd())
    assert sys.path.count(str(Path.cwd())) == 1


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("Net", "'Net' names nothing that can be imported: type it as model.target=my_package.M"),
        ("", "'' names nothing"),
        ("a..b", "'a..b' names nothing"),
        ("os.path;x", "names nothing"),
        ("no_such_package.Net", "there is no 'no_such_package' in the current folder"),
        ("torch.nn.Linaer", "torch.nn has no 'Linaer'; the nearest names are Linear"),
        ("torch.nope.Net", "torch has no 'nope'"),
        ("torch.nn.Linear.nope.x", "torch.nn.Linear has no 'nope'"),
        ("math.pi", "math.pi is a float, where"),
        ("builtins.dict", "returns a dict, not a torch.nn.Module"),
        ("torch.nn.Linear", "cannot be called: TypeError: "),
    ],
)
def test_a_target_that_leads_nowhere_is_refused(target: str, said: str) -> None:
    with pytest.raises(SsrError) as caught:
        build(target)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import not_there", "cannot be imported: in NAME.py, line 1, ModuleNotFoundError: No "),
        (
            "from torch import not_there",
            "imported: in NAME.py, line 1, ImportError: cannot import",
        ),
        ("def Net(:", "cannot be imported: SyntaxError: "),
        ("1 / 0", "cannot be imported: in NAME.py, line 1, ZeroDivisionError: division by"),
        ("import sys\nsys.exit()", "cannot be imported: it ends the process (SystemExit"),
        ("import sys\nsys.exit(1)", "cannot be imported: it ends the process (SystemExit: 1)"),
        (
            "def Net():\n    raise SystemExit(0)",
            "called: in NAME.py, line 2, SystemExit: 0.",
        ),
        ("from torch import nn\nNet = nn.ReLU()", "is a ReLU, where a class or a function"),
        ("def Net():\n    raise ValueError('too deep.\\nmore')", "ValueError: too deep."),
        ("def Net():\n    return 1", "returns an int, not"),
        ("Net = None", "is a NoneType, where"),
    ],
)
def test_what_is_wrong_with_ones_own_code_is_said(own: Own, code: str, said: str) -> None:
    name = own(code)
    with pytest.raises(SsrError) as caught:
        build(f"{name}.Net")
    assert name in str(caught.value) and said.replace("NAME", name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_callables_own_sentence_is_passed_on(own: Own) -> None:
    name = own("from ssr_exp.errors import SsrError\ndef net():\n    raise SsrError('as it is.')\n")
    with pytest.raises(SsrError, match=r"^as it is\.$"):
        build(f"{name}.net")


def digest(own: Own, code: str, attribute: str = "Net") -> str | None:
    target = f"{own(code)}.{attribute}"
    return user_modules.digest(target, user_code.find(target)())


def test_comments_and_layout_do_not_matter_and_code_does(own: Own) -> None:
    plain = NET.format(parameters="a=1", told="(a, 2)")
    same = plain.replace("(1, 1)", "( 1,\n1 )  # what").replace(
        "class Other", "# more\nclass Other"
    )
    one, other, changed = (digest(own, c) for c in (plain, same, plain.replace("2)", "3)")))
    assert one is not None and one == other != changed


def test_the_file_that_defines_a_callable_counts(own: Own) -> None:
    code = NET.format(parameters="", told="0")
    name = own(code)
    code_of_two = f"import functools\nfrom {name} import Net\nmake = functools.partial(Net)\n"
    assert digest(own, code_of_two) == digest(own, code_of_two, "make") == digest(own, code)


def test_without_source_there_is_no_digest() -> None:
    assert user_modules.digest("builtins.dict", nn.ReLU()) is None


def test_the_files_of_blocks_and_of_what_they_inherit_from_count(own: Own) -> None:
    base = "from torch import nn\nclass Base(nn.Module):\n    scale = {}\n"
    target = f"{own(NET.format(parameters='', told='0'))}.Net"

    def found(scale: int) -> str | None:
        name = own(base.format(scale))
        block = type("Block", (user_code.find(f"{name}.Base"),), {"__module__": "nowhere"})
        return user_modules.digest(target, nn.Sequential(nn.ReLU(), block()))

    assert found(1) == found(1) != found(2)


def test_classes_of_networks_are_told_from_functions(own: Own) -> None:
    name = own(NET.format(parameters="", told="0") + "\ndef make():\n    return Net()\n")
    assert user_modules.is_class(f"{name}.Net")
    assert not user_modules.is_class(f"{name}.make")
    assert not user_modules.is_class("subprocess.Popen")


@pytest.mark.slow
def test_the_current_folder_comes_before_the_clones_own_scripts(tmp_path: Path) -> None:
    """`train.py` is what many call theirs, and what the clone calls one of its commands."""
    (tmp_path / "train.py").write_text("from torch.nn import Conv2d as Net\n")
    for start in (["-m", "ssr_exp", "anatomy"], [str(ROOT / "train.py")]):
        say = "anatomy" in start
        words = ["train.Nett"] if say else ["model=module", "model.target=train.Nett"]
        told = subprocess.run(
            [sys.executable, *start, *words, *([] if say else ["dataset=digits"])],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert f"train ({tmp_path / 'train.py'}) has no 'Nett'" in told.stderr
        assert "the nearest names are Net: mend" in told.stderr and told.returncode == 1
