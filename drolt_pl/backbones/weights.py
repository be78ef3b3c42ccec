"""Pretrained weights out of a file: read without executing it, and compared with a network before they are loaded."""

import logging
import pickle
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from drolt_pl.errors import SettingError, reason, require

Weights = dict[str, Tensor]
Rename = Literal["order"] | None
WRAPPERS = ("state_dict", "model")  # keys under which training scripts keep the weights
COUNTER = "num_batches_tracked"  # of BatchNorm, a whole number: older files lack it, and nothing reads it
SHOWN = 3  # names that a message holds


def read_weights(path: str) -> Weights:
    """The tensors of a file by name: .safetensors, or a state dict that torch saved (.pth, .pt), perhaps wrapped.

    Raises:
        SettingError: no such file, or one that holds anything but tensors and plain values.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise SettingError("weights", "must be null, true, or a file that exists", path)
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        why = reason(error).split(". ")[0][:100].rstrip(".")
        demand = f"must be a file of tensors alone, a state dict or safetensors: {path} is not ({why})"
        raise SettingError("weights", demand) from error
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    named = isinstance(content, Mapping) and all(isinstance(value, Tensor) for value in content.values())
    if not named or not content:
        raise SettingError("weights", f"must hold tensors by name: {path} holds {_kinds(content)}")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def load_into(model: nn.Module, path: str, rename: Rename, *, name: str, classifier: str) -> None:
    """Loads a file's weights, all but the classifier's, into a network without one.

    Args:
        model: The network.
        path: See `read_weights`.
        rename: See `renamed`.
        name: Of the network, for messages.
        classifier: Name of the classifier's layer in the file.

    Raises:
        SettingError: a file that does not fit.
    """
    network, read = model.state_dict(), read_weights(path)
    weights = renamed(read, network, rename)
    kept = {key: value for key, value in weights.items() if not key.startswith(f"{classifier}.")}
    missing, unexpected = [key for key in network if key not in kept], [key for key in kept if key not in network]
    _require_fit(name, path, missing, unexpected, read, network)
    with _fitting(name, path):
        model.load_state_dict(kept, strict=False)


def load_into_timm(model: Any, path: str, rename: Rename, *, name: str, in_channels: int) -> None:
    """The same by timm, which adapts what it knows: first layers to channels, position embeddings to sizes."""
    from timm.models import load_pretrained

    require("in_channels", in_channels, in_channels == 3 or rename is None, "must be 3 with rename=order")
    network, read = model.state_dict(), read_weights(path)
    config = {**model.pretrained_cfg, "state_dict": dict(renamed(read, network, rename)), "source": ""}
    convert = vars(sys.modules[type(model).__module__]).get("checkpoint_filter_fn")
    found: list[tuple[list[str], list[str]]] = []
    handle = model.register_load_state_dict_post_hook(lambda _, keys: found.append((list(keys[0]), list(keys[1]))))
    logger = logging.getLogger("timm.models._builder")  # warns of all names, which we put into a sentence
    logger.disabled = True
    try:
        with _fitting(name, path):
            load_pretrained(model, config, num_classes=0, in_chans=in_channels, filter_fn=convert)
    finally:
        handle.remove()
        logger.disabled = False
    _require_fit(name, path, *found[0], read, network)


@contextmanager
def _fitting(name: str, path: str) -> Iterator[None]:
    """Says in a sentence what torch and timm say of tensors that they cannot load."""
    try:
        yield
    except (RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        why = lines[min(1, len(lines) - 1)].rstrip(".")
        raise SettingError("weights", f"must be a file of {name}: {path} does not fit ({why})") from error


def renamed(weights: Weights, network: Weights, rename: Rename) -> Weights:
    """Weights under the network's names.

    Args:
        weights: Of the file.
        network: Of the network without its classifier, in its own order.
        rename: None keeps the names. `order` takes the tensors as they come: each must have the shape of the
            network's at the same place; what is left, a weight and perhaps a bias, is the classifier's and is dropped.

    Raises:
        SettingError: tensors that do not fit one by one.
    """
    if rename is None:
        return weights
    why = _order_misfit(weights, network)
    if why is not None:
        raise SettingError("rename", f"must be null where the file's tensors differ from the network's: {why}")
    theirs, ours = _counted(weights), _counted(network)
    return dict(zip(ours, theirs.values(), strict=False))


def _require_fit(
    name: str, path: str, missing: Collection[str], unexpected: Collection[str], weights: Weights, network: Weights
) -> None:
    """Refuses weights that are not the network's, and says which names differ.

    Args:
        name: The network.
        path: The file.
        missing: Names of the network that the file lacks.
        unexpected: Names of the file that the network lacks, the classifier's left out.
        weights: Of the file.
        network: Of the network without its classifier.

    Raises:
        SettingError: some name differs, but for BatchNorm's counters.
    """
    lacking, foreign = ([key for key in keys if not key.endswith(COUNTER)] for keys in (missing, unexpected))
    if not lacking and not foreign:
        return
    demand = f"must be a file of {name}: in {path} {_listed(lacking, 'missing')}, {_listed(foreign, 'unexpected')}"
    same = _order_misfit(weights, network) is None
    remedy = "its tensors have the network's shapes in the network's order, so rename=order would take them"
    raise SettingError("weights", demand, remedy=remedy if same else "")


def _order_misfit(weights: Weights, network: Weights) -> str | None:
    """Why tensors cannot be taken in order; null where they can."""
    theirs, ours = list(_counted(weights).items()), list(_counted(network).items())
    for (their_name, their), (our_name, our) in zip(theirs, ours, strict=False):
        if their.shape != our.shape:
            return f"{their_name} has shape {tuple(their.shape)}, {our_name} {tuple(our.shape)}"
    left = len(theirs) - len(ours)
    return None if 0 <= left <= 2 else f"it has {len(theirs)} of them, the network {len(ours)} without its classifier"


def _counted(weights: Weights) -> Weights:
    """All but BatchNorm's counters, whatever their names."""
    return {name: value for name, value in weights.items() if value.ndim or value.is_floating_point()}


def _listed(names: Collection[str], what: str) -> str:
    shown = ", ".join(list(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{len(names)} names are {what}" + (f" ({shown})" if names else "")


def _kinds(content: object) -> str:
    if isinstance(content, Mapping):
        return f"{', '.join(map(str, list(content)[:SHOWN]))}" or "nothing"
    return type(content).__name__
