"""Long-tailed recognition with the distributional robustness loss (DRO-LT) as PyTorch Lightning modules."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from drolt_pl.centroids import class_statistics as class_statistics
    from drolt_pl.data.base import LongTailDataModule as LongTailDataModule
    from drolt_pl.learning.callbacks import RefreshCentroids as RefreshCentroids
    from drolt_pl.learning.module import DROLTModule as DROLTModule
    from drolt_pl.learning.schedule import Schedule as Schedule
    from drolt_pl.losses import DROLTLoss as DROLTLoss
    from drolt_pl.metrics import ShotAccuracy as ShotAccuracy
    from drolt_pl.model import Model as Model
    from drolt_pl.model import load_model as load_model
    from drolt_pl.run.python import train as train

__version__ = "0.1.0"

# Public names and their homes. They are imported at first use, so that the command line starts without torch.
_HOMES = {
    "DROLTLoss": "losses",
    "DROLTModule": "learning.module",
    "LongTailDataModule": "data.base",
    "Model": "model",
    "RefreshCentroids": "learning.callbacks",
    "Schedule": "learning.schedule",
    "ShotAccuracy": "metrics",
    "class_statistics": "centroids",
    "load_model": "model",
    "train": "run.python",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'drolt_pl' has no attribute {name!r}")
    return vars(import_module(f"drolt_pl.{_HOMES[name]}"))[name]
