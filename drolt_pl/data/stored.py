"""The file of stored features: .safetensors, or .npz without pickles."""

import errno
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from drolt_pl.data.longtail import IntArray
from drolt_pl.data.prepare.index import PART_NAMES
from drolt_pl.errors import SettingError, reason

DTYPES = (torch.float32, torch.float16)
SUFFIXES = (".safetensors", ".npz")
Arrays = dict[str, Tensor | NDArray[np.generic]]


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """Features, labels, and what else the file says.

    Attributes:
        features: Of every sample as evaluation sees it, (N, D), float32 or float16; of safetensors mapped, not read.
        targets: Class ids, (N,), int64 in [0, C).
        official: Part of each sample, (N,): "train", "val" or "test".
        class_names: C names.
        names: Identity of each sample, (N,), such as its image's path.
        views: Augmented views of the training samples in their order, (V, M, D); None where there are none.
        metadata: What the writer said of the features, such as the network.
    """

    features: Tensor
    targets: IntArray
    official: NDArray[np.str_]
    class_names: Sequence[str]
    names: NDArray[np.bytes_]
    views: Tensor | None
    metadata: Mapping[str, str]

    def save(self, path: Path) -> None:
        """Writes safetensors; an older file is replaced at once or not at all.

        Raises:
            OSError: it could not be written.
        """
        width = self.names.dtype.itemsize
        tensors = {
            "features": self.features,
            "labels": torch.from_numpy(self.targets),
            "split": torch.tensor([PART_NAMES.index(part) for part in self.official], dtype=torch.uint8),
            "names": torch.from_numpy(self.names.view(np.uint8).reshape(-1, width).copy()),
            **({} if self.views is None else {"views": self.views}),
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            metadata = {**self.metadata, "class_names": json.dumps(list(self.class_names))}
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata)
            temporary.replace(path)
        except SafetensorError as error:  # a full disk is one
            raise OSError(errno.EIO, str(error), str(path)) from error
        finally:
            temporary.unlink(missing_ok=True)


def holds_features(path: Path) -> bool:
    """Whether a file is one of stored features, by its suffix and the names of its arrays."""
    if path.suffix == ".npz" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "features.npy" in archive.namelist()
    return path.suffix == ".safetensors"


def read_features(path: Path) -> StoredFeatures:
    """Reads a file of stored features.

    Its arrays: `features` (N, D) and `labels` (N,) of whole numbers or, in an .npz, text; perhaps `split` (N,) of
    train, val and test as text or as 0, 1, 2; `class_names` (C,) as text, in safetensors a JSON list in the metadata;
    `views` (V, M, D) of the M training samples; `names` (N,) as text, in safetensors as rows of bytes.

    Raises:
        SettingError: no such file, or arrays that do not fit each other.
    """
    if path.suffix not in SUFFIXES or not path.is_file():
        raise SettingError("file", f"must be a file that exists, one of {SUFFIXES}", str(path))
    try:
        arrays, metadata = _read_npz(path) if path.suffix == ".npz" else _read_safetensors(path)
    except (SafetensorError, zipfile.BadZipFile, ValueError, KeyError, OSError, EOFError) as error:
        demand = f"must be whole and hold no pickles: {str(path)!r} cannot be read ({reason(error)[:100]})"
        raise SettingError("file", demand) from None
    features, views = _floats(arrays, "features", 2), _floats(arrays, "views", 3)
    if features is None or "labels" not in arrays:
        raise _wrong(f"must hold the arrays features and labels: {str(path)!r} has {sorted(arrays)}")
    number = len(features)
    if not features.numel():
        raise _wrong(f"must hold at least one sample and one feature of each: features are {tuple(features.shape)}")
    targets, class_names = _classes(_array(arrays, "labels", number), _given_names(arrays, metadata))
    official = _parts(_array(arrays, "split", number)) if "split" in arrays else np.full(number, "train")
    trained = int((official == "train").sum())
    if views is not None and views.shape[1:] != (trained, features.shape[1]):
        demand = f"must hold views of the {trained} training samples, (V, {trained}, {features.shape[1]})"
        raise _wrong(f"{demand}: it has {tuple(views.shape)}")
    names = _names(_array(arrays, "names", number)) if "names" in arrays else np.arange(number).astype(np.bytes_)
    unique, times = np.unique(names, return_counts=True)
    if len(unique) < number:
        again = os.fsdecode(unique[times.argmax()])
        raise _wrong(f"must hold names, each once: {again!r} stands there {times.max()} times")
    rest = {key: value for key, value in metadata.items() if key != "class_names"}
    return StoredFeatures(
        features=features,
        targets=targets,
        official=official,
        class_names=class_names,
        names=names,
        views=views,
        metadata=rest,
    )


