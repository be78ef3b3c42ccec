"""Training: the Lightning module with its stages, schedule, optimizer, callbacks and measurements."""
