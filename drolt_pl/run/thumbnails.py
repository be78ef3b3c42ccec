"""Thumbnails of the rare classes that a run confuses most, for its page."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from drolt_pl.data import LongTailDataModule
from drolt_pl.data.images.readable import fetch_readable
from drolt_pl.records import write_atomically
from drolt_pl.report.tail import MOST_IMAGES, NAME, SIDE, Confused, Tail, Taken, most_confused
from drolt_pl.results import Results

QUALITY = 85  # of JPEG: 1 to 3 kB a thumbnail


def leave_tail(folder: Path, data: LongTailDataModule, results: Results, confusion: Tensor | None) -> None:
    """Writes tail.json where the data are images; whatever goes wrong there, the results stand.

    Args:
        folder: The run's folder.
        data: Its data.
        results: Its results.
        confusion: Test images by class and predicted class, (C, C); null where they were not counted.
    """
    if data.preprocessing() is None:
        return
    try:
        classes = [_confused(index, data, results, confusion) for index in most_confused(results)]
        write_atomically(folder / NAME, Tail(classes=classes).model_dump_json())
    except Exception as error:
        print(f"warning: {NAME} could not be written ({type(error).__name__}: {error})", flush=True)


def _confused(index: int, data: LongTailDataModule, results: Results, confusion: Tensor | None) -> Confused:
    accuracy = (results.test.per_class or ())[index]
    assert accuracy is not None  # most_confused names no other class
    return Confused(
        name=data.class_names[index],
        train_images=results.class_counts[index],
        accuracy=accuracy,
        pictures=_pictures(index, data),
        taken=None if confusion is None else _taken(index, data, confusion[index]),
    )


def _taken(index: int, data: LongTailDataModule, predicted: Tensor) -> Taken | None:
    """The class that most of a class's test images are mistaken for; of equals the first."""
    wrong = predicted.cpu().numpy().copy()
    wrong[index] = 0
    other = int(np.argmax(wrong))
    if not wrong[other]:
        return None
    return Taken(name=data.class_names[other], images=int(wrong[other]), pictures=_pictures(other, data))


def _pictures(index: int, data: LongTailDataModule) -> list[str]:
    """The first training images of a class that can be read, as the network sees them without augmentation."""
    part = data.store.parts["train"]
    candidates = part.indices[part.targets == index][: 2 * MOST_IMAGES]
    pixels, readable = fetch_readable(part.source, candidates)
    return [_jpeg(image) for image, is_read in zip(pixels, readable, strict=True) if is_read][:MOST_IMAGES]


def _jpeg(pixels: Tensor) -> str:
    """A thumbnail of an image, uint8 (C, H, W), in base64."""
    array = pixels.permute(1, 2, 0).numpy()
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(file.getvalue()).decode()
