"""Measures what an index of 437,513 entries costs: iNaturalist 2018's size, without its images. Its test runs it so:

python tests/helpers/full_size.py INDEX IMAGES NUM_WORKERS    # prints what it costs, as JSON
"""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helpers.data_sets import annotations

NUM_CLASSES, TRAINING_IMAGES, TEST_IMAGES = 8_142, 437_513, 3 * 8_142
BATCHES, BATCH_SIZE = 24, 64


def power_law(num_classes: int, total: int, largest: int, smallest: int) -> np.ndarray:
    """Class counts, most frequent first, that add up to the total: a power of the shifted rank (Zipf-Mandelbrot)."""
    rank = np.arange(num_classes)

    def counts_at(shift: float) -> np.ndarray:
        exponent = np.log(largest / smallest) / np.log((num_classes - 1 + shift) / shift)
        return np.round(largest * (shift / (rank + shift)) ** exponent).astype(int)

    low, high = 1e-3, 1e6  # a larger shift gives the middle more
    for _ in range(100):
        shift = (low * high) ** 0.5
        low, high = (low, shift) if counts_at(shift).sum() > total else (shift, high)
    counts = counts_at(low)  # at most the total
    counts[1 : 1 + total - counts.sum()] += 1
    return counts


def write_annotations(lists: Path, share: float = 1.0) -> None:
    """Annotation files with unique paths as long as the real ones."""
    rng = np.random.default_rng(0)
    num_classes = round(NUM_CLASSES * share)
    train = power_law(num_classes, round(TRAINING_IMAGES * share), 1000, 2)
    lists.mkdir(parents=True)
    for file, counts in (("train2018.json", train), ("val2018.json", np.full(num_classes, 3))):
        targets = rng.permutation(np.repeat(np.arange(num_classes), counts))
        entries = [
            (number, f"train_val2018/Actinopterygii/{target:04d}/{rng.bytes(16).hex()}.jpg", int(target))
            for number, target in enumerate(targets)
        ]
        (lists / file).write_text(annotations(entries, list(range(num_classes))))


def memory(key: str) -> float:
    """Megabytes of this process and its workers, by /proc/PID/smaps_rollup; `Pss_Anon` shares out what several hold."""
    me = Path("/proc/self")
    children = (me / "task" / str(me.resolve().name) / "children").read_text().split()
    total = 0
    for process in [me, *(Path("/proc") / child for child in children)]:
        lines = (process / "smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))
    return total / 1024


def measure(index: Path, images: Path, num_workers: int) -> dict[str, Any]:
    """Memory and time of a data module over the index, in megabytes and seconds."""
    from drolt_pl.data import INaturalist2018
    from drolt_pl.data.plan import Sampling

    gc.collect()
    before = memory("Rss")
    module = INaturalist2018(
        index=index,
        root=images,
        image_size=8,
        loader="workers",
        num_workers=num_workers,
        batch_size=BATCH_SIZE,
        imbalance_ratio=None,
        protocol="published",
        plan=lambda epoch: Sampling("class_balanced"),
    )
    module.setup()
    start = time.perf_counter()
    loader = module.train_dataloader()
    drawn = time.perf_counter() - start
    gc.collect()
    after = memory("Rss")

    rows = loader.batches.loader.dataset.rows[: BATCHES * BATCH_SIZE]
    for image in module.split.train[rows]:
        path = images / module.store.catalogue.names[image].decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(path)
    for seen, _ in enumerate(loader, start=1):
        if seen == BATCHES - 2 * max(num_workers, 1):  # further batches are being decoded by now
            break
        shared = memory("Pss_Anon")
    return {"resident": after - before, "drawn": drawn, "pss": shared, "epoch": len(loader)}


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))))
