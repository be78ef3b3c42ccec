"""The sweeper of `python train.py -m`: a list of distinct jobs, each run once, with a stage they share trained once."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from drolt_pl.errors import SettingError
from drolt_pl.report.sweep_jobs import FAILURE, JOBS
from drolt_pl.results import write_atomically
from drolt_pl.run import ranks
from drolt_pl.run.jobs import mark_sweep, require_same
from drolt_pl.sweeps import joblist
from drolt_pl.sweeps.joblist import Job


class JobListSweeper(Sweeper):
    """Runs the product of `params`, the command line and `variants`, or random draws from it, each distinct job once.

    Jobs are numbered in the order of the list, and the number is the name of a job's folder.

    Args:
        params: Values by key, as typed on the command line, which wins.
        variants: Choices that set several keys: overrides by label by axis. The labels become the job's `name`.
        irrelevant: Rules `{at: KEY=VALUE, keys: [...]}`: where a job sets KEY to VALUE, `keys` change nothing, and are
            left out.
        draws: The number of random jobs (of each variant) in place of the product.
        seed: Of the draws.
        warmup: `{stage: NAME, shared_over: [keys]}`: jobs that differ only in these keys, or keys below them, train the
            stage once; the first of them does, the others start from its weights (`init_from`).
    """

    config: DictConfig
    hydra_context: HydraContext
    launcher: Launcher

    def __init__(
        self,
        *,
        params: Mapping[str, str],
        variants: joblist.Variants,
        irrelevant: Sequence[Mapping[str, Any]],
        draws: int | None = None,
        seed: int = 0,
        warmup: Mapping[str, Any] | None = None,
    ) -> None:
        self.params, self.variants, self.irrelevant = params, variants, irrelevant
        self.draws, self.seed, self.warmup = draws, seed, warmup
        self.known: dict[int, Job] = {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.sweep_dir = Path(config.hydra.sweep.dir).resolve()

    def sweep(self, arguments: list[str]) -> Any:
        """Runs the jobs that have not finished yet; raises a `SettingError` if some failed."""
        self.begin()
        jobs = self.jobs(self.space(arguments))
        self.run(dict(enumerate(jobs)))
        failed = [str(number) for number in range(len(jobs)) if (self.folder(number) / FAILURE).exists()]
        if failed:
            raise SettingError(
                "",
                f"{len(failed)} of {len(jobs)} jobs failed ({', '.join(failed[:20])}; see {FAILURE} in their folders "
                f"under {self.sweep_dir}): the same command with hydra.sweep.dir={self.sweep_dir} tries them again",
            )

    def begin(self) -> None:
        """Makes the sweep's folder."""
        if "LOCAL_RANK" in os.environ or ranks.meeting() is not None:
            raise SettingError("-m", "starts the processes of its jobs itself: run it without torchrun or srun")
        mark_sweep()
        self.sweep_dir.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, self.sweep_dir / "multirun.yaml")

    def space(self, arguments: Sequence[str]) -> list[Override]:
        """The keys of the sweep and their values: the configuration's, then the command line's."""
        typed = [*(f"{key}={values}" for key, values in self.params.items()), *arguments]
        parsed = joblist.parse(typed, self.hydra_context.config_loader)
        return list({override.key_or_group: override for override in parsed}.values())

    def jobs(self, space: Sequence[Override]) -> list[Job]:
        """The distinct jobs."""
        plain = joblist.draw(space, self.draws, self.seed) if self.draws else joblist.product(space)
        return joblist.distinct(joblist.with_variants(plain, self.variants), self.irrelevant)

    def folder(self, number: int) -> Path:
        """The folder of a job."""
        return self.sweep_dir / str(number)

    def run(self, jobs: Mapping[int, Job]) -> dict[int, float]:
        """Runs jobs by number; returns their objectives, nan for those that failed or validate nothing."""
        for number, job in jobs.items():
            require_same(list(job.values()), self.folder(number))
        self.known |= jobs
        listed = {number: list(job.values()) for number, job in self.known.items()}
        write_atomically(self.sweep_dir / JOBS, json.dumps(listed, indent=1) + "\n")
        objectives: dict[int, float] = {}
        while waiting := [number for number in jobs if number not in objectives]:
            batch = self._ready(waiting, jobs)
            self.validate_batch_is_legal(list(batch.values()))
            returned = self.launcher.launch(list(batch.values()), initial_job_idx=min(batch))
            for number, job_return in zip(batch, returned, strict=True):
                value = job_return.return_value
                objectives[number] = math.nan if value is None else float(value)
        return objectives

    def _ready(self, waiting: Sequence[int], jobs: Mapping[int, Job]) -> dict[int, list[str]]:
        """Overrides of the jobs that can start: of those that share a stage nobody has trained yet, only the first."""
        batch: dict[int, list[str]] = {}
        first: set[tuple[str, ...]] = set()
        for number in waiting:
            extra: list[str] = []
            if self.warmup is not None:
                key = joblist.without(jobs[number], self._shared_over())
                source = self._trained(key)
                if source is None and key in first:
                    continue
                first.add(key)
                if source not in (None, self.folder(number)):
                    extra = [f"init_from='{source}:{self.warmup['stage']}'"]
            # Hydra must not write .hydra: a job that goes on keeps the one that began it.
            hydra = [f"hydra.sweep.subdir='{number}'", "hydra.output_subdir=null"]
            batch[number] = [*jobs[number].values(), *extra, *hydra]
        return batch

    def _shared_over(self) -> list[str]:
        assert self.warmup is not None
        stage, keys = self.warmup["stage"], list(self.warmup["shared_over"])
        if stage not in self.config.schedule.stages:
            raise SettingError("hydra.sweeper.warmup.stage", "must be a stage of schedule.stages", stage)
        if self.config.schedule.stages[stage].lr is None:
            keys = [key for key in keys if key != "optimizer.lr"]  # its learning rate as well
        return keys

    def _trained(self, key: tuple[str, ...]) -> Path | None:
        """The folder of the first job of a group that has trained the shared stage."""
        assert self.warmup is not None
        for number, job in self.known.items():
            trained = self.folder(number) / "checkpoints" / f"{self.warmup['stage']}.ckpt"
            if joblist.without(job, self._shared_over()) == key and trained.exists():
                return self.folder(number)
        return None
