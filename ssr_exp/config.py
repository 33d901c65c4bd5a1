"""The schema of `conf/`: what may be set, of which type, and what it is when nobody says.

A key that is not here is rejected when Hydra composes the configuration, so a typo in a preset
or on the command line never trains the wrong thing. Plain dataclasses: `ssr_exp.app.configuration`
makes them known to Hydra.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, get_args, get_type_hints

from ssr_exp.errors import SsrError

MISSING: Any = "???"  # what has no default, as OmegaConf writes it


@dataclass(frozen=True)
class Allowed:
    """Which values of its type a key takes.

    Args:
        words: the end of `it must be`.
        holds: whether a value is one of them; nan is none.
    """

    words: str
    holds: Callable[[Any], bool]


def one_of(*names: str) -> Allowed:
    """Allow some texts."""
    return Allowed(" or ".join(names), names.__contains__)


Count = Annotated[int, Allowed("1 or more", lambda n: n >= 1)]
CountOrZero = Annotated[int, Allowed("0 or more", lambda n: n >= 0)]
RandomSeed = Annotated[int, Allowed(f"between 0 and {2**32 - 1}", lambda n: 0 <= n < 2**32)]
Positive = Annotated[float, Allowed("above 0, and finite", lambda x: 0 < x < math.inf)]
Amount = Annotated[float, Allowed("0 or more, and finite", lambda x: 0 <= x < math.inf)]
Limit = Annotated[float, Allowed("0 or more", lambda x: x >= 0)]
Share = Annotated[float, Allowed("from 0 to 1", lambda x: 0 <= x <= 1)]
Chance = Annotated[float, Allowed("above 0 and below 1, such as 0.8 for 80 %", lambda x: 0 < x < 1)]
SHARES = Allowed(
    "shares of the training, from 0 to 1, such as [0.5,0.75]",
    lambda shares: all(0 <= share <= 1 for share in shares),
)
AUTO = "auto"
PRECISIONS = one_of(AUTO, "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true")
STRATEGIES = one_of("ddp", "ddp_find_unused_parameters_true")
Level = Annotated[int, Allowed("from 0 to 255", lambda n: 0 <= n <= 255)]
Degrees = Annotated[float, Allowed("from 0 to 180", lambda x: 0 <= x <= 180)]
Magnitude = Annotated[int, Allowed("from 0 to 30", lambda n: 0 <= n <= 30)]
PartOfOne = Annotated[float, Allowed("from 0 to below 1", lambda x: 0 <= x < 1)]
ShareLeft = Annotated[float, Allowed("above 0, and at most 1", lambda x: 0 < x <= 1)]
STREAM = Allowed("auto, true or false", lambda v: v == "auto" or isinstance(v, bool))


class Stem(StrEnum):
    """How an ImageNet network meets its images."""

    auto = "auto"  # `cifar` for images up to 64 pixels, else, and for your own modules, `imagenet`
    cifar = "cifar"  # first convolution of stride 1 and at most 3x3, no pooling after it
    imagenet = "imagenet"  # as the network has it: for ResNets 7x7 of stride 2, then max pooling


class Source(StrEnum):
    """Where a seed network comes from; see `ssr_exp.rescaling.seeds`."""

    builtin = "builtin"  # our CIFAR ResNets and U-Net, torchvision's ResNets by their short names
    torchvision = "torchvision"  # all of its classifiers, and its networks for segmentation
    timm = "timm"
    module = "module"  # any importable callable that returns an nn.Module


class Shortcut(StrEnum):
    """How a CIFAR ResNet's residual stream changes its width (He et al. 2016, section 4.2)."""

    A = "A"  # strided slice and zero padding, no parameters
    B = "B"  # 1x1 convolution


class Init(StrEnum):
    """What a network's training starts from."""

    fresh = "fresh"  # weights drawn as the seed network draws its own
    inherit = "inherit"  # slices of `checkpoint`, a trained seed network; its head may be another


class Normalization(StrEnum):
    """By which mean and standard deviation, of each channel, images are normalised."""

    own = "own"  # those of the study's training images
    checkpoint = "checkpoint"  # those that `checkpoint` was trained with
    imagenet = "imagenet"  # those of ImageNet, as nearly all published weights


