"""The loss on a GPU: against the literal method, and inside a CUDA graph.

    python benchmarks/gpu_loss.py

Forward and backward of `DROLTLoss`. The literal method is that of loss.py. A CUDA graph records the same step once and
replays it: so the step waits for nothing on the host, and its value and gradient are those of the plain step.
"""

import argparse
from typing import Any

import torch
from loss import SHAPES, data, literal_loss, step
from timing import head, line, ratios
from torch import Tensor

from drolt_pl import DROLTLoss


def gradient_of(module: DROLTLoss, features: Tensor, targets: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The loss, and its gradient by the features. Not by backward(): its accumulation belongs to another stream."""
    value = module(features, targets, centroids)
    return value, torch.autograd.grad(value, features)[0]


def recorded(module: DROLTLoss, *batch: Tensor) -> tuple[Any, Tensor, Tensor]:
    """A graph of one step, and where its replays leave the loss and the gradient of the features."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            gradient_of(module, *batch)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value, gradient = gradient_of(module, *batch)
    return graph, value, gradient


def compare(name: str, repetitions: int) -> None:
    """The lines of one shape."""
    n, c, d, b, _ = SHAPES[name]
    stored, labels, features, targets = (
        tensor.detach().cuda().requires_grad_(tensor.requires_grad) for tensor in data(SHAPES[name])
    )
    counts = torch.bincount(labels, minlength=c)
    centroids = torch.zeros(c, d, device="cuda").index_add_(0, labels, stored) / counts[:, None]
    module = DROLTLoss(c, d, counts).cuda()
    eps = module.radii()

    def literal() -> None:
        features.grad = None
        literal_loss(stored, labels, features, targets, eps).backward()

    title = f"{name} (N {n:,}, C {c:,}, D {d:,}, B {b})"
    if SHAPES[name][-1] is not None:
        with torch.device("cuda"):
            found = ratios(literal, lambda: step(module, features, targets, centroids), repetitions)
        line(f"{title}: literal over ours", found)
    batch = features, targets, centroids
    value, gradient = gradient_of(module, *batch)
    expected = value.detach().clone(), gradient.clone()
    del value, gradient
    graph, value, gradient = recorded(module, *batch)
    graph.replay()
    torch.testing.assert_close((value.detach(), gradient), expected, rtol=1e-5, atol=1e-8)
    title = f"  {name}: plain step over a replay of its CUDA graph"
    line(title, ratios(lambda: gradient_of(module, *batch), graph.replay, repetitions))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--shapes", nargs="*", default=list(SHAPES), choices=list(SHAPES))
    arguments = parser.parse_args()
    head("Loss on a GPU, forward + backward")
    for shape_name in arguments.shapes:
        compare(shape_name, arguments.repetitions)
