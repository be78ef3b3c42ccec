"""Images whose classes are known: a folder for each class, or batches of a data set."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from drolt_pl.data.sets.layout import composed, folders_in
from drolt_pl.errors import SettingError
from drolt_pl.model import Model
from drolt_pl.predict.files import Pace
from drolt_pl.predict.names import images_below
from drolt_pl.predict.ranks import Ranks


class Outputs(NamedTuple):
    """What a model gives for labelled images, on the CPU.

    Attributes:
        logits: (N, C), float32.
        nearest: Class of the nearest centroid, (N,); None where the model has no centroids.
        targets: (N,), int64.
        unreadable: Why files were left out.
        others: Files of folders that are not called like an image, by suffix; None of a data set.
    """

    logits: Tensor
    nearest: Tensor | None
    targets: Tensor
    unreadable: Sequence[str]
    others: Counter[str] | None = None


class Labelled(Protocol):
    """Labelled images of a data set: normalised float32 (B, C, H, W) and targets (B,)."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...


def class_folders(root: Path, class_names: Sequence[str], option: str = "--data") -> dict[Path, int]:
    """The folders of a model's classes, and which class each is of; a class may be spelt in several ways.

    Args:
        root: Holds a folder for each class, with images at any depth.
        class_names: The model's.
        option: The option that names the folder.

    Raises:
        SettingError: no folder, or a class that the model does not know.
    """
    if not root.is_dir():
        raise SettingError(option, "must be a folder that exists", str(root))
    index = {composed(name): place for place, name in enumerate(class_names)}
    try:
        folders = [root / name for name in folders_in(root)]
    except SettingError as error:
        raise error.renamed(lambda _: option) from None
    strange = [folder.name for folder in folders if composed(folder.name) not in index]
    if strange or not folders:
        parts = [name for name in strange if any(composed(below.name) in index for below in (root / name).iterdir())]
        remedy = f"give {root / parts[0]}" if parts else f"the model's classes are {_few(class_names)}"
        found = f"it also has {_few(strange)}" if strange else "it has none"
        raise SettingError(option, f"must hold a folder for each class of the model: {found}", remedy=remedy)
    return {folder: index[composed(folder.name)] for folder in folders}


def outputs_of_folders(model: Model, folders: dict[Path, int], pace: Pace, progress: "Progress") -> Outputs:
    """What a model gives for the images in the folders of classes.

    Raises:
        SettingError: no image can be read.
    """
    others = Counter[str]()
    by_class = sorted(folders, key=lambda folder: (folders[folder], folder))
    files = [(name, folders[folder]) for folder in by_class for name in images_below(str(folder), others)]
    labels = iter(target for _, target in files)
    model.to(pace.device)
    collected = _Collected(model)
    for batch in pace.batches([name for name, _ in files], model, Ranks()):
        targets = [next(labels) for _ in batch.images]
        kept = [target for target, error in zip(targets, batch.errors, strict=True) if error is None]
        collected.add(*model.outputs(batch.pixels), torch.tensor(kept, dtype=torch.int64))
        collected.unreadable += [str(error) for error in batch.errors if error is not None]
        progress(len(targets), len(files))
    return collected.whole()._replace(others=others)


def outputs_of_strangers(model: Model, folder: Path, pace: Pace, progress: "Progress") -> Outputs:
    """What a model gives for images of no class; all targets are 0.

    Raises:
        SettingError: no folder, or no image in it that can be read.
    """
    if not folder.is_dir():
        raise SettingError("--ood", "must be a folder that exists", str(folder))
    try:
        return outputs_of_folders(model, {folder: 0}, pace, progress)
    except SettingError as error:
        raise SettingError("--ood", "must hold images that can be read: there is none", str(folder)) from error


@torch.inference_mode()
def outputs_of_batches(model: Model, batches: Labelled, pace: Pace, progress: "Progress") -> Outputs:
    """The same for batches of a data set."""
    model.to(pace.device)
    collected = _Collected(model)
    for images, targets in batches:
        collected.add(*model.normalised_outputs(images.to(pace.device)), targets.cpu())
        progress(len(targets), None)
    return collected.whole()


class Progress(Protocol):
    """Is told how many images are newly done, and how many there are if that is known."""

    def __call__(self, done: int, total: int | None, /) -> None: ...


class _Collected:
    def __init__(self, model: Model) -> None:
        self.model = model
        self.logits: list[Tensor] = []
        self.nearest: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.unreadable: list[str] = []

    def add(self, logits: Tensor, features: Tensor, targets: Tensor) -> None:
        self.logits.append(logits.cpu())
        self.targets.append(targets)
        nearest, _ = self.model.nearest(features)
        if nearest is not None:
            self.nearest.append(nearest)

    def whole(self) -> Outputs:
        if not sum(len(targets) for targets in self.targets):
            raise SettingError("--data", "must hold images that can be read: there is none")
        nearest = torch.cat(self.nearest) if self.nearest else None
        return Outputs(torch.cat(self.logits), nearest, torch.cat(self.targets), self.unreadable)


def _few(names: Iterable[str], shown: int = 5) -> str:
    listed = list(names)
    return ", ".join(map(repr, listed[:shown])) + (f" and {len(listed) - shown} more" if len(listed) > shown else "")
