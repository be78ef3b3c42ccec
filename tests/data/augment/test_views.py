"""Several views of an image in a batch, and mixed batches: what is drawn, by which epoch and rank."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.data_tools import NumberedImages, at_epoch, numbers_of, pixel_hash, random_state, write_images

from drolt_pl.data import ImageFolderLT, LongTailDataModule, Mixup
from drolt_pl.data.augment.transforms import CropFlip
from drolt_pl.data.plan import Sampling, in_views


def numbered(views: int = 1, mixing: str | None = None) -> NumberedImages:
    return NumberedImages(
        imbalance_ratio=10,
        val_per_class=4,
        batch_size=8,
        plan=lambda epoch: Sampling(views=views, mixing=mixing),
        mixings={"mixup": Mixup(alpha=0.5)},
    )


@pytest.mark.parametrize("views", [2, 3])
def test_views_stand_behind_each_other_and_count_towards_the_epoch(views: int) -> None:
    module = at_epoch(numbered(views), 0)
    total = 0
    for images, targets in module.train_dataloader():
        first, *others = np.split(np.array(numbers_of(images)), views)
        assert all((other == first).all() for other in others)
        assert (module.targets[numbers_of(images)] == targets.numpy()).all()
        assert len(targets) <= 8 * views
        total += len(targets)
    assert total == sum(module.class_counts) // views * views


def test_ranks_split_the_draws_not_the_views() -> None:
    alone = [set(numbers_of(images)) for images, _ in at_epoch(numbered(2), 3).train_dataloader()]
    ranks = [
        [numbers_of(images) for images, _ in at_epoch(numbered(2), 3, rank, 2).train_dataloader()] for rank in (0, 1)
    ]
    for step, whole in enumerate(alone[:-1]):
        assert set(ranks[0][step]) | set(ranks[1][step]) == whole
        assert not set(ranks[0][step]) & set(ranks[1][step])


@pytest.mark.parametrize("train_crop", ["center", "random_resized"])
def test_views_of_an_image_differ(train_crop: str, tmp_path: Path) -> None:
    """Also where the crop is made when decoding."""
    write_images(tmp_path / "train" / "a", 9)
    write_images(tmp_path / "train" / "b", 9, seed=1)
    module: LongTailDataModule = ImageFolderLT(
        root=tmp_path,
        image_size=6,
        imbalance_ratio=None,
        val_per_class=2,
        test_per_class=2,
        batch_size=4,
        train_crop=train_crop,
        augment=CropFlip(padding=2) if train_crop == "center" else None,
        plan=lambda epoch: Sampling(views=2),
    )
    images, _ = next(iter(at_epoch(module, 0).train_dataloader()))
    first, second = images.chunk(2)
    assert not any(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_mixed_batches_are_a_function_of_epoch_and_rank() -> None:
    before = random_state()

    def batches(epoch: int, rank: int = 0) -> list[torch.Tensor]:
        loader = at_epoch(numbered(mixing="mixup"), epoch, rank, 2).train_dataloader()
        return [torch.cat([part.flatten().float() for part in batch]) for batch in loader]

    first, again = batches(0), batches(0)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], batches(1)[0])
    shares = [next(iter(at_epoch(numbered(mixing="mixup"), 0, rank, 2).train_dataloader()))[3] for rank in (0, 1)]
    assert not torch.equal(*shares)
    assert random_state() == before


def test_mixing_leaves_the_augmentation_as_it_is() -> None:
    plain, mixed = at_epoch(numbered(), 0).train_dataloader(), at_epoch(numbered(mixing="mixup"), 0).train_dataloader()
    assert pixel_hash(plain) == pixel_hash(mixed.loader)  # type: ignore[union-attr]
    assert len(plain) == len(mixed)
    for (_, targets), (_, own, other, shares) in zip(plain, mixed, strict=True):
        assert torch.equal(targets, own)
        assert torch.equal(own.sort().values, other.sort().values)
        assert bool(((shares >= 0) & (shares <= 1)).all())


def test_in_views_tells_seeds_apart() -> None:
    assert in_views(np.arange(5), 2, 2).tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 4, 4]
    assert in_views(np.arange(3), 2, 2, offset=10).tolist() == [0, 1, 10, 11, 2, 12]
    assert in_views(np.arange(3), 2, 1, offset=10).tolist() == [0, 1, 2]
