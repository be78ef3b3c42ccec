"""Registers our sweepers and launcher with Hydra, in this process alone."""

from hydra.core.plugins import Plugins

from drolt_pl.sweeps.optuna_sweeper import OptunaSweeper
from drolt_pl.sweeps.ray_launcher import RayLauncher
from drolt_pl.sweeps.sweeper import JobListSweeper

KINDS = (JobListSweeper, OptunaSweeper, RayLauncher)


def register() -> None:
    """Registers sweepers and launcher.

    Hydra scans the namespace `hydra_plugins` and instantiates plugins of that namespace alone. Every Hydra application
    of an environment would import modules of that namespace, so ours are registered by hand and let in by name.
    """
    plugins = Plugins.instance()
    for kind in KINDS:
        plugins.register(kind)
    plugins.is_in_toplevel_plugins_module = _is_let_in  # type: ignore[assignment, method-assign]


def _is_let_in(clazz: str) -> bool:
    ours = {f"{kind.__module__}.{kind.__name__}" for kind in KINDS}
    return clazz in ours or Plugins.is_in_toplevel_plugins_module(clazz)
