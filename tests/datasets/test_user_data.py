"""A DataModule of the user's own: what it holds is fingerprinted, or one sentence says why not."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from ssr_exp.config import DatasetConf
from ssr_exp.datasets import data_fingerprint, user_data
from ssr_exp.errors import SsrError

Own = Callable[[str], str]
CODE = """
import lightning as L

class Data(L.LightningDataModule):
    pass

class NoVal(Data):
    def train_dataloader(self):
        return []

class Whole(NoVal):
    def __init__(self, size=1):
        super().__init__()
        self.size = size
    def val_dataloader(self):
        return []

def nothing():
    return {}

def make(size):
    return Whole(size)
"""


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(100))


class Held(L.LightningDataModule):
    """Serves what it is given as val."""

    def __init__(self, val: Any, train: Any = (0, 1)) -> None:
        super().__init__()
        self.val, self.train = val, train

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, 2)

    def val_dataloader(self) -> Any:
        return DataLoader(self.val, 2, collate_fn=list)


def content(val: Any, version: str | None = None, train: Any = (0, 1)) -> str:
    return data_fingerprint.content(Held(val, train), version)[0]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Data", "has no train_dataloader: networks are trained on train and compared by val"),
        ("NoVal", "has no val_dataloader: "),
        ("nothing", "a dict, not a LightningDataModule: dataset.target must name its class"),
        ("Whole2", "has no 'Whole2'; the nearest names are Whole: mend dataset.target="),
    ],
)
def test_what_is_no_data_module_is_refused(own: Own, name: str, sentence: str) -> None:
    with pytest.raises(SsrError) as refused:
        user_data.make(DatasetConf(target=f"{own(CODE)}.{name}"))
    assert sentence in str(refused.value)


def test_a_class_or_a_function_makes_it_with_arguments(own: Own) -> None:
    name = own(CODE)
    for target in ("Whole", "make"):
        made = user_data.make(DatasetConf(target=f"{name}.{target}", arguments={"size": 3}))
        assert made.size == 3 and not user_data.has_test(made)


ARRAYS = [(np.arange(6).reshape(2, 3) + i, {"label": torch.tensor(i), "name": "a"}) for i in (0, 1)]


def test_the_same_val_set_is_the_same_and_any_change_of_it_is_another() -> None:
    def changed(change: Callable[[Any], Any]) -> str:
        return content([ARRAYS[0], change(ARRAYS[1])])

    same = changed(lambda sample: sample)
    assert same == content([(a.copy(), dict(d)) for a, d in ARRAYS])
    others = {
        changed(lambda s: (s[0] + 1, s[1])),
        changed(lambda s: (s[0].astype(float), s[1])),
        changed(lambda s: (s[0].T, s[1])),
        changed(lambda s: (s[0], s[1] | {"name": "b"})),
        changed(lambda s: (s[0], s[1] | {"label": torch.tensor(2)})),
        changed(lambda s: s[:1]),
        content(ARRAYS[:1]),
        content(ARRAYS, train=(0, 1, 2)),
        content(ARRAYS, version="1"),
        content(ARRAYS, version="2"),
    }
    assert len(others) == 10 and same not in others


def test_what_a_data_module_says_of_itself_counts_first() -> None:
    data = Held([object()])
    data.fingerprint = lambda: "mine"  # type: ignore[attr-defined]
    said, sizes, _ = data_fingerprint.content(data, None)
    assert sizes == {"train": 2, "val": 1} and said != content(ARRAYS)


def test_val_that_is_drawn_anew_needs_a_version() -> None:
    class Drawn(list[int]):
        def __getitem__(self, index: Any) -> Any:
            return torch.rand(3)

    with pytest.raises(
        SsrError, match=r"differ each time they are read.*type dataset.version=NAME"
    ):
        content(Drawn([1, 2]))
    assert content(Drawn([1, 2]), version="1")


SPLIT = """
import torch
from torch.utils.data import DataLoader, random_split
import lightning as L

class Split(L.LightningDataModule):
    generator = None
    def setup(self, stage):
        if stage == "fit":
            self.parts = random_split(torch.arange(40), [30, 10], generator=self.generator)
    def train_dataloader(self):
        return DataLoader(self.parts[0])
    def val_dataloader(self):
        return DataLoader(self.parts[1])
    def teardown(self, stage):
        self.parts = None

class Seeded(Split):
    def setup(self, stage):
        self.generator = torch.Generator().manual_seed(0)
        super().setup(stage)
"""


def test_a_val_set_that_each_training_would_draw_anew_is_refused(own: Own) -> None:
    name = own(SPLIT)
    with pytest.raises(SsrError, match="serves another val set each time it is made"):
        data_fingerprint.fingerprint(DatasetConf(target=f"{name}.Split"))
    said, sizes, _ = data_fingerprint.fingerprint(DatasetConf(target=f"{name}.Seeded"))
    assert sizes == {"train": 30, "val": 10}
    torch.manual_seed(7)
    assert data_fingerprint.fingerprint(DatasetConf(target=f"{name}.Seeded"))[0] == said


PICKED = """
import torch
from torch.utils.data import BatchSampler, DataLoader, SubsetRandomSampler, WeightedRandomSampler
import lightning as L

class Batched(BatchSampler):
    pass

