"""Miniatures of the published large sets, in their own folder shapes and list formats, with real JPEG files."""

import json
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

TRAINING = (8, 5, 2)  # images of each class
EVALUATION = 2  # images of each class in validation and in test


def write_miniature(name: str, root: Path) -> tuple[Path, Path]:
    """Folder of the lists, folder of the images; class c has TRAINING[c] training images."""
    lists, images = root / "lists", root / "images"
    lists.mkdir(parents=True)
    {"imagenet_lt": _imagenet, "places_lt": _places, "inaturalist2018": _inaturalist}[name](lists, images)
    return lists, images


def _imagenet(lists: Path, images: Path) -> None:
    wnids = ["n01440764", "n01443537", "n01484850"]
    _write_list(
        lists / "ImageNet_LT_train.txt",
        images,
        [(f"train/{wnids[c]}/{wnids[c]}_{i}.JPEG", c) for c, size in enumerate(TRAINING) for i in range(size)],
    )
    _write_list(
        lists / "ImageNet_LT_val.txt",
        images,
        [(f"train/{wnids[c]}/{wnids[c]}_{100 + i}.JPEG", c) for c in range(3) for i in range(EVALUATION)],
    )
    _write_list(
        lists / "ImageNet_LT_test.txt",
        images,
        [(f"val/ILSVRC2012_val_{2 * c + i + 1:08d}.JPEG", c) for c in range(3) for i in range(EVALUATION)],
    )


def _places(lists: Path, images: Path) -> None:
    folders = ["a/airfield", "a/apartment_building/outdoor", "c/canyon"]
    _write_list(
        lists / "Places_LT_train.txt",
        images,
        [(f"data_256/{folders[c]}/{i:08d}.jpg", c) for c, size in enumerate(TRAINING) for i in range(size)],
    )
    for part, first in (("val", 0), ("test", 50)):
        _write_list(
            lists / f"Places_LT_{part}.txt",
            images,
            [(f"val_256/Places365_val_{first + 2 * c + i:08d}.jpg", c) for c in range(3) for i in range(EVALUATION)],
        )


def _inaturalist(lists: Path, images: Path) -> None:
    number = 0
    for file, sizes in (("train2018.json", TRAINING), ("val2018.json", (EVALUATION,) * 3)):
        entries = []
        for category, size in enumerate(sizes):
            for _ in range(size):
                number += 1
                entries.append((number, f"train_val2018/Plantae/{7477 + category}/{number:032x}.jpg", category))
        for _, name, _ in entries:
            write_jpeg(images / name, number=zlib.crc32(name.encode()))
        (lists / file).write_text(annotations(entries[::-1], [2, 0, 1]))


def annotations(entries: list[tuple[int, str, int]], categories: list[int]) -> str:
    """An annotation file of (image id, file name, category id) and category ids."""
    return json.dumps(
        {
            "info": {"year": 2018},
            "images": [{"id": image, "file_name": name, "width": 12, "height": 10} for image, name, _ in entries],
            "annotations": [
                {"id": image, "image_id": image, "category_id": category} for image, _, category in entries
            ],
            "categories": [{"id": category, "name": f"species {category}"} for category in categories],
        }
    )


def _write_list(path: Path, images: Path, entries: list[tuple[str, int]]) -> None:
    path.write_text("".join(f"{name} {label}\n" for name, label in entries))
    for name, _ in entries:
        write_jpeg(images / name, number=zlib.crc32(name.encode()))


def write_jpeg(path: Path, *, number: int, size: tuple[int, int] = (12, 10)) -> None:
    """A file of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
