"""The embedded digits."""

import numpy as np
import pytest

from drolt_pl.data import DigitsLT

NORMAL = {"mean": [0.3053], "std": [0.376]}


@pytest.mark.parametrize("class_order", ["label", "shuffled"])
@pytest.mark.parametrize("split_seed", [0, 1])
def test_holdout(class_order: str, split_seed: int) -> None:
    module = DigitsLT(**NORMAL, class_order=class_order, split_seed=split_seed)
    module.setup()
    assert sorted(module.class_counts, reverse=True) == [104, 67, 43, 28, 18, 11, 7, 4, 3, 2]
    assert (module.class_counts[0] == 104) == (class_order == "label")
    assert (len(module.split.val), len(module.split.test), len(module.split.pool)) == (200, 500, 810)
    for loader, per_class in ((module.val_dataloader(), 20), (module.test_dataloader(), 50)):
        targets = np.concatenate([targets.numpy() for _, targets in loader])
        assert np.bincount(targets).tolist() == [per_class] * 10


def test_published_keeps_n_max_and_the_test_set() -> None:
    holdout, published = DigitsLT(**NORMAL), DigitsLT(**NORMAL, protocol="published")
    holdout.setup()
    published.setup()
    assert published.class_counts == holdout.class_counts
    assert (published.split.test == holdout.split.test).all()
    assert (len(published.split.val), len(published.split.pool)) == (0, 1010)


def test_pixels_are_the_original_values() -> None:
    from sklearn.datasets import load_digits

    module = DigitsLT(mean=[0.0], std=[1.0])
    module.setup()
    images = np.concatenate([images.numpy() for images, _ in module.test_dataloader()])
    original = load_digits().images[module.split.test] / 16
    assert np.abs(images[:, 0] - original).max() <= 0.5 / 255 + 1e-6
    everything = load_digits().images / 16
    assert everything.mean() == pytest.approx(NORMAL["mean"][0], abs=1e-3)
    assert everything.std() == pytest.approx(NORMAL["std"][0], abs=1e-3)
