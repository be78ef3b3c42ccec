"""Draws the paper's figures, and those beyond it, from their rows; every function gives a matplotlib Figure."""
