"""The keyword arguments of `LongTailDataModule`, for data sets that pass them on."""

from collections.abc import Mapping
from typing import Literal

from drolt_pl.data.augment.mixing import Mixing
from drolt_pl.data.augment.transforms import Augments
from drolt_pl.data.longtail import RuleSettings
from drolt_pl.data.plan import Plan
from drolt_pl.ranges import Count, Deviations, Means, Padding, Seed, Workers

Loader = Literal["auto", "memory", "workers"]
OnUnreadable = Literal["error", "skip"]


class DataSettings(RuleSettings, total=False):
    """See `LongTailDataModule`."""

    mean: Means | None
    std: Deviations | None
    batch_size: Count
    eval_batch_size: Count | None
    loader: Loader
    num_workers: Workers
    on_corrupt: OnUnreadable
    augment: Augments
    crop_padding: Padding
    flip: bool
    seed: Seed
    test_pool: bool
    plan: Plan
    mixings: Mapping[str, Mixing] | None
