"""Several views of an image in a batch, and mixed batches: what is drawn, by which epoch and rank."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.data_tools import NumberedImages, at_epoch, numbers_of, pixel_hash, random_state, write_images

from drolt_pl.data import ImageFolderLT, LongTailDataModule, Mixup
from drolt_pl.data.augment.transforms import BatchTransform, CropFlip
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


class Brighter:
    """Adds a number, and a draw of 0 or 1 to see which generator it comes from."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = torch.randint(2, (len(images), 1, 1, 1), generator=generator)
        return images + (self.number + noise).to(torch.uint8)


def with_augment(augment: object, views: int) -> LongTailDataModule:
    module = NumberedImages(class_sizes=(30, 20), imbalance_ratio=None, val_per_class=4, batch_size=8, augment=augment)
    module.plan = lambda epoch: Sampling(views=views)
    return at_epoch(module, 0)


@pytest.mark.parametrize("rank", [0, 1])
def test_each_view_has_the_augmentation_of_its_place(rank: int) -> None:
    augments = [Brighter(50), Brighter(100), Brighter(150)]
    module = at_epoch(with_augment(augments, 3), 0, rank, 2)
    for images, _ in module.train_dataloader():
        views = images[:, 1].round().chunk(3)  # the second digit is 0 as it comes
        for view, first in zip(views, (50, 100, 150), strict=True):
            assert set(view.flatten().tolist()) <= {first, first + 1}
        numbers = [(view[:, 0, 0, 0] - view[:, 1, 0, 0]).round() for view in images.chunk(3)]
        assert torch.equal(numbers[0], numbers[1])
        assert torch.equal(numbers[0], numbers[2])


def test_a_stage_of_one_view_takes_the_first() -> None:
    listed = with_augment([Brighter(50), Brighter(100)], 1).train_dataloader()
    assert pixel_hash(listed) == pixel_hash(with_augment(Brighter(50), 1).train_dataloader())


def test_one_augmentation_draws_for_all_views_together_as_before() -> None:
    alone = with_augment(CropFlip(padding=1), 2).train_dataloader()
    assert isinstance(alone.transform, BatchTransform)  # type: ignore[union-attr]
    assert isinstance(alone.transform.augment, CropFlip)  # type: ignore[union-attr]


def test_a_list_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^views must be 3, as many as augment lists, or 1, got 2$"):
        with_augment([Brighter(0)] * 3, 2).train_dataloader()
    for wrong in ([], [Brighter(0), "crop"], "crop"):
        with pytest.raises(ValueError, match=r"^augment must take a batch of images and a generator, or be null, got "):
            NumberedImages(augment=wrong)


def test_in_views_tells_seeds_apart() -> None:
    assert in_views(np.arange(5), 2, 2).tolist() == [0, 1, 0, 1, 2, 3, 2, 3, 4, 4]
    assert in_views(np.arange(3), 2, 2, offset=10).tolist() == [0, 1, 10, 11, 2, 12]
    assert in_views(np.arange(3), 2, 1, offset=10).tolist() == [0, 1, 2]
