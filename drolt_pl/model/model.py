"""A trained model as one plain module: backbone, classifier, and facts about its classes and images."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from drolt_pl.backbones import Backbone
from drolt_pl.data.images.preprocessing import ImageLike, Preprocessing
from drolt_pl.errors import SettingError, require_int
from drolt_pl.model import files
from drolt_pl.model.description import Description, Groups
from drolt_pl.model.parts import build_backbone, build_classifier
from drolt_pl.model.predictions import Predictions

TOP = 5  # classes of a prediction


class Model(nn.Module):
    """Maps images to logits and features, and knows its classes; `Model.load` makes one from a file.

    Args:
        backbone: Images (B, C, H, W) -> features.
        classifier: Features -> logits (B, K).
        description: Rebuilds the two, and holds the facts about classes and images.
        stage: The stage that owns the classifier.
        centroids: Class means of the features, (K, D); None if there are none.
        centroid_counts: Images behind each centroid, (K,).
        radii: Radii of the classes' balls, (K,); None if there are none.

    Shapes:
        Normalised images (B, C, H, W); logits (B, K).
    """

    centroids: Tensor | None
    centroid_counts: Tensor | None
    radii: Tensor | None

    def __init__(
        self,
        backbone: Backbone,
        classifier: nn.Module,
        *,
        description: Description,
        stage: str,
        centroids: Tensor | None = None,
        centroid_counts: Tensor | None = None,
        radii: Tensor | None = None,
    ) -> None:
        super().__init__()
        # As in training, so that results are the same to the last bit.
        self.backbone = backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.classifier = classifier
        self.description, self.stage = description, stage
        for name, value in {"centroids": centroids, "centroid_counts": centroid_counts, "radii": radii}.items():
            self.register_buffer(name, value)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, stage: str | None = None, trust: bool = False) -> Self:
        """Loads the model of a file, on the CPU and in eval mode.

        Args:
            path: A run's folder, one of its checkpoints, or a file that `save` wrote.
            stage: The stage of a run's folder whose last epoch is taken; None takes the model that the run reports.
            trust: Whether the file may name classes of your own. They are imported and built, so the file then
                decides what runs; without trust only our backbones, necks and classifiers are built.

        Raises:
            SettingError: there is no such file, it is damaged, or it describes another network.
        """
        stored = files.read(_file(Path(path), stage))
        backbone = build_backbone(stored.description.backbone, trust=trust)
        model = cls(
            backbone,
            build_classifier(stored.description.classifiers[stored.stage], trust=trust),
            description=stored.description,
            stage=stored.stage,
            centroids=stored.centroids,
            centroid_counts=stored.centroid_counts,
            radii=stored.radii,
        )
        for part, prefix in ((model.backbone, "backbone."), (model.classifier, "classifier.")):
            _load_weights(part, prefix, stored.tensors, path)
        return model.eval()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes weights and description as safetensors, which hold no code; `Model.load` reads them."""
        parts = {"backbone": self.backbone, "classifier": self.classifier}
        tensors = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
        files.write(
            Path(path),
            files.Stored(self.description, self.stage, tensors, self.centroids, self.centroid_counts, self.radii),
        )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes in the order of the logits."""
        return self.description.class_names

    @property
    def class_counts(self) -> tuple[int, ...] | None:
        """Training images by class; None if the checkpoint does not record them."""
        return self.description.class_counts

    @property
    def groups(self) -> Groups:
        """Limits of the shot groups."""
        return self.description.groups

    @property
    def preprocessing(self) -> Preprocessing:
        """The steps by which `predict` prepares an image.

        Raises:
            SettingError: the checkpoint does not record them.
        """
        if self.description.preprocessing is None:
            demand = "does not know its preprocessing, so it takes normalised images alone: model(images)"
            raise SettingError("this model", demand)
        return self.description.preprocessing

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of normalised images (B, C, H, W)."""
        logits: Tensor = self.classifier(self._features(images))
        return logits

    def embed(self, images: Tensor) -> Tensor:
        """Features (B, D) of normalised images; features of E experts are concatenated."""
        return self._features(images).flatten(1)

    @torch.inference_mode()
    def predict(self, images: Sequence[ImageLike] | Tensor, *, batch_size: int = 64) -> Predictions:
        """Classifies images, after decoding and normalising them as validation did in training.

        Args:
            images: Paths, PIL images or uint8 tensors (C, H, W).
            batch_size: Number of images that are decoded and go forward together.

        Raises:
            SettingError: an image cannot be read, or the model does not know its preprocessing.
        """
        require_int("batch_size", batch_size, at_least=1)
        if isinstance(images, str) or not len(images):
            raise SettingError("images", "must be a list of at least one image", images)
        device = next(iter(self.state_dict().values())).device
        logits, features = [], []
        for start in range(0, len(images), batch_size):
            batch = self.preprocessing(list(images[start : start + batch_size]))
            found = self._features(batch.to(device))
            logits.append(self.classifier(found).float())
            features.append(found.flatten(1))
        top = torch.cat(logits).softmax(1).topk(min(TOP, len(self.class_names)))
        nearest, ratio = self._nearest(torch.cat(features))
        return Predictions(self.class_names, top.values.cpu(), top.indices.cpu(), nearest, ratio)

    def _features(self, images: Tensor) -> Tensor:
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.backbone(images)
        return features

    def _nearest(self, features: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The nearest centroid of each row, and the distance to it over its radius."""
        if self.centroids is None or self.centroid_counts is None:
            return None, None
        features, centroids = features.float(), self.centroids.float()
        if self.description.feature_norm == "l2" or self.description.distance == "cosine":
            features = F.normalize(features, dim=1)
        if self.description.distance == "cosine":
            centroids = F.normalize(centroids, dim=1)
        distances = torch.cdist(features, centroids, compute_mode="donot_use_mm_for_euclid_dist")
        distances = distances.masked_fill(self.centroid_counts == 0, torch.inf)  # classes without images have none
        smallest = distances.min(1)
        ratio = None if self.radii is None else (smallest.values / self.radii[smallest.indices]).cpu()
        return smallest.indices.cpu(), ratio


load_model = Model.load


def _file(path: Path, stage: str | None) -> Path:
    """The file of a model: the path itself, or a checkpoint in a run's folder."""
    if not path.is_dir():
        if stage is not None:
            raise SettingError("stage", "can only be chosen in a run's folder", stage)
        return path
    name = "best" if stage is None else stage
    found = path / "checkpoints" / f"{name}.ckpt"
    if not found.is_file():
        offered = sorted(file.stem for file in found.parent.glob("*.ckpt"))
        demand = f"must be the folder of a finished run: it has no checkpoints/{name}.ckpt, but {offered}"
        raise SettingError("model", demand, str(path))
    return found


def _load_weights(part: nn.Module, prefix: str, tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    try:
        part.load_state_dict(own)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise SettingError("model", f"has weights that do not fit its description ({reason})", str(path)) from error