class ChannelChoice(StrEnum):
    """Which channels of a trained seed network are inherited; see `rescaling.inherit`."""

    l1 = "l1"  # those whose filters have the largest L1 norm
    first = "first"


class Preference(StrEnum):
    """Which network SCBP takes of several with as many parameters; see `ssr_exp.rescaling.scbp`."""

    even = "even"  # all superblocks keep about the same share of their channels
    macs = "macs"  # fewest multiply-accumulates


class TaskKind(StrEnum):
    """What is learnt; see `ssr_exp.tasks`."""

    classification = "classification"  # one class for each image
    multilabel = "multilabel"  # any number of labels
    segmentation = "segmentation"  # a class for each pixel
    regression = "regression"  # numbers
    module = "module"  # what a LightningModule of one's own learns
    loop = "loop"  # what a loop of one's own learns, which asks for networks: ssr_exp.Study


class Balance(StrEnum):
    """What is done where some classes have more images than others."""

    none = "none"
    weights = "weights"  # rare classes weigh more in the loss of training
    sampling = "sampling"  # images of rare classes are drawn more often


class AutoAugment(StrEnum):
    """Policies that draw operations for each image, as torchvision has them."""

    none = "none"
    trivial_augment_wide = "trivial_augment_wide"  # one operation, of any strength
    rand_augment = "rand_augment"  # `num_ops` operations of one `magnitude`


class CropFrom(StrEnum):
    """What resized crops are cut out of."""

    resized = "resized"  # the image that was brought to `resize`
    file = "file"  # the file's own pixels, so that a small part is as sharp as the whole


class Optimizer(StrEnum):
    """The optimizers that a recipe may name."""

    sgd = "sgd"
    adamw = "adamw"


class Schedule(StrEnum):
    """How the learning rate falls after the warm-up."""

    constant = "constant"
    step = "step"  # times `gamma` at each milestone
    cosine = "cosine"  # to 0 along half a cosine
    linear = "linear"  # to 0 along a line


class WandbMode(StrEnum):
    """Where Weights & Biases writes."""

    offline = "offline"
    online = "online"
    disabled = "disabled"


class Objective(StrEnum):
    """What a search is after."""

    tradeoff = "tradeoff"  # the whole front of score and cost
    smallest = "smallest"  # the cheapest network that loses at most `max_drop`


class CostAxis(StrEnum):
    """The cost that is traded for the score."""

    params = "params"
    macs = "macs"
    gemms = "gemms"
    latency_ms = "latency_ms"  # see `LatencyConf`


class Acquisition(StrEnum):
    """How the next networks are chosen; see `ssr_exp.search.proposals.acquisition`."""

    auto = "auto"  # `ehvi` for a trade-off, `smallest` for the smallest network
    ehvi = "ehvi"
    smallest = "smallest"
    qlognehvi = "qlognehvi"
    thompson = "thompson"
    random = "random"


class Scale(StrEnum):
    """The scale that the score is predicted on; see `ssr_exp.search.outcome`."""

    auto = "auto"  # `logit` between two bounds, `log` from one, else `identity`
    logit = "logit"  # log(accuracy / error)
    log_error = "log_error"  # -log(error)
    log = "log"  # log(error), from a single bound
    identity = "identity"


class Kernel(StrEnum):
    """What the surrogate assumes of the segments."""

    joint = "joint"  # all depths and widths act together
    additive = "additive"  # each segment has an effect of its own, and all a common one


class Outcome(StrEnum):
    """What the surrogate predicts."""

    score = "score"  # the task's
    val_loss = "val_loss"


class RunsKind(StrEnum):
    """Where else a search reads records, besides `paths.runs`."""

    local = "local"
    wandb = "wandb"
    table = "table"


class LatencySource(StrEnum):
    """Where the latencies come from that a search trades or caps."""

    measure = "measure"  # this machine: some tens of networks of the lattice
    file = "file"  # a table that `ssr latency --fit` wrote, on any device
    records = "records"  # `latency_ms` of the study's records


class Arm(StrEnum):
    """What a search's answer is compared with."""

    uniform_width = "uniform_width"
    uniform_depth = "uniform_depth"
    family = "family"  # the seed's smaller siblings: ResNet-20 for ResNet-56
    random = "random"  # a point of the lattice of equal cost


