"""Backbones for large images: torchvision's ResNet-50 and ResNeXt-50, and any model of timm.

Both libraries are imported when a backbone is built: timm alone takes seconds, which other runs need not spend.
"""

import difflib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from drolt_pl.backbones.base import ImageBackbone, Images, Share, aside, copies, per_expert
from drolt_pl.backbones.weights import Rename, load_into, load_into_timm
from drolt_pl.checked import checked
from drolt_pl.errors import SettingError, require
from drolt_pl.ranges import Few, PathText, Text


@checked
class TorchvisionResNet(ImageBackbone):
    """torchvision's ResNet-50 or ResNeXt-50 up to its global average pooling.

    Args:
        arch: ``resnet50`` or ``resnext50_32x4d``.
        weights: None; the name of one of torchvision's weights for it (``IMAGENET1K_V1``, ``IMAGENET1K_V2``), or
            True for their default; or a file, see `read_weights`.
        rename: See `renamed`; for a file alone.
        in_channels: Channels of the input images; anything but 3 needs ``weights=None``.
        experts: Number E of experts. Several share stem, layer1 and layer2, and each has layer3 and layer4 for itself:
            drawn anew, or with ``weights`` copies of theirs.
        neck: num_features -> a module through which the last map (B, D, H, W) goes before it is pooled; None for none.

    Shapes:
        Input (B, in_channels, H, W); output (B, 2048), of experts (B, E, 2048), non-negative.

    Raises:
        SettingError: an unknown name, weights with other than 3 channels, weights that cannot be downloaded or do not
            fit.
    """

    def __init__(
        self,
        arch: Literal["resnet50", "resnext50_32x4d"] = "resnet50",
        weights: PathText | bool | None = None,
        rename: Rename = None,
        in_channels: Few = 3,
        experts: Few = 1,
        neck: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        from torchvision.models import get_model, get_model_weights

        require("in_channels", in_channels, in_channels == 3 or not weights, "must be 3 with pretrained weights")
        names = tuple(get_model_weights(arch).__members__)
        file = _file(weights, rename, names)
        published = "DEFAULT" if weights is True else None if file or not weights else weights
        try:
            model = get_model(arch, weights=published)
        except OSError as error:  # URLError is one
            raise SettingError(
                f"weights={weights}",
                f"of {arch} are not in {torch.hub.get_dir()}/checkpoints and cannot be downloaded ({error})",
                remedy="put the file there, or use weights=null",
            ) from error
        self.num_features: int = model.fc.in_features
        model.fc = nn.Identity()
        if file is not None:
            load_into(model, file, rename, name=arch, classifier="fc")
        if in_channels != 3:
            model.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
        self.num_experts = experts
        if experts > 1:
            model.layer3 = aside(copies(model.layer3, anew=not weights), experts, first=True)
            model.layer4 = aside(copies(model.layer4, anew=not weights), experts)
        if neck is not None:
            width = self.num_features
            model.avgpool = nn.Sequential(OrderedDict(neck=aside(lambda: neck(width), experts), pool=model.avgpool))
        self.model = model

    @classmethod
    def made_for(cls, arguments: dict[str, object]) -> Images:
        return Images(image_size=224)

    def forward(self, images: Tensor) -> Tensor:
        return per_expert(self.model(images), self.num_experts)


@checked
class TimmBackbone(ImageBackbone):
    """Any model of timm, up to the input of its last linear layer.

    ``num_features`` is measured on one blank image. timm's own attribute of that name is the width before a head's
    hidden layers; in MobileNetV3, VGG and others the classifier gets features of another width.

    Args:
        name: One of ``timm.list_models()``, with or without a tag of pretrained weights.
        weights: None; True for timm's own weights, which are fetched; or a file, see `read_weights`. A file's names
            must be the network's; those of its classifier are passed over.
        rename: See `renamed`; for a file alone.
        in_channels: Channels of the input images; timm adapts pretrained first layers to other numbers than 3.
        neck: Channels -> a module through which the last map (B, D, H, W) goes before the head; None for none.
        options: Passed to ``timm.create_model``, for instance ``img_size=64`` for a vision transformer. Files of
            weights that they name must be safetensors, which hold no code.

    Shapes:
        Input (B, in_channels, H, W), of the size that the model takes; output (B, num_features).

    Raises:
        SettingError: an unknown name, weights that cannot be downloaded or do not fit, a model without pooled features.
    """

    def __init__(
        self,
        name: Text,
        weights: PathText | bool | None = None,
        rename: Rename = None,
        in_channels: Few = 3,
        neck: Callable[[int], nn.Module] | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        import timm

        for former in {"pretrained", "checkpoint_path"} & set(options):
            raise SettingError(former, "is now called weights: null, true or a file")
        file = _file(weights, rename)
        _require_model(name)
        fetched = weights is True
        _refuse_pickles(options)
        try:
            model = timm.create_model(name, pretrained=fetched, num_classes=0, in_chans=in_channels, **options)
        except (OSError, RuntimeError) as error:
            if not fetched:
                raise
            demand = f"of {name} cannot be loaded ({_first_line(error)})"
            raise SettingError("weights=true", demand, remedy="use weights=null, or give a file") from error
        if file is not None:
            load_into_timm(model, file, rename, name=name, in_channels=in_channels)
        self.model = model
        self.neck = nn.Identity() if neck is None else neck(model.num_features)
        try:
            self.num_features = _measure(self, (in_channels, *_image_size(model)), name)
        except (TypeError, ValueError, RuntimeError) as error:  # one of torch: patches larger than the images
            if isinstance(error, SettingError) or not options:
                raise
            raise SettingError("name", f"cannot be run with {options} ({error})", name) from error

    @classmethod
    def made_for(cls, arguments: dict[str, object]) -> Images:
        found = _configuration(str(arguments.get("name")))
        return Images(int(found.input_size[1]), tuple(found.mean), tuple(found.std))

    @classmethod
    def sized_for(cls, shape: tuple[int, ...], arguments: dict[str, object]) -> dict[str, object]:
        """Also `img_size`, for networks with a position embedding of another size, such as vision transformers."""
        found = _configuration(str(arguments.get("name")))
        other = found.fixed_input_size and "img_size" not in arguments and found.input_size[1] != shape[-1]
        return {**super().sized_for(shape, arguments), **({"img_size": shape[-1]} if other else {})}

    def layer_shares(self, decay: float) -> dict[nn.Parameter, Share]:
        """As timm groups the network's layers; what the network excepts from decay, such as embeddings, is left out."""
        from timm.optim import param_groups_layer_decay

        excepted = self.model.no_weight_decay() if callable(getattr(self.model, "no_weight_decay", None)) else ()
        groups = param_groups_layer_decay(self.model, 1.0, excepted, layer_decay=decay)
        return {
            parameter: Share(group["lr_scale"], group["weight_decay"] > 0)
            for group in groups
            for parameter in group["params"]
        }

    def forward(self, images: Tensor) -> Tensor:
        maps = self.neck(self.model.forward_features(images))
        features: Tensor = self.model.forward_head(maps, pre_logits=True)
        return features


def _require_model(name: str) -> None:
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        remedy = f"near are {', '.join(near)}" if near else ""
        raise SettingError("name", "must be one of timm.list_models()", name, remedy=remedy)


def _configuration(name: str) -> Any:
    """What timm says of the images that its weights of a network were trained on."""
    from timm.models import get_pretrained_cfg

    _require_model(name)
    return get_pretrained_cfg(name) or get_pretrained_cfg("resnet18")  # timm's defaults, ImageNet at 224 pixels


def _file(weights: str | bool | None, rename: str | None, published: tuple[str, ...] | None = None) -> str | None:
    """The file that `weights` names; null where it names none."""
    text = weights if isinstance(weights, str) else None
    if published is not None and text is not None and text not in published and not Path(text).expanduser().exists():
        raise SettingError("weights", f"must be null, true, a file that exists, or one of {published}", weights)
    file = None if published is not None and text in published else text
    require("rename", rename, rename is None or file is not None, "must be null where weights names no file")
    return file


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")


def _refuse_pickles(options: Mapping[str, object]) -> None:
    """Refuses files of weights that may be pickles: not every release of timm reads these as weights alone."""
    files: dict[str, object] = {"checkpoint_path": options.get("checkpoint_path")}
    for key in ("pretrained_cfg", "pretrained_cfg_overlay"):
        values = options.get(key)
        if isinstance(values, Mapping):
            files |= {f"{key}.{name}": values.get(name) for name in ("file", "url")}
    for key, file in files.items():
        require(key, file, not file or str(file).endswith(".safetensors"), "must be a .safetensors file")


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
