"""Generators named by a stream and a key, so that no data code ever reads or moves the global random state."""

import hashlib

import numpy as np
import torch


def seed_sequence(stream: str, *key: int) -> np.random.SeedSequence:
    """Entropy of one named stream, equal on every machine and in every process.

    Args:
        stream: Name of the stream, e.g. `"sampler"`. Two names give independent streams for equal keys.
        key: Integers >= 0 such as seed, epoch, rank.
    """
    name = int.from_bytes(hashlib.sha256(stream.encode()).digest()[:8], "little")
    return np.random.SeedSequence([name, *key])


def numpy_generator(stream: str, *key: int) -> np.random.Generator:
    """Make the NumPy generator of the stream."""
    return np.random.Generator(np.random.PCG64(seed_sequence(stream, *key)))


def torch_generator(stream: str, *key: int) -> torch.Generator:
    """Make the stream's torch generator, on the CPU: its draws are the same whatever device trains."""
    (seed,) = seed_sequence(stream, *key).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed >> np.uint64(1)))  # manual_seed takes a signed 64-bit number