@dataclass
class ModelConf:
    """The seed network."""

    name: str = MISSING
    stem: Stem = Stem.auto
    shortcut: Shortcut = Shortcut.A
    source: Source = Source.builtin
    target: str | None = None  # module: the callable, as my_package.MyNet
    arguments: dict[str, Any] = field(default_factory=dict)  # for its constructor, by keyword


@dataclass
class SegmentConf:
    """How the seed network is split, and how its channels are rounded."""

    kind: str = "stage"  # stage, superblock, block, channels, whole, manual
    multiple: int | None = None  # channels; None: 4 for CIFAR ResNets and U-Nets, 8 else
    frozen: list[str] = field(default_factory=list)  # names of segments that stay as they are
    width_steps: int = 8  # the lattice's widths are k / width_steps
    patterns: list[str] = field(default_factory=list)  # manual: modules' names, one a segment
    depth: bool = False  # channels: stages keep fewer of their blocks, too
    at_most: int | None = None  # so many segments: the most alike ones are merged; None: any number


@dataclass
class ModifiersConf:
    """Which rescaled networks to train; see `ssr_exp.rescaling.sets`."""

    kind: str = "baseline"
    network: str | None = None  # explicit: a network code, or depth and width
    depth: list[float] | None = None  # explicit: a fraction for each segment
    width: list[float] | None = None
    low_depth: float | None = None  # sentinels; None: the fewest blocks that a segment can keep
    low_width: float = 0.25
    together: int | None = None  # sentinels: only so many segments low at once, and all; None: any
    fractions: list[float] = field(default_factory=lambda: [0.25, 0.5, 0.75])  # uniform, compound
    count: int = 16  # random; scbp: derived models, beside the seed network
    draw_seed: RandomSeed = 0  # random; scbp, where there are too many networks to look at all
    file: str | None = None  # proposed; None: what a search wrote last for this study
    c_ratios: list[float] = field(  # scbp: shares of channels that a superblock may keep
        default_factory=lambda: [0.5, 0.625, 0.75, 0.875, 1.0]
    )
    c_ratios_of: dict[str, Any] = field(default_factory=dict)  # scbp: lists by name, * is anything
    params: list[float] | None = field(default_factory=lambda: [0.3, 0.7])  # scbp: share, from, to
    macs: list[float] | None = None  # scbp: likewise; None: no limit
    monotone: bool = True  # scbp: widths fall only between neighbours whose widths fall in the seed
    prefer: Preference = Preference.even  # scbp: of networks of the same size


@dataclass
class InitConf:
    """What the weights of each network are before its training."""

    kind: Init = Init.fresh
    channels: ChannelChoice = ChannelChoice.l1  # inherit


