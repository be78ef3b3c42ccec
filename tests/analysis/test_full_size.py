"""The analyses at the size of ImageNet-LT: 115,846 features of 2,048 numbers, 1,000 classes."""

import subprocess
import sys

import pytest
from helpers.running import HOME

LIMIT = 4e9  # bytes of the whole process
SCRIPT = """
import resource, sys
import torch
from drolt_pl.analysis.balls import balls
from drolt_pl.analysis.bounds import bound_rows, spread_samples
from drolt_pl.analysis.collapse import agreement, collapse
from drolt_pl.analysis.probes import balanced_subset, probe
from drolt_pl.analysis.radii import nominal_and_found, radius_and_error
from drolt_pl.analysis.reliability import frontier, reliability
from drolt_pl.centroids import class_statistics
from drolt_pl.results import Groups

C, D = 1000, 2048
generator, groups = torch.Generator().manual_seed(0), Groups()
ranks = torch.arange(C, dtype=torch.float64)
counts = (1280 * (5 / 1280) ** (ranks / (C - 1))).long()
while int(counts.sum()) > 115_846:
    counts = (counts - (counts > 5).long()).clamp(min=5)
counts[0] += 115_846 - int(counts.sum())
targets = torch.arange(C).repeat_interleave(counts)
means = torch.randn(C, D, generator=generator)
features = torch.randn(len(targets), D, generator=generator)

for piece, labels in zip(torch.split(features, 4096), torch.split(targets, 4096)):
    piece += means[labels]
val_targets = torch.arange(C).repeat_interleave(20)
val = means[val_targets] + torch.randn(len(val_targets), D, generator=generator)
test_targets = torch.arange(C).repeat_interleave(50)
logits = torch.randn(len(test_targets), C, generator=generator)

train, held_out = class_statistics(features, targets, C), class_statistics(val, val_targets, C)
eps = torch.full((C,), 1.0)
rows = nominal_and_found(train, held_out, counts, groups, D)
rows = radius_and_error(eps, train, held_out, counts, groups)
kept = spread_samples(targets, 400)
rows = bound_rows(features[kept], targets[kept], train.centroids, eps, queries=100)
rows = balls((features, targets), (val, val_targets), [train, held_out], eps, [str(c) for c in range(C)], groups)
rows = collapse(train, means, groups, counts)
rows = agreement(targets, features, targets, train, groups, counts)
kept = balanced_subset(val_targets, C)
rows = probe((val[kept], val_targets[kept]), (val[::10], val_targets[::10]), counts, groups, iterations=2)
del features
rows = reliability(logits, test_targets, counts, groups)
rows = frontier(logits, test_targets, counts, groups, [0.0, 1.0])
print(len(targets), 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_imagenet_lt_fits_into_four_gigabytes() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], cwd=HOME, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    samples, peak = map(int, ended.stdout.split())
    assert samples == 115_846
    assert peak < LIMIT, f"{peak / 1e9:.2f} GB"
