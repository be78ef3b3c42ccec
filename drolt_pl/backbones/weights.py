"""Pretrained weights out of a file: read without executing it, and compared with a network before they are loaded."""

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from drolt_pl.errors import SettingError, require_choice

Weights = dict[str, Tensor]
RENAMES = (None, "order")
WRAPPERS = ("state_dict", "model")  # keys under which training scripts keep the weights
COUNTER = "num_batches_tracked"  # of BatchNorm: older files lack it, and nothing reads it
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
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).split(". ")[0][:100].rstrip(".")
        demand = f"must be a file of tensors alone, a state dict or safetensors: {path} is not ({reason})"
        raise SettingError("weights", demand) from error
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    named = isinstance(content, Mapping) and all(isinstance(value, Tensor) for value in content.values())
    if not named or not content:
        raise SettingError("weights", f"must hold tensors by name: {path} holds {_kinds(content)}")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def renamed(weights: Weights, network: Weights, rename: str | None) -> Weights:
    """Weights under the network's names.

    Args:
        weights: Of the file.
        network: Of the network without its classifier, in its own order.
        rename: None keeps the names. `order` takes the tensors as they come: each must have the shape of the
            network's at the same place; what is left, a weight and perhaps a bias, is the classifier's and is dropped.

    Raises:
        SettingError: another value of `rename`, or tensors that do not fit one by one.
    """
    require_choice("rename", rename, RENAMES)
    if rename is None:
        return weights
    why = _order_misfit(weights, network)
    if why is not None:
        raise SettingError("rename", f"must be null where the file's tensors differ from the network's: {why}")
    theirs, ours = _counted(weights), _counted(network)
    return dict(zip(ours, theirs.values(), strict=False))


def require_fit(
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
    return {name: value for name, value in weights.items() if not name.endswith(COUNTER)}


def _listed(names: Collection[str], what: str) -> str:
    shown = ", ".join(list(names)[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    return f"{len(names)} names are {what}" + (f" ({shown})" if names else "")


def _kinds(content: object) -> str:
    if isinstance(content, Mapping):
        return f"{', '.join(map(str, list(content)[:SHOWN]))}" or "nothing"
    return type(content).__name__
