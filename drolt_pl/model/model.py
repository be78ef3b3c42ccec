"""A trained model as one plain module: backbone, classifier, and facts about its classes and images."""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from drolt_pl.backbones import Backbone
from drolt_pl.data.images.preprocessing import ImageLike, Preprocessing
from drolt_pl.errors import SettingError, require_int
from drolt_pl.model import files
from drolt_pl.model.description import Description, Groups
from drolt_pl.model.nearest import nearest_centroid
from drolt_pl.model.parts import build_backbone, build_classifier, load_weights
from drolt_pl.model.predictions import Prediction, Predictions, Unreadable
from drolt_pl.model.stream import read, views

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
        stored = files.read(files.located(Path(path), stage))
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
            load_weights(part, prefix, stored.tensors, path)
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
        """Logits (B, K) of normalised images (B, C, H, W), float."""
        logits: Tensor = self.classifier(self._features(images))
        return logits

    def embed(self, images: Sequence[ImageLike] | Tensor, *, batch_size: int = 64, workers: int = 0) -> Tensor:
        """Features (B, D); features of E experts are concatenated.

        Args:
            images: Normalised images (B, C, H, W), float, whose features carry gradients; or what `predict` takes.
            batch_size: As in `predict`; normalised images go forward together.
            workers: Processes that decode.

        Raises:
            SettingError: as `predict`.
        """
        if isinstance(images, Tensor) and images.is_floating_point():
            return self._features(images).flatten(1)
        parts = [self.outputs(pixels)[1] for pixels in views(images, self.preprocessing, batch_size, workers)]
        return torch.cat(parts)  # no tensor of inference mode, so that a classifier may learn on it

    def predict(
        self, images: Sequence[ImageLike] | Tensor, *, batch_size: int = 64, workers: int = 0, top: int = TOP
    ) -> Predictions:
        """What the model says of images, which it decodes and normalises as validation did in training.

        Args:
            images: Paths, PIL images or uint8 tensors (C, H, W).
            batch_size: Images that go forward together.
            workers: Processes that decode; 0 decodes in threads.
            top: The most probable classes that each prediction names.

        Raises:
            SettingError: an image cannot be read, or the model does not know its preprocessing.
        """
        found = views(images, self.preprocessing, batch_size, workers)
        return Predictions.joined([self.judge(pixels, top=top) for pixels in found])

    def predict_iter(
        self, images: Iterable[ImageLike], *, batch_size: int = 64, workers: int = 0, top: int = TOP
    ) -> Iterator[Prediction | Unreadable]:
        """As `predict`, in memory that does not grow: an answer for each image, in order, as the images come.

        Args:
            images: Paths, PIL images or uint8 tensors (C, H, W), any number of them.
            batch_size: As in `predict`, like what follows.
            workers: Processes that decode.
            top: Classes that a prediction names.

        Yields:
            A `Prediction`, or `Unreadable` in the place of an image that cannot be read.
        """
        for batch in read(images, self.preprocessing, batch_size, workers):
            found = iter(self.judge(batch.pixels, top=top))
            for error in batch.errors:
                yield next(found) if error is None else Unreadable(str(error))

    @torch.inference_mode()
    def judge(
        self, pixels: Tensor, *, top: int = TOP, prior_shift: Tensor | None = None, scale: float = 1.0
    ) -> Predictions:
        """What the model says of images that are decoded already.

        Args:
            pixels: Their evaluation views, uint8 (B, C, H, W), as `preprocessing.pixels` gives them; B may be 0.
            top: The most probable classes that each prediction names.
            prior_shift: Added to the logits, (K,): logarithms of class frequencies where the images come from, over
                those that the model assumes.
            scale: The logits are multiplied by it first: one over a temperature.
        """
        require_int("top", top, at_least=1)
        logits, features = self.outputs(pixels)
        logits = logits if prior_shift is None else scale * logits + prior_shift.to(logits)
        found = logits.softmax(1).topk(min(top, len(self.class_names)))
        nearest, ratio = self.nearest(features)
        return Predictions(self.class_names, found.values.cpu(), found.indices.cpu(), nearest, ratio)

    @torch.inference_mode()
    def outputs(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) and features (B, D), float32, of evaluation views as `judge` takes them."""
        device = next(chain(self.parameters(), self.buffers())).device
        # A network need not take an empty batch: a black image stands in, and its row is cut off.
        shown = pixels if len(pixels) else torch.zeros(1, *pixels.shape[1:], dtype=torch.uint8)
        logits, features = self.normalised_outputs(self.preprocessing.normalised(shown.to(device)))
        return logits[: len(pixels)], features[: len(pixels)]

    @torch.inference_mode()
    def normalised_outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same of normalised images (B, C, H, W), as `forward` takes them."""
        features = self._features(images)
        logits: Tensor = self.classifier(features)
        return logits.float(), features.flatten(1).float()

    def _features(self, images: Tensor) -> Tensor:
        if not isinstance(images, Tensor) or not images.is_floating_point():
            kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
            demand = "must be normalised, a tensor of floats (B, C, H, W): predict and embed take files and pixels"
            raise SettingError("images", demand, str(kind))
        if images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.backbone(images)
        return features

    def nearest(self, features: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Class of the centroid nearest to features (B, D), (B,), and the distance to it over its radius, (B,).

        None where the model has no centroids, or no radii.
        """
        if self.centroids is None or self.centroid_counts is None:
            return None, None
        space = self.description.distance, self.description.feature_norm
        nearest, distances = nearest_centroid(features, self.centroids, self.centroid_counts, *space)
        return nearest.cpu(), None if self.radii is None else (distances / self.radii[nearest]).cpu()


load_model = Model.load