class Picked(L.LightningDataModule):
    def __init__(self, seed=None, kind="subset"):
        super().__init__()
        self.seed, self.kind = seed, kind
    def setup(self, stage):
        generator = torch.Generator()
        _ = generator.seed() if self.seed is None else generator.manual_seed(self.seed)
        self.all = torch.arange(40)
        order = torch.randperm(40, generator=generator).tolist()
        self.train, self.val = order[10:], order[:10]
    def train_dataloader(self):
        if self.kind == "weighted":
            return DataLoader(self.all, 4, sampler=WeightedRandomSampler([1.0] * 40, 15))
        return DataLoader(self.all, 4, sampler=SubsetRandomSampler(self.train))
    def val_dataloader(self):
        sampler = SubsetRandomSampler(self.val)
        if self.kind == "batched":
            return DataLoader(self.all, batch_sampler=Batched(sampler, 3, False))
        return DataLoader(self.all, 4, sampler=sampler)
"""


def test_a_val_set_is_what_its_sampler_picks(own: Own) -> None:
    target = f"{own(PICKED)}.Picked"

    def read(**arguments: object) -> data_fingerprint.Content:
        return data_fingerprint.fingerprint(DatasetConf(target=target, arguments=arguments))

    with pytest.raises(SsrError, match="serves another val set each time it is made"):
        read()
    usual = read(seed=0)
    assert usual == read(seed=0) and usual.sizes == {"train": 30, "val": 10}
    assert usual.fingerprint == read(seed=0, kind="batched").fingerprint
    other = read(seed=1)
    assert other.fingerprint != usual.fingerprint and other.before == usual.before != ""
    weighted = read(seed=0, kind="weighted")
    assert weighted.sizes == {"train": 40, "val": 10}
    assert content(range(40)) == data_fingerprint.content(Held(range(40)), None).fingerprint
    assert data_fingerprint.content(Held(range(40)), None).before == ""


def test_only_a_class_of_data_modules_is_called_because_a_file_says_so(
    own: Own, tmp_path: Path
) -> None:
    name = own(SPLIT)

    def trusted(target: str, folder: str = "elsewhere", **arguments: object) -> bool:
        conf = DatasetConf(target=target, arguments=arguments)
        return user_data.is_trusted(conf, tmp_path / folder)

    assert trusted(f"{name}.Split", size=[1, {"a": 2}])
    assert not trusted("subprocess.Popen", args="touch /tmp/never", shell=True)
    assert not trusted(f"{name}.random_split")
    assert not trusted(f"{name}.Split", size=[{"_target_": "os.getcwd"}])
    assert not trusted(f"{own('raise SystemExit')}.Data", folder="own")  # it is not even imported


def test_what_cannot_be_compared_needs_a_version() -> None:
    with pytest.raises(SsrError, match="holds an object, whose content cannot be fingerprinted"):
        content([object()])
    assert content([object()], version="1")


def test_a_sample_that_cannot_be_read_is_a_sentence() -> None:
    class Broken(list[int]):
        def __getitem__(self, index: Any) -> Any:
            raise ValueError("no file")

    with pytest.raises(
        SsrError, match=r"be read: in test_user_data\.py, line \d+, ValueError: no file"
    ):
        content(Broken([1]))


@pytest.mark.parametrize("where", ["train_dataloader", "val_dataloader", "fingerprint"])
def test_data_that_ends_the_process_is_a_sentence(where: str) -> None:
    def ends() -> NoReturn:
        raise SystemExit("run prepare.py first")

    data = Held([1])
    setattr(data, where, ends)
    with pytest.raises(SsrError, match=r"Held.* SystemExit: run prepare\.py first"):
        data_fingerprint.content(data, None)


@pytest.mark.parametrize("hook", ["prepare_data", "setup"])
def test_a_hook_that_ends_the_process_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    def ends(*_: Any) -> NoReturn:
        raise SystemExit

    monkeypatch.setattr(Held, hook, ends)
    conf = DatasetConf(target=f"{__name__}.Held", arguments={"val": [1]})
    with pytest.raises(SsrError, match=r"Held cannot be set up: in .*, line \d+, SystemExit\."):
        user_data.ready(conf)


def test_val_samples_are_read_one_by_one_and_if_that_takes_long_it_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, most = list[weakref.ref[Any]](), [0]

    class Volume(np.ndarray[Any, Any]):
        pass

    class Volumes(list[int]):
        def __getitem__(self, index: Any) -> Any:
            volume = np.zeros(3).view(Volume)
            made.append(weakref.ref(volume))
            most[0] = max(most[0], sum(one() is not None for one in made))
            return volume

    caplog.set_level("INFO")
    content(Volumes(range(97)))
    assert most[0] <= 2
    assert "val samples" not in caplog.text
    monkeypatch.setattr(data_fingerprint, "LONG_S", 0.0)
    content(Volumes(range(97)))
    assert "reading 64 of 97 val samples, several times" in caplog.text
    caplog.clear()
    content(Volumes(range(96)), version="1")
    assert "val samples" not in caplog.text


def test_a_stream_and_several_loaders_are_looked_at_too() -> None:
    class Several(Held):
        def val_dataloader(self) -> Any:
            return {"one": DataLoader(ARRAYS, collate_fn=list), "two": DataLoader(Stream(), 4)}

    said, sizes, _ = data_fingerprint.content(Several(()), None)
    assert sizes == {"train": 2}  # a stream has no length
    assert said == data_fingerprint.content(Several(()), None)[0]
