"""Composes a configuration from a list of overrides, without a command line."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from drolt_pl.errors import SettingError
from drolt_pl.run import schema


def composed(folder: Path, overrides: Sequence[str] = (), *, with_hydra: bool = False) -> DictConfig:
    """Composes `config.yaml` of a folder.

    Args:
        folder: The folder, absolute.
        overrides: The overrides, as typed on the command line, without its flags.
        with_hydra: Whether the configuration keeps Hydra's own node.
    """
    with _hydra_of(folder):
        try:
            return compose("config", list(overrides), return_hydra_config=with_hydra)
        except (HydraException, OmegaConfBaseException):
            raise
        except Exception as error:  # Hydra's and OmegaConf's code meets what it does not expect
            demand = f"cannot be applied to the configuration ({' '.join(str(error).split())})"
            raise SettingError(_culprit(overrides), demand) from error


def _culprit(overrides: Sequence[str]) -> str:
    """The first override with which composing fails."""
    for number, override in enumerate(overrides, 1):
        try:
            compose("config", list(overrides[:number]))
        except Exception:
            return override
    return " ".join(overrides)


@contextmanager
def _hydra_of(folder: Path) -> Iterator[None]:
    """Points Hydra to a folder, and restores its state after: the caller may be a Hydra application of its own."""
    schema.register()
    hydra = GlobalHydra.instance()
    before = hydra.hydra
    hydra.clear()
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            yield
    finally:
        hydra.hydra = before