def _read_safetensors(path: Path) -> tuple[Arrays, dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        tensors: Arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        return tensors, dict(file.metadata() or {})


def _read_npz(path: Path) -> tuple[Arrays, dict[str, str]]:
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}, {}


def _floats(arrays: Arrays, name: str, ndim: int) -> Tensor | None:
    if name not in arrays:
        return None
    array = arrays[name]
    if isinstance(array, np.ndarray):
        if array.dtype not in (np.float32, np.float16):
            raise _wrong(f"must hold {name} of float32 or float16: they are {array.dtype}")
        array = torch.from_numpy(array)
    if array.dtype not in DTYPES or array.ndim != ndim:
        shape = "(N, D)" if ndim == 2 else "(V, M, D)"
        raise _wrong(f"must hold {name} {shape} of float32 or float16: they are {tuple(array.shape)} of {array.dtype}")
    return array


def _array(arrays: Arrays, name: str, number: int) -> NDArray[np.generic]:
    array = arrays[name]
    found: NDArray[np.generic] = array.numpy() if isinstance(array, Tensor) else array
    if len(found.shape) < 1 or len(found) != number:
        raise _wrong(f"must hold {name} of each of the {number} samples: their shape is {found.shape}")
    return found


def _classes(labels: NDArray[np.generic], given: NDArray[np.generic] | None) -> tuple[IntArray, list[str]]:
    """Class ids and names: numbers count from 0 where names are given, else the labels in order are the classes."""
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise _wrong(f"must hold labels (N,) that are whole numbers or text: they are {labels.dtype}, {labels.shape}")
    if given is None or labels.dtype.kind == "U":
        values, targets = np.unique(labels, return_inverse=True)
        return targets.astype(np.int64), [str(value) for value in values]
    targets = labels.astype(np.int64)
    if targets.min() < 0 or targets.max() >= len(given):
        raise _wrong(f"must hold labels from 0 to {len(given) - 1}, as it names {len(given)} classes")
    return targets, [str(name) for name in given]


def _given_names(arrays: Arrays, metadata: Mapping[str, str]) -> NDArray[np.generic] | None:
    """The class names that the file gives, (C,), each once."""
    if "class_names" not in metadata and "class_names" not in arrays:
        return None
    try:
        names = np.asarray(json.loads(metadata["class_names"]) if "class_names" in metadata else arrays["class_names"])
    except (ValueError, RecursionError):
        names = np.empty(0)
    if names.ndim != 1 or names.dtype.kind != "U" or len(np.unique(names)) != len(names):
        raise _wrong("must hold class_names (C,) as text, each once")
    return names


def _parts(split: NDArray[np.generic]) -> NDArray[np.str_]:
    parts = np.asarray(PART_NAMES)
    if split.dtype.kind in "iu" and split.min() >= 0 and split.max() < len(parts):
        return parts[split.astype(np.int64)]
    if split.dtype.kind == "U" and np.isin(split, parts).all():
        return split.astype(str)
    raise _wrong(f"must hold a split of {PART_NAMES}, as text or as 0, 1, 2")


def _names(names: NDArray[np.generic]) -> NDArray[np.bytes_]:
    if names.dtype == np.uint8 and names.ndim == 2:
        return np.ascontiguousarray(names).view(f"S{names.shape[1]}")[:, 0]
    return np.array([os.fsencode(str(name)) for name in names], dtype=np.bytes_)


def _wrong(demand: str) -> SettingError:
    return SettingError("file", demand)
