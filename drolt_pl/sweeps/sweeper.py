"""The sweeper of `python train.py -m` runs each distinct job once, and trains a stage that jobs share once."""

import itertools
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from drolt_pl.checked import checked
from drolt_pl.disk import write_whole
from drolt_pl.errors import SettingError, refuse, require
from drolt_pl.folders import FAILURE, JOBS
from drolt_pl.ranges import Seed, Text
from drolt_pl.run import ranks
from drolt_pl.run.arguments import typed
from drolt_pl.run.choices import removed
from drolt_pl.run.conf import CONF
from drolt_pl.run.headway import mark_jobs
from drolt_pl.run.jobs import mark_sweep, require_same
from drolt_pl.run.lock import locked
from drolt_pl.run.signals import Stopped
from drolt_pl.sweeps import joblist
from drolt_pl.sweeps.joblist import Job, Rule, Variant, Warmup

RUN = {"dataset", "backbone", "schedule", "trainer"}  # what the configuration of a run has
BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"  # one job at a time
HELD = 8  # jobs whose configurations it holds at once, each of half a megabyte
Jobs = Annotated[int, Ge(1), Le(joblist.MOST_JOBS)]


@checked
class JobListSweeper(Sweeper):
    """Runs the product of `params`, the command line and `variants`, or random draws from it, each distinct job once.

    Jobs are numbered in the order of the list, and the number is the name of a job's folder.

    Args:
        params: Values by key, in the form of the command line; values of the command line win.
        variants: Choices that set several keys: overrides by label by axis. The labels become the job's `name`.
        each: A group of configurations; each of its files is a label of the axis of that name.
        tuned: A key of the configuration that holds further values by key. They are swept in the variants whose
            configuration has them, and in no other, even if they are typed on the command line.
        irrelevant: Rules for overrides that are left out of jobs, since they change nothing.
        draws: The number of random jobs (of each variant) in place of the product.
        seed: Seed of the draws.
        warmup: A stage that jobs share: the first job trains it, the others start from its weights (`init_from`).
    """

    config: DictConfig
    hydra_context: HydraContext
    launcher: Launcher

    def __init__(
        self,
        *,
        params: Mapping[str, str | float | bool],
        variants: joblist.Variants,
        irrelevant: Sequence[Rule],
        each: Text | None = None,
        tuned: Text | None = None,
        draws: Jobs | None = None,
        seed: Seed = 0,
        warmup: Warmup | None = None,
    ) -> None:
        ruled = isinstance(irrelevant, list) and all(set(rule) == {"at", "keys"} for rule in irrelevant)
        require("irrelevant", irrelevant, ruled, "must be a list of {at: KEY=VALUE, keys: [KEY, ...]}")
        shared = warmup is None or (isinstance(warmup, dict) and set(warmup) == {"stage", "shared_over"})
        require("warmup", warmup, shared, "must be null or {stage: NAME, shared_over: [KEY, ...]}")
        self.params, self.variants, self.irrelevant = params, variants, irrelevant
        self.each, self.tuned = each, tuned
        self.draws, self.seed, self.warmup = draws, seed, warmup
        self.known: dict[int, Job] = {}
        self._held = ExitStack()

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self.sweep_dir = Path(os.path.realpath(config.hydra.sweep.dir))

    def sweep(self, arguments: list[str]) -> None:
        """Runs the jobs that have not finished yet; raises a `SettingError` if some failed."""
        self.refuse_ranks()
        jobs = self.jobs(self.space(arguments))
        self.refuse_wrong(jobs)
        self.begin(len(jobs))
        self.run(dict(enumerate(jobs)))
        if self.config.get("report", False):
            from drolt_pl.report.html import leave_report  # here: `--cfg job` does without

            leave_report(self.sweep_dir)
        failed = [str(number) for number in range(len(jobs)) if (self.folder(number) / FAILURE).exists()]
        if failed:
            raise SettingError(
                "",
                f"{len(failed)} of {len(jobs)} jobs failed ({', '.join(failed[:20])}; see {FAILURE} in their folders "
                f"under {self.sweep_dir}): the same command with {typed('hydra.sweep.dir', self.sweep_dir)} tries them "
                "again",
            )

    def refuse_ranks(self) -> None:
        """Refuses to be started once for each process of a run."""
        if "LOCAL_RANK" in os.environ or ranks.meeting() is not None:
            raise SettingError("-m", "starts the processes of its jobs itself: run it without torchrun or srun")

    def refuse_wrong(self, jobs: Iterable[Job]) -> None:
        """Refuses wrong values before any job is launched: each in the first job that has it.

        Raises:
            SettingError: there are such; of several, all are named. Another application's are not looked at.
        """
        if not set(self.config) >= RUN:
            return
        from drolt_pl.run.validate import problems_of  # imports torch

        loader, seen = self.hydra_context.config_loader, set[str]()
        found: list[SettingError] = []
        for words in (list(job.values()) for job in jobs):
            if not seen.issuperset(words):
                seen.update(words)
                config = loader.load_sweep_config(self.config, words)
                run = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
                found += problems_of(run, CONF, removed(words))
        refuse(found)

    def begin(self, total: int) -> None:
        """Makes the sweep's folder for so many jobs, and holds it for as long as this process lives."""
        self._held.enter_context(locked(self.sweep_dir))
        mark_sweep()
        mark_jobs(total)
        write_whole(self.sweep_dir / "multirun.yaml", OmegaConf.to_yaml(self.config).encode())

    def space(self, arguments: Sequence[str]) -> list[Override]:
        """The keys of the sweep with their values, from the configuration and from the command line, which wins."""
        typed = [*(f"{key}={values}" for key, values in self.params.items()), *arguments]
        parsed = joblist.parse(typed, self.hydra_context.config_loader)
        return list({override.key_or_group: override for override in parsed}.values())

    def jobs(self, space: Sequence[Override]) -> list[Job]:
        """The distinct jobs."""
        variants = joblist.combined(self._labelled())
        tuned = {variant: self._tuned(variant) for variant in variants}
        of_some = {key for own in tuned.values() for key in own}
        typed = {override.key_or_group: override for override in space}
        common = {key: override for key, override in typed.items() if key not in of_some}
        jobs: list[Job] = []
        for variant, own in tuned.items():
            keys = [*common.values(), *(typed.get(key, override) for key, override in own.items())]
            drawn = joblist.draw(keys, self.draws, self.seed) if self.draws else joblist.product(keys)
            jobs += variant.of(drawn)
        return joblist.distinct(jobs, self.irrelevant)

    def _labelled(self) -> joblist.Variants:
        """The variants, with one label for each file of `each`."""
        if self.each is None:
            return self.variants
        files = self.hydra_context.config_loader.get_group_options(self.each)
        axis: dict[str, Sequence[str]] = {name: [f"{self.each}={name}"] for name in files}
        return {**self.variants, self.each: {**axis, **self.variants.get(self.each, {})}}

    def _tuned(self, variant: Variant) -> dict[str, Override]:
        """The keys that a variant's configuration adds to the space."""
        if self.tuned is None:
            return {}
        loader = self.hydra_context.config_loader
        config = loader.load_sweep_config(self.config, list(variant.overrides))
        values: Any = OmegaConf.select(config, self.tuned) or {}
        parsed = joblist.parse([f"{key}={value}" for key, value in values.items()], loader)
        return {override.key_or_group: override for override in parsed}

    def folder(self, number: int) -> Path:
        """The folder of a job."""
        return self.sweep_dir / str(number)

    def run(self, jobs: Mapping[int, Job]) -> dict[int, float]:
        """Runs jobs by number; returns their objectives, nan for those that failed or validate nothing."""
        from drolt_pl.records import write_atomically  # here: `--cfg job` does without

        for number, job in jobs.items():
            require_same(list(job.values()), self.folder(number))
        self.known |= jobs
        listed = {number: list(job.values()) for number, job in self.known.items()}
        write_atomically(self.sweep_dir / JOBS, json.dumps(listed, indent=1) + "\n")
        objectives: dict[int, float] = {}
        while waiting := [number for number in jobs if number not in objectives]:
            batch = self._ready(waiting, jobs)
            if OmegaConf.select(self.config, "hydra.launcher._target_") == BASIC:
                batch = dict(itertools.islice(batch.items(), HELD))
            self.validate_batch_is_legal(list(batch.values()))
            try:
                returned = self.launcher.launch(list(batch.values()), initial_job_idx=min(batch))
            except Stopped as stopped:
                same = f"the same command with {typed('hydra.sweep.dir', self.sweep_dir)}"
                stopped.sentence = f"the sweep was stopped by {stopped}; {same} goes on"
                raise
            for number, job_return in zip(batch, returned, strict=True):
                value = job_return.return_value
                objectives[number] = math.nan if value is None else float(value)
        return objectives

    def _ready(self, waiting: Sequence[int], jobs: Mapping[int, Job]) -> dict[int, list[str]]:
        """Overrides of the jobs that can start; of jobs that share an untrained stage only the first one can."""
        batch: dict[int, list[str]] = {}
        first: set[tuple[str, ...]] = set()
        for number in waiting:
            extra: list[str] = []
            if self.warmup is not None:
                key = joblist.without(jobs[number], self._shared_over(self.warmup))
                source = self._trained(self.warmup, key)
                if source is None and key in first:
                    continue
                first.add(key)
                if source not in (None, self.folder(number)):
                    extra = [f"init_from='{source}:{self.warmup['stage']}'"]
            # Hydra must not write .hydra: a job that goes on keeps the files that began it.
            hydra = [f"hydra.sweep.subdir='{number}'", "hydra.output_subdir=null"]
            batch[number] = [*jobs[number].values(), *extra, *hydra]
        return batch

    def _shared_over(self, warmup: Warmup) -> list[str]:
        """The keys in which jobs that share the stage may differ."""
        stages = self.config.schedule.stages
        if warmup["stage"] not in stages:
            raise SettingError("hydra.sweeper.warmup.stage", "must be a stage of schedule.stages", warmup["stage"])
        swept = stages[warmup["stage"]].lr is None  # then optimizer.lr is the stage's rate as well
        return [key for key in warmup["shared_over"] if not (swept and key == "optimizer.lr")]

    def _trained(self, warmup: Warmup, key: tuple[str, ...]) -> Path | None:
        """The folder of the first job of a group that has trained the shared stage."""
        for number, job in self.known.items():
            trained = self.folder(number) / "checkpoints" / f"{warmup['stage']}.ckpt"
            if joblist.without(job, self._shared_over(warmup)) == key and trained.exists():
                return self.folder(number)
        return None
