"""Backbones: ``forward(x) -> (B, num_features)`` pooled penultimate features, and the attribute ``num_features``.

Those of images take a ``neck``, num_features -> module, through which the last feature map goes before it is pooled.
"""

from drolt_pl.backbones.attention import ModulatedAttention
from drolt_pl.backbones.base import WEIGHTS, Backbone, Images, Share, each
from drolt_pl.backbones.convnet import SmallConvNet
from drolt_pl.backbones.features import MLP, Identity
from drolt_pl.backbones.imagenet import TimmBackbone, TorchvisionResNet
from drolt_pl.backbones.lora import LoraBackbone
from drolt_pl.backbones.resnet_cifar import CifarResNet

__all__ = [
    "MLP",
    "WEIGHTS",
    "Backbone",
    "CifarResNet",
    "Identity",
    "Images",
    "LoraBackbone",
    "ModulatedAttention",
    "Share",
    "SmallConvNet",
    "TimmBackbone",
    "TorchvisionResNet",
    "each",
]
