"""What several processes measure together is what one measures, whoever has which images."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ssr_exp.config import RecipeConf
from ssr_exp.datasets.batches import Batches
from ssr_exp.datasets.images import Images, Target
from ssr_exp.datasets.share import Share
from ssr_exp.tasks import processes
from ssr_exp.tasks.classification import Classification
from ssr_exp.tasks.multilabel import Multilabel
from ssr_exp.tasks.regression import Regression
from ssr_exp.tasks.segmentation import SemanticSegmentation
from ssr_exp.tasks.supervised import VAL, Supervised

COUNTS = (1, 9, 11)  # images, in batches of 4: of the last batch one process has none
Made = tuple[Supervised, Tensor, Target]


def network(*after: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), *after)


def classified(draw: torch.Generator) -> Made:
    y = torch.randint(3, (12,), generator=draw)
    pooled = network(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classification(pooled, RecipeConf(), 3), y, Target.one_class


def labelled(draw: torch.Generator) -> Made:
    y = torch.randint(2, (12, 3), generator=draw).float()
    pooled = network(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Multilabel(pooled, RecipeConf(), 3), y, Target.labels


def numbered(draw: torch.Generator) -> Made:
    y = torch.randn(12, 3, generator=draw)
    pooled = network(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Regression(pooled, RecipeConf(), (0.0,) * 3, (1.0,) * 3), y, Target.numbers


def masked(draw: torch.Generator) -> Made:
    y = torch.randint(3, (12, 5, 5), generator=draw).to(torch.uint8)
    return SemanticSegmentation(network(), RecipeConf(), 3), y, Target.masks


TASKS: dict[str, Callable[[torch.Generator], Made]] = {
    "classes": classified,
    "labels": labelled,
    "numbers": numbered,
    "masks": masked,
}


def measured(share: Share) -> dict[str, dict[str, float]]:
    """Measure each task on each number of images."""
    found = {}
    for name, make in TASKS.items():
        draw = torch.Generator().manual_seed(0)
        task, y, target = make(draw)
        x = torch.randint(256, (12, 1, 5, 5), generator=draw, dtype=torch.uint8)
        tally = task.tally(VAL)
        for count in COUNTS:
            tally.reset()
            images = Images(x[:count], y[:count], ("a", "b", "c"), target=target)
            for batch in Batches(images, mean=(0.5,), std=(0.2,), batch_size=4, share=share):
                with torch.no_grad():
                    task.validation_step(batch, 0)
            assert tally.finite()
            found[f"{name} {count}"] = {"loss": tally.loss(), **tally.values()}
    return found


def part(rank: int, folder: str, world: int) -> None:
    """Measure as one of several processes; the last one finds an output that is not finite."""
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world
    )
    found = measured(Share(rank, world))
    task, y, _ = classified(torch.Generator())
    outputs = torch.full((2, 3), torch.nan if rank == world - 1 else 0.0)
    task.tally(VAL).add(outputs, y[:2], torch.zeros(()))
    assert not task.tally(VAL).finite()
    assert processes.gathered(rank) == list(range(world))
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_several_processes_measure_what_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    torch.multiprocessing.spawn(part, (str(tmp_path), 2), nprocs=2)
    alone = measured(Share())
    for rank in range(2):
        together = json.loads((tmp_path / f"{rank}.json").read_text())
        for case, values in alone.items():
            assert together[case] == pytest.approx(values, rel=1e-5, nan_ok=True), case


def test_one_process_agrees_with_itself() -> None:
    assert processes.count() == 1
    assert processes.summed(torch.tensor(2.5), 1) == [2.5, 1.0]
    assert processes.gathered("x") == ["x"]
