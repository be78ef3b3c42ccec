"""A synthetic index of iNaturalist 2018's size: time to build it, memory with and without workers, time to sample."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers.full_size import NUM_CLASSES, TRAINING_IMAGES, power_law, write_annotations
from helpers.running import HOME

from drolt_pl.data.prepare.index import ImageIndex
from drolt_pl.data.prepare.published import RECIPES, build_index, facts_of, mismatches


def built(folder: Path, share: float) -> tuple[ImageIndex, float]:
    write_annotations(folder / "lists", share)
    (folder / "images").mkdir()
    start = time.perf_counter()
    index = build_index("inaturalist2018", folder / "lists", folder / "images")
    index.save(folder / "index.npz")
    return index, time.perf_counter() - start


def measured(folder: Path, num_workers: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "tests/helpers/full_size.py", folder / "index.npz", folder / "images", str(num_workers)],
        cwd=HOME,
        env={**os.environ, "PYTHONPATH": f"{HOME}:{HOME / 'tests'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_the_profile_has_the_published_totals() -> None:
    counts = power_law(NUM_CLASSES, TRAINING_IMAGES, 1000, 2)
    assert (len(counts), counts.sum(), counts.max(), counts.min()) == (8_142, 437_513, 1000, 2)
    assert (counts[:-1] >= counts[1:]).all()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_index_of_full_size(tmp_path: Path) -> None:
    full, small = tmp_path / "full", tmp_path / "small"
    index, seconds = built(full, 1.0)
    assert mismatches(facts_of(index), RECIPES["inaturalist2018"].certain) == []
    assert seconds < 60
    built(small, 0.01)
    big = {workers: measured(full, workers) for workers in (0, 4)}
    little = {workers: measured(small, workers) for workers in (0, 4)}
    print(f"built in {seconds:.1f} s; full {big}; a hundredth {little}")
    assert big[0]["epoch"] == -(-437_513 // 64)
    for workers in (0, 4):
        assert big[workers]["resident"] < 150
        assert big[workers]["drawn"] < 2
    # What the size of the set adds is the same for one process as for five that share it.
    alone, with_workers = (big[workers]["pss"] - little[workers]["pss"] for workers in (0, 4))
    assert with_workers < min(alone + 20, 150)