@dataclass
class DatasetConf:
    """The images, how they are split and how they are augmented."""

    name: str = MISSING
    root: str | None = None  # None: `paths.data`
    download: bool = True  # torchvision sets: fetch on first use
    target: str | None = None  # module: a LightningDataModule of one's own, as my_package.MyData
    arguments: dict[str, Any] = field(default_factory=dict)  # module: by keyword
    version: str | None = None  # module: stands for the content of its val set
    file: str | None = None  # csv: the table; its images lie below `root`, else beside it
    image: str = "image"  # csv: the column of the images' paths
    # csv: columns of what is learnt; masks: names of the classes, from 0
    targets: list[str] = field(default_factory=list)
    group: str | None = None  # csv: rows that are alike here stay together in a split
    split: str | None = None  # csv: the column that says train, val or test; None: it is drawn
    resize: Any = None  # pixels: a square's side, or [height,width]; None: as they are, all of one
    fit: str = "crop"  # with `resize`: the centre of that shape, or `stretch`, or `pad` to it
    background: str = "white"  # or `black`: behind what is transparent, beside what is padded
    crop_share: ShareLeft = 1.0  # with fit=crop: of each side of that centre, such as 224 of 256
    # image_folder: read files for each batch, and keep no pixels; auto: if memory holds too few
    stream: Annotated[Any, STREAM] = "auto"
    # image_folder: of what is free that decoded images may take before they are streamed
    memory: Share = 1 / 3
    skip_corrupt: CountOrZero = 0  # image_folder: so many files that are no images are left out
    val_fraction: float = 0.1  # of the training images, where there is no val folder
    split_seed: RandomSeed = 0
    normalize: Normalization = Normalization.own
    train_on_val: bool = False  # for finalists: learn from val, too, and measure nothing there
    crop_padding: CountOrZero = 0  # pixels on each side before a random crop
    flip: bool = False  # left to right
    vertical_flip: bool = False
    crop_scale: list[float] | None = None  # resized crops: their share of the area, least and most
    crop_ratio: list[float] = field(default_factory=lambda: [3 / 4, 4 / 3])  # width over height
    # image_folder: what resized crops are of; file: images are streamed
    crop_from: CropFrom = CropFrom.resized
    rotation: Degrees = 0.0  # at most, either way
    color_jitter: list[float] = field(default_factory=list)  # brightness, contrast, saturation, hue
    auto_augment: AutoAugment = AutoAugment.none
    num_ops: Count = 2  # rand_augment
    magnitude: Magnitude = 9  # rand_augment
    cutout: CountOrZero = 0  # side of the erased square in pixels; 0: none
    erasing: Share = 0.0  # how often a rectangle of any shape is erased
    mixup: Amount = 0.0  # alpha of the Beta distribution of both images' shares; 0: none
    cutmix: Amount = 0.0  # likewise, of the areas; with mixup, each batch gets one of both


@dataclass
class ScoreConf:
    """How networks are judged that a module of one's own trains: by what it logs on val."""

    key: str | None = None  # as in its self.log, such as val/dice
    direction: Annotated[str, one_of("max", "min")] | None = None  # which is better
    unit: str = ""  # of its values; % makes differences points
    # the least and the largest value that there can be; null: there is no such bound
    bounds: list[float | None] = field(default_factory=lambda: [None, None])
    test_key: str | None = None  # what it logs on test; None: `key` with test for val


@dataclass
class TaskConf:
    """What is learnt, and how it is scored."""

    name: TaskKind = TaskKind.classification
    balance: Balance = Balance.none  # multilabel, segmentation: weights alone
    unit: str = ""  # regression: of the targets, such as years
    dice: Share = 0.5  # segmentation: share of the loss that is Dice's; the rest is cross-entropy's
    ignore_index: Level | None = 255  # of masks: the number of pixels that count nowhere
    # All further keys are of `module`, a LightningModule of one's own.
    target: str | None = None  # its class, or a function that returns one, as my_package.LitNet
    arguments: dict[str, Any] = field(default_factory=dict)  # by keyword
    network: str = "net"  # its attribute that is the network, with dots where it lies deeper
    score: ScoreConf = field(default_factory=ScoreConf)
    copies: list[str] = field(default_factory=list)  # attributes that are copies of the network
    keep: list[str] = field(default_factory=list)  # attributes that look like copies and are none
    trainer: dict[str, Any] = field(default_factory=dict)  # further arguments of Lightning's
    example_inputs: str | None = None  # a function that returns inputs; None: a val batch's
    version: str | None = None  # stands for the code in what makes two studies the same
    study: str | None = None  # goes on with this one, though the code has changed since


@dataclass
class RecipeConf:
    """How each network of a study is trained."""

    optimizer: Optimizer = Optimizer.sgd
    batch_size: Count = 128
    lr: Positive = 0.1
    momentum: PartOfOne = 0.9
    nesterov: bool = True
    weight_decay: Amount = 1e-4
    decay_norm_and_bias: bool = True
    schedule: Schedule = Schedule.cosine
    warmup_epochs: Amount = 0.0
    # shares of the training
    milestones: Annotated[list[float], SHARES] = field(default_factory=lambda: [0.5, 0.75])
    gamma: Positive = 0.1
    label_smoothing: PartOfOne = 0.0
    grad_clip: Positive | None = None  # largest gradient norm
    ema_decay: PartOfOne | None = None  # of an exponential moving average of the weights, per step
    distill: str | None = None  # the teacher: `checkpoint` for that one, or a path like it
    distill_weight: Share = 0.5  # share of the loss that the teacher's logits decide
    distill_temperature: Positive = 4.0  # both networks' logits are divided by this


