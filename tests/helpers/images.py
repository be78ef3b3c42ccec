"""Small image folders for the tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_image_tree(root: Path, *, classes: int, train: int, test: int, size: int) -> Path:
    """`train/` and `test/` folders of JPEGs whose colour tells their class, with noise."""
    rng = np.random.default_rng(0)
    for part, count in (("train", train), ("test", test)):
        for index in range(classes):
            folder = root / part / f"class_{index}"
            folder.mkdir(parents=True)
            base = np.array([40 + 50 * (index % 4), 60 * (index // 4) % 255, 200 - 40 * index % 200])
            for number in range(count):
                pixels = np.clip(base + rng.normal(0, 40, (size, size, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:04d}.jpg")
    return root
