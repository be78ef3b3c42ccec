"""Runs a function on several gloo ranks, in processes of their own."""

import os
import pickle
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
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
    from helpers.jobs import python

    with tempfile.TemporaryDirectory() as store:
        Path(store, "call").write_bytes(pickle.dumps((function, arguments)))
        done = python("-m", "helpers.ranks", store, str(world))
        assert done.returncode == 0, done.stderr
        return [torch.load(f"{store}/{rank}.pt", weights_only=False) for rank in range(world)]


if __name__ == "__main__":  # in a process that has imported torch and begun nothing: its copies are the ranks
    function, arguments = pickle.loads(Path(sys.argv[1], "call").read_bytes())
    call = (function, int(sys.argv[2]), sys.argv[1], arguments)
    mp.start_processes(_rank, call, nprocs=int(sys.argv[2]), start_method="fork")
