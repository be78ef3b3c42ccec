"""How much faster the loss is than the method as the paper writes it, and how much memory it takes.

    python benchmarks/loss.py [--profile]

Forward and backward of `DROLTLoss` against the literal method: at every step centroids from all stored features by one
index_add, then a Python loop over the classes of the batch, exp and then log. Goals on CPU: 10 times as fast at CIFAR's
size, 30 at ImageNet-LT's; extra memory under 4 (B^2 + B D) floats.
"""

import argparse
import sys
from functools import partial
from typing import Any

import torch
from timing import head, line, ratios
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from drolt_pl import DROLTLoss

# N, C, D, B and the goal: CIFAR-100-LT, ImageNet-LT, iNaturalist 2018
SHAPES = {
    "CIFAR-100-LT": (10_847, 100, 64, 128, 10.0),
    "ImageNet-LT": (115_846, 1_000, 2_048, 256, 30.0),
    "iNaturalist 2018": (437_513, 8_142, 2_048, 512, None),
}
OTHERS: dict[str, dict[str, Any]] = {
    "negatives": {"bound": "negatives"},
    "sample": {"bound": "sample"},
    "tight": {"bound": "tight"},
    "weighted": {"denominator": "weighted"},
    "student_t": {"distance": "student_t"},
    "learned radii": {"eps_mode": "learned"},
    "gather": {"gather": True},  # of one process: what it costs to ask
}


def literal_loss(stored: Tensor, labels: Tensor, features: Tensor, targets: Tensor, eps: Tensor) -> Tensor:
    """Eq. 18 over the batch as one would write it down; eps (C,)."""
    sums = torch.zeros(len(eps), stored.shape[1]).index_add_(0, labels, stored)
    centroids = sums / torch.bincount(labels, minlength=len(eps))[:, None]
    total = torch.zeros(())
    classes = targets.unique()
    for c in classes:
        d = (features - centroids[c]).norm(dim=1)  # (B,)
        own = targets == c
        hostile = torch.exp(-d + 2 * eps[c] * ~own)
        total = total - torch.log(torch.exp(-d[own]) / hostile.sum()).mean()
    return total / len(classes)


def data(shape: tuple[Any, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Stored features and labels of a long tail, and a batch of them."""
    n, c, d, b, _ = shape
    generator = torch.Generator().manual_seed(0)
    shares = (torch.arange(c) + 1.0) ** -1
    labels = torch.cat([torch.arange(c), torch.multinomial(shares, n - c, True, generator=generator)])
    stored = torch.randn(n, d, generator=generator) / d**0.5
    rows = torch.randint(n, (b,), generator=generator)
    return stored, labels, stored[rows].clone().requires_grad_(), labels[rows]


def peak_floats(step: Any) -> float:
    """Most memory held at a time beyond what was there before, in floats, by the profiler's allocation events."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        step()
    held = peak = 0
    for event in sorted(recorded.profiler.kineto_results.events(), key=lambda event: event.start_ns()):  # type: ignore[union-attr]
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 4


def step(module: DROLTLoss, features: Tensor, targets: Tensor, centroids: Tensor) -> None:
    features.grad = None
    module(features, targets, centroids).backward()


def operations(name: str, steps: int = 100) -> str:
    """A profiler's table of the operations of our side, over many steps."""
    _, c, d, _, _ = SHAPES[name]
    stored, labels, features, targets = data(SHAPES[name])
    module = DROLTLoss(c, d, torch.bincount(labels, minlength=c))
    centroids = torch.zeros(c, d).index_add_(0, labels, stored)
    step(module, features, targets, centroids)
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(steps):
            step(module, features, targets, centroids)
    return str(recorded.key_averages().table(sort_by="self_cpu_time_total", row_limit=20, max_name_column_width=40))


def compare(name: str, repetitions: int) -> None:
    """The lines of one shape."""
    n, c, d, b, goal = SHAPES[name]
    stored, labels, features, targets = data(SHAPES[name])
    counts = torch.bincount(labels, minlength=c)
    centroids = torch.zeros(c, d).index_add_(0, labels, stored) / counts[:, None]
    batch = features, targets, centroids
    paper = DROLTLoss(c, d, counts)
    if goal is not None:
        eps = paper.radii()

        def literal() -> Tensor:
            features.grad = None
            value = literal_loss(stored, labels, features, targets, eps)
            value.backward()
            return value

        torch.testing.assert_close(literal(), paper(*batch), rtol=1e-4, atol=0)
        title = f"{name} (N {n:,}, C {c:,}, D {d:,}, B {b}): paper"
        line(title, ratios(literal, lambda: step(paper, *batch), repetitions), goal)
    for other, options in OTHERS.items():
        module = DROLTLoss(c, d, counts, **options)
        title = f"  {name}, {other}: time over paper's"
        line(title, ratios(partial(step, module, *batch), partial(step, paper, *batch), repetitions))
    features.grad = None
    extra = peak_floats(lambda: step(paper, *batch)) - b * d  # the gradient itself is no extra
    line(f"  {name}, paper: extra memory over (B^2 + B D) floats", [extra / (b * b + b * d)], 4.0, at_least=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    parser.add_argument("--profile", action="store_true", help="print where the time of the first shape goes instead")
    arguments = parser.parse_args()
    if arguments.profile:
        print(operations(arguments.shapes[0]))
        sys.exit()
    head("Loss, forward + backward: time of the literal method over ours")
    for shape_name in arguments.shapes:
        compare(shape_name, arguments.repetitions)
