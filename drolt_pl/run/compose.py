"""The configuration of a list of overrides, composed without a command line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from drolt_pl.run import schema


def composed(
    folder: Path, overrides: Sequence[str] = (), *, name: str = "config", with_hydra: bool = False
) -> DictConfig:
    """Composes a configuration.

    Args:
        folder: The folder of configurations, absolute.
        overrides: As typed on the command line, without its flags.
        name: Of the configuration to start from.
        with_hydra: Whether Hydra's own node stays in it.
    """
    with _hydra_of(folder):
        return compose(name, list(overrides), return_hydra_config=with_hydra)


@contextmanager
def _hydra_of(folder: Path) -> Iterator[None]:
    """Hydra at a folder; whoever calls may be a Hydra application of its own, and finds its own again."""
    schema.register()
    hydra = GlobalHydra.instance()
    before = hydra.hydra
    hydra.clear()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            yield
    finally:
        hydra.hydra = before
