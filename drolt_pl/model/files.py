"""The two kinds of files that hold a model: checkpoints of a run, and files that `Model.save` writes.

Neither executes anything: pickles load as plain values and tensors alone, and every tensor is compared with its
checksum.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from drolt_pl import checkpoint_file
from drolt_pl.checkpoint_file import DamagedError
from drolt_pl.disk import write_whole
from drolt_pl.errors import SettingError, reason
from drolt_pl.model.description import Description

HEADER = "drolt_pl"  # key of our header, in both files
FOR_OTHERS = (".onnx", ".pt2")  # what `drolt export` writes for them
NOT_OURS = "must be a run's folder, one of its checkpoints or a file that Model.save wrote"


@dataclass(frozen=True)
class Stored:
    """The content of a model's file.

    Attributes:
        description: Rebuilds the networks.
        stage: The stage that owns the classifier.
        tensors: The weights, `backbone.*` and `classifier.*`.
        centroids: (C, D), or None before the first centroid pass.
        centroid_counts: Images behind each centroid, (C,).
        radii: (C,), or None for a method without them.
    """

    description: Description
    stage: str
    tensors: Mapping[str, Tensor]
    centroids: Tensor | None
    centroid_counts: Tensor | None
    radii: Tensor | None


def located(path: Path, stage: str | None) -> Path:
    """The file of a model: itself, or a checkpoint of a run's folder."""
    if not path.is_dir():
        if stage is not None:
            raise SettingError("stage", "can only be chosen in a run's folder", stage)
        return path
    name = "best" if stage is None else stage
    found = path / "checkpoints" / f"{name}.ckpt"
    if not found.is_file():
        offered = sorted(file.stem for file in found.parent.glob("*.ckpt"))
        but = f", but {offered}" if offered else ", and no others"
        demand = f"must be the folder of a finished run: it has no checkpoints/{name}.ckpt{but}"
        raise SettingError("model", demand, str(path))
    return found


def read(path: Path) -> Stored:
    """Reads a file of either kind.

    Raises:
        SettingError: the file is of neither kind, or damaged.
    """
    if not path.is_file():
        raise SettingError("model", f"{NOT_OURS}: there is no such file", str(path))
    if path.suffix.lower() in FOR_OTHERS:
        raise SettingError("model", f"{NOT_OURS}: it is a network for other programs; export safetensors", str(path))
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    return _read_checkpoint(path) if is_zip else _read_safetensors(path)


def write(path: Path, stored: Stored) -> None:
    """Writes weights and header as safetensors; a file that was there is replaced at once or not at all."""
    extra = {"centroids": stored.centroids, "centroid_counts": stored.centroid_counts, "radii": stored.radii}
    found = {**stored.tensors, **{key: value for key, value in extra.items() if value is not None}}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}
    header = {
        "description": stored.description.as_plain(),
        "stage": stored.stage,
        "checksums": {name: _checksum(tensor) for name, tensor in tensors.items()},
    }
    write_whole(path, save(tensors, metadata={HEADER: json.dumps(header)}))


def _read_safetensors(path: Path) -> Stored:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(metadata[HEADER])
        stage, checksums = header["stage"], header["checksums"]
        description = Description.read(header["description"])
        description.classifiers[stage]
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise SettingError("model", f"{NOT_OURS}, whole ({_reason(error)})", str(path)) from error
    damaged = [name for name, tensor in tensors.items() if checksums.get(name) != _checksum(tensor)]
    if damaged or tensors.keys() != checksums.keys():
        raise SettingError("model", f"is damaged: its tensors do not match their checksums ({damaged[:3]})", str(path))
    extra = {name: tensors.pop(name, None) for name in ("centroids", "centroid_counts", "radii")}
    return Stored(description, str(stage), tensors, **extra)


def _read_checkpoint(path: Path) -> Stored:
    try:
        content = checkpoint_file.read(path)
        ours, state = content[HEADER], content["state_dict"]
        description = Description.read(ours.get("description") or ours["recipe"])
        stage, radii = str(ours["classifier"]), ours.get("radii")
        spec = description.classifiers[stage]
    except DamagedError as error:
        raise SettingError("model", error.demand, str(path)) from error
    except (OSError, KeyError, TypeError) as error:
        raise SettingError("model", f"{NOT_OURS}, whole ({_reason(error)})", str(path)) from error
    own = {"backbone.": "backbone.", f"classifiers.{stage}.": "classifier."}
    tensors = {
        new + key.removeprefix(old): value
        for old, new in own.items()
        for key, value in state.items()
        if key.startswith(old)
    }
    counts = state.get("centroid_counts")
    known = counts is not None and bool(counts.any())
    plain = description.as_plain() | {"classifiers": {stage: dict(spec)}, "prior": ours.get("prior")}
    if known and description.class_counts is None:
        plain["class_counts"] = counts.tolist()
    return Stored(
        Description.read(plain),
        stage,
        tensors,
        state["centroids"] if known else None,
        counts if known else None,
        None if radii is None else torch.tensor(radii),
    )


def _checksum(tensor: Tensor) -> str:
    flat = tensor.contiguous().flatten().view(torch.uint8) if tensor.numel() else tensor.new_zeros(0, dtype=torch.uint8)
    head = f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    return hashlib.sha256(head + flat.numpy().tobytes()).hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return reason(error)[:100]
