"""Checks, indices, lists and downloads of image files."""
