"""Loaders: pure functions of seed, epoch and rank; shards; workers; the test set stays shut."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from helpers.data_tools import NumberedImages, at_epoch, numbers_of, pixel_hash, random_state, write_images
from torch import Tensor

from drolt_pl.data import DigitsLT, ImageFolderLT, LongTailDataModule
from drolt_pl.data.augment.transforms import CropFlip
from drolt_pl.data.images import sources
from drolt_pl.data.images.loaders import BatchLoader
from drolt_pl.data.plan import Sampling


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for class_id in range(3):
        write_images(root / "train" / f"class_{class_id}", 30 - 8 * class_id, seed=class_id)
        write_images(root / "test" / f"class_{class_id}", 5, seed=10 + class_id)
    return root


def folder(tree: Path, **kwargs: Any) -> LongTailDataModule:
    settings = {"image_size": 6, "imbalance_ratio": None, "batch_size": 8, "augment": CropFlip(padding=1), "seed": 3}
    return ImageFolderLT(root=tree, **{**settings, **kwargs})


def by_stage(epoch: int) -> Sampling:
    balanced = Sampling("class_balanced", epoch_size="max_class")
    progressive = Sampling("progressive", epochs=2)
    return [Sampling(), Sampling("class_aware", 2), balanced, progressive, progressive, Sampling("square_root")][epoch]


def numbered(**kwargs: Any) -> NumberedImages:
    return NumberedImages(**{"imbalance_ratio": 10, "val_per_class": 4, "batch_size": 8, **kwargs})


def stream(loader: BatchLoader) -> list[int]:
    return [number for images, _ in loader for number in numbers_of(images)]


def test_batches_are_what_the_module_promises() -> None:
    module = DigitsLT(mean=[0.3], std=[0.4], batch_size=100, augment=CropFlip(padding=1, flip=False))
    module.prepare_data()
    module.setup()
    assert (module.num_classes, module.in_channels, module.image_size) == (10, 1, 8)
    assert module.class_names == [str(digit) for digit in range(10)]
    for loader in (module.train_dataloader(), module.val_dataloader(), module.test_dataloader()):
        sizes = []
        for images, targets in loader:
            assert images.dtype == torch.float32
            assert targets.dtype == torch.int64
            assert images.shape == (len(targets), 1, 8, 8)
            sizes.append(len(targets))
        assert len(sizes) == len(loader)
    assert sizes == [128, 128, 128, 116]
    assert [len(targets) for _, targets in module.train_dataloader()] == [100, 100, 87]


def test_loaders_serve_their_part_of_the_split() -> None:
    module = at_epoch(numbered(), 0)
    assert sorted(stream(module.train_dataloader())) == module.split.train.tolist()
    assert stream(module.val_dataloader()) == module.split.val.tolist()
    assert stream(module.test_dataloader()) == module.split.test.tolist()
    assert stream(module.pool_dataloader()) == module.split.pool.tolist()
    assert stream(module.centroid_dataloader()) == module.split.train.tolist()
    for loader in (module.train_dataloader(), module.centroid_dataloader()):
        for images, targets in loader:
            assert (module.targets[numbers_of(images)] == targets.numpy()).all()
    assert np.bincount(module.targets[module.split.train]).tolist() == module.class_counts


@pytest.mark.parametrize("loader", ["memory", "workers"])
@pytest.mark.parametrize("part", ["val", "test", "pool", "centroid"])
def test_shards_hold_each_image_once(loader: str, part: str) -> None:
    whole = stream(getattr(at_epoch(numbered(eval_batch_size=4), 0), f"{part}_dataloader")())
    for world_size in (2, 3):
        shards = [
            stream(
                getattr(
                    at_epoch(numbered(eval_batch_size=4, loader=loader), 0, rank, world_size), f"{part}_dataloader"
                )()
            )
            for rank in range(world_size)
        ]
        assert [shard for rank, shard in enumerate(shards) if shard != whole[rank::world_size]] == []


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_ranks_together_see_the_batches_of_one_process(world_size: int, epoch: int) -> None:
    def batches(rank: int, world_size: int) -> list[list[int]]:
        module = at_epoch(numbered(plan=by_stage), epoch, rank, world_size)
        return [numbers_of(images) for images, _ in module.train_dataloader()]

    alone = batches(0, 1)
    ranks = [batches(rank, world_size) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    together = [[number for rank in ranks for number in rank[step]] for step in range(len(ranks[0]))]
    for ours, whole in zip(together, alone, strict=False):  # what cannot be shared evenly is left out at the end
        assert ours == whole[: len(ours)]
    assert sum(map(len, alone)) - sum(map(len, together)) < world_size


def test_the_plan_decides_the_sampling_of_an_epoch() -> None:
    module = at_epoch(numbered(plan=by_stage), 1)
    classes = module.targets[stream(module.train_dataloader())][: len(module.split.train) // 2 * 2].reshape(-1, 2)
    assert (classes[:, 0] == classes[:, 1]).all()
    at_epoch(module, 2)
    assert len(stream(module.train_dataloader())) == 3 * max(module.class_counts)


def test_an_epoch_is_the_same_in_a_fresh_module_and_for_every_loader(tree: Path) -> None:
    going_on = folder(tree, loader="memory", plan=by_stage)
    for epoch in range(6):
        expected = pixel_hash(at_epoch(going_on, epoch).train_dataloader())
        for loader, num_workers in (("memory", 0), ("workers", 0), ("workers", 2)):
            fresh = folder(tree, loader=loader, num_workers=num_workers, plan=by_stage)
            assert pixel_hash(at_epoch(fresh, epoch).train_dataloader()) == expected
    assert pixel_hash(at_epoch(going_on, 5, rank=1, world_size=2).train_dataloader()) != expected
    assert pixel_hash(at_epoch(folder(tree, seed=4), 0).train_dataloader()) != pixel_hash(
        at_epoch(folder(tree), 0).train_dataloader()
    )


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_index_stream_of_a_rank_does_not_depend_on_where_a_run_began(rank: int, num_workers: int) -> None:
    def module() -> NumberedImages:
        rules = {"val_per_class": 2, "imbalance_ratio": 20}
        return numbered(loader="workers", num_workers=num_workers, plan=by_stage, **rules)

    whole = module()
    streams = [stream(at_epoch(whole, epoch, rank, 2).train_dataloader()) for epoch in range(6)]
    assert len({tuple(epoch) for epoch in streams}) == 6
    for begin in range(6):
        resumed = module()
        for epoch in range(begin, min(begin + 2, 6)):
            assert stream(at_epoch(resumed, epoch, rank, 2).train_dataloader()) == streams[epoch]


def test_progressive_sampling_goes_by_the_epoch_of_its_stage() -> None:
    def plan(epoch: int) -> Sampling:
        return Sampling("progressive", epochs=4) if epoch >= 2 else Sampling()

    module = numbered(class_sizes=[900, 9], test_per_class=1, val_per_class=1, imbalance_ratio=None, plan=plan)
    share = [
        np.mean([module.targets[number] for number in stream(at_epoch(module, epoch).train_dataloader())])
        for epoch in range(6)
    ]
    assert share[2] < 0.03
    assert 0.07 < share[3] < 0.18  # a quarter of the way from 8 / 906 to 1 / 2
    assert 0.32 < share[5] < 0.43


def test_going_through_a_loader_twice_gives_the_same(tree: Path) -> None:
    loader = at_epoch(folder(tree), 1).train_dataloader()
    assert pixel_hash(loader) == pixel_hash(loader)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_random_crops_are_the_same_over_workers_and_ranks(tree: Path, num_workers: int) -> None:
    def batches(workers: int, rank: int = 0, world_size: int = 1) -> list[Tensor]:
        module = folder(tree, train_crop="random_resized", num_workers=workers, augment=None)
        return [images for images, _ in at_epoch(module, 2, rank, world_size).train_dataloader()]

    alone = batches(0)
    assert all(torch.equal(a, b) for a, b in zip(alone, batches(num_workers), strict=True))
    first, second = batches(num_workers, 0, 2), batches(num_workers, 1, 2)
    assert torch.equal(torch.cat([first[0], second[0]]), alone[0])
    again = folder(tree, train_crop="random_resized", augment=None)
    other_epoch = [images for images, _ in at_epoch(again, 3).train_dataloader()]
    assert not torch.equal(other_epoch[0], alone[0])


@pytest.mark.parametrize(("loader", "num_workers"), [("memory", 0), ("workers", 0), ("workers", 2)])
def test_global_random_state_is_left_alone(tree: Path, loader: str, num_workers: int) -> None:
    before = random_state()
    module = at_epoch(folder(tree, loader=loader, num_workers=num_workers, plan=by_stage), 1)
    for part in ("train", "val", "test", "centroid"):
        pixel_hash(getattr(module, f"{part}_dataloader")())
    assert random_state() == before


def test_the_centroid_pass_leaves_the_training_stream_alone(tree: Path) -> None:
    alone = pixel_hash(at_epoch(folder(tree), 1).train_dataloader())
    module = at_epoch(folder(tree), 1)
    training = iter(module.train_dataloader())
    first = next(training)
    centroid = pixel_hash(module.centroid_dataloader())
    assert pixel_hash([first, *training]) == alone
    assert centroid == pixel_hash(at_epoch(folder(tree), 7).centroid_dataloader())


@pytest.mark.parametrize("loader", ["memory", "workers"])
def test_test_images_are_not_read_before_they_are_asked_for(
    tree: Path, loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    decoded = sources.read_view

    def remember(path: str, view: Any, max_pixels: int) -> Any:
        read.append(path)
        return decoded(path, view, max_pixels)

    monkeypatch.setattr(sources, "read_view", remember)
    module = at_epoch(folder(tree, loader=loader), 0)
    for part in ("train", "val", "centroid"):
        pixel_hash(getattr(module, f"{part}_dataloader")())
    assert read
    assert not [path for path in read if "/test/" in path]
    pixel_hash(module.test_dataloader())
    assert [path for path in read if "/test/" in path]


def test_large_sets_are_left_to_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(at_epoch(numbered(), 0).train_dataloader().batches).__name__ == "MemoryBatches"
    monkeypatch.setattr("drolt_pl.data.images.store.MEMORY_LIMIT", 10)
    assert type(at_epoch(numbered(), 0).train_dataloader().batches).__name__ == "WorkerBatches"


def test_parts_without_images_have_no_loader() -> None:
    module = at_epoch(numbered(protocol="published", imbalance_ratio=None), 0)
    assert module.val_dataloader() == []
    assert module.pool_dataloader() is None
    assert at_epoch(numbered(test_pool=False), 0).pool_dataloader() is None


def test_test_selected_validates_on_the_test_set() -> None:
    module = at_epoch(numbered(protocol="test_selected"), 0)
    assert stream(module.val_dataloader()) == stream(module.test_dataloader())


class Linear(pl.LightningModule):
    """Remembers what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(64, 10)
        self.seen: dict[int, list[float]] = {}

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        self.seen.setdefault(self.current_epoch, []).append(float(batch[0].double().square().sum()))
        return torch.nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        self.seen.setdefault(-1, []).append(float(len(batch[1])))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(epochs: int, directory: Path, resume: Path | None = None) -> tuple[Linear, Path]:
    module = Linear()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=directory,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
    )
    data = DigitsLT(mean=[0.3], std=[0.4], augment=CropFlip(padding=1), plan=by_stage)
    trainer.fit(module, datamodule=data, ckpt_path=resume)
    path = directory / f"{epochs}.ckpt"
    trainer.save_checkpoint(path)
    return module, path


