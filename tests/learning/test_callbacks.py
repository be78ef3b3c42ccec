"""RefreshCentroids in a LightningModule that is not ours."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from drolt_pl import RefreshCentroids, class_statistics

pytestmark = [
    pytest.mark.filterwarnings("ignore:Found .* in eval mode"),  # on purpose
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
]


class Foreign(pl.LightningModule):
    """The least that RefreshCentroids asks for, with dropout and BatchNorm to disturb."""

    centroids: Tensor
    centroid_counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
        self.body[1].eval()  # a part the user froze
        self.head = nn.Linear(6, 3)
        self.register_buffer("centroids", torch.zeros(3, 6))
        self.register_buffer("centroid_counts", torch.zeros(3, dtype=torch.int64))
        self.at_start: list[Tensor] = []

    def embed(self, x: Tensor) -> Tensor:
        features: Tensor = self.body(x)
        return features

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if batch_idx == 0:
            self.at_start.append(self.centroids.clone())
        return nn.functional.cross_entropy(self.head(self.embed(batch[0])), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(callback: RefreshCentroids, epochs: int) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


@pytest.fixture
def data() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(23, 4, generator=generator), torch.randint(3, (23,), generator=generator))


class Compare(RefreshCentroids):
    """Holds every pass against the statistics of the same weights, and the random state before and after."""

    passes = 0

    def refresh(self, trainer: pl.Trainer, pl_module: Any) -> None:
        before = torch.get_rng_state()
        modes = [module.training for module in pl_module.modules()]
        super().refresh(trainer, pl_module)
        assert torch.equal(before, torch.get_rng_state())
        assert modes == [module.training for module in pl_module.modules()]
        inputs, targets = trainer.train_dataloader.dataset.tensors
        copy = Foreign()
        copy.load_state_dict(pl_module.state_dict())
        copy.eval()
        with torch.no_grad():
            expected = class_statistics(copy.embed(inputs), targets, 3)
        torch.testing.assert_close(pl_module.centroids, expected.centroids, rtol=1e-6, atol=1e-6)
        assert torch.equal(pl_module.centroid_counts, expected.counts)
        self.passes += 1


def test_a_pass_at_each_epochs_start_over_the_whole_set(data: TensorDataset) -> None:
    module = Foreign()
    callback = Compare(DataLoader(data, batch_size=5))
    trainer(callback, 3).fit(module, DataLoader(data, batch_size=8, drop_last=True))
    assert callback.passes == 3
    assert callback.seconds > 0
    assert not torch.equal(module.at_start[0], module.at_start[2])


def test_needs_centroids_decides(data: TensorDataset) -> None:
    module = Foreign()
    module.needs_centroids = lambda epoch: epoch == 1  # type: ignore[assignment]
    callback = Compare(DataLoader(data, batch_size=5))
    trainer(callback, 3).fit(module, DataLoader(data, batch_size=8))
    assert callback.passes == 1
    assert not module.at_start[0].any()
    assert module.at_start[1].any()