@dataclass
class TrainerConf:
    """Where and how long a training runs."""

    max_epochs: Count = 200
    accelerator: Annotated[str, one_of(AUTO, "cpu", "gpu", "cuda", "mps")] = "auto"
    devices: Count = 1  # that train one network together
    strategy: Annotated[str, STRATEGIES] = "ddp"  # Lightning's, of several devices
    sync_batch_norm: bool = False  # normalise by the batches of all devices; GPUs alone
    # `auto`: by the seed network and the device, once for a study
    precision: Annotated[str, PRECISIONS] = "32-true"
    channels_last: bool | None = False  # None: where it is faster
    compile: bool = False
    deterministic: bool | None = True  # None: on a CPU, where it costs nothing
    threads: Count | None = None  # CPU threads of one run; None: torch's own choice
    workers: CountOrZero | None = None  # that read and augment; None: up to 4 for files or a GPU
    progress: bool = True
    test: bool = False  # look at the test set at the end: for finalists


@dataclass
class LoggerConf:
    """Weights & Biases."""

    mode: WandbMode = WandbMode.offline
    project: str = "ssr_exp"
    entity: str | None = None
    tags: list[str] = field(default_factory=list)
    timeout_s: Positive = 20.0  # how long a server that does not answer may hold up a run
    share_machine: bool = False  # also send host, packages, git remote, console and system load


@dataclass
class PathsConf:
    """Where things are kept."""

    runs: str = "runs"
    data: str = "data"


@dataclass
class Config:
    """One training, or with several modifiers a sweep of them."""

    model: ModelConf = field(default_factory=ModelConf)
    segment: SegmentConf = field(default_factory=SegmentConf)
    modifiers: ModifiersConf = field(default_factory=ModifiersConf)
    init: InitConf = field(default_factory=InitConf)
    task: TaskConf = field(default_factory=TaskConf)
    dataset: DatasetConf = field(default_factory=DatasetConf)
    recipe: RecipeConf = field(default_factory=RecipeConf)
    trainer: TrainerConf = field(default_factory=TrainerConf)
    logger: LoggerConf = field(default_factory=LoggerConf)
    paths: PathsConf = field(default_factory=PathsConf)
    study: str | None = None  # goes on with this one, by any of its names, as it was begun
    name: str | None = None  # what the study is to be called: a name of one's own
    trust: bool = False  # study: call the functions that it was begun with, if there are any
    # of the seed network: a folder like best/, a run's, a file, or torchvision[:NAME], timm[:TAG]
    checkpoint: str | None = None
    seed: RandomSeed = 0
    wait: bool = False  # for another process that is training the same network
    origin: str | None = None  # why it is trained, for tables and pages; None: `modifiers.kind`
    job_of: str | None = None  # of a job: the study that its command opened; no other is trained


@dataclass
class SurrogateConf:
    """The Gaussian process that predicts what was not trained."""

    outcome: Outcome = Outcome.score
    scale: Scale = Scale.auto
    kernel: Kernel = Kernel.joint
    fidelity: bool = False  # also learn from runs that differ in nothing but their fewer epochs


@dataclass
class AcquisitionConf:
    """How the next networks are chosen."""

    kind: Acquisition = Acquisition.auto
    prefilter: Count = 1000  # qlognehvi, thompson: how many points of the lattice they look at
    samples: Count = 128  # qlognehvi: of the posterior


@dataclass
class ObjectiveConf:
    """What the search is after."""

    kind: Objective = Objective.tradeoff
    cost: CostAxis = CostAxis.params
    # What the answer may lose against the baseline: in the score's unit, or a share as 2%.
    max_drop: Any = None  # None: 1 point of a score in percent, 2% of any other
    confidence: Chance = 0.8  # how likely the answer is to keep that on test; 0.5: as it looks


@dataclass
class CapConf:
    """What no proposed network may exceed: a number, or a share of the baseline as `35%`."""

    params: str | None = None
    macs: str | None = None
    gemms: str | None = None
    latency_ms: str | None = None  # see `LatencyConf`
    drop: str | None = None  # like `objective.max_drop`; worse networks gain nothing


