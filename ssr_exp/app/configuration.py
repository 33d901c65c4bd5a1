"""The schema of `ssr_exp.config`, as Hydra composes it and as the rooms below read it."""

from __future__ import annotations

import warnings
from dataclasses import asdict, fields
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from ssr_exp import config
from ssr_exp.app.command_line.keys import keys_of_schema
from ssr_exp.errors import SsrError

AnySchema = TypeVar("AnySchema", bound=config.AnyConfig)

_default_values: dict[type[Any], Any] = {}


def register() -> None:
    """Make the schemas known to Hydra: the first entry of each command's file in `conf/`."""
    # conf/hydra/launcher/ has the names of the plugins' schemas, and may.
    warnings.filterwarnings("ignore", "\n'hydra/launcher/.*' is validated", UserWarning)
    # Hydra copies all schemas for each list of presets, 124 times for --help; none is ever changed.
    ConfigStore.__deepcopy__ = lambda self, memo: self  # type: ignore[attr-defined]
    store = ConfigStore.instance()
    for command, schema in config.SCHEMAS.items():
        if f"{command}_schema.yaml" in store.repo:
            continue
        node = OmegaConf.structured(schema)
        for key, kind in keys_of_schema(schema).items():
            if kind.is_dictionary:  # takes keys without a `+`
                OmegaConf.set_struct(OmegaConf.select(node, key), False)
        store.store(name=f"{command}_schema", node=node, provider="ssr_exp")


def default_values(schema: type[Any]) -> Any:
    """Return a schema with the default of each key; it is the same each time, and not changed."""
    if schema not in _default_values:
        _default_values[schema] = OmegaConf.structured(schema)
    return _default_values[schema]


def read(composed: Any, schema: type[AnySchema]) -> AnySchema:
    """Turn what Hydra composed into plain dataclasses.

    Args:
        composed: all of `schema`'s keys; others are left out.
        schema: of the command.

    Raises:
        SsrError: if a value that has no default was not given, or a key does not take its value.
    """
    known = OmegaConf.masked_copy(composed, [f.name for f in fields(schema)])
    try:
        container = OmegaConf.merge(default_values(schema), known)
    except (OverflowError, RecursionError) as error:
        raise SsrError(f"a value of the configuration cannot be read ({error}): mend it.") from None
    model = OmegaConf.select(container, "model")
    if model is not None and model.source is config.Source.module and model.target is None:
        missing = ["model.target"]  # model.name may refer to it
    else:
        missing = sorted(OmegaConf.missing_keys(container))
    if missing:
        raise SsrError(f"{missing[0]} has no value: type {missing[0]}=VALUE.")
    conf = OmegaConf.to_object(container)
    assert isinstance(conf, schema)
    config.check(conf)
    for name, path in asdict(conf.paths).items():
        if path.startswith("~"):
            raise SsrError(
                f"paths.{name}={path}: ~ is not read here: give the whole path, in a preset also "
                "${oc.env:HOME} for it."
            )
    if isinstance(conf, config.Config):
        if conf.study is not None:
            from ssr_exp.training import loop_settings

            loop_settings.settle(conf)
        config.settle(conf)
    return conf
