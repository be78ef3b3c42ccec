"""Augmentation and mixing of whole batches."""
