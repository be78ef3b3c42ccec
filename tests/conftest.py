"""Settings of every test."""

import os

import torch

# The models are small, and test processes share the cores with the ranks and commands they start.
os.environ["OMP_NUM_THREADS"] = "1"
torch.set_num_threads(1)
