"""Backbones: ``forward(x) -> (B, num_features)`` pooled penultimate features, and the attribute ``num_features``.

Each takes a ``neck``, num_features -> module, through which its last feature map goes before it is pooled.
"""

from drolt_pl.backbones.attention import ModulatedAttention
from drolt_pl.backbones.base import Backbone, each
from drolt_pl.backbones.convnet import SmallConvNet
from drolt_pl.backbones.imagenet import TimmBackbone, TorchvisionResNet
from drolt_pl.backbones.resnet_cifar import CifarResNet

__all__ = ["Backbone", "CifarResNet", "ModulatedAttention", "SmallConvNet", "TimmBackbone", "TorchvisionResNet", "each"]
