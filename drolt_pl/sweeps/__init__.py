"""Sweeps: the list of their jobs, and the sweepers and launcher that run them."""
