"""Runs a function on several gloo ranks, in processes of their own."""

import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _rank(rank: int, function: Callable[..., Any], world: int, store: str, arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{store}/rendezvous", rank=rank, world_size=world)
    torch.save(function(rank, world, *arguments), f"{store}/{rank}.pt")
    dist.destroy_process_group()


def on_ranks(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`function(rank, world, *arguments)` of every rank, in rank order; it must stand in an importable module."""
    with tempfile.TemporaryDirectory() as store:
        mp.spawn(_rank, (function, world, store, arguments), nprocs=world)
        return [torch.load(f"{store}/{rank}.pt", weights_only=False) for rank in range(world)]
