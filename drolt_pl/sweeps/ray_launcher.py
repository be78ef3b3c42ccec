"""Runs jobs of a sweep on a Ray cluster, which decides how many run at once and where."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from drolt_pl.errors import SettingError
from drolt_pl.run.jobs import program, run_job
from drolt_pl.run.signals import Stopped


class RayLauncher(Launcher):
    """Runs every job as a Ray task of this machine's own cluster, or of one that runs already.

    The folders of a sweep must be on a disk that all machines of the cluster share.

    Args:
        init: Arguments of `ray.init`: `num_cpus` and `num_gpus` bound what a cluster of this machine offers; `address`
            names a cluster that runs already.
        remote: Resources of a job, arguments of `ray.remote`: `num_cpus` and `num_gpus`. With a fraction of a GPU
            several jobs share a card; null takes `trainer.devices` cards if the cluster has any.
    """

    def __init__(self, *, init: Mapping[str, Any], remote: Mapping[str, Any]) -> None:
        self.init, self.remote = init, remote

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        try:
            import ray
        except ModuleNotFoundError as error:
            raise SettingError("hydra/launcher=ray", "needs Ray: pip install 'drolt-pl[ray]'") from error
        if not ray.is_initialized():
            ray.init(**self.init)
        remote = dict(self.remote)
        if remote.get("num_gpus") is None:
            devices = self.config.trainer.devices
            has_gpus = ray.cluster_resources().get("GPU", 0) > 0  # type: ignore[no-untyped-call]
            remote["num_gpus"] = (devices if isinstance(devices, int) and devices > 0 else 1) if has_gpus else 0
        task = ray.remote(**remote)(_run)
        runs = [self._start(task, overrides, initial_job_idx + i) for i, overrides in enumerate(job_overrides)]
        return [_job_return(*ended) for ended in ray.get(runs)]

    def _start(self, task: Any, overrides: Sequence[str], number: int) -> Any:
        job = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(job):
            job.hydra.job.num = job.hydra.job.id = number
        run_dir = Path(job.hydra.sweep.dir).resolve() / job.hydra.sweep.subdir
        return task.remote(program(), list(job.hydra.overrides.task), run_dir, job.hydra.runtime.cwd)


def _run(*arguments: Any) -> tuple[float, int | None]:
    """The objective of a job, and the signal that told it to stop: Ray passes on no such exception."""
    try:
        return run_job(*arguments), None
    except Stopped as stopped:
        return math.nan, stopped.number


def _job_return(value: float, told: int | None) -> JobReturn:
    if told is not None:
        raise Stopped(told)
    finished = JobReturn()
    finished.return_value, finished.status = value, JobStatus.COMPLETED
    return finished
