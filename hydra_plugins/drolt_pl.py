"""Where Hydra finds the sweepers and the launcher of drolt_pl: it takes plugins from this namespace only."""

from drolt_pl.sweeps import optuna_sweeper, ray_launcher, sweeper


class JobListSweeper(sweeper.JobListSweeper):  # noqa: D101
    __doc__ = sweeper.JobListSweeper.__doc__


class OptunaSweeper(optuna_sweeper.OptunaSweeper):  # noqa: D101
    __doc__ = optuna_sweeper.OptunaSweeper.__doc__


class RayLauncher(ray_launcher.RayLauncher):  # noqa: D101
    __doc__ = ray_launcher.RayLauncher.__doc__