@pytest.mark.filterwarnings("ignore:.*reload_dataloaders.*")
def test_a_resumed_run_sees_what_an_uninterrupted_one_sees(tmp_path: Path) -> None:
    whole, _ = fit(4, tmp_path)
    assert whole.seen[-1] == [128.0, 72.0] * 4
    for epoch in range(1, 4):
        _, checkpoint = fit(epoch, tmp_path)
        resumed, _ = fit(4, tmp_path, checkpoint)
        assert {k: v for k, v in resumed.seen.items() if k >= 0} == {k: whole.seen[k] for k in range(epoch, 4)}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number >= 1, got 0"),
        ({"eval_batch_size": 0}, "eval_batch_size must be null or a whole number >= 1, got 0"),
        ({"num_workers": -1}, "num_workers must be a whole number >= 0, got -1"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ({"loader": "fast"}, "loader must be one of .*, got 'fast'"),
        ({"augment": {}}, "augment must take a batch of images and a generator, or be null, got {}"),
        ({"std": [0.0, 1.0]}, "std must be .*> 0.*, got"),
        ({"imbalance_ratio": 0}, "imbalance_ratio must be null or .*>= 1"),
    ],
)
def test_wrong_settings_are_refused_at_birth(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}"):
        NumberedImages(**setting)


