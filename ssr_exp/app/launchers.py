"""Open the configured launcher, and say how many launches it takes at once."""

from __future__ import annotations

import os
import shlex
import signal
import socket
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from ssr_exp import signals
from ssr_exp.errors import SsrError, cause

EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit": "slurm"}  # part of the target: the extra
OBJECTS = 78_643_200  # bytes, the least that Ray takes: what jobs return is a word
# Ray speaks to nobody but this machine where it believes that it cannot make clusters.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
LOCAL = "local"
KNOCK_S = 10.0  # in which a cluster's head answers
PRESETS = ("basic", "joblib", "submitit_slurm", "ray")  # conf/hydra/launcher/


def open(context: HydraContext, task: TaskFunction, config: DictConfig) -> Launcher:
    """Instantiate the launcher of a configuration.

    Raises:
        SsrError: if its package is not installed, or it lacks a setting.
    """
    _forget_schemas()
    target = str(OmegaConf.select(config, "hydra.launcher._target_"))
    if "hydra_ray_launcher" in target:
        _prepare_ray(config)
    _check_devices(config, target)
    if "hydra_joblib_launcher" in target and config.hydra.launcher.get("n_jobs") == 0:
        raise SsrError(
            "hydra.launcher.n_jobs is 0; it must be 1 or more, or negative: -1 stands for all "
            "cores, -2 for all but one."
        )
    try:
        return Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task, config=config
        )
    except Exception as error:
        for name, extra in EXTRAS.items():
            if f"hydra_{name}_launcher" in target and "Unknown plugin" in str(error):
                raise SsrError(
                    f"this launcher needs a package that is not installed: type pip install "
                    f"'ssr_exp[{extra}]', or uv pip install hydra-{name}-launcher."
                ) from None
        raise SsrError(f"hydra/launcher cannot be used ({cause(error)}).") from None


def is_here(launcher: Launcher) -> bool:
    """Say whether trainings run in this process; by name, because Hydra loads plugins anew."""
    return type(launcher).__name__ == "BasicLauncher"


def slots(launcher: Launcher) -> int | None:
    """Say how many launches can be under way at once; None: any number, the engine has a queue."""
    if is_here(launcher):
        return 1
    if not shares_fate(launcher):
        return None
    from joblib import effective_n_jobs  # type: ignore[import-untyped]

    return int(effective_n_jobs(getattr(launcher, "joblib", {}).get("n_jobs") or 1))


def shares_fate(launcher: Launcher) -> bool:
    """Say whether a process that is lost takes the others of its launcher along, as joblib's do."""
    return hasattr(launcher, "joblib") or is_here(launcher)


def hides_signals(launcher: Launcher) -> bool:
    """Say whether a launcher keeps to itself what a signal raises while it waits, as Ray does."""
    return hasattr(launcher, "ray_cfg")


def connect(launcher: Launcher) -> None:
    """Start or find Ray, unless that was done; other launchers need nothing.

    Raises:
        SsrError: if there is none where it should be.
    """
    if (conf := getattr(launcher, "ray_cfg", None)) is None:
        return
    import ray

    from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray

    if ray.is_initialized():
        return
    address = str(conf.init.get("address"))
    try:
        _knock(address)
        with signals.handlers_restored():
            start_ray(conf.init)
    except SystemExit as stop:  # of the handler that Ray sets first
        raise signals.Stopped(signal.SIGTERM) from stop
    except Exception as error:
        raise SsrError(
            f"Ray cannot be used at hydra.launcher.ray.init.address={address} ({cause(error)}): "
            f"type the address of a cluster that runs, or {LOCAL}."
        ) from None
    if address == LOCAL:
        _check_room(conf)


def abandon(launcher: Launcher) -> None:
    """End what joblib's processes are doing, which would hold a command up that is to end."""
    if hasattr(launcher, "joblib"):
        from joblib.externals import loky  # type: ignore[import-untyped]

        loky.get_reusable_executor(reuse=True).shutdown(wait=False, kill_workers=True)


