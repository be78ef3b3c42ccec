"""Where Hydra finds the sweepers and the launcher of drolt_pl: it takes plugins from this namespace only."""

from drolt_pl.cli import optuna_sweep, ray_launcher, sweep


class JobListSweeper(sweep.JobListSweeper):  # noqa: D101
    __doc__ = sweep.JobListSweeper.__doc__


class OptunaSweeper(optuna_sweep.OptunaSweeper):  # noqa: D101
    __doc__ = optuna_sweep.OptunaSweeper.__doc__


class RayLauncher(ray_launcher.RayLauncher):  # noqa: D101
    __doc__ = ray_launcher.RayLauncher.__doc__
