"""A sweep in which Optuna chooses the jobs, batch by batch; a study that was cut short goes on.

It replaces hydra-optuna-sweeper 1.3, which holds Optuna below 3, ends its sweep at one objective that is not a number,
and has a storage that does not work with SQLAlchemy 2, so that no study can go on.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from drolt_pl import folders
from drolt_pl.checked import checked
from drolt_pl.errors import SettingError
from drolt_pl.ranges import Seed
from drolt_pl.sweeps import joblist
from drolt_pl.sweeps.joblist import Job
from drolt_pl.sweeps.sweeper import JobListSweeper, Jobs

if TYPE_CHECKING:
    import optuna

OVERRIDES = "overrides"  # user attribute of a trial


@checked
class OptunaSweeper(JobListSweeper):
    """Maximises the validation objective over the keys that are given as lists, ranges or intervals.

    A trial is a job; its number is the name of the job's folder. A job that fails is a failed trial, and the study goes
    on. What is sampled for a trial depends on the seed and on the trials told before it alone, so that a study that was
    cut short and started again in its folder chooses as one that was not.

    Args:
        n_trials: Trials in all.
        n_jobs: Trials that are chosen together, for launchers that run jobs at the same time.
        sampler: Builds the sampler; takes `seed`.
        seed: Seeds the sampler.
        others: Arguments of `JobListSweeper`.
    """

    def __init__(self, *, n_trials: Jobs, n_jobs: Jobs, sampler: Callable[..., Any], seed: Seed, **others: Any) -> None:
        super().__init__(variants={}, seed=seed, **others)
        self.n_trials, self.n_jobs, self.sampler = n_trials, n_jobs, sampler

    def sweep(self, arguments: list[str]) -> None:
        """Runs the trials that are missing."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
        from optuna.trial import TrialState

        if self.config.protocol == "published":
            raise SettingError("protocol=published", "has no validation to tune by: tune under protocol=holdout")
        self.refuse_ranks()
        space = self.space(arguments)
        self.refuse_wrong(joblist.corners(space))
        self.begin(self.n_trials)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(self.sweep_dir / folders.STUDY))),
            study_name="sweep",
            direction="maximize",
            load_if_exists=True,
        )
        self.known = {trial.number: trial.user_attrs.get(OVERRIDES, {}) for trial in study.trials}
        running = study.get_trials(states=[TrialState.RUNNING])
        cut_short = [trial.number for trial in running if self.known[trial.number]]
        while cut_short or len(study.trials) < self.n_trials:
            numbers = cut_short or self._ask(study, space)
            cut_short = []
            objectives = self.run({number: self.known[number] for number in numbers})
            for number, objective in objectives.items():
                failed = math.isnan(objective)
                study.tell(number, None if failed else objective, state=TrialState.FAIL if failed else None)
        finished = study.get_trials(states=[TrialState.COMPLETE])
        if not finished:
            demand = f"none of the {self.n_trials} trials finished: see failure.json below {self.sweep_dir}"
            raise SettingError("", demand)
        print(
            f"{len(finished)} of {self.n_trials} trials finished; best {study.best_value:.4f} in "
            f"{self.folder(study.best_trial.number)}: {' '.join(self.known[study.best_trial.number].values())}"
        )

    def _ask(self, study: "optuna.Study", space: Sequence[Override]) -> list[int]:
        """Numbers of the trials of the next batch."""
        asked = []
        for _ in range(min(self.n_jobs, self.n_trials - len(study.trials))):
            # A sampler's random state is not kept between two starts: each trial has its own.
            study.sampler = self.sampler(seed=random.Random(f"{self.seed} {len(study.trials)}").getrandbits(32))
            trial = study.ask()
            job = {key: text for override in space for key, text in _suggested(trial, override).items()}
            job = joblist.distinct([job], self.irrelevant)[0]
            trial.set_user_attr(OVERRIDES, job)
            self.known[trial.number] = job
            asked.append(trial.number)
        return asked


def _suggested(trial: "optuna.Trial", override: Override) -> Job:
    key, space = override.key_or_group, override.value()
    if isinstance(space, IntervalSweep):
        low, high = float(space.start), float(space.end)  # type: ignore[arg-type]
        value = trial.suggest_float(key, low, high, log="log" in space.tags)
        return joblist.setting(override, f"{value:.6g}")
    if isinstance(space, RangeSweep) and isinstance(steps := space.range(), range):
        return joblist.setting(override, str(trial.suggest_int(key, steps[0], steps[-1], step=steps.step)))
    values = joblist.choices(override)
    return joblist.setting(override, str(trial.suggest_categorical(key, values)) if len(values) > 1 else values[0])