@dataclass
class LatencyConf:
    """What a latency is of, where a search trades it or caps it."""

    source: LatencySource = LatencySource.measure
    runtime: str = "onnxruntime"  # measure; see `ssr_exp.edge.latency.runtimes`
    batch: Count = 1  # images at once
    threads: Count = 1  # of the runtime
    networks: int = 48  # of the lattice, measured to fit the model
    held_out: int = 12  # further ones, measured to check it
    repeats: Count = 30  # turns of each network
    spread: float = 0.3  # quartiles' distance over the median that is too noisy to be believed
    file: str | None = None  # the table; None: in the study's folder


@dataclass
class RunsConf:
    """Where else finished runs of the study are read, besides `paths.runs`."""

    kind: RunsKind = RunsKind.local
    entity: str | None = None  # wandb; None: `logger.entity`, then the account's own
    project: str | None = None  # wandb; None: `logger.project`
    filters: dict[str, Any] = field(default_factory=dict)  # wandb: further, in MongoDB's words
    timeout_s: Positive = 30.0  # wandb: how long a server may take to answer
    file: str | None = None  # table: .csv or .jsonl


@dataclass
class BudgetConf:
    """What a search may train at most, its first networks included; None: no limit."""

    runs: Count | None = None
    epochs: Count | None = None
    hours: Amount | None = None  # that its trainings take, summed, whatever ran at once


@dataclass
class FinalistsConf:
    """The last trainings, on train and val, that are tested."""

    seeds: CountOrZero = 3  # trainings of each network; 0: none
    count: Count = 1  # networks, beside the baseline
    retries: CountOrZero = 2  # further networks: while the drop is too large, or for a cheaper one
    epochs: Count | None = None  # None: as in the search
    arms: list[Arm] = field(default_factory=list)  # what to compare with


@dataclass
class SearchConfig(Config):
    """A search: rounds of trainings that a surrogate proposes."""

    rounds: CountOrZero = 3  # 0: show what would be trained, and train nothing
    batch: Count = 4  # networks of a round
    asynchronous: bool = False  # propose when any training ends, instead of all of a round
    min_gain: Amount = 0.0  # stop when no network promises more; see `ssr_exp.search.loop`
    surrogate: SurrogateConf = field(default_factory=SurrogateConf)
    acquisition: AcquisitionConf = field(default_factory=AcquisitionConf)
    objective: ObjectiveConf = field(default_factory=ObjectiveConf)
    cap: CapConf = field(default_factory=CapConf)
    latency: LatencyConf = field(default_factory=LatencyConf)
    runs: RunsConf = field(default_factory=RunsConf)
    budget: BudgetConf = field(default_factory=BudgetConf)
    finalists: FinalistsConf = field(default_factory=FinalistsConf)


@dataclass
class ExportConfig:
    """A trained network as files for a device."""

    run: str = "best"  # a search's answer; or a network's code, or a folder like best/
    study: str | None = None  # where paths.runs holds several that have it
    seed: int | None = None  # of a code that was trained with several; None: the lowest
    format: Any = field(default_factory=lambda: ["onnx"])  # onnx, executorch, torch_export
    int8: bool = False  # also quantised, where the format can be
    uint8_input: bool = False  # the files take bytes of pixels, and normalise them inside
    max_batch: Count = 8  # executorch: images at once that memory is reserved for
    calibration: Count = 256  # val images that int8 is calibrated on
    tolerance: Limit = 1e-3  # largest difference of outputs, as a share of the largest one
    # What int8 may lose of the score on each part that is measured: in its unit, or a share of the
    # network's own as 2%.
    int8_drop: Any = None  # None: 2 points of a score in percent, 2% of any other
    threads: Count = 1  # of the runtimes that are measured
    repeats: Count = 30  # turns of each file
    to: str | None = None  # the folder; None: below <study>/export/
    license: str | None = None  # for the model card: an identifier such as apache-2.0
    push: str | None = None  # USER/NAME on the Hugging Face Hub
    root: str | None = None  # of the images; None: where the run found them
    file: str | None = None  # of a csv data set, the table; None: where the run found it
    trust: bool = False  # call the function that makes the seed network, if a function does
    paths: PathsConf = field(default_factory=PathsConf)


