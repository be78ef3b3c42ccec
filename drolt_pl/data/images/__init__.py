"""Pixels: decoded, held in memory, loaded in batches."""
