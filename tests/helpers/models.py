"""A small trained model's file for the tests, without training."""

from pathlib import Path

import torch

from drolt_pl.data.images.preprocessing import Preprocessing
from drolt_pl.model import Description, Groups
from drolt_pl.model.parts import build_backbone, build_classifier

CLASSES = ("cat", "dog", "owl")


def write_model(path: Path, *, prior: str | None = "train", size: int = 16) -> Path:
    """A checkpoint of three classes, as a run writes it."""
    torch.manual_seed(0)
    sizes = {"num_features": 8, "num_classes": 3}
    backbone = {"_target_": "drolt_pl.backbones.SmallConvNet", "num_features": 8, "in_channels": 3}
    linear = {"_target_": "drolt_pl.classifiers.LinearClassifier", **sizes}
    description = Description(
        backbone=backbone,
        classifiers={"train": linear},
        class_names=CLASSES,
        class_counts=(30, 5, 2),
        preprocessing=Preprocessing(image_size=size, channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        groups=Groups(many=20, few=3),
    )
    parts = {"backbone": build_backbone(backbone), "classifiers.train": build_classifier(linear)}
    state = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    state |= {"centroids": torch.eye(3, 8), "centroid_counts": torch.tensor([30, 5, 2])}
    header = {"description": description.as_plain(), "classifier": "train", "radii": [0.5, 1.0, 2.0], "prior": prior}
    torch.save({"state_dict": state, "drolt_pl": header}, path)
    return path
