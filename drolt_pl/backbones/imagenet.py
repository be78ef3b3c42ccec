"""Backbones for large images: torchvision's ResNet-50 and ResNeXt-50, and any model of timm.

Both libraries are imported when a backbone is built: timm alone takes seconds, which other runs need not spend.
"""

import difflib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from drolt_pl.backbones.base import Backbone
from drolt_pl.checked import checked
from drolt_pl.errors import SettingError, require
from drolt_pl.ranges import Few, Text


@checked
class TorchvisionResNet(Backbone):
    """torchvision's ResNet-50 or ResNeXt-50 up to its global average pooling.

    Args:
        arch: ``resnet50`` or ``resnext50_32x4d``.
        weights: None, or the name of one of torchvision's weights for it (``IMAGENET1K_V1``, ``IMAGENET1K_V2``).
        in_channels: Channels of the input images; anything but 3 needs ``weights=None``.
        neck: num_features -> a module through which the last map (B, D, H, W) goes before it is pooled; None for none.

    Shapes:
        Input (B, in_channels, H, W); output (B, 2048), non-negative.

    Raises:
        SettingError: an unknown name, weights with other than 3 channels, weights that cannot be downloaded.
    """

    def __init__(
        self,
        arch: Literal["resnet50", "resnext50_32x4d"] = "resnet50",
        weights: Text | None = None,
        in_channels: Few = 3,
        neck: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        from torchvision.models import get_model, get_model_weights

        require("in_channels", in_channels, in_channels == 3 or weights is None, "must be 3 with pretrained weights")
        names = tuple(get_model_weights(arch).__members__)
        require("weights", weights, weights is None or weights in names, f"must be null or one of {names}")
        try:
            model = get_model(arch, weights=weights)
        except OSError as error:  # URLError is one
            raise SettingError(
                f"weights={weights}",
                f"of {arch} are not in {torch.hub.get_dir()}/checkpoints and cannot be downloaded ({error})",
                remedy="put the file there, or use weights=null",
            ) from error
        self.num_features: int = model.fc.in_features
        model.fc = nn.Identity()
        if in_channels != 3:
            model.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
        if neck is not None:
            model.avgpool = nn.Sequential(OrderedDict(neck=neck(self.num_features), pool=model.avgpool))
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model(images)
        return features


@checked
class TimmBackbone(Backbone):
    """Any model of timm, up to the input of its last linear layer.

    ``num_features`` is measured on one blank image. timm's own attribute of that name is the width before a head's
    hidden layers; in MobileNetV3, VGG and others the classifier gets features of another width.

    Args:
        name: One of ``timm.list_models()``, with or without a tag of pretrained weights.
        pretrained: Whether to load timm's weights for it.
        in_channels: Channels of the input images; timm adapts pretrained first layers to other numbers than 3.
        neck: Channels -> a module through which the last map (B, D, H, W) goes before the head; None for none.
        options: Passed to ``timm.create_model``, for instance ``img_size=64`` for a vision transformer.

    Shapes:
        Input (B, in_channels, H, W), of the size that the model takes; output (B, num_features).

    Raises:
        SettingError: an unknown name, weights that cannot be downloaded, a model without pooled features.
    """

    def __init__(
        self,
        name: Text,
        pretrained: bool = False,
        in_channels: Few = 3,
        neck: Callable[[int], nn.Module] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        import timm

        if not timm.is_model(name):
            near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
            remedy = f"near are {', '.join(near)}" if near else ""
            raise SettingError("name", "must be one of timm.list_models()", name, remedy=remedy)
        try:
            model = timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=in_channels, **options)
        except Exception as error:  # of whatever model is named
            reason = next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
            if not (pretrained and isinstance(error, OSError | RuntimeError)):
                given = f" with {options}" if options else ""
                raise SettingError("name", f"cannot be built{given} ({reason})", name) from error
            demand = f"weights of {name} cannot be loaded ({reason})"
            raise SettingError("pretrained", demand, remedy="use pretrained=false") from error
        self.model = model
        self.neck = nn.Identity() if neck is None else neck(model.num_features)
        try:
            self.num_features = _measure(self, (in_channels, *_image_size(model)), name)
        except (TypeError, ValueError) as error:
            if isinstance(error, SettingError) or not options:
                raise
            raise SettingError("name", f"cannot be run with {options} ({error})", name) from error

    def forward(self, images: Tensor) -> Tensor:
        maps = self.neck(self.model.forward_features(images))
        features: Tensor = self.model.forward_head(maps, pre_logits=True)
        return features


def _image_size(model: Any) -> tuple[int, int]:
    """Height and width of the model's images: the size it was built for, else the size it was published with."""
    patches = getattr(model, "patch_embed", None)
    height, width = getattr(patches, "img_size", None) or model.pretrained_cfg["input_size"][1:]
    return int(height), int(width)


@torch.no_grad()
def _measure(backbone: nn.Module, shape: tuple[int, ...], name: str) -> int:
    was_training = backbone.training
    backbone.eval()  # one blank image must not move BatchNorm's statistics
    features = backbone(torch.zeros(1, *shape))
    backbone.train(was_training)
    if not isinstance(features, Tensor) or features.ndim != 2:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise SettingError("name", f"must be a model with one pooled feature vector per image, {name} gives {got}")
    return int(features.shape[1])
