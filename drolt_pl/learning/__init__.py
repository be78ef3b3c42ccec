"""Training: the Lightning module, its stages, schedule, optimizer, callbacks and what it measures."""