def left_running(launcher: Launcher) -> str:
    """Say how jobs that go on when the command ends, as Slurm's do, are ended; empty: none do."""
    if type(launcher).__name__ != "SlurmLauncher":
        return ""
    name = shlex.quote(str(getattr(launcher, "params", {}).get("name")))
    return (
        f"The jobs go on in Slurm: type scancel --user=$USER --name={name} to end all jobs of "
        "yours that have this name."
    )


def _check_room(conf: DictConfig) -> None:
    """Refuse what a Ray of this machine never has; it would be waited for without end.

    Raises:
        SsrError: if one training asks for more than there is.
    """
    import ray

    there = ray.cluster_resources()
    for key, name in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
        asked, most = conf.remote.get(key) or 0, there.get(name, 0)
        if asked > most:
            raise SsrError(
                f"hydra.launcher.ray.remote.{key} is {asked}, and this machine's Ray has {most:g}: "
                "type that or less."
            )


def _knock(address: str) -> None:
    """See whether anybody is at an address; Ray itself would try for seven minutes.

    Raises:
        OSError: if nobody is.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def _forget_schemas() -> None:
    """Keep Hydra from warning of each job that our presets have the names of plugins' schemas."""
    schemas = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for name in PRESETS:
        schemas.pop(f"{name}.yaml", None)


def _check_devices(config: DictConfig, target: str) -> None:
    """Refuse jobs that would get fewer devices than a training is to have, or share them.

    Raises:
        SsrError: if they would.
    """
    asked = f"trainer.devices={(count := _devices(config))}"
    if count == 1:
        return
    launcher = config.hydra.launcher
    for key in ("nodes", "tasks_per_node"):
        if (given := launcher.get(key)) not in (None, 1):
            raise SsrError(
                f"hydra.launcher.{key} is {given}, and {asked} starts its processes itself, on one "
                f"node: type hydra.launcher.{key}=1 hydra.launcher.gpus_per_node={count}."
            )
    on_gpu, jobs = _wants_gpu(config), launcher.get("n_jobs")
    if on_gpu and "hydra_joblib_launcher" in target and jobs not in (None, 1):
        raise SsrError(
            f"hydra.launcher.n_jobs is {jobs}, and all trainings of {asked} would be on the same "
            "GPUs: type hydra.launcher.n_jobs=1, hydra/launcher=ray, which gives each its own, or "
            'GPUS="0,1 2,3" launchers/gpus.sh of the clone.'
        )
    ray = OmegaConf.select(config, "hydra.launcher.ray.remote.num_gpus")
    keys = {"gpus_per_node": launcher.get("gpus_per_node"), "ray.remote.num_gpus": ray}
    for key, given in keys.items():
        if isinstance(given, int | float) and given < count and (on_gpu or given):
            raise SsrError(
                f"hydra.launcher.{key} is {given}, and a training of {asked} needs {count}: type "
                f"hydra.launcher.{key}={count}."
            )


def _devices(config: DictConfig) -> int:
    """Read how many devices a training is to have; of several numbers, 1."""
    given = OmegaConf.select(config, "trainer.devices")
    return given if isinstance(given, int) else 1


def _prepare_ray(config: DictConfig) -> None:
    """Fill in what Ray needs to be told on this machine, and not on a cluster."""
    ray = config.hydra.launcher.ray
    if ray.init.get("address") == LOCAL:
        for name, value in LOOPBACK.items():
            os.environ.setdefault(name, value)
        if ray.init.get("object_store_memory") is None:
            ray.init.object_store_memory = OBJECTS
    if ray.remote.get("num_gpus") is None:
        if ray.init.get("address") != LOCAL:
            raise SsrError(
                "a cluster's trainings get the GPUs that they ask for: type "
                "hydra.launcher.ray.remote.num_gpus=1, 0.5 for two on one, or 0 for none."
            )
        ray.remote.num_gpus = _devices(config) if _wants_gpu(config) else 0


def _wants_gpu(config: DictConfig) -> bool:
    """Say whether a training is to have a GPU, without importing torch."""
    accelerator = str(OmegaConf.select(config, "trainer.accelerator"))
    is_here = any(Path("/dev").glob("nvidia[0-9]*"))
    return accelerator in ("gpu", "cuda") or (accelerator == "auto" and is_here)
