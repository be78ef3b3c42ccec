"""Folders of photographs as people have them, for the tests of commands on trained models."""

from pathlib import Path

import numpy as np
from PIL import Image

from helpers.models import CLASSES


def write_photos(root: Path, *, each: int = 4, size: int = 24) -> Path:
    """A folder for each class with JPEGs of noise, and one file in it that is no image."""
    rng = np.random.default_rng(0)
    for place, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = np.clip(80 * place + rng.normal(40, 30, (size, size + 5, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.jpg")
    (root / "dog" / "broken.jpg").write_text("no image")
    return root
