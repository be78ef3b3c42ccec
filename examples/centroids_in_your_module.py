"""Class centroids over the whole training set, at every epoch's start, in a LightningModule of your own.

    python examples/centroids_in_your_module.py

`RefreshCentroids` needs `embed(x)` and two buffers. Here a small network learns the digits with cross-entropy and the
robust loss, and its nearest centroid classifies the test images.
"""

import logging

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from drolt_pl import DROLTLoss, RefreshCentroids

KEPT = [100, 70, 48, 33, 23, 16, 11, 8, 5, 4]  # training images of each digit


class Yours(pl.LightningModule):
    def __init__(self, counts: list[int]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))
        self.head = nn.Linear(32, len(counts))
        self.robust = DROLTLoss(len(counts), 32, counts)
        self.register_buffer("centroids", torch.zeros(len(counts), 32))  # filled by RefreshCentroids
        self.register_buffer("centroid_counts", torch.zeros(len(counts), dtype=torch.int64))

    def embed(self, x: Tensor) -> Tensor:
        return self.body(x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        z = self.embed(x)
        return self.robust.mix(F.cross_entropy(self.head(z), y), self.robust(z, y, self.centroids))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def split() -> tuple[TensorDataset, TensorDataset]:
    images, labels = (torch.as_tensor(part) for part in load_digits(return_X_y=True))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    rows = [order[labels[order] == digit] for digit in range(10)]
    train, test = torch.cat([r[:n] for r, n in zip(rows, KEPT, strict=True)]), torch.cat([r[100:150] for r in rows])
    return tuple(TensorDataset(images[part].float() / 16, labels[part]) for part in (train, test))


if __name__ == "__main__":
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    pl.seed_everything(0, verbose=False)
    train, test = split()
    module = Yours(KEPT)
    refresh = RefreshCentroids(DataLoader(train, batch_size=128))  # as they are: no augmentation, no sampling
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(max_epochs=30, accelerator="cpu", callbacks=[refresh], **quiet)
    trainer.fit(module, DataLoader(train, batch_size=32, shuffle=True))
    refresh.refresh(trainer, module)
    with torch.no_grad():
        x, y = test.tensors
        z = module.embed(x)
        nearest, head = torch.cdist(z, module.centroids).argmin(1), module.head(z).argmax(1)
        print(f"nearest centroid: {(nearest == y).float().mean():.3f}   head: {(head == y).float().mean():.3f}")
