"""The keyword arguments of `LongTailDataModule`, for data sets that pass them on."""

from collections.abc import Mapping, Sequence

from drolt_pl.data.augment.mixing import Mixing
from drolt_pl.data.augment.transforms import Augments
from drolt_pl.data.longtail import RuleSettings
from drolt_pl.data.plan import Plan


class DataSettings(RuleSettings, total=False):
    """See `LongTailDataModule`."""

    mean: Sequence[float] | None
    std: Sequence[float] | None
    batch_size: int
    eval_batch_size: int | None
    loader: str
    num_workers: int
    on_corrupt: str
    allow_duplicates: bool
    augment: Augments
    crop_padding: int
    flip: bool
    seed: int
    test_pool: bool
    plan: Plan
    mixings: Mapping[str, Mixing] | None
