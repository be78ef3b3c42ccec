"""A trained model out of a checkpoint, without Lightning's module, Hydra or the configuration."""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn


def load_model(checkpoint: str | Path) -> nn.Sequential:
    """Backbone and classifier of a checkpoint as one plain module, images -> logits, without Lightning or Hydra.

    Args:
        checkpoint: A file of a run's `checkpoints/` folder; its stage decides the classifier.

    Returns:
        `nn.Sequential(backbone, classifier)` in eval mode.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    meta = state["drolt_pl"]
    backbone = _build(meta["recipe"]["backbone"])
    classifier = _build(meta["recipe"]["classifiers"][meta["classifier"]])
    for part, prefix in ((backbone, "backbone."), (classifier, f"classifiers.{meta['classifier']}.")):
        weights = state["state_dict"].items()
        part.load_state_dict({key.removeprefix(prefix): value for key, value in weights if key.startswith(prefix)})
    return nn.Sequential(backbone, classifier).eval()


def _build(spec: Mapping[str, Any]) -> Any:
    home, name = spec["_target_"].rsplit(".", 1)
    kwargs = {
        key: _build(value) if isinstance(value, Mapping) and "_target_" in value else value
        for key, value in spec.items()
        if key not in ("_target_", "_partial_")
    }
    target = getattr(import_module(home), name)
    return partial(target, **kwargs) if spec.get("_partial_") else target(**kwargs)
