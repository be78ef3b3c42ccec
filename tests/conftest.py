"""Settings of every test."""

import gc
import os
from collections.abc import Iterator

import hypothesis
import pytest
import torch

from drolt_pl.run import schema

# The models are small, and test processes share the cores with the ranks and commands they start.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
# On shared cores a time says nothing of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")
schema.register()  # composing a configuration needs it


def pytest_collection_finish() -> None:
    """What is imported stays: the collector need not look at it again and again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _keep_denormals() -> Iterator[None]:
    """A run sets flush-denormal for the whole process; hypothesis needs the small numbers back."""
    yield
    torch.set_flush_denormal(False)
