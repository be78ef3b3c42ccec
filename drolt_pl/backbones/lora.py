"""Low-rank adapters in a frozen network of timm (LoRA, Hu et al. 2022), by peft."""

from collections.abc import Callable
from typing import Any

from torch import nn

from drolt_pl.backbones.imagenet import TimmBackbone
from drolt_pl.backbones.weights import Rename
from drolt_pl.checked import checked
from drolt_pl.errors import SettingError
from drolt_pl.ranges import Few, Names, PathText, Positive, Text


@checked
class LoraBackbone(TimmBackbone):
    """A network of timm whose weights stay as they are, but for low-rank additions to some of its linear layers.

    The additions start at nought, so that the network starts as it was pretrained. Its own weights have no gradient.

    Args:
        name: A vision transformer of ``timm.list_models()``.
        rank: Rank of each addition.
        alpha: The additions are multiplied by alpha / rank.
        targets: Names of the layers that get one, as they end: ``qkv`` is the attention's in timm.
        weights, rename, in_channels, neck, options: See `TimmBackbone`.

    Raises:
        SettingError: peft is not installed, the network has no such layers, or what `TimmBackbone` refuses.
    """

    def __init__(
        self,
        name: Text,
        rank: Few = 8,
        alpha: Positive = 16.0,
        targets: Names = ("qkv",),
        weights: PathText | bool | None = None,
        rename: Rename = None,
        in_channels: Few = 3,
        neck: Callable[[int], nn.Module] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(name, weights, rename, in_channels, neck, **options)
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise SettingError("backbone=lora", "needs peft", remedy="pip install 'drolt-pl[lora]'") from error
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets))
        try:
            self.model = inject_adapter_in_model(config, self.model)  # leaves the additions alone with a gradient
        except ValueError as error:
            raise SettingError("targets", f"must be names of linear layers of {name}", list(targets)) from error
