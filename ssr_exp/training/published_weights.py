"""Weights that torchvision and timm publish: from their caches, or downloaded as they do.

`checkpoint=torchvision` and `checkpoint=timm` name those of the seed network's name; after a colon
comes one of several, `torchvision:IMAGENET1K_V1` or `timm:a1_in1k`.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision
from torch import Tensor, nn

from ssr_exp import files, user_code
from ssr_exp.config import ModelConf, Source
from ssr_exp.errors import SsrError, cause
from ssr_exp.rescaling import seeds

log = logging.getLogger(__name__)

SOURCES = (Source.torchvision.value, Source.timm.value)
HASH = re.compile(r"-([0-9a-f]{8,})\.\w+$")  # the start of the file's SHA-256, in its name
OLD = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # as timm looks for them


@dataclass(frozen=True)
class PublishedWeights:
    """Weights of a network, and how the images that they were learned from were prepared.

    Attributes:
        name: as its publisher writes it.
        mean: of each channel, in 0..1, that was subtracted; `std`: that was divided by.
        size: height and width in pixels.
        interpolation: by which images were scaled to it.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: tuple[int, ...]
    interpolation: str


def is_published(checkpoint: str | None) -> bool:
    """Tell `torchvision` and `timm:TAG` from a path."""
    return checkpoint is not None and checkpoint.partition(":")[0] in SOURCES


def describe(checkpoint: str, model: ModelConf) -> PublishedWeights:
    """Say which weights are meant, and how their images were prepared; reads no file.

    Raises:
        SsrError: if the seed network is none of their source's, or it has no such weights.
    """
    source, _, name = checkpoint.partition(":")
    _check_source(source, model)
    if source == Source.timm:
        return _of_timm(_timm_config(model, name))
    return _of_torchvision(_torchvision_weights(model, name), model)


def read(checkpoint: str, model: ModelConf) -> dict[str, Tensor]:
    """Read the state dict of the network that they are of, with its own head and stem.

    What is not in the cache is downloaded to it. Torch's global generator stays as it is.

    Raises:
        SsrError: as `describe`; or if the file is not there and cannot be downloaded (says where
            to put it), or is damaged.
    """
    source, _, name = checkpoint.partition(":")
    _check_source(source, model)
    load = _load_timm if source == Source.timm else _load_torchvision
    with torch.random.fork_rng(devices=[]):
        return load(model, name)


def _check_source(source: str, model: ModelConf) -> None:
    publisher = seeds.publisher(model)
    if publisher == source:
        return
    own = f"checkpoint={publisher}" if publisher else "checkpoint=PATH, a file of its weights,"
    raise SsrError(
        f"checkpoint={source} has no weights of {seeds.spell(model)}, which is no network of "
        f"{source}: type {own} or another network, such as model={source} model.name=resnet18."
    )


def _torchvision_weights(model: ModelConf, name: str) -> Any:
    """Choose a member of the enumeration of weights that torchvision has for a network."""
    members = list(torchvision.models.get_model_weights(model.name))
    if not members:
        raise SsrError(
            f"torchvision publishes no weights of {model.name!r}: type checkpoint=PATH, or "
            "init=fresh."
        )
    if name in ("", "DEFAULT"):
        return type(members[0])["DEFAULT"]
    short = name.rpartition(".")[2]
    chosen = next((m for m in members if m.name == short), None)
    if chosen is None:
        advice = user_code.nearest(short.upper(), [m.name for m in members])
        raise SsrError(
            f"torchvision has no weights {name!r} of {model.name}{advice}: type "
            f"checkpoint=torchvision:NAME with {_one_of([m.name for m in members])}."
        )
    return chosen


def _of_torchvision(weights: Any, model: ModelConf) -> PublishedWeights:
    transforms = weights.transforms()
    size = getattr(transforms, "crop_size", None) or transforms.resize_size
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    # Their weights come with `transform_input`, which makes of ImageNet's statistics these.
    if model.name in seeds.AUX and not model.arguments.get("transform_input"):
        mean = std = (0.5,) * len(mean)
    sides = tuple(size) * 2 if len(size) == 1 else tuple(size)
    return PublishedWeights(repr(weights), mean, std, sides, transforms.interpolation.value)


def _load_torchvision(model: ModelConf, name: str) -> dict[str, Tensor]:
    weights = _torchvision_weights(model, name)
    path = _downloaded(weights.url, model)
    _check_content(path)
    make = torchvision.models.get_model_builder(model.name)
    options = {"weights": weights, "progress": False} | model.arguments
    return _state(make, options, path, repr(weights))