class ReportTo(StrEnum):
    """Where trade-offs are shown."""

    page = "page"  # one HTML file
    wandb = "wandb"  # a workspace view and a report there


@dataclass
class ReportConfig:
    """All trade-offs of a folder of runs, to look at."""

    to: ReportTo = ReportTo.page
    study: str | None = None  # only this one; None: all
    file: str | None = None  # page: its place; None: report.html in paths.runs
    predict: bool = True  # fit a surrogate where no search has, or runs came after it
    trust: bool = False  # call the function that makes a seed network, if a function does
    logger: LoggerConf = field(default_factory=LoggerConf)  # wandb: entity, project, timeout_s
    paths: PathsConf = field(default_factory=PathsConf)


OWN_DATA = ("target", "arguments", "version")  # of a data set, where dataset=module serves it
# Keys whose texts name a place, and may hold any sign.
PLACES = ("dataset.root", "dataset.file", "modifiers.file", "runs.file", "latency.file")


def read_of_recipe(*, is_own_data: bool) -> tuple[str, ...]:
    """List the keys of a recipe that are read where a module of the user's own trains."""
    return ("grad_clip", "ema_decay", *(() if is_own_data else ("batch_size",)))


def settle(conf: Config) -> None:
    """Fill in what other keys decide: a module of one's own brings its network, and its name.

    Raises:
        SsrError: if something of such a module is not said.
    """
    if conf.task.name is TaskKind.module:
        _check_task(conf.task)
        target = str(conf.task.target)
        conf.model = ModelConf(
            name=target.rpartition(".")[2],
            source=Source.module,
            target=f"{target}:{conf.task.network}",
            arguments=conf.task.arguments,
        )
    if conf.dataset.name == "module" and conf.dataset.target is None:
        raise SsrError(
            "dataset=module needs a LightningDataModule: type dataset.target=my_package.MyData."
        )
    if conf.dataset.target is not None:
        conf.dataset.name = conf.dataset.target.rpartition(".")[2]


def _check_task(conf: TaskConf) -> None:
    """Refuse a module of one's own of which something is not said.

    Raises:
        SsrError: says what to type.
    """
    if conf.target is None:
        raise SsrError("task=module needs a LightningModule: type task.target=my_package.LitNet.")
    if conf.score.key is None or conf.score.direction is None:
        raise SsrError(
            "task=module needs to know what networks are judged by: type task.score.key=KEY, as "
            "the module logs it on val, and task.score.direction=max or min."
        )
    if len(conf.score.bounds) != 2:
        raise SsrError(
            "task.score.bounds are the least and the largest score: type task.score.bounds=[0,1], "
            "with null where there is no bound."
        )


AnyConfig = Config | ExportConfig | ReportConfig
SCHEMAS: dict[str, type[AnyConfig]] = {
    "train": Config,
    "search": SearchConfig,
    "export": ExportConfig,
    "report": ReportConfig,
}  # by command


def check(conf: Any, above: str = "") -> None:
    """Refuse a value that its key does not take.

    Args:
        conf: a dataclass of this module, and the parts in it.
        above: what its keys begin with: `recipe.`

    Raises:
        SsrError: names the first such key, and what it takes.
    """
    for name, allowed, may_be_none in _limits(conf.__class__):
        value = getattr(conf, name)
        if is_dataclass(value):
            check(value, f"{above}{name}.")
        elif allowed is None or (may_be_none and value is None):
            continue
        elif not allowed.holds(value):
            words = f"{allowed.words}{', or null' if may_be_none else ''}"
            raise SsrError(f"{above}{name} is {value}; it must be {words}.")


@cache
def _limits(kind: Hashable) -> list[tuple[str, Allowed | None, bool]]:
    """List the keys of a dataclass, what each allows, and whether it takes None."""
    limits = []
    for name, hint in get_type_hints(kind, include_extras=True).items():
        parts = [hint, *get_args(hint)]  # `X | None` is two
        allowed = [one for part in parts for one in getattr(part, "__metadata__", ())]
        limits.append((name, allowed[0] if allowed else None, type(None) in parts))
    return limits