def test_settings_that_need_the_data_are_refused_at_setup() -> None:
    with pytest.raises(ValueError, match=r"^mean must have as many values as the images have channels, 1, got"):
        DigitsLT(mean=[0.5] * 3, std=[0.5] * 3).setup()
    with pytest.raises(ValueError, match=r"^test_per_class must leave some class a test image; add images"):
        at_epoch(numbered(class_sizes=[4, 4], imbalance_ratio=None), 0).test_dataloader()
    with pytest.raises(ValueError, match=r"^batch_size must be divisible by the 2 processes that share it, got 9"):
        at_epoch(numbered(batch_size=9), 0, 0, 2).train_dataloader()


def test_random_crops_cannot_be_held_in_memory(tree: Path) -> None:
    with pytest.raises(ValueError, match=r"^loader must be 'workers' .*train_crop='random_resized', got 'memory'"):
        folder(tree, train_crop="random_resized", loader="memory").setup()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_damaged_file_is_one_sentence_from_a_worker_too(tmp_path: Path, num_workers: int) -> None:
    for class_name in "ab":
        write_images(tmp_path / class_name, 10, seed=ord(class_name))
        for file in sorted((tmp_path / class_name).iterdir())[1:]:
            file.write_bytes(b"damaged")
    module = at_epoch(folder(tmp_path, loader="workers", num_workers=num_workers), 0)
    with pytest.raises(
        ValueError, match=r"^root must hold readable images: '[^\n]*' cannot be read \([^\n]*\); repair or remove it$"
    ):
        pixel_hash(module.train_dataloader())
