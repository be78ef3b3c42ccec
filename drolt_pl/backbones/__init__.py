"""Backbones: ``forward(x) -> (B, num_features)`` pooled penultimate features, and the attribute ``num_features``."""

from drolt_pl.backbones.convnet import SmallConvNet
from drolt_pl.backbones.imagenet import TimmBackbone, TorchvisionResNet
from drolt_pl.backbones.resnet_cifar import CifarResNet

__all__ = ["CifarResNet", "SmallConvNet", "TimmBackbone", "TorchvisionResNet"]