def _state(
    make: Callable[..., nn.Module], options: dict[str, Any], path: Path, name: str
) -> dict[str, Tensor]:
    """Let a library make its network with the weights of a file, which it knows how to read."""
    try:
        return dict(make(**options).state_dict())
    except RuntimeError:  # of `load_state_dict`
        raise SsrError(
            f"{path} holds other weights than {name}: remove it, so that the right file is "
            "downloaded, or put that there."
        ) from None
    except Exception as error:
        raise SsrError(f"{name} cannot be loaded from {path}: {cause(error)}.") from None


def named_as_today(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give tensors of torchvision's oldest files, of DenseNets, the names that they have today."""
    return {OLD.sub(r"\1\2", name): tensor for name, tensor in state.items()}


def _check_content(path: Path) -> None:
    """Refuse a file that is damaged or holds code, and say if it is not the one of its name."""
    try:
        files.read_state_dict(path)
    except (FileNotFoundError, files.Unreadable) as error:
        raise SsrError(
            f"the weights in {path} cannot be read ({error}): remove the file, so that it is "
            "downloaded, or put the right one there."
        ) from None
    named = HASH.search(path.name)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if named and not digest.startswith(named[1]):
        log.warning("%s is not the file that its name says: its SHA-256 is another.", path)


def _downloaded(url: str, model: ModelConf) -> Path:
    """Find a file in torch's cache, or download it there."""
    path = Path(torch.hub.get_dir(), "checkpoints", PurePosixPath(urlparse(url).path).name)
    if path.exists():
        return path
    log.info("downloading the weights of %s: %s", seeds.spell(model), url)
    named = HASH.search(path.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), named and named[1], progress=False)
    except Exception as error:  # no network, no such page, another content
        raise SsrError(
            f"the weights of {seeds.spell(model)} are not at {path} and cannot be downloaded "
            f"({cause(error)}): download {url} elsewhere and put it there, or type "
            "checkpoint=PATH with its path."
        ) from None
    return path


def _timm_config(model: ModelConf, tag: str) -> Any:
    """Find what timm knows of a network's weights."""
    import timm

    named, _, own_tag = model.name.partition(".")
    tags = [one.partition(".")[2] for one in timm.list_pretrained(f"{named}.*")]
    tag = tag or own_tag
    if not tags or not timm.is_model(named):
        raise SsrError(
            f"timm publishes no weights of {model.name!r}: type checkpoint=PATH, or init=fresh."
        )
    if tag and tag not in tags:
        advice = user_code.nearest(tag, tags)
        raise SsrError(
            f"timm has no weights {tag!r} of {named}{advice}: type checkpoint=timm:TAG with "
            f"{_one_of(tags)}."
        )
    return timm.models.get_pretrained_cfg(f"{named}.{tag}" if tag else named)


def _of_timm(config: Any) -> PublishedWeights:
    name = f"timm/{config.architecture}" + (f".{config.tag}" if config.tag else "")
    size = tuple(config.input_size[1:])
    return PublishedWeights(name, config.mean, config.std, size, config.interpolation)


def _load_timm(model: ModelConf, tag: str) -> dict[str, Tensor]:
    import timm

    config = _timm_config(model, tag)
    path = _hub_file(config.hf_hub_id, config, model) if config.hf_hub_id else None
    path = path or _downloaded(config.url, model)
    if path.suffix != ".npz":  # of JAX, which timm reads by itself
        _check_content(path)
    options = {"model_name": model.name.partition(".")[0], "pretrained": True}
    options |= {"pretrained_cfg": config.tag} if config.tag else {}
    options |= {"pretrained_cfg_overlay": {"file": str(path)}} | model.arguments
    return _state(timm.create_model, options, path, _of_timm(config).name)


def _hub_file(hub_id: str, config: Any, model: ModelConf) -> Path:
    """Find a file in the cache of the Hugging Face Hub, or download it there."""
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import LocalEntryNotFoundError

    repo, _, revision = hub_id.partition("@")
    names = (config.hf_hub_filename,) if config.hf_hub_filename else HUB_FILES
    for name in names:
        held = try_to_load_from_cache(repo, name, revision=revision or None)
        if isinstance(held, str):
            return Path(held)
    log.info("downloading the weights of %s: https://huggingface.co/%s", seeds.spell(model), repo)
    why, hub = "", logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # it says each of its attempts, twice
    try:
        for name in names:
            try:
                return Path(hf_hub_download(repo, name, revision=revision or None))
            except LocalEntryNotFoundError:
                why = "there is no network, or HF_HUB_OFFLINE is set"
                break
            except Exception as error:
                why = cause(error)
    finally:
        hub.setLevel(level)
    cache = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"
    raise SsrError(
        f"the weights of {_of_timm(config).name} are not in {cache} and cannot be downloaded "
        f"({why}): type hf download {repo} where there is a network and copy that folder, "
        f"or type checkpoint=PATH with {names[0]} of https://huggingface.co/{repo}."
    )


def _one_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else "one of " + ", ".join(names)
