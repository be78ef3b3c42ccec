"""Sweepers and launcher made known to Hydra in this process alone."""

from hydra.core.plugins import Plugins

from drolt_pl.sweeps.optuna_sweeper import OptunaSweeper
from drolt_pl.sweeps.ray_launcher import RayLauncher
from drolt_pl.sweeps.sweeper import JobListSweeper

KINDS = (JobListSweeper, OptunaSweeper, RayLauncher)


def register() -> None:
    """Registers them.

    Hydra scans the namespace `hydra_plugins`, whose modules every Hydra application of an environment imports, and
    instantiates plugins of that namespace alone. Ours are registered by hand and let in by name.
    """
    plugins = Plugins.instance()
    for kind in KINDS:
        plugins.register(kind)
    plugins.is_in_toplevel_plugins_module = _is_let_in  # type: ignore[assignment, method-assign]


def _is_let_in(clazz: str) -> bool:
    ours = {f"{kind.__module__}.{kind.__name__}" for kind in KINDS}
    return clazz in ours or Plugins.is_in_toplevel_plugins_module(clazz)
