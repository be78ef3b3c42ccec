"""Several streams of batches in one epoch: the first is what it is alone, the others have draws of their own."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from helpers.data_tools import NumberedImages, at_epoch, numbers_of, random_state, write_images
from torch import Tensor

from drolt_pl.data import CropFlip, ImageFolderLT, LongTailDataModule, Mixup
from drolt_pl.data.images.streams import Streams
from drolt_pl.data.plan import Sampling
from drolt_pl.data.samplers import SAMPLERS, samplers_named
from drolt_pl.errors import SettingError

SIZES = {"class_sizes": (70, 50, 40), "imbalance_ratio": None, "val_per_class": 2, "test_per_class": 2}


def numbered(*sampling: str, epoch_size: Any = 96, views: int = 1, mixing: str | None = None) -> NumberedImages:
    """32 batches of 3 for one stream, 16 each for two."""
    stage = Sampling(sampling if len(sampling) > 1 else sampling[0], 3, epoch_size, views=views, mixing=mixing)
    return NumberedImages(batch_size=3, plan=lambda epoch: stage, mixings={"mixup": Mixup(alpha=0.5)}, **SIZES)


def drawn(module: LongTailDataModule, epoch: int = 2, rank: int = 0, world_size: int = 1) -> list[list[list[int]]]:
    """Numbers of the images in every batch of every stream."""
    streams: list[list[list[int]]] = []
    for images, targets, partners, shares, others in at_epoch(module, epoch, rank, world_size).train_dataloader():
        assert partners is None
        assert shares is None
        assert all(len(other) == 2 for other in others)
        assert len(targets) == len(images)
        streams.append([numbers_of(found) for found in (images, *(other[0] for other in others))])
    return [list(stream) for stream in zip(*streams, strict=True)]


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize("views", [1, 2])
def test_the_first_stream_is_the_first_half_of_its_epoch_alone(sampler: str, views: int) -> None:
    alone = [numbers_of(images) for images, _ in at_epoch(numbered(sampler, views=views), 2).train_dataloader()]
    first, second = drawn(numbered(sampler, "class_balanced", views=views))
    assert first == alone[: len(alone) // 2]
    assert first != second
    assert [len(batch) for batch in second] == [len(batch) for batch in first]
    assert len(first) * len(first[0]) * 2 == 96  # images of both streams count as seen


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for class_id in range(2):
        write_images(root / "train" / f"class_{class_id}", 20, seed=class_id)
        write_images(root / "test" / f"class_{class_id}", 2, seed=10 + class_id)
    return root


@pytest.mark.parametrize("train_crop", ["center", "random_resized"])
@pytest.mark.parametrize("mixing", [None, "mixup"])
def test_pixels_of_the_first_stream_are_those_of_its_epoch_alone(
    tree: Path, train_crop: str, mixing: str | None
) -> None:
    """Bit for bit, with augmentation, mixing and random crops; a second stream of the same images has its own."""

    def batches(*sampling: str) -> list[Any]:
        stage = Sampling(sampling if len(sampling) > 1 else sampling[0], epoch_size=32, mixing=mixing)
        module = ImageFolderLT(
            root=tree,
            image_size=6,
            imbalance_ratio=None,
            protocol="published",
            batch_size=4,
            train_crop=train_crop,
            augment=CropFlip(padding=1),
            plan=lambda epoch: stage,
            mixings={"mixup": Mixup()},
        )
        return list(at_epoch(module, 1).train_dataloader())

    alone, both = batches("instance"), batches("instance", "instance")
    assert (len(alone), len(both)) == (8, 4)
    for whole, step in zip(alone[:4], both, strict=True):
        first = step[: len(whole)]
        assert all(torch.equal(a, b) for a, b in zip(whole, first, strict=True))
        assert step[len(whole) : 4] == (None,) * (4 - len(whole))
        (second,) = step[4]
        assert len(second) == len(whole)
        assert not torch.equal(second[0], step[0])


@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_together_see_the_streams_of_one_process(world_size: int) -> None:
    def module() -> NumberedImages:
        stage = Sampling(("class_aware", "square_root"), 2)
        return NumberedImages(batch_size=12, plan=lambda epoch: stage, **SIZES)

    alone = drawn(module())
    ranks = [drawn(module(), rank=rank, world_size=world_size) for rank in range(world_size)]
    for stream, whole in enumerate(alone):
        steps = zip(*(rank[stream] for rank in ranks), strict=True)
        together = [[number for part in parts for number in part] for parts in steps]
        for ours, batch in zip(together, whole, strict=False):  # what cannot be shared evenly is left out at the end
            assert ours == batch[: len(ours)]
        assert sum(map(len, whole)) - sum(map(len, together)) < world_size


def test_streams_depend_on_seed_and_epoch_alone() -> None:
    before = random_state()
    module = numbered("instance", "class_balanced", "class_balanced")
    epochs = [drawn(module, epoch) for epoch in range(3)]
    assert len({str(epoch) for epoch in epochs}) == 3
    assert all(drawn(numbered("instance", "class_balanced", "class_balanced"), e) == epochs[e] for e in (2, 0, 1))
    _, second, third = epochs[0]
    assert second != third  # of one sampler, but each has its number in its seed
    assert random_state() == before


@pytest.mark.parametrize(("epoch_size", "streams"), [("dataset", 2), ("max_class", 3), (100, 3)])
def test_an_epoch_is_shared_by_its_streams(epoch_size: Any, streams: int) -> None:
    one = numbered("instance", epoch_size=epoch_size)
    images = sum(len(targets) for _, targets in at_epoch(one, 0).train_dataloader())
    several = drawn(numbered(*["class_balanced"] * streams, epoch_size=epoch_size))
    assert [sum(map(len, stream)) for stream in several] == [images // streams] * streams


class Paired(pl.LightningModule):
    """Trains on the sum of two streams' losses, and remembers their classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(32, 3)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: Any, index: int) -> Tensor:
        images, targets, _, _, ((more, labels),) = batch
        self.seen.append((targets, labels))
        loss = torch.nn.functional.cross_entropy
        return loss(self.layer(images.flatten(1)), targets) + loss(self.layer(more.flatten(1)), labels)

    def validation_step(self, batch: Any, index: int) -> None: ...

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 1e-6)


def test_a_trainer_takes_the_batches_of_several_streams(tmp_path: Path) -> None:
    module, data = Paired(), numbered("class_aware", "class_balanced")
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=tmp_path,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, datamodule=data)
    assert len(module.seen) == 16
    assert all(len(set(targets.tolist())) == 1 for targets, _ in module.seen)
    assert len({len(set(labels.tolist())) for _, labels in module.seen}) > 1


def test_one_stream_is_no_tuple_of_streams() -> None:
    assert not isinstance(at_epoch(numbered("instance"), 0).train_dataloader(), Streams)
    module = NumberedImages(batch_size=3, plan=lambda epoch: Sampling(["instance"]), **SIZES)
    images, targets = next(iter(at_epoch(module, 0).train_dataloader()))
    assert (module.targets[numbers_of(images)] == targets.numpy()).all()


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ([], r"^sampling must be one or several of \('instance'.*, got \[\]"),
        (["instance", "x"], "^sampling must be one of .*, got 'x'"),
    ],
)
def test_wrong_streams_are_named(sampling: list[str], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        samplers_named(sampling)
